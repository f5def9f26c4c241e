"""The official KorQuAD 1.0 metric, exact match and character F1; and precision, recall and F1 of entities.

KorQuAD's rules are those of the evaluation script that the KorQuAD 1.0 authors publish (`evaluate-v1.0.py`,
https://korquad.github.io/KorQuad%201.0/). Unlike SQuAD's, no article is removed and F1 counts characters, not words.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from korbert.text import Span

# Brackets and quotes that the official script turns into a space before anything else.
_TO_SPACE = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
# ASCII punctuation goes without a trace: "3.1운동" and "31운동" are the same answer.
_REMOVE = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return `text` as it is compared: brackets to spaces, lower case, no ASCII punctuation, single spaces."""
    return " ".join(text.translate(_TO_SPACE).lower().translate(_REMOVE).split())


def exact_match(prediction: str, gold: str) -> float:
    """1.0 if the two are the same after `normalize_answer`, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(gold))


def character_f1(prediction: str, gold: str) -> float:
    """F1 in [0, 1] of the two multisets of characters (white space not counted); 0.0 where none is shared."""
    predicted = Counter("".join(normalize_answer(prediction).split()))
    wanted = Counter("".join(normalize_answer(gold).split()))
    shared = (predicted & wanted).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / predicted.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True, slots=True)
class QuestionScore:
    """Exact match (0 or 1) and character F1 (in [0, 1]) of one question."""

    exact_match: float
    f1: float


@dataclass(frozen=True, slots=True)
class KorquadScore:
    """Means over all questions, in percent.

    unanswered: questions without a prediction, which count as 0; unknown: predictions whose question is not asked.
    """

    exact_match: float
    f1: float
    total: int
    unanswered: int
    unknown: int


def score_question(prediction: str, answers: Sequence[str]) -> QuestionScore:
    """Score against the gold answer that fits best, for each of the two measures on its own."""
    return QuestionScore(
        max(exact_match(prediction, answer) for answer in answers),
        max(character_f1(prediction, answer) for answer in answers),
    )


def score_per_question(gold: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, QuestionScore]:
    """Scores by question id, in the order of `gold`; a question without a prediction scores 0."""
    return {
        id: score_question(predictions[id], answers) if id in predictions else QuestionScore(0.0, 0.0)
        for id, answers in gold.items()
    }


def score_predictions(gold: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> KorquadScore:
    """Score `predictions` (question id → text) against `gold` (question id → its answers).

    Raises ValueError if `gold` has no question or a question has no answer.
    """
    if not gold:
        raise ValueError("there is no question to score")
    for id, answers in gold.items():
        if not answers:
            raise ValueError(f"question {id!r} has no gold answer to score against")
    scores = score_per_question(gold, predictions).values()
    return KorquadScore(
        exact_match=100.0 * sum(score.exact_match for score in scores) / len(gold),
        f1=100.0 * sum(score.f1 for score in scores) / len(gold),
        total=len(gold),
        unanswered=len(gold.keys() - predictions.keys()),
        unknown=len(predictions.keys() - gold.keys()),
    )


@dataclass(frozen=True, slots=True)
class EntityScore:
    """Of exact boundaries, in percent; typed_f1 asks for the type, too. recall_by_type: of boundaries, by gold type.

    entities: in the gold. missed, cut_otherwise: of those that were not found, in percent of the gold: touching no
    guess, and touching one with other boundaries.
    """

    precision: float
    recall: float
    f1: float
    typed_f1: float
    recall_by_type: dict[str, float]
    missed: float
    cut_otherwise: float
    entities: int


def as_row(score: EntityScore) -> dict[str, float | int]:
    """The score as one row of a table, a column for each type's recall."""
    plain = asdict(score)
    recalls = plain.pop("recall_by_type")
    return {**plain, **{f"recall: {kind}": recall for kind, recall in recalls.items()}}


def score_entities(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> EntityScore:
    """Compare entities text by text, over all texts (micro average), as CoNLL-2003 does.

    Raises ValueError where there is no gold entity.
    """
    hits = typed = guesses = missed = 0
    counts: Counter[str] = Counter()
    recalled: Counter[str] = Counter()
    for wanted, given in zip(gold, found, strict=True):
        ours = {(entity.start, entity.end): entity.label for entity in given}
        guesses += len(ours)
        for entity in wanted:
            counts[entity.label] += 1
            label = ours.get((entity.start, entity.end))
            if label is not None:
                hits += 1
                recalled[entity.label] += 1
                typed += label == entity.label
            else:
                missed += not any(start < entity.end and end > entity.start for start, end in ours)
    total = counts.total()
    if not total:
        raise ValueError("there is no gold entity to compare with")
    return EntityScore(
        precision=100 * hits / guesses if guesses else 0.0,
        recall=100 * hits / total,
        f1=200 * hits / (guesses + total),
        typed_f1=200 * typed / (guesses + total),
        recall_by_type={kind: 100 * recalled[kind] / count for kind, count in sorted(counts.items())},
        missed=100 * missed / total,
        cut_otherwise=100 * (total - hits - missed) / total,
        entities=total,
    )
