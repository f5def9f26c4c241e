"""What came out of a command, as a digest for each file: what is promised to be the same, without what takes time."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from korbert.files import digest
from korbert.training.state import load_tensors

_TIMED = {
    "seconds", "cpu_seconds", "memory", "peak_megabytes", "tokens_per_second", "characters_per_second", "waiting",
    "stages", "new_paragraphs",
}  # fmt: skip
# Not what is asked for, and different every time: logs, times, locks, what SQLite needs while it is open.
_IGNORED = re.compile(
    r"(multirun\.yaml|log\.txt|config\.json|sessions\.jsonl|memory\.jsonl|\.lock|.*\.lock|checksums\.json"
    r"|cost\.json|records\.sqlite.*|.*-wal|.*-shm)"
)
_LEFT = re.compile(r"(\..*|.*\.part(/.*)?|build/.*)")  # half-written


def outcome(place: Path) -> dict[str, str]:
    """Digests of all that is promised, by the file's name in `place`."""
    found = {}
    for path, name in _files(place):
        if not _is_left(name):
            read = _READERS.get(path.name) or _READERS.get(path.suffix)
            found[name] = read(path) if read else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def left_over(place: Path) -> list[str]:
    """Files that are half-written, or of a work that is not finished."""
    return [name for _, name in _files(place) if _is_left(name)]


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Files that are missing in one of two outcomes, or not the same."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _files(place: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not _IGNORED.fullmatch(path.name) and "/hydra/" not in f"/{name}":
            yield path, name


def _is_left(name: str) -> bool:
    return any(_LEFT.fullmatch(part) for part in name.split("/")) or "/build/" in f"/{name}"


def _untimed(value: Any) -> Any:
    """Without what depends on the time that was taken."""
    if isinstance(value, dict):
        return {key: _untimed(inner) for key, inner in value.items() if key not in _TIMED}
    return [_untimed(inner) for inner in value] if isinstance(value, list) else value


def _tensors(path: Path) -> str:
    """Of a checkpoint or kept windows: names, contents, and the state."""
    tensors, state = load_tensors(path)
    parts = hashlib.sha256(json.dumps(_untimed(state), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        parts.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return parts.hexdigest()


def _record(path: Path) -> str:
    record = json.loads(path.read_text("utf-8"))
    return digest([record["task"], record["seed"], _untimed(record["results"]), record.get("tokenizer")])


def _lines(path: Path) -> str:
    return digest([_untimed(json.loads(line)) for line in path.read_text("utf-8").splitlines()])


def _rows(path: Path) -> str:
    """Every row of every table."""
    with sqlite3.connect(path) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]
        rows = {table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in tables}
    connection.close()
    return digest(rows)


_READERS: dict[str, Callable[[Path], str]] = {
    "model.safetensors": lambda path: hashlib.sha256(path.read_bytes()).hexdigest(),
    ".safetensors": _tensors,
    "record.json": _record,
    "metrics.jsonl": _lines,
    ".sqlite": _rows,
}
