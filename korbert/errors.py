"""Errors that are meant for the user: a door prints their message and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class KorbertError(Exception):
    """Something the user can put right; the message says what was wanted."""


class ConfigError(KorbertError):
    """A setting that cannot be; the message names the key."""


def check_range(
    key: str, value: float | None, least: float, most: float = math.inf, *, above: bool = False, below: bool = False
) -> None:
    """Raise ConfigError naming `key` unless `value` is a finite number from `least` to `most`, or None.

    above: `least` itself is not wanted; below: `most` itself is not.
    """
    if value is None:
        return
    # Written so that NaN, of which every comparison is false, is out of every range, and infinity too.
    from_least = value > least if above else value >= least
    to_most = value < most if below or most == math.inf else value <= most
    if not (from_least and to_most):
        wanted = f"more than {least}" if above else f"{least} or more"
        if most != math.inf:
            wanted += f", {'below' if below else 'at most'} {most}"
        raise ConfigError(f"{key}: wanted {wanted}, got {value}")


def check_known(key: str, name: object, known: Iterable[str], cutoff: float = 0.6) -> None:
    """Raise ConfigError naming `key` unless `name` is one of those known; cutoff: see `meant`."""
    names = [*known]
    if name not in names:
        wanted = " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
        near = meant(name, names, cutoff=cutoff) if isinstance(name, str) else ""
        raise ConfigError(f"{key}: {name!r} is unknown, wanted {wanted}{near}")


def check_all_known(key: str, given: Iterable[str], known: Iterable[str], cutoff: float = 0.6) -> None:
    """As `check_known`, of each name of a list."""
    names = [*known]
    for name in given:
        check_known(key, name, names, cutoff)


class DataError(KorbertError):
    """A file that cannot be used: `PATH: WHERE: PROBLEM`."""

    def __init__(self, path: Path | str, where: str, problem: str) -> None:
        super().__init__(f"{path}: {where}: {problem}")
        self.path = path
        self.where = where
        self.problem = problem

    def __reduce__(self) -> tuple[type[DataError], tuple[Path | str, str, str]]:
        return type(self), (self.path, self.where, self.problem)  # or one from a worker could not be unpickled


class WriteError(DataError):
    """A file or folder that cannot be written: there is no room, or it only can be read."""


def meant(given: str, known: Iterable[str], before: str = "", cutoff: float = 0.6, most: int = 1) -> str:
    """The end of a message about a name that is unknown: the known ones that are nearest to it, "" where none is near.

    before: what stands in front of each known name. cutoff: how alike they have to be, 0 to 1. most: how many to name.
    """
    near = get_close_matches(given, sorted(known), n=most, cutoff=cutoff)
    return f"; is {' or '.join(before + name for name in near)} meant?" if near else ""
