"""Errors that are meant for the user: a door prints their message and nothing else."""

from __future__ import annotations

from pathlib import Path


class KorbertError(Exception):
    """Something the user can put right; the message says what was wanted."""


class ConfigError(KorbertError):
    """A setting that cannot be; the message names the key."""


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
