"""Random spans in the place of entities: the control that tells information from mere marking and cutting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.text import AnnotatedText, Normalizer, Span, blank_mask

_RULES = "random-spans-4"  # raise the number when the rules below change what is drawn
_LABEL = "RANDOM"
_STRETCH = 1 << 14  # characters; no paragraph of KorQuAD or Wikipedia has as many, save for lists


class RandomSpanAnnotator(EntityAnnotator):
    """For each entity of another annotator a span of as many visible characters anywhere in the text, none overlapping.

    White space and invisible characters do not count, and stand at no span's ends. Characters are counted, and spans
    drawn, in NFC: NFD text has those of the same text in NFC. A text always gets the same ones: its own hash is the
    seed.
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
        visible = np.flatnonzero(~blank_mask(normal.text))
        places, ends = normal.starts[visible], normal.ends[visible]  # in the text
        edges = np.array([(entity.start, entity.end) for entity in annotated.entities], dtype=np.int32).reshape(-1, 2)
        lengths = places.searchsorted(edges[:, 1]) - ends.searchsorted(edges[:, 0], side="right")
        can_cut = np.append(np.diff(places, prepend=-1) > 0, True)  # a letter goes with the marks on it
        rng = np.random.default_rng(list(hashlib.sha256(normal.text.encode("utf-8")).digest()))
        taken = np.zeros(len(visible), dtype=np.bool_)
        spans = []
        for length in sorted(lengths.tolist(), reverse=True):  # long ones first, while there is room
            before = np.append(0, np.cumsum(taken))
            last = len(before) - length
            is_free = before[length:] == before[:last]
            starts = np.flatnonzero(is_free & can_cut[length:] & can_cut[:last])
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
