"""Entities from a morphological analyser: runs of nouns that adjoin each other without white space.

A proper-noun run begins with a proper noun or a foreign word and goes on through the nouns, numbers and foreign words
behind it: 삼성전자, 서울특별시, KBS교향악단. A compound is a run of two nouns or more of any kind: 경제성장률. A josa
ends either.
"""

from __future__ import annotations

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.errors import ConfigError
from korbert.morphology import Morpheme, make_analyser
from korbert.text import AnnotatedText, Normalizer

PROPER, COMPOUND, NOUN = "NNP", "COMPOUND", "NOUN"
_RULES = {
    "names": "proper-noun-runs-3",
    "proper": "proper-nouns-only-3",
    "compounds": "compound-nouns-3",
    "nouns": "nouns-3",
}


class NounRunAnnotator(EntityAnnotator):
    """Runs of nouns, by one analyser. Text is analysed in NFC, and spans are mapped back, so NFD input works.

    kind: "names", proper-noun runs; "proper", those that begin with a proper noun, not with a foreign word;
    "compounds", see the module; "nouns", all runs of nouns. analyser: a name, see `korbert.morphology.ANALYSERS`; it
    starts at the first text.
    """

    def __init__(self, analyser: str = "mecab", kind: str = "names") -> None:
        self.analyser, self.kind = make_analyser(analyser), kind
        if not self.analyser.proper_noun:
            raise ConfigError(f"entities.annotator: {analyser!r} tags no proper nouns, so it cannot find entities")
        self._rules = _RULES[kind]
        self._normalizer = Normalizer("NFC")

    @property
    def fingerprint(self) -> str:
        """The rules, the analyser and its version."""
        return f"{self._rules}/{self.analyser.name}-{self.analyser.version}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its runs as entities."""
        normal = self._normalizer(text)
        label = {"compounds": COMPOUND, "nouns": NOUN}.get(self.kind, PROPER)
        return mapped_back(normal, ((start, end, label) for start, end in self._runs(normal.text)))

    def _runs(self, text: str) -> list[tuple[int, int]]:
        found = []
        for run in self._nouns(self.analyser.analyse(text)):
            first = next((i for i, morpheme in enumerate(run) if self._may_begin(morpheme)), len(run))
            if len(run) - first >= (2 if self.kind == "compounds" else 1):
                found.append((run[first].start, run[-1].end))
        return found

    def _may_begin(self, morpheme: Morpheme) -> bool:
        if self.kind in ("compounds", "nouns"):
            return morpheme.tag not in self.analyser.suffix
        is_foreign = morpheme.tag in self.analyser.foreign
        return morpheme.tag in self.analyser.proper_noun or (is_foreign and self.kind == "names")

    def _nouns(self, morphemes: list[Morpheme]) -> list[list[Morpheme]]:
        """Nouns that adjoin each other."""
        runs: list[list[Morpheme]] = []
        starters = self.analyser.proper_noun | self.analyser.foreign
        for morpheme in morphemes:
            is_noun = morpheme.tag in self.analyser.noun
            if is_noun and runs and runs[-1][-1].end == morpheme.start:
                runs[-1].append(morpheme)
            elif is_noun or morpheme.tag in starters:
                runs.append([morpheme])
        return runs
