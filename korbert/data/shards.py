"""Token shards: a corpus encoded once, on disk, memory-mapped; never all of it in RAM.

A shard is four .npy files: `tokens` (uint16 or int32) and `entities` (uint8), flat over all sentences; `sentences`
(int64), where each sentence begins in them, and `documents` (int64), where each document begins in `sentences`.
Markers and entity ids are always stored when entities were found, and left out again on reading as the entity mode
says: so split, markers, embedding and both read the very same sentences from one folder.
"""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.corpus import Document, read_documents, split_sentences
from korbert.encoding import EntityMode, encode
from korbert.entities import EntityAnnotator, make_annotator
from korbert.errors import DataError
from korbert.files import read_json, write_json_atomically
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer, load_tokenizer

FORMAT = 1
_CHUNK = 32  # documents sent to a worker at a time


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder was made from, and how much is in it; `empty` documents had no token and were left out."""

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
    format: int = FORMAT


Sentence = tuple[IntArray, IntArray]  # token ids, entity ids
EncodedDocument = tuple[list[Sentence], int]  # its sentences, its characters


class DocumentEncoder:
    """Document → encoded sentences; paragraphs are annotated whole, so that the analyser sees its context."""

    def __init__(self, tokenizer: Tokenizer, annotator: EntityAnnotator, cut: bool) -> None:
        self.tokenizer = tokenizer
        self.annotator = annotator
        self.cut = cut

    def __call__(self, document: Document) -> EncodedDocument:
        """Encode every sentence that has a token."""
        sentences = []
        for paragraph in self.annotator.annotate_all(document):
            for sentence in split_sentences(paragraph):
                encoding = encode(sentence, self.tokenizer, EntityMode.BOTH, cut=self.cut)
                if len(encoding):
                    sentences.append((encoding.token_ids, encoding.entity_ids))
        return sentences, sum(map(len, document))


_worker: DocumentEncoder | None = None


def _start_worker(tokenizer: Path, annotator: str, cut: bool, cache: Path | None) -> None:
    global _worker
    _worker = DocumentEncoder(load_tokenizer(tokenizer), make_annotator(annotator, cache=cache), cut)


def _work(chunk: list[Document]) -> list[EncodedDocument]:
    assert _worker is not None
    return [_worker(document) for document in chunk]


def build_shards(
    folder: Path,
    sources: Iterable[Path],
    tokenizer_folder: Path,
    annotator: str = "none",
    *,
    cut: bool = True,
    max_documents: int | None = None,
    workers: int = 1,
    shard_tokens: int = 1 << 24,
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Manifest:
    """Encode the documents of `sources` in order into `folder`, which appears only when it is complete.

    cut: whether tokens end at entity boundaries; mentions are marked either way. `progress` is called with documents
    and tokens done so far. cache: see `make_annotator`. The result does not depend on `workers` (processes, spawned,
    because a JVM-based analyser does not survive a fork).
    """
    sources = list(sources)
    tokenizer = load_tokenizer(tokenizer_folder)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    documents = itertools.islice(itertools.chain.from_iterable(map(read_documents, sources)), max_documents)
    writer = _ShardWriter(part, shard_tokens, np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)
    for sentences, characters in _encoded(documents, tokenizer_folder, annotator, cut, workers, cache):
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
    )
    write_json_atomically(part / "manifest.json", asdict(manifest))
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    return manifest


def _encoded(
    documents: Iterator[Document], tokenizer: Path, annotator: str, cut: bool, workers: int, cache: Path | None
) -> Iterator[EncodedDocument]:
    if workers <= 1:
        yield from map(
            DocumentEncoder(load_tokenizer(tokenizer), make_annotator(annotator, cache=cache), cut), documents
        )
        return
    chunks = iter(lambda: list(itertools.islice(documents, _CHUNK)), [])
    with multiprocessing.get_context("spawn").Pool(
        workers, initializer=_start_worker, initargs=(tokenizer, annotator, cut, cache)
    ) as pool:
        # Chunks are handed out a few at a time: imap alone would read the whole corpus ahead of slow workers.
        pending = [pool.apply_async(_work, (chunk,)) for chunk in itertools.islice(chunks, 2 * workers)]
        while pending:
            yield from pending.pop(0).get()
            pending += [pool.apply_async(_work, (chunk,)) for chunk in itertools.islice(chunks, 1)]


class _ShardWriter:
    """Collects encoded documents and writes a shard whenever enough tokens are there."""

    def __init__(self, folder: Path, shard_tokens: int, dtype: type) -> None:
        self.folder, self.shard_tokens, self.dtype = folder, shard_tokens, dtype
        self.documents = self.sentences = self.tokens = self.characters = self.shards = self.empty = 0
        self._reset()

    def _reset(self) -> None:
        self._sentences: list[Sentence] = []
        self._documents = [0]
        self._tokens = 0

    def add(self, sentences: list[Sentence], characters: int) -> None:
        self.characters += characters
        if not sentences:
            self.empty += 1
            return
        self._sentences += sentences
        self._documents.append(len(self._sentences))
        added = sum(len(ids) for ids, _ in sentences)
        self._tokens += added
        self.tokens += added
        self.documents += 1
        self.sentences += len(sentences)
        if self._tokens >= self.shard_tokens:
            self.flush()

    def flush(self) -> None:
        if not self._sentences:
            return
        lengths = [0, *(len(ids) for ids, _ in self._sentences)]
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "tokens": np.concatenate([ids for ids, _ in self._sentences]).astype(self.dtype),
            "entities": np.concatenate([entities for _, entities in self._sentences]).astype(np.uint8),
            "sentences": np.cumsum(lengths, dtype=np.int64),
            "documents": np.array(self._documents, dtype=np.int64),
        }
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
        self._shards = [self._open(folder, number) for number in range(self.manifest.shards)]
        counts = [len(shard["documents"]) - 1 for shard in self._shards]
        self._first = np.cumsum([0, *counts])

    @staticmethod
    def _open(folder: Path, number: int) -> dict[str, np.ndarray]:
        names = ("tokens", "entities", "sentences", "documents")
        try:
            maps = {name: np.load(folder / f"{number:05d}.{name}.npy", mmap_mode="r") for name in names}
        except (OSError, ValueError) as error:
            raise DataError(folder, f"shard {number}", f"missing or damaged ({error})") from error
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

    def sentences(self, document: int, first: int, last: int) -> Sentence:
        """Token and entity ids of sentences `[first, last)` of a document, each (T,) int32."""
        shard, index = self._locate(document)
        offset = int(shard["documents"][index])
        return _stretch(shard, int(shard["sentences"][offset + first]), int(shard["sentences"][offset + last]))

    def tokens(self, document: int, first: int, last: int) -> Sentence:
        """Token and entity ids of tokens `[first, last)` of a document, each (T,) int32."""
        shard, index = self._locate(document)
        offset = int(shard["sentences"][shard["documents"][index]])
        return _stretch(shard, offset + first, offset + last)

    def tokens_per_character(self, special: SpecialTokens) -> float:
        """Tokens without markers for each character of the text, of the whole corpus."""
        markers = sum(np.count_nonzero(np.isin(s["tokens"], (special.ent, special.ent_end))) for s in self._shards)
        return (self.manifest.tokens - markers) / self.manifest.characters


def _stretch(shard: dict[str, np.ndarray], start: int, end: int) -> Sentence:
    return shard["tokens"][start:end].astype(np.int32), shard["entities"][start:end].astype(np.int32)
