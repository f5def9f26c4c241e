"""What is done with one piece of a corpus by any process: signing and encoding, by a recipe that decides every byte."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from korbert.data import duplicates
from korbert.data.corpus import to_record
from korbert.data.document_encoder import DocumentEncoder, RecordAnnotator
from korbert.data.duplicates import Signatures, signatures
from korbert.data.filters import DocumentFilter, Filters, Reason
from korbert.data.overlap import comparable
from korbert.data.pieces import Piece
from korbert.data.shardfiles import EOJEOL_UNITS, ShardWriter
from korbert.data.units import units_identity
from korbert.data.wikidump import reading_rules
from korbert.errors import DataError
from korbert.files import checksum, read_sealed_json, write_sealed_json
from korbert.morphology import make_analyser
from korbert.parallel import megabytes
from korbert.text import NORMALISATION
from korbert.tokenizers import load_tokenizer

VERSION = 1  # of what pieces are made of
COMPLETE = "complete.json"  # among the reasons, when all are there: their number, and a checksum of each file


@dataclass(frozen=True)
class Recipe:
    """All that decides what is in the shards, and nothing else does but the files that it names.

    cut: whether tokens end at entity boundaries; mentions are marked either way. units: what is flagged for masking:
    nothing, "eojeol", or the name of an analyser, for its morphemes as well. filters: with paths of existing files.
    piece_characters: of a shard, about. checksums: of the sources, where they are known. cache, annotations: folders,
    see `RecordAnnotator`; they change nothing.
    """

    sources: tuple[Path, ...]
    tokenizer_folder: Path
    annotator: str = "none"
    cut: bool = True
    units: str = ""
    filters: Filters = field(default_factory=Filters)
    max_documents: int | None = None
    piece_characters: int = 1 << 20
    checksums: tuple[str, ...] = ()
    cache: Path | None = None
    annotations: Path | None = None

    def __post_init__(self) -> None:
        if self.units not in ("", EOJEOL_UNITS):  # the analyser that "mecab" is here
            object.__setattr__(self, "units", make_analyser(self.units, "units").name)

    def identity(self) -> dict[str, Any]:
        """What two builds of the same bytes have in common, JSON-able, wherever their files lie."""
        annotator = RecordAnnotator(self.annotator, self.cache)
        annotator.check(self.sources)
        checksums = self.checksums or tuple(map(checksum, self.sources))
        filters = asdict(self.filters)
        for key in ("titles", "evaluation"):
            filters[key] = [[Path(path).name, checksum(Path(path))] for path in filters[key]]
        if self.filters.near_duplicates is not None:
            filters["library"] = duplicates.library()
        tokenizer = load_tokenizer(self.tokenizer_folder)
        return {
            "version": VERSION,
            "tokenizer": tokenizer.fingerprint,
            "rules": tokenizer.rules,
            "normalisation": NORMALISATION,
            "annotator": annotator.fingerprint,
            "cut": self.cut and self.annotator != "none",
            "units": units_identity(self.units),
            "filters": filters,
            "max_documents": self.max_documents,
            "piece_characters": self.piece_characters,
            "sources": [[path.name, digest] for path, digest in zip(self.sources, checksums, strict=True)],
            **reading_rules(self.sources),
        }


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that was finished. memory: megabytes of the process that did it, now and at most; process: its number."""

    stage: str
    name: str
    documents: int
    characters: int
    tokens: int
    process: int
    memory: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a build keeps what."""

    output: Path
    scratch: Path

    @property
    def build(self) -> Path:
        """What is needed on the way."""
        return self.output / "build"

    @property
    def signatures(self) -> Path:
        """Of documents, by piece."""
        return self.build / "signatures"

    @property
    def reasons(self) -> Path:
        """Why documents are left out, by piece."""
        return self.build / "reasons"

    @property
    def pieces(self) -> Path:
        """What each finished piece holds."""
        return self.build / "pieces"


class Signer:
    """Signs pieces."""

    def __init__(self, recipe: Recipe, folders: Folders) -> None:
        self.filters, self.folders = recipe.filters, folders
        titles, evaluation = (list(map(Path, paths)) for paths in (self.filters.titles, self.filters.evaluation))
        self._filter = DocumentFilter(self.filters, titles, evaluation)

    def __call__(self, piece: Piece) -> Done:
        """Write what comparing its documents needs to know of them."""
        records = [to_record(raw) for raw in piece.documents]
        texts = [comparable("\n".join(record.paragraphs)) for record in records]
        reasons = np.array([self._filter(*pair) for pair in zip(records, texts, strict=True)], dtype=np.uint8)
        exact = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
        minima = None
        if self.filters.near_duplicates is not None:
            minima = np.zeros((len(texts), duplicates.MINIMA), dtype=np.uint32)
            kept = np.flatnonzero(reasons == Reason.KEPT)
            minima[kept] = signatures([texts[index] for index in kept], self.filters.shingle)
        found = Signatures(reasons, np.frombuffer(b"".join(exact), dtype="<u8"), minima)
        found.save(self.folders.signatures, piece.name, self.folders.scratch)
        return _done("sign", piece.name, len(records), sum(map(len, records)), 0)


class PieceEncoder:
    """Encodes pieces."""

    def __init__(self, recipe: Recipe, folders: Folders) -> None:
        self.recipe, self.folders = recipe, folders
        annotator = RecordAnnotator(recipe.annotator, recipe.cache, recipe.annotations)
        tokenizer = load_tokenizer(recipe.tokenizer_folder)
        self._vocabulary = len(tokenizer)
        self._encode = DocumentEncoder(tokenizer, annotator, recipe.cut, recipe.units)
        complete = folders.reasons / COMPLETE
        self._checksums = read_sealed_json(complete).get("checksums", {}) if recipe.filters.any else {}

    def __call__(self, piece: Piece) -> Done:
        """Write its shard, and what is in it, which says that it is done."""
        reasons = self._reasons(piece)
        writer = ShardWriter(self._vocabulary, bool(self.recipe.units))
        characters = empty = 0
        for raw, reason in zip(piece.documents, reasons.tolist(), strict=True):
            if reason != Reason.KEPT:
                continue
            record = to_record(raw)
            tokens, lengths = self._encode(record)
            characters += len(record)
            if len(lengths):
                writer.add(tokens, lengths)
            else:
                empty += 1
        files = writer.write(self.folders.output, piece.name, self.folders.scratch)
        dropped = Counter(Reason(reason).label for reason in reasons.tolist() if reason != Reason.KEPT)
        counts = {
            "read": len(piece.documents), "documents": writer.documents, "empty": empty, "sentences": writer.sentences,
            "tokens": writer.tokens, "characters": characters, "dropped": dict(sorted(dropped.items())), "files": files,
        }  # fmt: skip
        write_sealed_json(self.folders.pieces / f"{piece.name}.json", counts)
        return _done("encode", piece.name, len(piece.documents), characters, writer.tokens)

    def _reasons(self, piece: Piece) -> duplicates.Reasons:
        if not self.recipe.filters.any:
            return np.full(len(piece.documents), Reason.KEPT, dtype=np.uint8)
        path = self.folders.reasons / f"{piece.name}.npy"
        try:
            content = path.read_bytes()
            if self._checksums.get(piece.name) not in (None, hashlib.sha256(content).hexdigest()):
                raise ValueError("not what was written")
            return np.load(io.BytesIO(content), allow_pickle=False).astype(np.uint8)
        except Exception as error:  # numpy parses a file's header, and damage there has many names
            raise DataError(path, "reasons", f"missing or damaged ({error}): delete {path.parent}") from error


def _done(stage: str, name: str, documents: int, characters: int, tokens: int) -> Done:
    return Done(stage, name, documents, characters, tokens, os.getpid(), megabytes())
