"""Words that were segmented before, looked up by the thousand: a dict would take as long as segmenting them again.

Sound only for a model that segments each word as it would alone. What is found is what the model says, never a hash's
word for it: a row of the table has the word itself.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from korbert.text import IntArray

Codes = npt.NDArray[np.uint32]

_BITS = 18  # of the number of rows
_CHARS, _IDS = 8, 4  # of a word that is kept, the space in front included: at most so many characters, and tokens
_BASIC_PLANE = 0x10000  # characters; words with others are not kept
_RUN = 1000  # characters that are segmented at once: the cost of a call is nothing then, that of sorting not yet
_SPACE = 0x20
_NOTHING = -1
_ODD = tuple(np.uint64(factor) for factor in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))


class WordCache:
    """A table with a row for each value of a hash; a word that comes to another's row takes it.

    But not if the other was found since the last such word came: most words come once, and would push out those that
    come again. A row has eight characters of 16 bits, padded with spaces, and four ids, padded with -1. Memory never
    grows. A copy in another process begins empty.
    """

    def __init__(
        self, segment: Callable[[str], IntArray], begins_word: npt.NDArray[np.bool_], bits: int = _BITS
    ) -> None:
        """Take what gives the ids of a text, which of them begin a word with its space, (V,), and 2^`bits` rows."""
        self._segment, self._begins_word, self._bits = segment, begins_word, bits
        self._keys = np.zeros((1 << bits, _CHARS // 4), dtype=np.uint64)
        self._ids = np.full((1 << bits, _IDS), _NOTHING, dtype=np.int32)
        self._is_found = np.zeros(1 << bits, dtype=np.bool_)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[WordCache], tuple[object, ...]]:
        return WordCache, (self._segment, self._begins_word, self._bits)

    def __call__(self, pieces: list[str]) -> IntArray:
        """The ids of all pieces in order, (T,) int32. No piece is empty; spaces stand only where words begin."""
        with self._lock:
            return self._looked_up(pieces)

    def _looked_up(self, pieces: list[str]) -> IntArray:
        codes, starts, sizes = _words(pieces)
        keys, is_short = _keys(codes, starts, sizes)
        places = self._places(keys)
        ids = self._ids.take(places, axis=0)  # many times as fast as an index
        is_same = self._keys.take(places, axis=0) == keys
        is_hit = is_same[:, 0] & is_same[:, 1] & is_short & (ids[:, 0] != _NOTHING)
        self._is_found[places[is_hit]] = True
        is_id = ids != _NOTHING
        is_id &= is_hit[:, None]
        old = ids.ravel().take(np.flatnonzero(is_id))
        missed = np.flatnonzero(~is_hit)
        if not len(missed):
            return old
        counts = sum(is_id.T, np.zeros(len(starts), dtype=np.int64))
        text = codes[:-_CHARS][np.repeat(~is_hit, sizes)].tobytes().decode("utf-32-le")
        new, firsts = self._segmented(text, sizes[missed], codes[starts[missed]] == _SPACE)
        counts[missed] = np.diff(firsts, append=len(new))
        found = np.empty(len(old) + len(new), dtype=np.int32)
        is_new = np.repeat(~is_hit, counts)
        found[is_new] = new
        found[~is_new] = old
        fits = is_short[missed] & (counts[missed] <= _IDS) & ~self._is_found[places[missed]]
        self._is_found[places[missed]] = False
        _, once = np.unique(places[missed[fits]], return_index=True)  # of several that want a row, the first has it
        kept = missed[fits][once]
        self._keep(places[kept], keys.take(kept, axis=0), new, firsts[fits][once], counts[kept])
        return found

    def _places(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        mixed = keys[:, 0] * _ODD[0]
        mixed ^= keys[:, 1]
        mixed *= _ODD[1]
        mixed ^= mixed >> np.uint64(32)
        mixed *= _ODD[0]
        return (mixed >> np.uint64(64 - self._bits)).astype(np.int64)

    def _segmented(
        self, text: str, sizes: npt.NDArray[np.int64], has_space: npt.NDArray[np.bool_]
    ) -> tuple[IntArray, npt.NDArray[np.int64]]:
        """The ids of words that lie end to end, and where those of each word begin; some have no space in front."""
        ends = sizes.cumsum()
        run = ends // _RUN
        is_edge = (run[1:] != run[:-1]) | ~has_space[1:]
        edges = [0, *ends[:-1][is_edge].tolist(), len(text)]
        parts = [self._segment(text[first:last]) for first, last in itertools.pairwise(edges)]
        ids = np.concatenate(parts)
        is_first = self._begins_word.take(ids)
        is_first[np.cumsum([0, *map(len, parts[:-1])])] = True
        return ids, np.flatnonzero(is_first)

    def _keep(
        self,
        places: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        ids: IntArray,
        firsts: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> None:
        padded = np.concatenate((ids, np.zeros(_IDS, dtype=np.int32)))
        rows = np.empty((len(places), _IDS), dtype=np.int32)
        for number in range(_IDS):
            rows[:, number] = np.where(number < counts, padded.take(firsts + number), _NOTHING)
        self._keys[places] = keys
        self._ids[places] = rows


def _words(pieces: list[str]) -> tuple[Codes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The characters of all pieces, and a few more; where each word begins, and its length, the space included."""
    codes = np.frombuffer("".join([*pieces, " " * _CHARS]).encode("utf-32-le"), dtype=np.uint32)
    begins = codes[:-_CHARS] == _SPACE
    if not all(piece[0] == " " for piece in pieces):
        begins[np.cumsum([0, *(len(piece) for piece in pieces[:-1])])] = True
    starts = np.flatnonzero(begins)
    return codes, starts, np.diff(starts, append=len(begins))


def _keys(
    codes: Codes, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """The first characters of each word in 128 bits, (W, 2), and which words that is all of."""
    pairs = codes[1:] << np.uint32(16)
    pairs |= codes[:-1]
    firsts = np.empty((len(starts), _CHARS // 2), dtype=np.uint32)
    for number in range(_CHARS // 2):
        firsts[:, number] = pairs[2 * number :].take(starts)
    keys = firsts.view(np.uint64)
    is_short = sizes <= _CHARS
    inside = _INSIDE.take(sizes, axis=0, mode="clip")
    keys &= inside
    keys |= _SPACES & ~inside
    high = codes[:-_CHARS] >= _BASIC_PLANE
    if high.any():
        is_short[np.searchsorted(starts, np.flatnonzero(high), side="right") - 1] = False
    return keys, is_short


_SPACES = np.full(_CHARS, _SPACE, dtype=np.uint16).view(np.uint64)
_INSIDE = np.where(np.arange(_CHARS) < np.arange(_CHARS + 1)[:, None], 0xFFFF, 0).astype(np.uint16).view(np.uint64)
