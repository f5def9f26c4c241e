"""How good an annotator is: against gold names, and for KorQuAD.

Boundaries are compared exactly, in characters, so annotators of any kind can be compared. Types are compared after
mapping both sides to the few that all corpora have; an annotator that gives no types has a boundary score only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from korbert.data.korquad import KorquadDataset
from korbert.entities.base import EntityAnnotator
from korbert.text import AnnotatedText, Span

# Types of KMOU (PER LOC ORG POH DAT TIM DUR MNY PNT NOH), KLUE (PS LC OG DT TI QT), MeCab-ko's lists, and our own.
COMMON_TYPES = {
    "PER": "person", "PS": "person", "LOC": "place", "LC": "place", "ORG": "organisation", "OG": "organisation",
    "DAT": "time", "TIM": "time", "DUR": "time", "DT": "time", "TI": "time",
    "MNY": "number", "PNT": "number", "NOH": "number", "QT": "number", "POH": "other",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Agreement:
    """With gold entities, in percent: of boundaries alone, and of boundaries with their common type.

    recall_by_type: share of the gold entities of each common type whose boundaries were found.
    """

    precision: float
    recall: float
    f1: float
    typed_f1: float
    recall_by_type: dict[str, float]
    entities: int


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


def agreement(annotator: EntityAnnotator, sentences: Sequence[AnnotatedText]) -> Agreement:
    """Compare over all sentences. Raises ValueError where there is no gold entity."""
    hits = typed = guesses = 0
    gold: dict[str, int] = {}
    recalled: dict[str, int] = {}
    for sentence in sentences:
        ours = {(e.start, e.end): e.label for e in annotator.annotate(sentence.text).entities}
        guesses += len(ours)
        for entity in sentence.entities:
            kind = COMMON_TYPES.get(entity.label, entity.label)
            gold[kind] = gold.get(kind, 0) + 1
            label = ours.get((entity.start, entity.end))
            if label is not None:
                hits += 1
                recalled[kind] = recalled.get(kind, 0) + 1
                typed += COMMON_TYPES.get(label) == kind
    total = sum(gold.values())
    if not total:
        raise ValueError("there is no gold entity to compare with")
    return Agreement(
        precision=100 * hits / guesses if guesses else 0.0,
        recall=100 * hits / total,
        f1=200 * hits / (guesses + total),
        typed_f1=200 * typed / (guesses + total),
        recall_by_type={kind: 100 * recalled.get(kind, 0) / count for kind, count in sorted(gold.items())},
        entities=total,
    )


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
