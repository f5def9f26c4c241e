"""Several annotators as one: what an earlier one has found, a later one cannot touch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from korbert.entities.base import EntityAnnotator
from korbert.errors import ConfigError
from korbert.text import AnnotatedText, Span


class UnionAnnotator(EntityAnnotator):
    """Entities of all parts, the first part's first; of those that overlap, the one of the earlier part."""

    def __init__(self, parts: Sequence[EntityAnnotator]) -> None:
        if not parts:
            raise ConfigError("entities.annotator: a union needs at least one annotator")
        self.parts = list(parts)

    @property
    def fingerprint(self) -> str:
        """Those of the parts, in their order."""
        return "union(" + ", ".join(part.fingerprint for part in self.parts) + ")"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with the entities of all parts."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, each part over all of them."""
        of_parts = [part.annotate_all(texts) for part in self.parts]
        return [merged(found) for found in zip(*of_parts, strict=True)]


def merged(found: Sequence[AnnotatedText]) -> AnnotatedText:
    """One text's entities of all parts, of which the earlier ones have priority."""
    text = found[0].text
    kept: list[Span] = []
    taken = bytearray(len(text))
    for entity in itertools.chain.from_iterable(part.entities for part in found):
        if not any(taken[entity.start : entity.end]):
            taken[entity.start : entity.end] = b"\1" * len(entity)
            kept.append(entity)
    return AnnotatedText(text, tuple(sorted(kept)))
