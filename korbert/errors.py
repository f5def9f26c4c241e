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
