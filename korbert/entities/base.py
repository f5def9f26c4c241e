"""The EntityAnnotator interface: text in, the same text with entity spans out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from korbert.text import AnnotatedText, NormalizedText, Span, trim


class EntityAnnotator(ABC):
    """Finds entities. The text is never changed; spans are characters of the text that was given."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever any text could be annotated differently; keys the caches."""

    @abstractmethod
    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its entities: in order, apart, no white space or invisible character at their ends."""

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, in their order; for annotators that are faster with many at once."""
        return [self.annotate(text) for text in texts]


class NoEntities(EntityAnnotator):
    """Finds nothing: the plain BERT input."""

    @property
    def fingerprint(self) -> str:
        """Constant."""
        return "none"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` without entities."""
        return AnnotatedText(text)


def mapped_back(normal: NormalizedText, found: Iterable[tuple[int, int, str]]) -> AnnotatedText:
    """The original text with the entities that were found, in order, in the normalised one: start, end, type.

    Of those in characters that normalised together the first one counts, which then has all of them. White space and
    invisible characters at the ends are left out, and an entity of nothing else with them.
    """
    spans: list[Span] = []
    for first, last, label in found:
        start, end = normal.to_original(first, last)
        if not spans or start >= spans[-1].end:
            start, end = trim(normal.original, start, end)
            if start < end:
                spans.append(Span(start, end, label))
    return AnnotatedText(normal.original, tuple(spans))
