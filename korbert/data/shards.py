"""Token shards: a corpus encoded once, on disk, memory-mapped; never all of it in RAM."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.building import Builder
from korbert.data.piecework import Done, Recipe
from korbert.data.shardfiles import EOJEOL_UNITS, MANIFEST, Manifest, Stretch, stretch
from korbert.errors import DataError, KorbertError
from korbert.parallel import allow_open_files
from korbert.tokenizers import SpecialTokens

_BLOCK = 1 << 20  # tokens looked at together

__all__ = ["EOJEOL_UNITS", "Manifest", "ShardedCorpus", "Stretch", "build_shards", "stretch"]


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
    piece_characters: int = 1 << 20,
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
    checksums: Sequence[str] = (),
) -> Manifest:
    """Encode the documents of `sources` in order into `folder`, which appears only when it is complete.

    See `Recipe`; cache: a folder in which annotations are kept, too. `progress` is called with documents and tokens
    done so far. The result does not depend on `workers` (processes). What a build that was interrupted has finished is
    kept beside `folder`, and the same build goes on there.
    """
    recipe = Recipe(
        tuple(sources), tokenizer_folder, annotator, cut, units, max_documents=max_documents,
        piece_characters=piece_characters, checksums=tuple(checksums), cache=cache, annotations=cache,
    )  # fmt: skip
    part = folder.with_name(f"{folder.name}.part")
    seen = [0, 0]

    def show(done: Done) -> None:
        seen[0] += done.documents
        seen[1] += done.tokens
        if progress:
            progress(*seen)

    builder = Builder(part, recipe, workers=workers, progress=show)
    if not builder.can_go_on():
        shutil.rmtree(part)
    manifest = builder.build()
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    return manifest


class ShardedCorpus:
    """A shard folder, opened: documents and sentences by number, read through memory maps.

    verify: compare checksums, not only sizes. Raises DataError where the folder is not complete, is damaged, or was
    made with another tokenizer than `fingerprint`.
    """

    def __init__(self, folder: Path, fingerprint: str | None = None, verify: bool = False) -> None:
        path = folder / MANIFEST
        self.manifest = Manifest.open(folder)
        if fingerprint is not None and self.manifest.tokenizer != fingerprint:
            raise DataError(
                path,
                "tokenizer",
                f"these shards were made with tokenizer {self.manifest.tokenizer}, but the tokenizer in use is "
                f"{fingerprint}: their token ids mean other tokens",
            )
        self.folder = folder
        self.manifest.verify(folder, verify)
        allow_open_files(5 * len(self.manifest.names))  # a memory map keeps its file open
        self._shards = [self._open(name) for name in self.manifest.names]
        counts = [len(shard["documents"]) - 1 for shard in self._shards]
        self._first = np.cumsum([0, *counts])

    def _open(self, shard: str) -> dict[str, np.ndarray]:
        names = ("tokens", "entities", "sentences", "documents", *(["units"] if self.manifest.units else []))
        try:
            maps = {name: np.load(self.folder / f"{shard}.{name}.npy", mmap_mode="r") for name in names}
            return {name: array.view(np.ndarray) for name, array in maps.items()}  # slicing a memmap itself is slow
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise DataError(self.folder, f"shard {shard}", f"missing or damaged ({error})") from error
            raise KorbertError(
                f"{self.folder}: more files than this process may have open (ulimit -n): wanted "
                f"{5 * len(self.manifest.names)}; a corpus built with a larger piece_characters has fewer"
            ) from error
        except Exception as error:  # numpy parses a file's header, and damage there has many names
            raise DataError(self.folder, f"shard {shard}", f"missing or damaged ({error})") from error

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

    def has_entities(self) -> bool:
        """Whether any token belongs to one; the first one that does ends the search."""
        blocks = (
            shard["entities"][start : start + _BLOCK]
            for shard in self._shards
            for start in range(0, len(shard["entities"]), _BLOCK)
        )
        return any(bool(block.any()) for block in blocks)

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
