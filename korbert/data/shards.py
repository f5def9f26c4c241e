"""Token shards: a corpus encoded once, on disk, memory-mapped; never all of it in RAM.

A shard is four .npy files: `tokens` (uint16 or int32) and `entities` (uint8), flat over all sentences; `sentences`
(int64), where each sentence begins in them, and `documents` (int64), where each document begins in `sentences`; and
where masking wants to know of eojeol or morphemes, a fifth one, `units` (uint8), flat as the tokens.
Markers and typed entity ids are always stored when entities were found, and left out again on reading as the entity
input says: so split, markers, embedding and both read the very same sentences from one folder.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.data.corpus import Document, read_documents, split_sentences
from korbert.data.units import unit_flags
from korbert.encoding import Encoding, EntityInput, encode
from korbert.entities import EntityAnnotator, make_annotator, with_cache
from korbert.errors import DataError
from korbert.files import read_json, write_json_atomically
from korbert.morphology import make_analyser
from korbert.parallel import ordered_map
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer, load_tokenizer

FORMAT = 1
EOJEOL_UNITS = "eojeol"
_EVERYTHING = EntityInput(typed=True)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder was made from, and how much is in it; `empty` documents had no token and were left out.

    typed: whether entity ids tell types. units: "", "eojeol", or also the analyser whose morphemes are flagged.
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


EncodedDocument = tuple[list[Stretch], int]  # its sentences, its characters


class DocumentEncoder:
    """Document → encoded sentences; paragraphs are annotated whole, so that the analyser sees its context."""

    def __init__(self, tokenizer: Tokenizer, annotator: EntityAnnotator, cut: bool, units: str = "") -> None:
        self.tokenizer = tokenizer
        self.annotator = annotator
        self.cut, self.units = cut, units
        self._analyser = make_analyser(units) if units not in ("", EOJEOL_UNITS) else None

    def __call__(self, document: Document) -> EncodedDocument:
        """Encode every sentence that has a token."""
        sentences = []
        for paragraph in self.annotator.annotate_all(document):
            for sentence in split_sentences(paragraph):
                encoding = encode(sentence, self.tokenizer, _EVERYTHING, cut=self.cut)
                if len(encoding):
                    sentences.append(stretch(encoding, self._flags(sentence.text, encoding)))
        return sentences, sum(map(len, document))

    def _flags(self, text: str, encoding: Encoding) -> IntArray | None:
        if not self.units:
            return None
        return unit_flags(text, encoding, self.tokenizer.special, self._analyser)


def _make_encoder(tokenizer: Path, annotator: str, cut: bool, units: str, cache: Path | None) -> DocumentEncoder:
    found = with_cache(make_annotator(annotator, cache=cache), cache)
    return DocumentEncoder(load_tokenizer(tokenizer), found, cut, units)


def build_shards(
    folder: Path,
    sources: Iterable[Path],
    tokenizer_folder: Path,
    annotator: str = "none",
    *,
    cut: bool = True,
    units: str = "",
    max_documents: int | None = None,
    workers: int = 1,
    shard_tokens: int = 1 << 24,
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Manifest:
    """Encode the documents of `sources` in order into `folder`, which appears only when it is complete.

    cut: whether tokens end at entity boundaries; mentions are marked either way. units: what is flagged for masking:
    nothing, "eojeol", or the name of an analyser, for its morphemes as well. `progress` is called with documents
    and tokens done so far. cache: a folder, see `make_annotator`, in which annotations are kept, too. The result does
    not depend on `workers` (processes).
    """
    sources = list(sources)
    tokenizer = load_tokenizer(tokenizer_folder)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    documents = itertools.islice(itertools.chain.from_iterable(map(read_documents, sources)), max_documents)
    writer = _ShardWriter(part, shard_tokens, np.uint16 if len(tokenizer) <= 1 << 16 else np.int32, bool(units))
    how = (tokenizer_folder, annotator, cut, units, cache)
    for sentences, characters in ordered_map(_make_encoder, how, documents, workers):
        writer.add(sentences, characters)
        if progress:
            progress(writer.documents, writer.tokens)
    writer.flush()
    manifest = Manifest(
        tokenizer=tokenizer.fingerprint,
        annotator=make_annotator(annotator, cache=cache).fingerprint,
        cut=cut and annotator != "none",
        sources=tuple(path.name for path in sources),
        documents=writer.documents,
        sentences=writer.sentences,
        tokens=writer.tokens,
        characters=writer.characters,
        shards=writer.shards,
        empty=writer.empty,
        typed=True,
        units=units,
    )
    write_json_atomically(part / "manifest.json", asdict(manifest))
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    return manifest


class _ShardWriter:
    """Collects encoded documents and writes a shard whenever enough tokens are there."""

    def __init__(self, folder: Path, shard_tokens: int, dtype: type, with_units: bool) -> None:
        self.folder, self.shard_tokens, self.dtype, self.with_units = folder, shard_tokens, dtype, with_units
        self.documents = self.sentences = self.tokens = self.characters = self.shards = self.empty = 0
        self._reset()

    def _reset(self) -> None:
        self._sentences: list[Stretch] = []
        self._documents = [0]
        self._tokens = 0

    def add(self, sentences: list[Stretch], characters: int) -> None:
        self.characters += characters
        if not sentences:
            self.empty += 1
            return
        self._sentences += sentences
        self._documents.append(len(self._sentences))
        added = sum(len(sentence.ids) for sentence in sentences)
        self._tokens += added
        self.tokens += added
        self.documents += 1
        self.sentences += len(sentences)
        if self._tokens >= self.shard_tokens:
            self.flush()

    def flush(self) -> None:
        if not self._sentences:
            return
        lengths = [0, *(len(sentence.ids) for sentence in self._sentences)]
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "tokens": np.concatenate([sentence.ids for sentence in self._sentences]).astype(self.dtype),
            "entities": np.concatenate([sentence.entities for sentence in self._sentences]).astype(np.uint8),
            "sentences": np.cumsum(lengths, dtype=np.int64),
            "documents": np.array(self._documents, dtype=np.int64),
        }
        if self.with_units:
            arrays["units"] = np.concatenate([sentence.units for sentence in self._sentences]).astype(np.uint8)
        for name, array in arrays.items():
            np.save(self.folder / f"{self.shards:05d}.{name}.npy", array)
        self.shards += 1
        self._reset()


class ShardedCorpus:
    """A shard folder, opened: documents and sentences by number, read through memory maps.

    Raises DataError where the folder is not complete or was made with another tokenizer than `fingerprint`.
    """

    def __init__(self, folder: Path, fingerprint: str | None = None) -> None:
        path = folder / "manifest.json"
        raw = read_json(path)
        if raw.get("format") != FORMAT:
            raise DataError(path, "format", f"wanted {FORMAT}, found {raw.get('format')}: build the shards again")
        self.manifest = Manifest(**{**raw, "sources": tuple(raw["sources"])})
        if fingerprint is not None and self.manifest.tokenizer != fingerprint:
            raise DataError(
                path,
                "tokenizer",
                f"these shards were made with tokenizer {self.manifest.tokenizer}, but the tokenizer in use is "
                f"{fingerprint}: their token ids mean other tokens",
            )
        self.folder = folder
        self._shards = [self._open(number) for number in range(self.manifest.shards)]
        counts = [len(shard["documents"]) - 1 for shard in self._shards]
        self._first = np.cumsum([0, *counts])

    def _open(self, number: int) -> dict[str, np.ndarray]:
        names = ("tokens", "entities", "sentences", "documents", *(["units"] if self.manifest.units else []))
        try:
            maps = {name: np.load(self.folder / f"{number:05d}.{name}.npy", mmap_mode="r") for name in names}
        except (OSError, ValueError) as error:
            raise DataError(self.folder, f"shard {number}", f"missing or damaged ({error})") from error
        return {name: array.view(np.ndarray) for name, array in maps.items()}  # slicing a memmap itself is slow

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._first[-1])

    def _locate(self, document: int) -> tuple[dict[str, np.ndarray], int]:
        shard = int(np.searchsorted(self._first, document, side="right")) - 1
        return self._shards[shard], document - int(self._first[shard])

    def sentence_lengths(self, document: int) -> np.ndarray:
        """Tokens in each sentence of a document, markers included, (S,) int64."""
        shard, index = self._locate(document)
        first, last = shard["documents"][index : index + 2]
        return np.diff(shard["sentences"][first : last + 1])

    def document_length(self, document: int) -> int:
        """Tokens in a document, markers included."""
        shard, index = self._locate(document)
        first, last = shard["documents"][index : index + 2]
        return int(shard["sentences"][last] - shard["sentences"][first])

    def document_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens in each document, markers included, (documents,) int64."""
        return np.concatenate([np.diff(shard["sentences"][shard["documents"]]) for shard in self._shards])

    def sentences(self, document: int, first: int, last: int) -> Stretch:
        """Sentences `[first, last)` of a document."""
        shard, index = self._locate(document)
        offset = int(shard["documents"][index])
        return _stretch(shard, int(shard["sentences"][offset + first]), int(shard["sentences"][offset + last]))

    def tokens(self, document: int, first: int, last: int) -> Stretch:
        """Tokens `[first, last)` of a document."""
        shard, index = self._locate(document)
        offset = int(shard["sentences"][shard["documents"][index]])
        return _stretch(shard, offset + first, offset + last)

    def tokens_per_character(self, special: SpecialTokens) -> float:
        """Tokens without markers for each character of the text, of the whole corpus."""
        markers = sum(np.count_nonzero(np.isin(s["tokens"], (special.ent, special.ent_end))) for s in self._shards)
        return (self.manifest.tokens - markers) / self.manifest.characters


def _stretch(shard: dict[str, np.ndarray], start: int, end: int) -> Stretch:
    ids, entities = (shard[name][start:end].astype(np.int32) for name in ("tokens", "entities"))
    return Stretch(
        ids, entities, shard["units"][start:end].astype(np.int32) if "units" in shard else np.zeros_like(ids)
    )
