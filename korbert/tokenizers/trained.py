"""Tokenizers that are trained here: normalise, cut into pieces, look up, and map every token back.

The offset algebra stands here once. A tokenizer only cuts pieces of symbols into vocabulary entries; this module
normalises, cuts at forced boundaries first, and maps every token to the characters of the user's own string.
"""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.errors import DataError
from korbert.text import WORD_START, IntArray, NormalizedText, Normalizer
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.pretokenizer import Pretokenizer

_BATCH = 1 << 17  # symbols that are segmented together


class TrainedTokenizer(Tokenizer):
    """A normaliser, a pretokenizer and a vocabulary that begins with the special tokens."""

    def __init__(
        self,
        vocabulary: Sequence[str],
        normalizer: Normalizer,
        training: dict[str, Any],
        pretokenizer: Pretokenizer | None = None,
    ) -> None:
        """Take the vocabulary in id order. Raises ValueError where it does not begin with the special tokens."""
        super().__init__(vocabulary, SpecialTokens(), training)
        self.normalizer = normalizer
        self.pretokenizer = pretokenizer or Pretokenizer()
        if self.vocabulary[: len(self.special.names)] != tuple(self.special.names):
            raise ValueError(f"a vocabulary must begin with {' '.join(self.special.names)}")

    @classmethod
    @abstractmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        normalizer: Normalizer | None = None,
        pretokenizer: Pretokenizer | None = None,
    ) -> TrainedTokenizer:
        """Learn `vocab_size` entries at most, special tokens included. Raises KorbertError where there is no text."""

    def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
        """Tokenize `text`; no token crosses any of `boundaries` (character positions, in any order).

        A boundary at the first character of a word falls before the white space in front of it, so that the word
        keeps its word-initial form. One inside characters that normalise together cannot be cut and is ignored.
        """
        plain = self._plain(text)
        if plain is None:
            return self._encode_changed(text, boundaries)
        pieces = self._pieces(plain, boundaries)
        ids, lengths = self._segment(pieces)
        starts, ends = _places("".join(pieces), lengths)
        starts -= 1  # the space in front of the text is not there
        ends -= 1
        starts[0] = max(starts[0], 0)
        return Tokens(ids, starts, ends)

    def encode_ids(self, text: str) -> IntArray:
        """The ids that `encode` gives, without spans."""
        plain = self._plain(text)
        return self._ids_of_changed(text) if plain is None else self._segment_ids(self._pieces(plain))

    def encode_all(self, texts: Sequence[str], boundaries: Sequence[Iterable[int]] = ()) -> list[Tokens]:
        """Several texts as `encode` gives them, in their order; boundaries: those of each text, or none at all.

        The arrays of texts that were segmented together share their memory.
        """
        found: list[Tokens] = []
        for part in _parts(texts):
            some, cuts = texts[part], boundaries[part]
            plains = self._plains(some)
            together = self._together(plains, cuts)
            found += [
                self._encode_changed(text, edges) if plain is None else next(together)
                for text, plain, edges in zip(some, plains, cuts or [()] * len(some), strict=True)
            ]
        return found

    def encode_ids_all(self, texts: Sequence[str]) -> list[IntArray]:
        """The ids that `encode_all` gives, without spans."""
        found: list[IntArray] = []
        for part in _parts(texts):
            some = texts[part]
            plains = self._plains(some)
            together = self._ids_together(plains)
            found += [
                self._ids_of_changed(text) if plain is None else next(together)
                for text, plain in zip(some, plains, strict=True)
            ]
        return found

    def _encode_changed(self, text: str, boundaries: Iterable[int]) -> Tokens:
        """What `encode` gives for a text that normalisation may change the length of."""
        normal = self.normalizer(text)
        if not normal.text:
            nothing = np.zeros(0, dtype=np.int32)
            return Tokens(nothing, nothing, nothing)
        cuts = (index for position in boundaries if (index := normal.cut_before(position)) is not None)
        pieces = self.pretokenizer(normal.text, cuts)
        ids, lengths = self._segment(pieces.pieces)
        return _align(normal, ids, lengths, pieces.firsts)

    def _ids_of_changed(self, text: str) -> IntArray:
        normal = self.normalizer(text).text
        return self._segment_ids(self.pretokenizer(normal).pieces) if normal else np.zeros(0, dtype=np.int32)

    def _together(self, plains: Sequence[str | None], cuts: Sequence[Iterable[int]]) -> Iterator[Tokens]:
        """What `encode` gives for those texts that there are, with their boundaries."""
        pieces, edges = self._pieces_of_all(plains, cuts)
        if not pieces:
            return
        ids, lengths = self._segment(pieces)
        starts, ends = _places("".join(pieces), lengths)
        lasts = ends.searchsorted(edges[1:], "right")
        firsts = np.concatenate(([0], lasts[:-1]))
        shift = np.repeat(edges[:-1] + 1, lasts - firsts)  # as in `encode`
        starts -= shift
        ends -= shift
        starts[firsts] = np.maximum(starts[firsts], 0)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            yield Tokens(ids[first:last], starts[first:last], ends[first:last])

    def _ids_together(self, plains: Sequence[str | None]) -> Iterator[IntArray]:
        pieces, edges = self._pieces_of_all(plains, ())
        if not pieces:
            return
        ids, lengths = self._segment(pieces)
        lasts = lengths.cumsum(dtype=np.int32).searchsorted(edges[1:], "right")
        for first, last in itertools.pairwise([0, *lasts.tolist()]):
            yield ids[first:last]

    def _pieces_of_all(self, plains: Sequence[str | None], cuts: Sequence[Iterable[int]]) -> tuple[list[str], IntArray]:
        """The pieces of those texts that there are, and where in all of their symbols each text begins and ends."""
        there = [plain for plain in plains if plain is not None]
        edges = np.cumsum([0, *(len(plain) + 1 for plain in there)], dtype=np.int32)
        if not cuts and self.pretokenizer.analyser is None:
            return [f" {plain}" for plain in there], edges
        pieces: list[str] = []
        for plain, boundaries in zip(plains, cuts or [()] * len(plains), strict=True):
            if plain is not None:
                pieces += self._pieces(plain, boundaries)
        return pieces, edges

    def _plains(self, texts: Sequence[str]) -> list[str | None]:
        if not self.pretokenizer.keeps_characters:
            return [None] * len(texts)
        return [plain or None for plain in self.normalizer.in_place_all(texts)]

    def _plain(self, text: str) -> str | None:
        """The normalised text, if any, where its symbols will stand for one character of `text` each."""
        return (self.normalizer.in_place(text) or None) if self.pretokenizer.keeps_characters else None

    def _pieces(self, plain: str, boundaries: Iterable[int] = ()) -> list[str]:
        inside = [position for position in boundaries if 0 < position < len(plain)]
        if not inside and self.pretokenizer.analyser is None:
            return [f" {plain}"]
        return self.pretokenizer(plain, inside).pieces

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """Whether each entry is one for the start of a word, (V,)."""
        return np.array([token.startswith(WORD_START) for token in self.vocabulary])

    def _text(self, ids: list[int]) -> str:
        return self.pretokenizer.text(self._joined(ids).replace(WORD_START, " "))

    def _joined(self, ids: list[int]) -> str:
        """The symbols of ids that are not special."""
        return "".join(self.vocabulary[i] for i in ids)

    def _description(self) -> dict[str, Any]:
        pretokenizer = self.pretokenizer.description()
        return {
            **super()._description(),
            "normalizer": dataclasses.asdict(self.normalizer),
            **({"pretokenizer": pretokenizer} if pretokenizer else {}),
        }

    @classmethod
    def _load(cls, folder: Path, description: dict[str, Any]) -> Tokenizer:
        if "normalizer" not in description:
            raise DataError(folder / "tokenizer.json", "normalizer", "missing: this is not a korbert tokenizer folder")
        normalizer = Normalizer(**description["normalizer"])
        pretokenizer = Pretokenizer(**description.get("pretokenizer", {}))
        return cls._load_payload(folder, normalizer, description.get("training", {}), pretokenizer)

    @abstractmethod
    def _segment(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        """Cut each piece into tokens: ids (T,) and lengths in symbols (T,), both int32, of all pieces in order.

        A leading space marks the start of a word. The lengths of a piece's tokens sum to its own; no token may contain
        a space except as its first symbol.
        """

    def _segment_ids(self, pieces: list[str]) -> IntArray:
        return self._segment(pieces)[0]

    @classmethod
    @abstractmethod
    def _load_payload(
        cls, folder: Path, normalizer: Normalizer, training: dict[str, Any], pretokenizer: Pretokenizer
    ) -> Tokenizer: ...


def _parts(texts: Sequence[str]) -> Iterator[slice]:
    """Texts as many as are segmented together, and the next ones."""
    number = np.cumsum([len(text) for text in texts]) // _BATCH
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(texts)]
    return itertools.starmap(slice, itertools.pairwise(edges))


