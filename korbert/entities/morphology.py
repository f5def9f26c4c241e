"""Entities from a morphological analyser: proper-noun runs.

A run begins with a proper noun or a foreign word and goes on through the nouns, numbers and foreign words that adjoin
it without white space: 삼성전자, 서울특별시, KBS교향악단. A josa ends it.
"""

from __future__ import annotations

from korbert.entities.base import EntityAnnotator
from korbert.errors import ConfigError
from korbert.morphology import make_analyser
from korbert.text import AnnotatedText, Normalizer, Span

LABEL = "NNP"
_RULES = "proper-noun-runs-1"  # raise the number when the rules below change what is found


class ProperNounAnnotator(EntityAnnotator):
    """Proper-noun runs of one analyser. Text is analysed in NFC, and spans are mapped back, so NFD input works."""

    def __init__(self, analyser: str = "mecab") -> None:
        """Take an analyser's name, see `korbert.morphology.ANALYSERS`; it starts at the first text."""
        self.analyser = make_analyser(analyser)
        if not self.analyser.proper_noun:
            raise ConfigError(f"entities.annotator: {analyser!r} tags no proper nouns, so it cannot find entities")
        self._normalizer = Normalizer("NFC")

    @property
    def fingerprint(self) -> str:
        """The rules, the analyser and its version."""
        return f"{_RULES}/{self.analyser.name}-{self.analyser.version}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its proper-noun runs as entities."""
        normal = self._normalizer(text)
        spans = (normal.to_original(start, end) for start, end in self._runs(normal.text))
        return AnnotatedText(text, tuple(Span(start, end, LABEL) for start, end in spans))

    def _runs(self, text: str) -> list[tuple[int, int]]:
        starters = self.analyser.proper_noun | self.analyser.foreign
        runs: list[tuple[int, int]] = []
        open_run = False
        for morpheme in self.analyser.analyse(text):
            if open_run and morpheme.start == runs[-1][1] and morpheme.tag in self.analyser.noun:
                runs[-1] = (runs[-1][0], morpheme.end)
            elif morpheme.tag in starters:
                runs.append((morpheme.start, morpheme.end))
                open_run = True
            else:
                open_run = False
        return runs
