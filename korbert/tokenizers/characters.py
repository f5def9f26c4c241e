"""Character-level tokenizers: one token a syllable (or letter, digit, sign)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import read_text
from korbert.text import Normalizer
from korbert.tokenizers.base import WORD_START, SpecialTokens, Tokenizer


class SyllableTokenizer(Tokenizer):
    """One token a normalised character; the first one of a word carries "▁", so white space costs no token.

    A character that was seen only inside words, or only at their start, is known in both places.
    """

    kind = "syllable"

    def __init__(self, vocabulary: Sequence[str], normalizer: Normalizer, training: dict[str, Any]) -> None:
        """Take the vocabulary in id order."""
        super().__init__(vocabulary, normalizer, training)
        self._ids = {token: i for i, token in enumerate(vocabulary) if i >= len(self.special.names)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, normalizer: Normalizer | None = None) -> SyllableTokenizer:
        """Keep the most frequent characters, word-initial and other forms counted apart, up to `vocab_size`.

        The size includes the special tokens; a corpus with fewer different characters gives a smaller vocabulary.
        Raises KorbertError where there is no text at all.
        """
        normalizer = normalizer or Normalizer()
        special = SpecialTokens()
        if vocab_size <= len(special.names):
            raise ConfigError(f"tokenizer.vocab_size: wanted more than {len(special.names)}, got {vocab_size}")
        counts: Counter[str] = Counter()
        for text in texts:
            for word in normalizer(text).text.split(" "):
                counts.update(word[1:])
                if word:
                    counts[WORD_START + word[0]] += 1
        if not counts:
            raise KorbertError("no text to train a syllable vocabulary on: the corpus is empty")
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = ranked[: vocab_size - len(special.names)]
        training = {"vocab_size": vocab_size, "characters": counts.total(), "different": len(ranked)}
        return cls([*special.names, *kept], normalizer, training)

    def _segment(self, text: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        lengths: list[int] = []
        start_of_word = 0
        for char in text:
            if char == " ":
                start_of_word = 1
                continue
            ids.append(self._lookup(char, bool(start_of_word)))
            lengths.append(1 + start_of_word)
            start_of_word = 0
        return ids, lengths

    def _lookup(self, char: str, start_of_word: bool) -> int:
        forms = (WORD_START + char, char) if start_of_word else (char, WORD_START + char)
        return self._ids.get(forms[0]) or self._ids.get(forms[1]) or self.special.unk

    def _payload(self) -> bytes:
        return "\n".join(self.vocabulary).encode("utf-8", "surrogatepass")

    def _save_payload(self, folder: Path) -> None:
        pass  # vocab.txt is all there is

    @classmethod
    def _load(cls, folder: Path, normalizer: Normalizer, training: dict[str, Any]) -> SyllableTokenizer:
        path = folder / "vocab.txt"
        vocabulary = read_text(path).split("\n")[:-1]
        try:
            return cls(vocabulary, normalizer, training)
        except ValueError as error:
            raise DataError(path, "line 1", str(error)) from None
