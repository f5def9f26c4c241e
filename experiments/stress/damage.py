"""Bytes that are lost or changed in files that korbert keeps: refused by name, made again, or without a meaning."""

from __future__ import annotations

import random
import shutil
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from korbert.errors import KorbertError

_SECTOR = 512  # bytes that a disk loses at a time
KINDS = ("bit", "bytes", "sector", "cut", "empty")


@dataclass(frozen=True)
class Kept:
    """Files that korbert keeps, and what reads them.

    make: writes them into a folder; read: what a user gets of them there, by value, from memory of before or made
    again; patterns: which files are damaged.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    patterns: tuple[str, ...]

    def files(self, folder: Path) -> list[Path]:
        """Those that can be damaged."""
        found: Iterable[Path] = (path for pattern in self.patterns for path in folder.glob(pattern))
        return sorted({path for path in found if path.is_file() and path.stat().st_size})


@dataclass(frozen=True)
class Damage:
    """What was done to which file, and how it ended: refused (naming the file, or its folder), remade, harmless, or,
    which must not be, silent or crashed."""

    file: str
    kind: str
    end: str
    said: str = ""


def damaged(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Other bytes, and what was done to these."""
    kind = rng.choices(KINDS, (10, 3, 3, 4, 1))[0]
    place = rng.randrange(len(data))
    if kind == "bit":
        return kind, data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == "bytes":
        new = rng.randbytes(rng.randrange(1, 65))
        return kind, (data[:place] + new + data[place + len(new) :])[: len(data)]
    if kind == "sector":
        start = place // _SECTOR * _SECTOR
        return kind, data[:start] + bytes(min(_SECTOR, len(data) - start)) + data[start + _SECTOR :]
    return kind, data[:place] if kind == "cut" else b""


def attempt(rng: random.Random, kept: Kept, whole: Path, expected: object, place: Path) -> Damage:
    """Damage one file of a copy of `whole`, and read it."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    path = rng.choice(kept.files(place))
    name = path.relative_to(place).as_posix()
    before = path.read_bytes()
    kind, after = damaged(rng, before)
    if after == before:
        return Damage(name, kind, "nothing")
    path.write_bytes(after)
    try:
        found = kept.read(place)
    except KorbertError as error:
        return Damage(name, kind, refusal(path, place, str(error)), str(error)[:300])
    except Exception:
        return Damage(name, kind, "crashed", traceback.format_exc()[-1500:])
    if found != expected:
        return Damage(name, kind, "silent", f"{str(found)[:150]} for {str(expected)[:150]}")
    return Damage(name, kind, "remade" if not path.exists() or path.read_bytes() != after else "harmless")


def refusal(path: Path, place: Path, said: str) -> str:
    """Whether an error names the file, or a folder that it lies in, which holds what belongs together."""
    if path.name in said:
        return "refused"
    folders = [parent for parent in path.parents if parent.is_relative_to(place)]
    return "refused_folder" if any(str(folder) in said for folder in folders) else "crashed"
