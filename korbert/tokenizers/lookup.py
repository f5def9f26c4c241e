"""Vocabularies of whole units that are looked up: characters (syllables, jamo) or words (eojeol, morphemes)."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from korbert.errors import ConfigError, KorbertError
from korbert.text import WORD_START, IntArray, Normalizer
from korbert.tokenizers.base import SpecialTokens
from korbert.tokenizers.listed import ListedTokenizer
from korbert.tokenizers.pretokenizer import Pretokenizer


class LookupTokenizer(ListedTokenizer):
    """One token a unit; the first one of a word carries "▁", so white space costs no token.

    A unit that was seen only inside words, or only at their start, is known in both places.
    """

    unit: ClassVar[re.Pattern[str]]  # a unit of a piece, with the space that marks the start of a word

    def __init__(
        self,
        vocabulary: Sequence[str],
        normalizer: Normalizer,
        training: dict[str, Any],
        pretokenizer: Pretokenizer | None = None,
    ) -> None:
        """Take the vocabulary in id order."""
        super().__init__(vocabulary, normalizer, training, pretokenizer)
        known = {_unit_of(token): i for i, token in enumerate(vocabulary) if i >= len(self.special.names)}
        elsewhere = {unit[1:] if unit[0] == " " else f" {unit}": i for unit, i in known.items()}
        self._ids = elsewhere | known

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        normalizer: Normalizer | None = None,
        pretokenizer: Pretokenizer | None = None,
    ) -> LookupTokenizer:
        """Keep the most frequent units, word-initial and other forms counted apart, up to `vocab_size`.

        The size includes the special tokens; a corpus with fewer different units gives a smaller vocabulary. Raises
        KorbertError where there is no text at all.
        """
        normalizer, pretokenizer = normalizer or Normalizer(), pretokenizer or Pretokenizer()
        special = SpecialTokens()
        if vocab_size <= len(special.names):
            raise ConfigError(f"tokenizer.vocab_size: wanted more than {len(special.names)}, got {vocab_size}")
        counts: Counter[str] = Counter()
        for text in texts:
            if normal := normalizer(text).text:
                for piece in pretokenizer(normal, learn=True).pieces:
                    counts.update(cls.unit.findall(piece))
        if not counts:
            raise KorbertError(f"no text to train a {cls.kind} vocabulary on: the corpus is empty")
        ranked = sorted(counts, key=lambda unit: (-counts[unit], unit))
        kept = [_token_of(unit) for unit in ranked[: vocab_size - len(special.names)]]
        training = {"vocab_size": vocab_size, "units": counts.total(), "different": len(ranked)}
        return cls([*special.names, *kept], normalizer, training, pretokenizer)

    def _segment(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        units = list(itertools.chain.from_iterable(map(self.unit.findall, pieces)))
        found, unknown = self._ids.get, self.special.unk
        ids = np.array([found(unit, unknown) for unit in units], dtype=np.int32)
        return ids, np.fromiter(map(len, units), np.int32, len(units))


class CharacterTokenizer(LookupTokenizer):
    """One token a symbol: a syllable (or letter, digit, sign), or a jamo."""

    kind = "character"
    unit = re.compile(" ?[^ ]")


class WordTokenizer(LookupTokenizer):
    """One token a word: an eojeol, or a morpheme where the text is cut at morphemes."""

    kind = "word"
    unit = re.compile(" ?[^ ]+")


def _token_of(unit: str) -> str:
    return WORD_START + unit[1:] if unit[0] == " " else unit


def _unit_of(token: str) -> str:
    return f" {token[1:]}" if token[0] == WORD_START and len(token) > 1 else token
