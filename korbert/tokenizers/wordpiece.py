"""WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019): the longest known entry first, a word whole or unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from korbert.text import WORD_START, IntArray, Normalizer
from korbert.tokenizers.listed import ListedTokenizer
from korbert.tokenizers.pretokenizer import Pretokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer

_LONGEST_WORD = 200  # symbols; a longer word is unknown, as in BERT, where it is 100 characters
_CACHE = 1 << 17


class WordPieceTokenizer(ListedTokenizer):
    """Subwords by greedy longest match; "▁" marks entries at the start of a word, where BERT marks the others by ##."""

    kind = "wordpiece"

    def __init__(
        self,
        vocabulary: Sequence[str],
        normalizer: Normalizer,
        training: dict[str, Any],
        pretokenizer: Pretokenizer | None = None,
    ) -> None:
        """Take the vocabulary in id order."""
        super().__init__(vocabulary, normalizer, training, pretokenizer)
        self._ids = {token: i for i, token in enumerate(vocabulary) if i >= len(self.special.names)}
        self._longest = max(map(len, self._ids), default=0)
        self._cache: dict[str, tuple[list[int], list[int]]] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        normalizer: Normalizer | None = None,
        pretokenizer: Pretokenizer | None = None,
        character_coverage: float = 0.9995,
    ) -> WordPieceTokenizer:
        """Learn entries by merging frequent pairs, as Hugging Face's trainer does too; see SentencePieceTokenizer."""
        learned = SentencePieceTokenizer.train(
            texts, vocab_size, model_type="bpe", normalizer=normalizer, pretokenizer=pretokenizer,
            character_coverage=character_coverage,
        )  # fmt: skip
        training = {key: value for key, value in learned.training.items() if key != "model_type"}
        return cls(learned.vocabulary, learned.normalizer, training, learned.pretokenizer)

    def _segment(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        ids: list[int] = []
        lengths: list[int] = []
        for piece in pieces:
            for word in piece.replace(" ", f" {WORD_START}").split(" "):
                if word:
                    word_ids, word_lengths = self._word(word)
                    ids += word_ids
                    lengths += word_lengths
        return np.array(ids, dtype=np.int32), np.array(lengths, dtype=np.int32)

    def _word(self, word: str) -> tuple[list[int], list[int]]:
        if len(word) > _LONGEST_WORD:
            return [self.special.unk], [len(word)]
        found = self._cache.get(word)
        if found is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            found = self._cache[word] = self._match(word)
        return found

    def _match(self, word: str) -> tuple[list[int], list[int]]:
        unknown = [self.special.unk], [len(word)]
        ids: list[int] = []
        lengths: list[int] = []
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                if (token := self._ids.get(word[start:end])) is not None:
                    break
            else:
                return unknown
            ids.append(token)
            lengths.append(end - start)
            start = end
        return ids, lengths
