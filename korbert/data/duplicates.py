"""Documents that say the same: exact duplicates by hash, near duplicates by MinHash and locality-sensitive hashing.

Each document gets 128 minima of hashes of its character n-grams (Broder 1997), in 16 bands of 8: those with a band in
common are compared, which finds 95 % of the pairs of similarity 0.8 and 99.99 % of those of 0.9 (Leskovec et al.,
Mining of Massive Datasets, section 3.4). What is decided depends on the order of the corpus alone, and memory on the
number of documents by a few bytes each: signatures stay on disk, and are looked through part by part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.filters import Filters, Reason
from korbert.data.overlap import Hashes, ngram_hashes
from korbert.errors import DataError, KorbertError
from korbert.files import atomic_file, read_sealed_json, write_sealed_json

MINIMA, BANDS = 128, 16
_SEED = 1
_MOST = 1 << 23  # documents whose hashes are sorted at once
_ROWS = 1 << 15  # signatures compared at once
_MOST_HELD = 1 << 19  # signatures, of half a kilobyte each
_PRIME = np.uint64(0x9E3779B97F4A7C15)
Reasons = npt.NDArray[np.uint8]


def library() -> str:
    """The MinHash library and its version, by which signatures differ. Raises KorbertError where it is missing."""
    try:
        import rensa  # noqa: F401
    except ImportError:
        raise KorbertError("near duplicates need a package: pip install -e '.[corpus]'") from None
    from importlib import metadata

    return f"rensa {metadata.version('rensa')}"


def signatures(texts: Sequence[str], shingle: int) -> npt.NDArray[np.uint32]:
    """The minima of each `comparable` text's n-grams, (texts, 128) uint32."""
    from rensa import RMinHash

    if not texts:
        return np.empty((0, MINIMA), dtype=np.uint32)
    each = [ngram_hashes(text, min(shingle, max(1, len(text)))) for text in texts]
    offsets = np.cumsum([0, *map(len, each)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(each), offsets, MINIMA, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def bands(minima: npt.NDArray[np.uint32]) -> Hashes:
    """A hash of each band, (bands, documents)."""
    rows = minima.reshape(len(minima), BANDS, -1).astype(np.uint64)
    values = np.zeros(rows.shape[:2], dtype=np.uint64)
    for row in range(rows.shape[2]):
        values = (values ^ (values >> np.uint64(29))) * _PRIME + rows[:, :, row]
    values = (values ^ (values >> np.uint64(32))) * _PRIME
    return np.ascontiguousarray(values.T)


@dataclass(frozen=True, slots=True)
class Signatures:
    """What comparing needs to know of a piece of the corpus.

    reasons: from the documents themselves, (documents,). exact: a hash of each text, (documents,). minima: see
    `signatures`, or none.
    """

    reasons: Reasons
    exact: Hashes
    minima: npt.NDArray[np.uint32] | None

    def save(self, folder: Path, name: str, scratch: Path) -> None:
        """Write it, the file that says it is complete last."""
        columns: dict[str, Any] = {"reasons": self.reasons, "exact": self.exact}
        checksums = {}
        if self.minima is not None:
            columns |= {f"band{number}": values for number, values in enumerate(bands(self.minima))}
            checksums["minima"] = _checksum(self.minima)
        checksums |= {column: _checksum(values) for column, values in columns.items()}
        write_sealed_json(folder / f"{name}.json", checksums, scratch)
        if self.minima is not None:
            with atomic_file(folder / f"{name}.minima.npy", scratch) as file:
                np.save(file, self.minima)
        with atomic_file(folder / f"{name}.npz", scratch) as file:
            np.savez(file, **columns)


def _checksum(values: npt.NDArray[np.generic]) -> str:
    """Of type, shape and contents."""
    return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + values.tobytes()).hexdigest()


class SignatureStore:
    """The signatures of a whole corpus, piece by piece, on disk."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self._checked: set[str] = set()  # whose minima are as they were written
        blocks = [self.read(name, "reasons") for name in names]
        self.reasons: Reasons = np.concatenate([*blocks, np.empty(0, dtype=np.uint8)])
        self.first = np.cumsum([0, *map(len, blocks)])

    def read(self, name: str, column: str) -> npt.NDArray[np.generic]:
        """An array of one piece."""
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return self._checked_values(name, column, file[column])
        except Exception as error:  # zipfile has several
            raise DataError(path, column, f"missing or damaged ({error}): delete it, and it is made again") from error

    def column(self, column: str) -> Iterator[tuple[int, Hashes]]:
        """Hashes piece by piece, with the number of the first document."""
        for first, name in zip(self.first.tolist(), self.names, strict=False):
            yield first, self.read(name, column).astype(np.uint64)

    def minima(self, documents: npt.NDArray[np.intp]) -> npt.NDArray[np.uint32]:
        """Signatures of some documents, (len(documents), 128)."""
        found = np.empty((len(documents), MINIMA), dtype=np.uint32)
        pieces = np.searchsorted(self.first, documents, side="right") - 1
        for piece in np.unique(pieces).tolist():
            rows = pieces == piece
            path = self.folder / f"{self.names[piece]}.minima.npy"
            try:
                stored = np.load(path, mmap_mode="r")
                if path.name not in self._checked:
                    self._checked_values(self.names[piece], "minima", stored)
                    self._checked.add(path.name)
                found[rows] = stored[documents[rows] - self.first[piece]]
            except Exception as error:  # numpy parses a header, and damage there has many names
                problem = f"missing or damaged ({error}): delete it and the .npz beside it, and they are made again"
                raise DataError(path, "signatures", problem) from error
        return found

    def _checked_values(self, name: str, column: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Raises ValueError where they are not what was written."""
        path = self.folder / f"{name}.json"
        if path.exists() and read_sealed_json(path).get(column) != _checksum(values):  # older ones have none
            raise ValueError("not what was written")
        return values


def decide(store: SignatureStore, filters: Filters) -> Reasons:
    """The reason of each document of the corpus, (documents,).

    Of exact duplicates the first stays. Of the others, those with a band in common are a bucket: each in it that is
    similar to the bucket's first is left out, be that one left out itself by another bucket or not; the rest are a
    bucket again.
    """
    reasons = store.reasons.copy()
    if filters.compares:
        for documents, groups in _groups(store, "exact", reasons == Reason.KEPT):
            reasons[documents[~_begins(groups)]] = Reason.DUPLICATE
    if filters.near_duplicates is not None:
        wanted = reasons == Reason.KEPT
        for band in range(BANDS):
            for documents, groups in _groups(store, f"band{band}", wanted):
                _mark_similar(store, documents, groups, filters.near_duplicates, reasons)
    return reasons


def _groups(
    store: SignatureStore, column: str, wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]]:
    """Documents of one value and their groups' numbers: groups in a row, documents in order, none alone."""
    parts = np.uint64(-(-max(1, len(wanted)) // _MOST))
    for part in range(int(parts)):
        values, documents = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.intp)]
        for first, block in store.column(column):
            taken = wanted[first : first + len(block)] & (block % parts == part)
            values.append(block[taken])
            documents.append(first + np.flatnonzero(taken))
        value, document = np.concatenate(values), np.concatenate(documents)
        order = np.argsort(value, kind="stable")
        groups = np.cumsum(_begins(value[order]), dtype=np.int64)
        yield _without_singles(document[order], groups)