def _places(symbols: str, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Where each token begins, without the space in front of its word, and where it ends, in `symbols`."""
    ends = lengths.cumsum(dtype=np.int32)
    starts = ends - lengths
    starts += _is_space(f"{symbols} ").take(starts) & (lengths > 1)
    return starts, ends


def _is_space(text: str) -> npt.NDArray[np.bool_]:
    """Which characters are spaces, (length,)."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) == ord(" ")


def _align(normal: NormalizedText, ids: IntArray, lengths: IntArray, firsts: IntArray | None) -> Tokens:
    """Turn token lengths, in the symbols of `" " + normal.text`, into spans of original characters."""
    zero = np.zeros(1, dtype=np.int32)
    is_space = _is_space(f" {normal.text} ")
    char_starts = np.concatenate([zero, normal.starts])
    char_ends = np.concatenate([zero, normal.ends])
    last = np.cumsum(lengths, dtype=np.int32)
    if firsts is not None:
        # A character belongs to the token that has its first symbol; one with only later symbols has no characters.
        last = np.searchsorted(firsts[:-1], last, side="left").astype(np.int32)
    first = np.concatenate([zero, last[:-1]])
    is_empty = first == last
    # The space in front of a word is not part of its span.
    begin = np.minimum(first + (is_space[first] & (last - first > 1)), len(char_starts) - 1)
    ends = char_ends[last - 1]
    starts = np.where(is_empty, ends, char_starts[begin])
    starts = np.maximum(starts, np.concatenate([zero, ends[:-1]]))
    return Tokens(ids, starts.astype(np.int32), ends.astype(np.int32))
