"""What a score was measured on, as records and reports call it: the protocol, the fold, and the file of questions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from korbert.data.download import KORQUAD_DEV

DEV_5FOLD = "korquad-dev-5fold"
_FOLD = re.compile(r", fold (\d+)$")
_ROOT = "{root}"
_DIGITS = 12  # of a checksum that is shown


def folds_of(name: str, checksum: str | None) -> str:
    """What the five folds of a file are called: those of another file are another protocol, however they are made.

    checksum: its SHA-256, by which the dev file is known: not everything of its name is it; None: not known.
    """
    if PurePath(name).name != KORQUAD_DEV.name:
        return f"five folds of {PurePath(name).name}"
    if checksum is not None and f"sha256:{checksum}" == KORQUAD_DEV.checksum:
        return DEV_5FOLD
    return of_file(f"five folds of {KORQUAD_DEV.name}", checksum)


def of_file(protocol: str, checksum: str | None) -> str:
    """A protocol with the file of questions that its name does not tell from others."""
    return f"{protocol} (sha256 {'not known' if checksum is None else f'{checksum[:_DIGITS]}…'})"


def split_fold(protocol: str) -> tuple[str, int | None]:
    """A protocol without its fold, and the fold; None where the whole file was scored."""
    fold = _FOLD.search(protocol)
    return _FOLD.sub("", protocol), int(fold[1]) if fold else None


def scored_file(record: Mapping[str, Any]) -> str | None:
    """SHA-256 of the file of questions that a run was scored on; None where its record does not say it."""
    config, inputs = record.get("config", {}), record.get("inputs")
    task, data = (config.get(key) if isinstance(config.get(key), dict) else {} for key in ("task", "data"))
    named = task.get("test")
    if not isinstance(named, str) or not isinstance(inputs, dict):
        return None
    root = str(data.get("root") or _ROOT)
    by_place = {os.path.normpath(str(path).replace(_ROOT, root)): checksum for path, checksum in inputs.items()}
    found = by_place.get(os.path.normpath(named.replace(_ROOT, root)))
    return None if found is None else str(found)


def recorded_protocol(record: Mapping[str, Any]) -> tuple[str, int | None]:
    """A record's protocol without the fold, and the fold. Older records name that of the dev file by its name alone."""
    protocol, fold = split_fold(str(record["results"].get("protocol", "")))
    checksum = scored_file(record)
    if protocol == DEV_5FOLD and checksum is not None:
        protocol = folds_of(KORQUAD_DEV.name, checksum)
    return protocol, fold