def _begins(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Whether a value is not the one before it."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _without_singles(
    documents: npt.NDArray[np.intp], groups: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    begins = _begins(groups)
    several = ~(begins & np.append(begins[1:], True)[: len(begins)])
    return documents[several], groups[several]


def _mark_similar(
    store: SignatureStore,
    documents: npt.NDArray[np.intp],
    groups: npt.NDArray[np.int64],
    threshold: float,
    reasons: Reasons,
) -> None:
    start = 0
    while start < len(documents):  # whole groups at a time, whose signatures are read once
        end = int(np.searchsorted(groups, groups[min(start + _ROWS, len(groups)) - 1], side="right"))
        block = documents[start:end]
        similar = _similar(_reader(store, block), groups[start:end], threshold)
        reasons[block[similar]] = Reason.NEAR_DUPLICATE
        start = end


def _reader(
    store: SignatureStore, documents: npt.NDArray[np.intp]
) -> Callable[[npt.NDArray[np.intp]], npt.NDArray[np.uint32]]:
    """Signatures of these documents, by row: read at once, or, of too many for that, whenever asked for."""
    if len(documents) <= _MOST_HELD:
        return store.minima(documents).__getitem__
    return lambda rows: store.minima(documents[rows])


def _similar(
    minima: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.uint32]], groups: npt.NDArray[np.int64], threshold: float
) -> npt.NDArray[np.bool_]:
    """Whether each row is similar to the first of its group that is left when all before it are done.

    minima: signatures of rows.
    """
    found = np.zeros(len(groups), dtype=np.bool_)
    left = np.arange(len(groups))
    while len(left):
        begins = _begins(groups)
        firsts = left[np.maximum.accumulate(np.where(begins, np.arange(len(groups)), 0))]
        others = np.flatnonzero(~begins)
        similar = np.zeros(len(left), dtype=np.bool_)
        for start in range(0, len(others), _ROWS):
            rows = others[start : start + _ROWS]
            similar[rows] = (minima(left[rows]) == minima(firsts[rows])).mean(axis=1) >= threshold
        found[left[similar]] = True
        rest = ~begins & ~similar
        left, groups = _without_singles(left[rest], groups[rest])
    return found
