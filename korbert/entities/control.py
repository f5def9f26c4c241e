"""Random spans in the place of entities: the control that tells information from mere marking and cutting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.text import AnnotatedText, Normalizer, Span

_RULES = "random-spans-3"  # raise the number when the rules below change what is drawn
_LABEL = "RANDOM"
_STRETCH = 1 << 14  # characters; no paragraph of KorQuAD or Wikipedia has as many, save for lists


class RandomSpanAnnotator(EntityAnnotator):
    """As many spans as another annotator finds entities, of as many characters but white space, anywhere in the text.

    A text always gets the same ones: they are drawn from its own hash. No span begins or ends with white space.
    Characters are counted, and spans drawn, in NFC: NFD text has those of the same text in NFC.
    """

    def __init__(self, base: EntityAnnotator) -> None:
        self.base = base
        self._normalizer = Normalizer("NFC")

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

    def _drawn(self, annotated: AnnotatedText) -> AnnotatedText:
        text = annotated.text
        normal = self._normalizer(text)
        visible = np.flatnonzero([not character.isspace() for character in normal.text])
        places = normal.starts[visible]  # in the text
        edges = np.array([(entity.start, entity.end) for entity in annotated.entities], dtype=np.int32).reshape(-1, 2)
        lengths = places.searchsorted(edges[:, 1]) - places.searchsorted(edges[:, 0])
        rng = np.random.default_rng(list(hashlib.sha256(normal.text.encode("utf-8")).digest()))
        taken = np.zeros(len(visible), dtype=np.bool_)
        spans = []
        for length in sorted(lengths.tolist(), reverse=True):  # long ones first, while there is room
            before = np.append(0, np.cumsum(taken))
            starts = np.flatnonzero(before[length:] == before[: len(before) - length])
            if length and len(starts):
                start = int(rng.choice(starts))
                taken[start : start + length] = True
                spans.append((int(visible[start]), int(visible[start + length - 1]) + 1, _LABEL))
        return mapped_back(normal, sorted(spans))


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
