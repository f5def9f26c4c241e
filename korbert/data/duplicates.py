"""Documents that say the same: exact duplicates by hash, near duplicates by MinHash and locality-sensitive hashing.

Each document gets 128 minima of hashes of its character n-grams (Broder 1997), in 16 bands of 8: those with a band in
common are compared, which finds 95 % of the pairs of similarity 0.8 and 99.99 % of those of 0.9 (Leskovec et al.,
Mining of Massive Datasets, section 3.4). What is decided depends on the order of the corpus alone, and memory on the
number of documents by a few bytes each: signatures stay on disk, and are looked through part by part. Of documents that
share a band and are not similar, such as pages of one template, all pairs are looked at: 8,000 of them take 0.3 seconds
of a core, 100,000 most of a minute, a million an hour and more, for each band that they share.
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
_ROUNDS, _LARGE = 16, 256  # from which on, and of how many that are left, a group is looked through by itself
_LEADERS, _OTHERS = 64, 512  # rows that are compared with each other at once
_BITS = 3  # of each minimum, in sketches
Reasons = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]
Minima = Callable[[Rows], npt.NDArray[np.uint32]]


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


def _reader(store: SignatureStore, documents: Rows) -> Minima:
    """Signatures of these documents, by row: read at once, or, of too many for that, whenever asked for."""
    if len(documents) <= _MOST_HELD:
        return store.minima(documents).__getitem__
    return lambda rows: store.minima(documents[rows])


def _similar(minima: Minima, groups: npt.NDArray[np.int64], threshold: float) -> npt.NDArray[np.bool_]:
    """Whether each row is similar to the first of its group that is left when all before it are done.

    minima: signatures of rows.
    """
    found = np.zeros(len(groups), dtype=np.bool_)
    left = np.arange(len(groups))
    rounds = 0
    while len(left):
        if rounds == _ROUNDS:
            sizes = np.diff(np.flatnonzero(np.append(_begins(groups), True)))
            is_large = np.repeat(sizes > _LARGE, sizes)
            for many in np.split(left[is_large], np.cumsum(sizes[sizes > _LARGE])[:-1]):
                found[_similar_of_many(minima, many, threshold)] = True
            left, groups = left[~is_large], groups[~is_large]
        rounds += 1
        begins = _begins(groups)
        firsts = left[np.maximum.accumulate(np.where(begins, np.arange(len(groups)), 0))]
        others = np.flatnonzero(~begins)
        similar = np.zeros(len(left), dtype=np.bool_)
        for start in range(0, len(others), _ROWS):
            rows = others[start : start + _ROWS]
            similar[rows] = _are_similar(minima, left[rows], firsts[rows], threshold)
        found[left[similar]] = True
        rest = ~begins & ~similar
        left, groups = _without_singles(left[rest], groups[rest])
    return found


def _are_similar(minima: Minima, rows: Rows, others: Rows, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether each row is similar to the other one beside it."""
    return (minima(rows) == minima(others)).mean(axis=1) >= threshold


def _similar_of_many(minima: Minima, many: Rows, threshold: float) -> Rows:
    """Those of `many` rows, one group, that `_similar` finds, where few of them are similar to each other.

    All pairs are looked at: how often they differ at least, by `_sketches`, and only where that leaves it open, their
    signatures. So it takes the square of their number still, but far less than whole signatures would.
    """
    parts = [_sketches(minima(many[start : start + _ROWS])) for start in range(0, len(many), _ROWS)]
    sketches = np.concatenate([*parts, np.empty((_BITS, MINIMA // 64, 0), dtype=np.uint64)], axis=-1)
    most = MINIMA - threshold * MINIMA

    def pairs(rows: Rows, others: Rows) -> tuple[Rows, Rows]:
        """The pairs of a row and another one that are similar, numbers in `many`."""
        fewest = _differences(sketches[:, :, rows, None], sketches[:, :, None, others])
        at = np.nonzero(fewest <= most)
        first, second = rows[at[0]], others[at[1]]
        similar = np.zeros(len(first), dtype=np.bool_)
        for start in range(0, len(first), _ROWS):
            part = slice(start, start + _ROWS)
            similar[part] = _are_similar(minima, many[first[part]], many[second[part]], threshold)
        return first[similar], second[similar]

    found = np.zeros(len(many), dtype=np.bool_)
    left = np.arange(len(many))
    while len(left):
        leaders, left = left[:_LEADERS], left[_LEADERS:]
        first, second = pairs(leaders, leaders)
        order = np.argsort(second, kind="stable")  # of each row is known, then, whether those before it are left
        for earlier, later in zip(first[order].tolist(), second[order].tolist(), strict=True):
            found[later] |= earlier < later and not found[earlier]
        leaders = leaders[~found[leaders]]
        for start in range(0, len(left), _OTHERS):
            found[pairs(leaders, left[start : start + _OTHERS])[1]] = True
        left = left[~found[left]]
    return many[found]


def _sketches(minima: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """A few bits of each minimum, (bits, words, rows): where a bit differs, so do the minima."""
    mixed = (minima * np.uint32(_PRIME >> np.uint64(32))) >> np.uint32(32 - _BITS)  # their own first bits are few
    planes = [np.packbits(((mixed >> np.uint32(bit)) & 1).astype(np.bool_), axis=1) for bit in range(_BITS)]
    return np.ascontiguousarray(np.stack(planes).view(np.uint64).transpose(0, 2, 1))


def _differences(sketches: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """In how many minima they differ at least; the shape is that of both from the third axis on, broadcast."""
    counts: Any = np.uint8(0)
    for word in range(sketches.shape[1]):
        differing = sketches[0, word] ^ others[0, word]
        for bit in range(1, _BITS):
            differing |= sketches[bit, word] ^ others[bit, word]
        counts = counts + _ones(differing)
    return counts


def _ones(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits of each are set."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(words)
    table = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
    return table[words.view(np.uint8)].reshape(*words.shape, 8).sum(axis=-1, dtype=np.uint8)
