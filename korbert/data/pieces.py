"""A corpus cut into pieces: consecutive documents of one file, the same however many processes or jobs work on them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korbert.data.corpus import Raw, read_raw
from korbert.data.wikidump import Page
from korbert.errors import DataError
from korbert.files import read_sealed_json, write_sealed_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive documents. file: number of their source; number: of the piece in it; first: of its first document."""

    file: int
    number: int
    first: int
    documents: list[Raw]

    @property
    def name(self) -> str:
        """Names in alphabetical order are in corpus order."""
        return piece_name(self.file, self.number)


def piece_name(file: int, number: int) -> str:
    """What the files of a piece begin with."""
    return f"{file:05d}-{number:05d}"


def cut(path: Path, file: int, characters: int, limit: int | None = None) -> Iterator[Piece]:
    """The pieces of a file, each ending with the document that brings it to `characters`. limit: documents to read."""
    documents: list[Raw] = []
    size = first = number = 0
    for raw in itertools.islice(read_raw(path), limit):
        documents.append(raw)
        size += len(raw.wikitext) if isinstance(raw, Page) else len(raw)
        if size >= characters:
            yield Piece(file, number, first, documents)
            first += len(documents)
            documents, size, number = [], 0, number + 1
    if documents:
        yield Piece(file, number, first, documents)


class PieceReader:
    """Cuts the sources, and keeps how many documents each of their pieces has, in `folder`, for all jobs.

    part, parts: the job's pieces; every other file where there are many, and every other piece where there are few.
    """

    def __init__(
        self, folder: Path, sources: Sequence[Path], characters: int, max_documents: int | None, part: int, parts: int
    ) -> None:
        self.folder, self.sources = folder, sources
        self.characters, self.max_documents = characters, max_documents
        self.part, self.parts = part, parts
        self._by_file = max_documents is None and len(sources) >= 2 * parts

    def is_own(self, file: int, number: int) -> bool:
        """Whether a piece is this job's."""
        return (file if self._by_file else file + number) % self.parts == self.part

    def counts(self, file: int) -> list[int] | None:
        """Documents in each piece of a file, None where nobody has read it to its end."""
        path = self._path(file)
        if not path.exists():
            return None
        try:
            return [int(count) for count in read_sealed_json(path)["documents"]]
        except DataError as error:
            log.warning("%s; the file is read again", error)
            return None

    def names(self) -> list[str] | None:
        """All pieces of the corpus in order, None where not all are known yet."""
        names: list[str] = []
        for file in range(len(self.sources)):
            counts = self.counts(file)
            if counts is None:
                return None
            names += [piece_name(file, number) for number in range(len(counts))]
        return names

    def missing(self, is_done: Callable[[str], bool]) -> Iterator[Piece]:
        """Read this job's pieces that are not done. Files of which nothing is missing are not opened."""
        left = self.max_documents
        for file, path in enumerate(self.sources):
            known = self.counts(file)
            if known is None and self._by_file and not self.is_own(file, 0):
                continue
            numbers = range(len(known or ()))
            if known is None or any(self.is_own(file, n) and not is_done(piece_name(file, n)) for n in numbers):
                found = []
                for piece in cut(path, file, self.characters, left):
                    found.append(len(piece.documents))
                    if self.is_own(file, piece.number) and not is_done(piece.name):
                        yield piece
                if known is None:
                    write_sealed_json(self._path(file), {"source": path.name, "documents": found})
                elif known != found:
                    raise DataError(path, "documents", "are others than when this build was begun")
                known = found
            if left is not None:
                left -= sum(known)

    def _path(self, file: int) -> Path:
        return self.folder / f"{file:05d}.json"
