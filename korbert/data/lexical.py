"""A baseline that learns nothing: the noun phrase of the context that stands nearest to the question's words.

After the sliding-window baseline of Rajpurkar et al. 2016 (section 5.1) and Richardson et al. 2013, with Korean
morphemes as words, inverse document frequencies as their weights, and noun runs as candidate answers.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass

from korbert.data.korquad import KorquadDataset
from korbert.metrics import normalize_answer
from korbert.morphology import Analyser, Morpheme, make_analyser
from korbert.text import NormalizedText, Normalizer

_NORMALIZER = Normalizer("NFC")
_REACH = 50  # characters at which a word of the question counts half
_MAX_ANSWER = 30  # characters
_NUMBER_WANTED = re.compile(r"몇|언제|며칠|얼마|년도|연도|날짜|몇\s?년")
_CONTENT = re.compile(r"N|V[VA]|SL|SH|SN|XR|MAG")  # tags of words that carry meaning
_UNITS = frozenset({"NNBC", "NNB", "NR", "SY"})  # what a number and its unit are tagged, beside nouns


@dataclass(frozen=True, slots=True)
class _Words:
    """Content words of a text and where they stand."""

    forms: list[str]
    starts: list[int]


class LexicalBaseline:
    """Answers by distance and idf; the idf are those of the data set's own paragraphs (their text, no answers)."""

    def __init__(self, dataset: KorquadDataset, analyser: str = "mecab") -> None:
        self.analyser: Analyser = make_analyser(analyser)
        paragraphs = [paragraph for article in dataset.articles for paragraph in article.paragraphs]
        contexts = [_NORMALIZER(paragraph.context).text for paragraph in paragraphs]
        counts = Counter(form for context in contexts for form in set(self._words(context).forms))
        self._idf = {form: math.log((1 + len(contexts)) / (1 + count)) for form, count in counts.items()}
        self._rarest = math.log(1 + len(contexts))  # for a word that no paragraph has
        self._contexts: dict[str, tuple[NormalizedText, _Words, list[tuple[int, int]]]] = {}

    def answer(self, question: str, context: str) -> str:
        """The best candidate, a slice of `context`; "" where it has no noun. Both texts are compared in NFC."""
        question = _NORMALIZER(question).text
        if context not in self._contexts:
            normal = _NORMALIZER(context)
            self._contexts[context] = (normal, self._words(normal.text), self.candidates(normal.text))
        normal, words, candidates = self._contexts[context]
        start, end = self._best(question, normal.text, words, candidates)
        if start == end:
            return ""
        start, end = normal.to_original(start, end)
        return context[start:end]

    def _best(self, question: str, context: str, words: _Words, candidates: list[tuple[int, int]]) -> tuple[int, int]:
        """Where the best candidate begins and ends, (0, 0) for none."""
        asked = set(self._words(question).forms)
        places: dict[str, list[int]] = {}
        for form, start in zip(words.forms, words.starts, strict=True):
            if form in asked:
                places.setdefault(form, []).append(start)
        said = normalize_answer(question).replace(" ", "")
        new = [c for c in candidates if normalize_answer(context[c[0] : c[1]]).replace(" ", "") not in said]
        if _NUMBER_WANTED.search(question):
            new = [c for c in new if any(map(str.isdigit, context[c[0] : c[1]]))] or new
        if not new:
            return candidates[0] if candidates else (0, 0)
        return max(new, key=lambda c: self._score(c, places))

    def _score(self, candidate: tuple[int, int], places: dict[str, list[int]]) -> float:
        """Sum over the question's words of their idf, less the farther the nearest one stands."""
        middle = (candidate[0] + candidate[1]) / 2
        total = 0.0
        for form, starts in places.items():
            distance = min(abs(start - middle) for start in starts)
            total += self._idf.get(form, self._rarest) / (1 + distance / _REACH)
        return total

    def _words(self, text: str) -> _Words:
        found = [m for m in self.analyser.analyse(text) if _CONTENT.match(m.tag)]
        return _Words([text[m.start : m.end] for m in found], [m.start for m in found])

    def candidates(self, text: str) -> list[tuple[int, int]]:
        """Runs of nouns and numbers that adjoin, and pairs of runs with nothing but a space between."""
        runs: list[tuple[int, int]] = []
        for morpheme in self.analyser.analyse(text):
            if not self._is_nominal(morpheme):
                continue
            if runs and runs[-1][1] == morpheme.start:
                runs[-1] = (runs[-1][0], morpheme.end)
            else:
                runs.append((morpheme.start, morpheme.end))
        pairs = [(a[0], b[1]) for a, b in itertools.pairwise(runs) if text[a[1] : b[0]] == " "]
        short = {(start, end) for start, end in (*runs, *pairs) if end - start <= _MAX_ANSWER}
        return sorted((start, end) for start, end in short if any(map(str.isalnum, text[start:end])))

    def _is_nominal(self, morpheme: Morpheme) -> bool:
        return morpheme.tag in self.analyser.noun or morpheme.tag in _UNITS
