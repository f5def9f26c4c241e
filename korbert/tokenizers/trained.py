"""Tokenizers that are trained here: normalise, cut into pieces, look up, and map every token back.

The offset algebra stands here once. A tokenizer only cuts pieces of symbols into vocabulary entries; this module
normalises, cuts at forced boundaries first, and maps every token to the characters of the user's own string.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.errors import DataError
from korbert.text import WORD_START, IntArray, NormalizedText, Normalizer
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.pretokenizer import Pretokenizer


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

    def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
        """Tokenize `text`; no token crosses any of `boundaries` (character positions, in any order).

        A boundary at the first character of a word falls before the white space in front of it, so that the word
        keeps its word-initial form. One inside characters that normalise together cannot be cut and is ignored.
        """
        plain = self._plain(text)
        if plain is not None:
            inside = [position for position in boundaries if 0 < position < len(plain)]
            return _align_plain(plain, *self._segment(self._pieces(plain, inside)))
        normal = self.normalizer(text)
        if not normal.text:
            nothing = np.zeros(0, dtype=np.int32)
            return Tokens(nothing, nothing, nothing)
        cuts = (index for position in boundaries if (index := normal.cut_before(position)) is not None)
        pieces = self.pretokenizer(normal.text, cuts)
        ids, lengths = self._segment(pieces.pieces)
        return _align(normal, ids, lengths, pieces.firsts)

    def encode_ids(self, text: str) -> IntArray:
        """The ids that `encode` gives, without spans."""
        plain = self._plain(text)
        if plain is None:
            normal = self.normalizer(text).text
            return self._segment_ids(self.pretokenizer(normal).pieces) if normal else np.zeros(0, dtype=np.int32)
        return self._segment_ids(self._pieces(plain))

    def _plain(self, text: str) -> str | None:
        """The normalised text, if any, where its symbols will stand for one character of `text` each."""
        return (self.normalizer.in_place(text) or None) if self.pretokenizer.keeps_characters else None

    def _pieces(self, plain: str, cuts: Sequence[int] = ()) -> list[str]:
        if not cuts and self.pretokenizer.analyser is None:
            return [f" {plain}"]
        return self.pretokenizer(plain, cuts).pieces

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


def _align_plain(text: str, ids: IntArray, lengths: IntArray) -> Tokens:
    """What `_align` gives where each symbol stands for one character, at a fraction of the time."""
    is_space = _is_space(text)
    ends = lengths.cumsum(dtype=np.int32)
    starts = ends - lengths
    starts += is_space[starts] & (lengths > 1)  # the space in front of a word is not part of its span
    starts -= 1  # nor is the one in front of the text, that is not there
    ends -= 1
    starts[0] = max(starts[0], 0)
    return Tokens(ids, starts, ends)


def _is_space(text: str) -> npt.NDArray[np.bool_]:
    """Which characters of `" " + text + " "` are spaces."""
    return np.frombuffer(f" {text} ".encode("utf-32-le"), dtype=np.uint32) == ord(" ")


def _align(normal: NormalizedText, ids: IntArray, lengths: IntArray, firsts: IntArray | None) -> Tokens:
    """Turn token lengths, in the symbols of `" " + normal.text`, into spans of original characters."""
    zero = np.zeros(1, dtype=np.int32)
    is_space = _is_space(normal.text)
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
