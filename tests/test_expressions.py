"""Numbers, dates and times by hand, as laws, and on gold ones; several annotators as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.data.ner import read_ner
from korbert.entities import EntityAnnotator, make_annotator
from korbert.entities.expressions import ExpressionAnnotator, find_expressions
from korbert.entities.union import UnionAnnotator
from korbert.errors import ConfigError
from korbert.morphology import Morpheme
from korbert.text import AnnotatedText, Span

MECAB = ExpressionAnnotator("mecab")


def found(annotator: EntityAnnotator, text: str) -> list[str]:
    return [f"{entity.of(text)}/{entity.label}" for entity in annotator.annotate(text).entities]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("모두 16명이 1만 5천 원을 냈다.", ["16명/QT", "1만 5천 원/QT"]),
        ("물가가 8.3% 올라 149.0명이 되었다.", ["8.3%/QT", "149.0명/QT"]),
        ("지난 15일 오전 9시 30분에 왔다.", ["지난 15일/DT", "오전 9시 30분/TI"]),
        ("1443년 12월에 만들어 올해 끝났다.", ["1443년 12월/DT", "올해/DT"]),
        ("두 사람이 한 번 만났다.", ["두 사람/QT", "한 번/QT"]),
        ("제1차 세계 대전", ["제1차/QT"]),
        ("20~30명이 24,454명 가운데", ["20~30명/QT", "24,454명/QT"]),
        ("1990년대에는 3시간이 걸렸다.", ["1990년대/DT", "3시간/TI"]),
        ("2010년 3위에 올랐고 오늘 3명이 왔다.", ["2010년/DT", "3위/QT", "오늘/DT", "3명/QT"]),
        ("관객 3명 2010년 5월 18일 오후 3시", ["3명/QT", "2010년 5월 18일/DT", "오후 3시/TI"]),
        ("기온이 낮고 낮에는 덥다.", ["낮/TI"]),
        ("아무 수도 없다.", []),
        ("", []),
    ],
)
def test_expressions_by_hand(text: str, expected: list[str]) -> None:
    assert found(MECAB, text) == expected


def test_decomposed_text_keeps_its_own_places() -> None:
    text = "\u1106\u1169\u1103\u116e 16\u1106\u1167\u11bc"  # 모두 16명
    assert [(e.start, e.end) for e in MECAB.annotate(text).entities] == [(5, 10)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["16", "한", "두", "명", "년", "시", "%", ".", "~", "지난", "올해", "원", "강", "여"]),
            st.sampled_from(["SN", "NR", "MM", "NNBC", "NNG", "SY", "SC", "SL", "VV"]),
            st.sampled_from(["", " ", "  "]),
        ),
        max_size=12,
    )
)
def test_any_morphemes(parts: list[tuple[str, str, str]]) -> None:
    """Whatever an analyser says, spans are in order and apart, and made of whole morphemes."""
    text, morphemes = "", []
    for form, tag, gap in parts:
        morphemes.append(Morpheme(len(text), len(text) + len(form), tag))
        text += form + gap
    spans = find_expressions(text, morphemes)
    AnnotatedText(text, tuple(spans))
    starts, ends = {m.start for m in morphemes}, {m.end for m in morphemes}
    for span in spans:
        assert span.start in starts
        assert span.end in ends
        assert span.of(text).strip() == span.of(text)
    numbers = [m for m in morphemes if m.tag == "SN"]
    assert all(any(s.start <= m.start and m.end <= s.end for s in spans) for m in numbers)


def test_tag_sets_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="expressions need one of mecab, mecab_ko, kiwi"):
        ExpressionAnnotator("okt")
    with pytest.raises(ConfigError, match=r"entities\.annotator: .*'mecba'; is mecab meant"):
        ExpressionAnnotator("mecba")
    assert MECAB.fingerprint != ExpressionAnnotator("kiwi").fingerprint


def test_gold_quantities(data_root: Path) -> None:
    hits = guesses = gold = 0
    for sentence in read_ner(data_root / "ner" / "klue_ner_dev_half.tsv.gz")[1200:1700]:
        ours = {(e.start, e.end) for e in MECAB.annotate(sentence.text).entities}
        theirs = {(e.start, e.end) for e in sentence.entities if e.label in ("QT", "DT", "TI")}
        hits, guesses, gold = hits + len(ours & theirs), guesses + len(ours), gold + len(theirs)
    assert 2 * hits / (guesses + gold) > 0.7


class Fixed(EntityAnnotator):
    def __init__(self, name: str, *spans: Span) -> None:
        self.name, self.spans = name, spans

    @property
    def fingerprint(self) -> str:
        return self.name

    def annotate(self, text: str) -> AnnotatedText:
        return AnnotatedText(text, self.spans)


def test_union_by_hand() -> None:
    first = Fixed("a", Span(2, 4, "A"), Span(6, 7, "A"))
    second = Fixed("b", Span(0, 2, "B"), Span(3, 5, "B"), Span(6, 7, "B"), Span(8, 9, "B"))
    text = "가나다라마바사아자차"
    both = UnionAnnotator([first, second])
    assert [(e.start, e.end, e.label) for e in both.annotate(text).entities] == [
        (0, 2, "B"), (2, 4, "A"), (6, 7, "A"), (8, 9, "B"),
    ]  # fmt: skip
    assert both.fingerprint == "union(a, b)" != UnionAnnotator([second, first]).fingerprint
    with pytest.raises(ConfigError, match="at least one"):
        UnionAnnotator([])


def test_union_of_one_is_that_one() -> None:
    text = "세종대왕은 1443년 훈민정음을 만들었다."
    mecab = make_annotator("mecab")
    assert UnionAnnotator([mecab]).annotate(text) == mecab.annotate(text)
    assert "1443년/DT" in found(UnionAnnotator([MECAB, mecab]), text)
