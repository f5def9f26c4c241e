"""Random spans in the place of entities: the control that tells information from mere marking and cutting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from korbert.entities.base import EntityAnnotator
from korbert.text import AnnotatedText, Span

_RULES = "random-spans-2"  # raise the number when the rules below change what is drawn
_LABEL = "RANDOM"
_STRETCH = 1 << 14  # characters; no paragraph of KorQuAD or Wikipedia has as many, save for lists


class RandomSpanAnnotator(EntityAnnotator):
    """As many spans as another annotator finds entities, of the same lengths in characters, anywhere in the text.

    A text always gets the same ones: they are drawn from its own hash. No span begins or ends with white space.
    """

    def __init__(self, base: EntityAnnotator) -> None:
        self.base = base

    @property
    def fingerprint(self) -> str:
        """The rules, and the other annotator's fingerprint."""
        return f"{_RULES}/{self.base.fingerprint}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with random spans; one for which no room is left is dropped."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, in their order."""
        return [self._of_stretches(annotated) for annotated in self.base.annotate_all(texts)]

    def _of_stretches(self, annotated: AnnotatedText) -> AnnotatedText:
        """A long text stretch by stretch: all places are looked through for every span."""
        if len(annotated.text) <= _STRETCH:
            return self._drawn(annotated)
        spans: list[Span] = []
        start = 0
        for end in [*_ends(annotated), len(annotated.text)]:
            found = self._drawn(annotated.slice(start, end)).entities
            spans += (Span(span.start + start, span.end + start, span.label) for span in found)
            start = end
        return AnnotatedText(annotated.text, tuple(spans))

    @staticmethod
    def _drawn(annotated: AnnotatedText) -> AnnotatedText:
        text = annotated.text
        lengths = sorted(map(len, annotated.entities), reverse=True)
        rng = np.random.default_rng(list(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()))
        blank = np.array([character.isspace() for character in text], dtype=np.bool_)
        free = np.ones(len(text), dtype=np.bool_)
        spans = []
        for length in lengths:  # long ones first, while there is room
            starts = np.flatnonzero(~blank[: len(text) - length + 1] & ~blank[length - 1 :])
            taken = np.concatenate([[0], np.cumsum(~free)])
            starts = starts[taken[starts + length] == taken[starts]]
            if len(starts):
                start = int(rng.choice(starts))
                free[start : start + length] = False
                spans.append(Span(start, start + length, _LABEL))
        return AnnotatedText(text, tuple(sorted(spans)))


def _ends(annotated: AnnotatedText) -> Iterator[int]:
    """Where stretches end, of about so many characters each; never inside an entity."""
    end = _STRETCH
    for entity in annotated.entities:
        while end <= entity.start:
            yield end
            end += _STRETCH
        end = max(end, entity.end)
    while end < len(annotated.text):
        yield end
        end += _STRETCH
