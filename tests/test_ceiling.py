"""The KorQuAD ceiling against figures measured elsewhere, brute force, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from korbert.comparison.ceiling import best_span, ceiling, strip_josa
from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question, read_korquad
from korbert.metrics import score_question
from korbert.text import Span
from korbert.tokenizers import CharacterTokenizer, Pretokenizer, WordTokenizer


def dataset(context: str, *answers: tuple[str, int]) -> KorquadDataset:
    questions = tuple(Question(str(i), "?", (Answer(text, start),)) for i, (text, start) in enumerate(answers))
    return KorquadDataset((Article("제목", (Paragraph(context, questions),)),), "1.0", Path("x.json"))


@pytest.fixture(scope="module")
def dev(data_root: Path) -> KorquadDataset:
    return read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "split", "exact_match", "f1"),
    [  # eojeol 23.97 / 87.90, MeCab 99.17 / 99.90, syllables 100 / 100: figures of another implementation
        (WordTokenizer, "none", 23.97, 87.90),
        (WordTokenizer, "mecab", 99.17, 99.90),
        (CharacterTokenizer, "none", 100.0, 100.0),
    ],
)
def test_figures_measured_elsewhere(
    dev: KorquadDataset, kind: type[WordTokenizer], split: str, exact_match: float, f1: float
) -> None:
    tokenizer = kind.train(["가"], 50, pretokenizer=Pretokenizer(split))  # what is unknown has its place all the same
    found = ceiling(dev, tokenizer)
    assert found.questions == 5774
    assert found.exact_match == pytest.approx(exact_match, abs=0.02)
    assert found.f1 == pytest.approx(f1, abs=0.05)


def test_of_several_answers_one_has_to_fit_as_a_whole() -> None:
    context = "가나다 라마바"
    question = Question("0", "?", (Answer("가나", 0), Answer("마바", 5)))
    data = KorquadDataset((Article("제목", (Paragraph(context, (question,)),)),), "1.0", Path("x.json"))
    found = ceiling(data, WordTokenizer.train([context], 50))
    assert (found.start_at_boundary, found.end_at_boundary, found.at_boundary) == (100.0, 100.0, 0.0)


def test_by_hand() -> None:
    context = "세종은 《훈민정음》을 만들었다."
    data = dataset(context, ("세종", 0), ("훈민정음", 5), ("만들었다.", 12))
    words = WordTokenizer.train([context], 50)
    found = ceiling(data, words)
    # Of three words: 세종은 (F1 2·2/(2+3)), 《훈민정음》을 (brackets do not count; F1 2·4/(4+5)), and 만들었다. itself.
    assert found.exact_match == pytest.approx(100 / 3)
    assert found.f1 == pytest.approx(100 * (4 / 5 + 8 / 9 + 1) / 3)
    assert found.start_at_boundary == pytest.approx(200 / 3)
    assert (found.at_boundary, found.end_at_boundary) == pytest.approx((100 / 3, 100 / 3))
    cut = ceiling(data, words, entities=lambda _: (Span(0, 2), Span(5, 9)))
    assert (cut.exact_match, cut.f1, cut.at_boundary) == (100.0, 100.0, 100.0)
    assert ceiling(data, words, without_josa=True).exact_match == 100.0


def test_particles() -> None:
    assert [strip_josa(text) for text in ("세종은", "서울에서는", "이도", "3월 ", "가")] == [
        "세종", "서울", "이", "3월", "",
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.text("가나다는 1.", min_size=1, max_size=5), min_size=1, max_size=6), data=st.data())
@example(words=["1111.", ".", ".", "는가11.", "는가11", "는가"], data=None)
def test_best_span_against_all_spans_at_the_answer(words: list[str], data: st.DataObject | None) -> None:
    """No span of tokens that touches the answer matches it where the best one found does not.

    But for spans that read as the answer does and stand elsewhere in it, as "는가11 는가" in the example: the metric
    compares letters alone, and no reader points there.
    """
    text = " ".join(words)
    start = 4 if data is None else data.draw(st.integers(0, len(text) - 1))
    end = 18 if data is None else data.draw(st.integers(start + 1, len(text)))
    tokens = WordTokenizer.train(["가"], 50, pretokenizer=Pretokenizer()).encode(text)
    gold = [text[start:end]]
    found = best_span(tokens, text, start, end, lambda said: score_question(said, gold))

    def letters(start: int, end: int) -> list[int]:
        return [place for place in range(start, end) if text[place] not in " ."]

    spans = [
        score_question(text[tokens.starts[a] : tokens.ends[b]], gold)
        for a in range(len(tokens))
        for b in range(a, len(tokens))
        if tokens.starts[a] < end and tokens.ends[b] > start
        and letters(tokens.starts[a], tokens.ends[b]) == letters(start, end)
    ]  # fmt: skip
    assert found.exact_match >= max((s.exact_match for s in spans), default=0.0)
