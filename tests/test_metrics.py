"""The metric against the official rules: the definition re-stated with regular expressions, and scores by hand."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.metrics import (
    character_f1,
    exact_match,
    normalize_answer,
    score_per_question,
    score_predictions,
    score_question,
)

SYMBOLS = ["'", '"', "《", "》", "<", ">", "〈", "〉", r"\(", r"\)", "‘", "’"]


def reference_normalize(text: str) -> str:
    """The published description, step by step: symbols to spaces, lower case, punctuation out, white space."""
    for symbol in SYMBOLS:
        text = re.sub(symbol, " ", text)
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(text.split())


def reference_f1(prediction: str, gold: str) -> float:
    ours = [char for word in reference_normalize(prediction).split() for char in word]
    theirs = [char for word in reference_normalize(gold).split() for char in word]
    same = sum((Counter(ours) & Counter(theirs)).values())
    if same == 0:
        return 0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


ANSWERS = st.text(st.sampled_from("가나다 AbZ1.,'\"《》<>〈〉()‘’「」·-%\t\u3000é"), max_size=12) | st.text(max_size=8)


@given(ANSWERS, ANSWERS)
def test_agrees_with_the_stated_rules(prediction: str, gold: str) -> None:
    assert normalize_answer(prediction) == reference_normalize(prediction)
    assert character_f1(prediction, gold) == pytest.approx(reference_f1(prediction, gold), abs=1e-12)
    assert exact_match(prediction, gold) == (reference_normalize(prediction) == reference_normalize(gold))


@pytest.mark.parametrize(
    ("prediction", "gold", "em", "f1"),
    [
        ("세종대왕", "세종대왕", 1, 1),
        ("《훈민정음》", "훈민정음", 1, 1),
        ("‘훈민정음’", '"훈민정음"', 1, 1),
        ("(주)카카오", "주 카카오", 1, 1),  # a bracket leaves a space, which exact match sees
        ("(주)카카오", "주카카오", 0, 1),  # and F1 does not
        ("3.1 운동", "31 운동", 1, 1),  # other punctuation leaves none
        ("KBS", "kbs", 1, 1),
        ("서울  특별시\n", "서울 특별시", 1, 1),
        ("「서시」", "서시", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),  # brackets that the official list lacks stay
        ("세종대왕은", "세종대왕", 0, 2 * (4 / 5) / (4 / 5 + 1)),
        ("가가나", "가나나", 0, 2 / 3),  # a multiset: one 가 and one 나 are shared
        ("나가", "가나", 0, 1),  # F1 does not see order
        ("부산", "서울", 0, 0),
        ("", "서울", 0, 0),
        ("...", "서울", 0, 0),
        ("...", "!!", 1, 0),  # both empty after normalisation: equal, yet nothing shared
    ],
)
def test_crafted_cases(prediction: str, gold: str, em: float, f1: float) -> None:
    assert exact_match(prediction, gold) == em
    assert character_f1(prediction, gold) == pytest.approx(f1)


def test_best_gold_answer_counts_for_each_measure_on_its_own() -> None:
    score = score_question("가나", ["나가다라", "가나", "나가"])
    assert (score.exact_match, score.f1) == (1, 1)
    score = score_question("가나", ["가다", "다라마바나가"])
    assert (score.exact_match, score.f1) == (0, pytest.approx(max(0.5, 2 * 1 * (2 / 6) / (1 + 2 / 6))))


def test_unanswered_count_as_zero_and_unknown_are_counted() -> None:
    gold = {"1": ["서울"], "2": ["부산"], "3": ["대구", "대구시"], "4": ["광주"]}
    score = score_predictions(gold, {"1": "서울", "3": "대구시", "4": "", "9": "서울"})
    assert (score.exact_match, score.f1) == (50.0, 50.0)
    assert (score.total, score.unanswered, score.unknown) == (4, 1, 1)
    assert list(score_per_question(gold, {})) == list(gold)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no question"):
        score_predictions({}, {"1": "서울"})
    with pytest.raises(ValueError, match="'1' has no gold answer"):
        score_predictions({"1": []}, {})


@given(st.dictionaries(st.text(max_size=3), st.lists(ANSWERS, min_size=1, max_size=3), min_size=1, max_size=6))
def test_mean_of_the_questions(gold: dict[str, list[str]]) -> None:
    predictions = {id: answers[-1] for id, answers in gold.items()}
    score = score_predictions(gold, predictions)
    assert score.exact_match == 100.0
    per_question = score_per_question(gold, predictions)
    assert score.f1 == pytest.approx(100 * sum(s.f1 for s in per_question.values()) / len(gold))
