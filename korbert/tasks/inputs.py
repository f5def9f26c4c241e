"""The files that a run was made from, so that a finished run is not taken for one that was made from others."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from korbert.config import DataConfig, decisive
from korbert.data.shardfiles import MANIFEST
from korbert.entities import annotator_files
from korbert.files import CONFIG, HUGGING_FACE, SESSIONS, matching, plain_paths
from korbert.tasks.prepare import corpus_identity

_ROOT = "{root}"
# Of a folder: what a run or a model is; a tokenizer or a model of others; shards (with the checksums of all); a
# comparison.
_INSIDE = (
    "model/model.safetensors", "model/model.json", "model.safetensors", "model.json", "pytorch_model.bin",
    "tokenizer.json", "vocab.txt", "*.model", MANIFEST, "results.jsonl",
)  # fmt: skip
# Settings, by the last part of their key, whose text is a path even where it does not look like one.
_PATHS = (
    "init", "run", "path", "tokenizer_path", "files", "shards", "train", "test", "store", "dump", "korquad", "ner",
    "titles", "evaluation", "file", "include", "measured", "against",
)  # fmt: skip
_PATHS_BY_NAME, _NAMES_OR_PATHS = "corpora", "tokenizers"


def input_files(config: Mapping[str, Any], data: DataConfig) -> dict[str, str]:
    """SHA-256 of every file that the configuration names, by its path, in which data.root is `{root}`.

    What lies in the run's own folder, and a name with `*` means, too, is not what the run is made from.
    """
    paths = [path for text in _strings(decisive(config)) for path in _files(text, data, config.get("run_dir"))]
    return {portable(path, data): checksum for path, checksum in zip(paths, _checksums(paths, data), strict=True)}


def changed_files(
    before: Mapping[str, str], config: Mapping[str, Any], data: DataConfig, must_exist: bool = False
) -> list[str]:
    """Files of `before` that have other contents now, and new ones that a name with `*` in the configuration means.

    One that is not here cannot have changed what it was; unless it `must_exist`, for a run that goes on with it.
    """
    there = {name: path for name in before if (path := Path(_expanded(name, data) or "")).is_file()}
    now = dict(zip(there, _checksums(list(there.values()), data), strict=True))
    changed = [name for name in before if now.get(name, None if must_exist else before[name]) != before[name]]
    known = plain_paths([*before])
    for text in _strings(decisive(config)):
        if glob.has_magic(text):
            meant = [portable(path, data) for path in _files(text, data, config.get("run_dir"))]
            # Of a name without a slash, runs of before these counted have noted nothing.
            is_noted = not text.startswith("./") or any(plain_paths(name) in known for name in meant)
            changed += [name for name in meant if is_noted and plain_paths(name) not in known]
    return changed


def _strings(value: Any, key: str = "") -> Iterator[str]:
    """All texts of a configuration; those that are paths look like some."""
    if isinstance(value, str):
        is_path = key in _PATHS or (key == _NAMES_OR_PATHS and Path(value).exists())
        yield _as_path(value.removeprefix(HUGGING_FACE)) if is_path else value
        yield from (_as_path(name) for name in annotator_files(value))
    elif isinstance(value, Mapping):
        for inner_key, inner in value.items():
            yield from _strings(inner, "file" if key == _PATHS_BY_NAME else str(inner_key))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)


def _as_path(name: str) -> str:
    """What is known to be a path, so that it looks like one."""
    return name if "/" in name else f"./{name}"


def _expanded(text: str, data: DataConfig) -> str | None:
    """With data.root in the place of `{root}`; None where it is not known."""
    return None if _ROOT in text and not data.root else text.replace(_ROOT, str(data.root))


def _files(text: str, data: DataConfig, run_dir: str | None) -> Iterator[Path]:
    pattern = _expanded(text, data)
    for found in matching(pattern) if "/" in text and pattern else ():
        if run_dir and found.resolve().is_relative_to(Path(run_dir).resolve()):
            continue
        yield from (path for path in (_parts(found) if found.is_dir() else [found]) if path.is_file())


def _parts(folder: Path) -> Iterator[Path]:
    for inner in _INSIDE:
        yield from sorted(folder.glob(inner))
    if not (folder / SESSIONS).exists():  # a model of others; a run's own says what was asked for
        yield folder / CONFIG


def portable(path: Path, data: DataConfig) -> str:
    """The name that `input_files` gives a file."""
    inside = data.root is not None and path.is_relative_to(data.root)
    return f"{_ROOT}/{path.relative_to(str(data.root))}" if inside else _as_path(str(path))


def _checksums(paths: list[Path], data: DataConfig) -> list[str]:
    return [checksum for _, checksum in corpus_identity(paths, Path(data.cache))]
