"""The EntityAnnotator interface: text in, the same text with entity spans out."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral

from korbert.errors import KorbertError
from korbert.text import AnnotatedText, NormalizedText, Span, trim

_SHOWN = 40  # characters of a text in a message


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


def annotated_by(annotator: EntityAnnotator, texts: Sequence[str]) -> list[AnnotatedText]:
    """What an annotator finds in several texts, held to what `annotate` promises, whoever wrote it.

    White space at an entity's ends is left out. Raises KorbertError where it gives back other texts, not as many, or
    something else than texts with spans of whole numbers and labels that are text.
    """
    found = annotator.annotate_all(texts)
    if strange := [annotated for annotated in found if not isinstance(annotated, AnnotatedText)]:
        raise KorbertError(
            f"annotator {annotator.fingerprint}: gave {strange[0]!r}, wanted an AnnotatedText for each text"
        )
    given = [annotated.text for annotated in found]
    if given != list(texts):
        wrong = next((text for text, own in zip(texts, given, strict=False) if text != own), "")
        raise KorbertError(
            f"annotator {annotator.fingerprint}: gave {len(given)} texts for {len(texts)}, and not the same ones, e.g. "
            f"for {wrong[:_SHOWN]!r}: wanted each text as it was given, with spans of its own characters"
        )
    for entity in itertools.chain.from_iterable(annotated.entities for annotated in found):
        if not isinstance(entity.label, str) or not all(isinstance(at, Integral) for at in (entity.start, entity.end)):
            raise KorbertError(
                f"annotator {annotator.fingerprint}: gave {entity}, wanted a span of whole numbers with a label that "
                'is text, "" where it has no type'
            )
    return [_trimmed(annotated) for annotated in found]


def _trimmed(annotated: AnnotatedText) -> AnnotatedText:
    text = annotated.text
    spans = [(trim(text, entity.start, entity.end), entity.label) for entity in annotated.entities]
    # Numbers of numpy, too, are kept as Python's.
    return AnnotatedText(text, tuple(Span(int(start), int(end), label) for (start, end), label in spans if start < end))


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
