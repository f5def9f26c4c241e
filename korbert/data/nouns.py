"""Words before a josa, found in token ids: nouns, nearly always, without asking an analyser."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np

from korbert.josa import is_josa
from korbert.text import IntArray
from korbert.tokenizers import Tokenizer

# Particles that follow nouns, alone and together; those that also end verbs are left out.
_PARTICLES = (
    "은 는 이 가 을 를 의 에 에서 에게 에게서 으로 로 으로서 로서 와 과 도 부터 까지 보다 이다 이며 이라는 이라고 "
    "이었다 에는 에도 에서는 에서의 에서도 에게는 에게도 으로는 으로의 으로도 로는 로의 로도 와는 와의 과는 과의 "
    "부터의 부터는 까지의 까지는 까지도 보다는 들 들은 들이 들을 들의 들에게 들과 들도 들로"
)
_JOSA = frozenset(_PARTICLES.split())
_DECOMPOSED = frozenset(unicodedata.normalize("NFD", josa) for josa in _JOSA)  # as tokenizers of jamo write them
_TAILS = frozenset(josa[i:] for josa in _DECOMPOSED for i in range(len(josa) + 1))


class NounFinder:
    """Words before a josa, in the ids of a tokenizer, whatever it writes a josa with: a token, several, or jamo.

    Where a tokenizer keeps josa and noun in one token, as that of whole words does, every word counts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._begins_word = tokenizer.begins_word
        texts = (tokenizer.decode([i]).removeprefix("##") for i in range(len(tokenizer)))
        self._texts = [unicodedata.normalize("NFD", text) for text in texts]  # empty for a part of speech
        inside = itertools.compress(self._texts, ~self._begins_word)
        self._keeps_josa = not any(text and text in _TAILS for text in inside)

    def __call__(self, ids: IntArray) -> list[tuple[int, int]]:
        """First and last token, exclusive, of each; `ids` (T,), in which markers stand for nothing: leave them out."""
        edges = np.flatnonzero(self._begins_word[ids])  # where no word begins there is none
        words = []
        for a, b in itertools.pairwise([*edges.tolist(), len(ids)]):
            end = self._josa(ids[a:b].tolist())
            if end or self._keeps_josa:
                words.append((a, a + end if end else b))
        return words

    def _josa(self, word: list[int]) -> int:
        """At which token of a word its josa begins, the longest that it can be; 0 where there is none."""
        tail, begin = "", 0
        for at in range(len(word) - 1, 0, -1):
            text = self._texts[word[at]]
            tail = text + tail
            if tail not in _TAILS:
                break
            if text and tail in _DECOMPOSED and self._fits(tail, word[:at]):
                begin = at
        return begin

    def _fits(self, josa: str, noun: list[int]) -> bool:
        """Whether there is a noun, and the josa has the form that belongs behind its last sound."""
        before = unicodedata.normalize("NFC", "".join(self._texts[token] for token in noun))
        return bool(before) and is_josa(unicodedata.normalize("NFC", josa), before[-1])
