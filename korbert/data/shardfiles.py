"""The files of a token shard, and the manifest of a folder of them.

A shard is four .npy files: `tokens` (uint16 or int32) and `entities` (uint8), flat over all sentences; `sentences`
(int64), where each sentence begins in them, and `documents` (int64), where each document begins in `sentences`; and
where masking wants to know of eojeol or morphemes, a fifth one, `units` (uint8), flat as the tokens.
Markers and typed entity ids are always stored when entities were found, and left out again on reading as the entity
input says: so split, markers, embedding and both read the very same sentences from one folder.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.encoding import Encoding
from korbert.errors import DataError
from korbert.files import check_seal, checksum, plain_name, read_json, write_bytes_atomically
from korbert.text import IntArray

FORMAT = 2
READABLE = (1, 2)  # 1 has shards 00000, 00001, …, and no checksums
MANIFEST = "manifest.json"
EOJEOL_UNITS = "eojeol"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder was made from, and how much is in it.

    documents: those in it; empty: those without a token, which are not; dropped: those that filters left out, by
    reason; read: all of them together. typed: whether entity ids tell types. units: "", "eojeol", or also the analyser
    whose morphemes are flagged. names: the shards, in order. files: size in bytes and SHA-256 of each file. recipe:
    all that decided what is in it, see `korbert.data.building`.
    """

    tokenizer: str
    annotator: str
    cut: bool
    sources: tuple[str, ...]
    documents: int
    sentences: int
    tokens: int
    characters: int
    shards: int
    empty: int = 0
    typed: bool = False
    units: str = ""
    format: int = FORMAT
    read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Read a folder's. Raises DataError where it is missing, of another format, or not whole."""
        path = folder / MANIFEST
        if not path.is_file():
            raise DataError(path, "file", "not found: no token shards, or not finished (the same command goes on)")
        raw = read_json(path)
        if raw.get("format") not in READABLE:
            wanted = " or ".join(map(str, READABLE))
            raise DataError(path, "format", f"wanted {wanted}, found {raw.get('format')}: build the shards again")
        try:
            found = {key.name: raw[key.name] for key in fields(cls) if key.name in raw}
            found["sources"] = tuple(raw["sources"])
            found["names"] = tuple(raw.get("names") or (f"{number:05d}" for number in range(raw["shards"])))
            found["files"] = {name: (int(size), str(digest)) for name, (size, digest) in raw.get("files", {}).items()}
            for key in ("names", "files"):
                for name in found[key]:
                    plain_name(path, key, name)
            manifest = cls(**found)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise DataError(path, "content", f"not whole ({error!r}): build the shards again") from error
        check_seal(path, raw)
        return manifest

    def verify(self, folder: Path, contents: bool = False) -> None:
        """Compare every file's size, or its checksum, too. Raises DataError that names all files that differ."""
        bad = []
        for name, (size, digest) in self.files.items():
            path = folder / name
            if not path.is_file():
                bad.append(f"{path}: missing")
            elif path.stat().st_size != size:
                bad.append(f"{path}: wanted {size} bytes, found {path.stat().st_size}")
            elif contents and checksum(path) != digest:
                bad.append(f"{path}: is not what was written (checksum)")
        if bad:
            raise DataError(folder, f"{len(bad)} of {len(self.files)} files", "\n".join(["damaged", *bad]))


class Stretch(NamedTuple):
    """Tokens of a document: ids, entity ids and unit flags, see `korbert.data.units`, each (T,) int32."""

    ids: IntArray
    entities: IntArray
    units: IntArray

    def take(self, keep: slice | IntArray) -> Stretch:
        """Some of the tokens."""
        return Stretch(self.ids[keep], self.entities[keep], self.units[keep])


def stretch(encoding: Encoding, units: IntArray | None = None) -> Stretch:
    """The tokens of a text."""
    ids = encoding.token_ids
    return Stretch(ids, encoding.entity_ids, np.zeros_like(ids) if units is None else units)


class ShardWriter:
    """Collects the sentences of documents, compactly, and writes them as one shard."""

    def __init__(self, vocabulary: int, with_units: bool) -> None:
        types: dict[str, type] = {"tokens": np.uint16 if vocabulary <= 1 << 16 else np.int32, "entities": np.uint8}
        self._types = types | ({"units": np.uint8} if with_units else {})
        self._arrays: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in self._types}
        self._lengths = [np.zeros(1, dtype=np.int64)]
        self._documents = [0]
        self.tokens = 0

    @property
    def documents(self) -> int:
        """How many there are."""
        return len(self._documents) - 1

    @property
    def sentences(self) -> int:
        """How many there are, of all documents."""
        return self._documents[-1]

    def add(self, document: Stretch, lengths: npt.NDArray[np.int64]) -> None:
        """One more document, of one sentence or more, end to end. lengths: tokens of each sentence, (S,)."""
        columns = {"tokens": document.ids, "entities": document.entities, "units": document.units}
        for name, arrays in self._arrays.items():
            arrays.append(columns[name].astype(self._types[name]))
        self._lengths.append(lengths)
        self._documents.append(self._documents[-1] + len(lengths))
        self.tokens += len(document.ids)

    def write(self, folder: Path, name: str, scratch: Path | None = None) -> dict[str, tuple[int, str]]:
        """Write the files, each of them whole or not at all; size and checksum of each. Nothing where nothing is."""
        if not self.documents:
            return {}
        arrays = {key: np.concatenate(parts) for key, parts in self._arrays.items()}
        arrays["sentences"] = np.cumsum(np.concatenate(self._lengths), dtype=np.int64)
        arrays["documents"] = np.array(self._documents, dtype=np.int64)
        written = {}
        for key, array in arrays.items():
            path = folder / f"{name}.{key}.npy"
            buffer = io.BytesIO()
            np.save(buffer, array)
            content = buffer.getvalue()
            write_bytes_atomically(path, content, scratch)
            written[path.name] = (len(content), hashlib.sha256(content).hexdigest())
        return written
