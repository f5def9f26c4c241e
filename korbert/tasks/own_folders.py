"""Folders that a command makes anew each time: only what the command itself has made is ever removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from korbert.errors import ConfigError


def check_own(folder: Path, marker: str, is_older: Callable[[Path], bool] = lambda _: False) -> None:
    """Raise ConfigError unless `folder` can be made, is empty, or was made by the command that leaves `marker` there.

    is_older: whether the command made a folder without it, before it left markers.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"folder={folder}: this is a file; wanted a folder")
    if any(folder.iterdir()) and not (folder / marker).is_file() and not is_older(folder):
        raise ConfigError(
            f"folder={folder}: there is something in it that this command has not made, and would remove; choose "
            "another folder, or delete this one"
        )


def renew(folder: Path, marker: str) -> None:
    """Make the folder, or empty it; the marker is there at any time, so that an interrupted command can be repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / marker).touch()
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != marker:
            path.unlink()
