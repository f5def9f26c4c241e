"""The files that a run was made from, so that a finished run is not taken for one that was made from others."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from korbert.config import DataConfig, decisive
from korbert.data.shardfiles import MANIFEST
from korbert.entities import annotator_files
from korbert.files import matching
from korbert.tasks.prepare import corpus_identity

_ROOT = "{root}"
_HUGGING_FACE = "hf:"
# Of a folder: what a run, a model, a tokenizer, a folder of shards (with the checksums of all), or a comparison is.
_INSIDE = ("model/model.safetensors", "model.safetensors", "tokenizer.json", MANIFEST, "results.jsonl")
# Settings, by the last part of their key, whose text is a path even where it does not look like one.
_PATHS = (
    "init", "run", "path", "tokenizer_path", "files", "shards", "train", "test", "store", "dump", "korquad",
    "ner", "titles", "evaluation", "file", "include", "measured", "against",
)  # fmt: skip


def input_files(config: Mapping[str, Any], data: DataConfig) -> dict[str, str]:
    """SHA-256 of every file that the configuration names, by its path, in which data.root is `{root}`."""
    paths = [path for text in _strings(decisive(config)) for path in _files(text, data)]
    return {_portable(path, data): checksum for path, checksum in zip(paths, _checksums(paths, data), strict=True)}


def changed_files(before: Mapping[str, str], config: Mapping[str, Any], data: DataConfig) -> list[str]:
    """Files of `before` that have other contents now, and new ones that a name with `*` in the configuration means.

    One that is not here cannot have changed what it was.
    """
    there = {name: path for name in before if (path := Path(_expanded(name, data) or "")).is_file()}
    now = dict(zip(there, _checksums(list(there.values()), data), strict=True))
    patterns = [text for text in _strings(decisive(config)) if glob.has_magic(text)]
    meant = [_portable(path, data) for text in patterns for path in _files(text, data)]
    return [name for name in now if now[name] != before[name]] + [name for name in meant if name not in before]


def _strings(value: Any, key: str = "") -> Iterator[str]:
    """All texts of a configuration; those that are paths look like some."""
    if isinstance(value, str):
        yield _as_path(value.removeprefix(_HUGGING_FACE)) if key in _PATHS else value
        yield from (_as_path(name) for name in annotator_files(value))
    elif isinstance(value, Mapping):
        for inner_key, inner in value.items():
            yield from _strings(inner, str(inner_key))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)


def _as_path(name: str) -> str:
    """What is known to be a path, so that it looks like one."""
    return name if "/" in name else f"./{name}"


def _expanded(text: str, data: DataConfig) -> str | None:
    """With data.root in the place of `{root}`; None where it is not known."""
    return None if _ROOT in text and not data.root else text.replace(_ROOT, str(data.root))


def _files(text: str, data: DataConfig) -> Iterator[Path]:
    pattern = _expanded(text, data)
    for found in matching(pattern) if "/" in text and pattern else ():
        path = next((found / inner for inner in _INSIDE if (found / inner).is_file()), found)
        if path.is_file():
            yield path


def _portable(path: Path, data: DataConfig) -> str:
    inside = data.root is not None and path.is_relative_to(data.root)
    return f"{_ROOT}/{path.relative_to(str(data.root))}" if inside else _as_path(str(path))


def _checksums(paths: list[Path], data: DataConfig) -> list[str]:
    if not paths:
        return []
    Path(data.cache).mkdir(parents=True, exist_ok=True)
    return [checksum for _, checksum in corpus_identity(paths, Path(data.cache))]
