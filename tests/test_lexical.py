"""The lexical baseline: slices of the context, near the question's words, never the question's own."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.lexical import LexicalBaseline
from korbert.metrics import score_predictions

CONTEXT = "세종은 1397년 한양에서 태어났다. 장영실은 물시계 자격루를 만들었다. 이순신은 거북선으로 싸웠다."


@pytest.fixture(scope="module")
def dev(sample: Path) -> KorquadDataset:
    return read_korquad(sample / "KorQuAD_sample_dev.json")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("세종이 태어난 것은 언제인가?", "1397년"),
        ("물시계 자격루를 만든 사람은?", "장영실"),
        ("거북선으로 싸운 사람은?", "이순신"),
    ],
)
def test_by_hand(dev: KorquadDataset, question: str, answer: str) -> None:
    assert LexicalBaseline(dev).answer(question, CONTEXT) == answer


def test_answers_are_slices_and_better_than_the_first_noun(dev: KorquadDataset) -> None:
    baseline = LexicalBaseline(dev)
    answers, first = {}, {}
    for _, paragraph, question in dev.questions():
        answers[question.id] = baseline.answer(question.text, paragraph.context)
        assert answers[question.id] in paragraph.context
        start, end = baseline.candidates(paragraph.context)[0]
        first[question.id] = paragraph.context[start:end]
    assert score_predictions(dev.gold(), answers).f1 > 2 * score_predictions(dev.gold(), first).f1


def test_decomposed_text_has_the_same_answers(dev: KorquadDataset) -> None:
    """As macOS writes it; the answer is a slice of the context as it is given."""
    baseline = LexicalBaseline(dev)
    for _, paragraph, question in dev.questions():
        context = unicodedata.normalize("NFD", paragraph.context)
        found = baseline.answer(unicodedata.normalize("NFD", question.text), context)
        assert found in context
        assert unicodedata.normalize("NFC", found) == baseline.answer(question.text, paragraph.context)


def test_nothing_to_choose_from(dev: KorquadDataset) -> None:
    assert LexicalBaseline(dev).answer("무엇인가?", "...") == ""
    assert LexicalBaseline(dev).answer("서울은?", "서울") == "서울"  # better the question's own word than none
