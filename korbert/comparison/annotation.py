"""How good an annotator is: against gold names, and for KorQuAD.

Boundaries are compared exactly, in characters, so annotators of any kind can be compared. Types are compared after
mapping both sides to the few that all corpora have; an annotator that gives no types has a boundary score only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from korbert.data.korquad import KorquadDataset
from korbert.entities.base import EntityAnnotator
from korbert.entities.types import COMMON_TYPES
from korbert.metrics import EntityScore, score_entities
from korbert.text import AnnotatedText, Span


@dataclass(frozen=True, slots=True)
class AnswerShares:
    """Of the first answers of KorQuAD's questions, in percent.

    exact: are an entity; inside: are a part of one; cut: an edge of an entity lies inside the answer; apart: share no
    character with any entity; crossed: an edge of the answer lies inside an entity, so that marking it whole hides it.
    """

    exact: float
    inside: float
    cut: float
    apart: float
    crossed: float
    entities_per_paragraph: float


def agreement(annotator: EntityAnnotator, sentences: Sequence[AnnotatedText]) -> EntityScore:
    """Compare over all sentences, types as far as all corpora have them. Raises ValueError without a gold entity."""
    found = annotator.annotate_all([sentence.text for sentence in sentences])
    return score_entities([_common(sentence) for sentence in sentences], [_common(text) for text in found])


def _common(text: AnnotatedText) -> list[Span]:
    return [Span(e.start, e.end, COMMON_TYPES.get(e.label, e.label)) for e in text.entities]


def answer_shares(annotator: EntityAnnotator, dataset: KorquadDataset) -> AnswerShares:
    """Count over all questions; every context is annotated once."""
    counts = dict.fromkeys(("exact", "inside", "cut", "apart", "crossed"), 0)
    questions = paragraphs = found = 0
    for article in dataset.articles:
        for paragraph in article.paragraphs:
            entities = annotator.annotate(paragraph.context).entities
            paragraphs += 1
            found += len(entities)
            for question in paragraph.questions:
                answer = question.answers[0]
                start, end = answer.start, answer.start + len(answer.text)
                questions += 1
                for key in _relations(entities, start, end):
                    counts[key] += 1
    shares = {key: 100 * count / questions for key, count in counts.items()}
    return AnswerShares(**shares, entities_per_paragraph=found / paragraphs)


def _relations(entities: Sequence[Span], start: int, end: int) -> set[str]:
    """How an answer `[start, end)` lies to the entities."""
    near = [entity for entity in entities if entity.start < end and entity.end > start]
    if not near:
        return {"apart"}
    found = set()
    for entity in near:
        if (entity.start, entity.end) == (start, end):
            found.add("exact")
        elif entity.start <= start and end <= entity.end:
            found.add("inside")
        if start < entity.start < end or start < entity.end < end:
            found.add("cut")
        if entity.start < start < entity.end or entity.start < end < entity.end:
            found.add("crossed")
    return found
