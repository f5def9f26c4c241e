"""Very much of everything: the load cases in short; what no longer takes the square of its size is right still.

What is long here would take minutes or hours if it took the square of its length.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.data.korquad import Answer, _mismatch, read_korquad, read_predictions
from korbert.entities import EntityAnnotator, RandomSpanAnnotator
from korbert.entities.base import mapped_back
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.errors import DataError
from korbert.files import read_json
from korbert.josa import is_josa
from korbert.morphology import make_analyser
from korbert.sentences import split_sentences
from korbert.study.errors import _relation, _share_an_end, answer_type
from korbert.text import AnnotatedText, Normalizer, Span, place_of
from korbert.tokenizers import WordPieceTokenizer, open_published

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "experiments" / "stress"))
import load  # noqa: E402, scripts of that folder
import loads  # noqa: E402

LONG = 200_000


# ---- the cases ----


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in loads.CASES if case not in ("interrupt", *loads.REAL)])
def test_cases_in_short(case: str, tmp_path: Path) -> None:
    bench = loads.Bench(0.0005, tmp_path)
    loads.CASES[case](bench)
    assert bench.parts
    assert all(part["size"] > 0 and part["seconds"] >= 0 for part in bench.parts.values())


@pytest.mark.slow
def test_the_door_records_sizes_seconds_and_memory(tmp_path: Path) -> None:
    command = [
        sys.executable, "experiments/stress/load.py", "cases=['tokenizer jamo',corpus]", "scale=0.001",
        f"run_dir={tmp_path}", "data.root=null",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = read_json(tmp_path / "record.json")["results"]
    assert results["left_out"] == ["corpus"]  # without data.root
    assert {row["part"] for row in results["parts"]} >= set(loads.TEXTS)
    assert all(row["size"] == 1000 and row["megabytes"] > 10 for row in results["parts"])
    seconds = [row["seconds"] for row in results["parts"]]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    again = read_json(tmp_path / "record.json")["results"]["parts"]
    assert [row["seconds"] for row in again] == seconds, "what was measured is kept"


@pytest.mark.parametrize(
    ("halves", "wholes", "runs", "growth"),
    [
        ([2.0], [4.1], 1, 2.05),
        ([2.0, 2.0], [6.5, 4.0], 2, 2.0),  # something else had the processor
        ([2.0, 2.1, 2.0, 2.2], [8.1, 8.0, 8.3, 8.1], 4, 4.0),  # it takes the square
    ],
)
def test_what_seems_to_take_too_much_is_run_again(
    monkeypatch: pytest.MonkeyPatch, halves: list[float], wholes: list[float], runs: int, growth: float
) -> None:
    def measure(_: load.LoadConfig, case: str, scale: float, time: int) -> dict[str, Any]:
        seconds = (halves if scale == 0.5 else wholes)[time]
        return {"parts": {case: {"cpu_seconds": seconds, "seconds": 9.0}}, "megabytes": 100 + time}

    monkeypatch.setattr(load, "measure", measure)
    (row,) = load.measured(load.LoadConfig(run_dir="x"), "a part")
    assert (row["runs"], row["growth"], row["megabytes"]) == (runs, growth, 99 + runs)
    assert bool(row["failure"]) == (growth > 3)


# ---- text ----


def decomposed(text: str) -> Counter[str]:
    """Its letters and marks, one by one: of all at once the marks would be sorted, by a way that takes their square."""
    return Counter(part for letter in text for part in unicodedata.normalize("NFD", letter))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_a_character_with_very_many_marks(form: str) -> None:
    """More than thirty begin a cluster of their own; nothing is lost."""
    text = "가" + "\u0301\u0323" * LONG
    normal = Normalizer(form)(text)
    assert (normal.ends - normal.starts).max() <= 31
    assert normal.ends[-1] == len(text)
    assert decomposed(normal.text) == decomposed(text)
    few = "가" + "\u0301\u0323" * 15
    assert Normalizer(form)(few).text == unicodedata.normalize("NFC", few)


@st.composite
def annotated(draw: st.DrawFn) -> AnnotatedText:
    text = draw(st.text('가나 다.\n?"', max_size=60))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return AnnotatedText(text, tuple(Span(a, b, "X") for a, b in zip(edges[0::2], edges[1::2], strict=False)))


@given(annotated(), st.integers(0, 60), st.integers(0, 60))
def test_slices_hold_the_entities_inside(text: AnnotatedText, a: int, b: int) -> None:
    start, end = sorted((min(a, len(text.text)), min(b, len(text.text))))
    found = text.slice(start, end)
    inside = [entity for entity in text.entities if start <= entity.start and entity.end <= end]
    assert [(e.start + start, e.end + start) for e in found.entities] == [(e.start, e.end) for e in inside]


@given(annotated())
def test_no_entity_is_cut_by_a_sentence(text: AnnotatedText) -> None:
    parts = split_sentences(text)
    before = [entity.of(text.text) for entity in text.entities]
    after = [entity.of(part.text) for part in parts for entity in part.entities]
    assert [name for name in before if name.strip() == name] == [name for name in after if name.strip() == name]
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.text.split())


def test_very_many_sentences_with_entities() -> None:
    sentence = "김철수가 서울특별시에 갔다. "
    count = LONG // 4
    spans = (Span(n * len(sentence) + 5, n * len(sentence) + 10) for n in range(count))
    parts = split_sentences(AnnotatedText(sentence * count, tuple(spans)))
    assert len(parts) == count
    assert all(part.entities == (Span(5, 10),) for part in parts)


# ---- entities ----


class Every(EntityAnnotator):
    """Every other word."""

    fingerprint = "every"

    def annotate(self, text: str) -> AnnotatedText:
        return AnnotatedText(text, tuple(Span(n, n + 2) for n in range(0, len(text) - 2, 6)))


def test_random_spans_of_a_long_text() -> None:
    text = "가나 다라 " * (LONG // 6)
    found = RandomSpanAnnotator(Every()).annotate(text)
    assert len(found.entities) == len(Every().annotate(text).entities)
    assert {len("".join(entity.of(text).split())) for entity in found.entities} == {2}
    halves = [sum(low <= e.start < low + len(text) // 2 for e in found.entities) for low in (0, len(text) // 2)]
    assert abs(halves[0] - halves[1]) < 0.05 * len(found.entities)


def test_particles_without_an_end(tmp_path: Path) -> None:
    assert is_josa("들은", "생")
    assert not is_josa("들" * 5000, "생")
    (tmp_path / "names.txt").write_text("학생\n", "utf-8")
    annotator = GazetteerAnnotator([tmp_path / "names.txt"], GazetteerRules(common_length=0))
    text = "학생들은 학생" + "들" * LONG + " 학생" + "학생" * LONG
    assert [(e.start, e.end) for e in annotator.annotate(text).entities] == [(0, 2)]


# ---- tokenizers ----


def test_a_long_unknown_word_that_is_cut(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n가\n##가\n", "utf-8")
    tokenizer = open_published(tmp_path / "vocab.txt")
    tokens = tokenizer.encode("가" * LONG, range(0, LONG, 1000))
    assert len(tokens) == LONG
    assert tokenizer.special.unk not in tokens.ids
    tokens = tokenizer.encode("나" * LONG, [10])
    assert tokens.ends.tolist() == [10, LONG]


def test_long_words_are_not_remembered() -> None:
    tokenizer = WordPieceTokenizer.train(["가나다라 마바사"] * 9, 20)
    for n in range(50):
        assert tokenizer.encode("가" * (300 + n)).ids.tolist() == [tokenizer.special.unk]
    tokenizer.encode("가나")
    assert [len(word) for word in tokenizer._cache] == [3]


# ---- questions ----


@given(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=12), st.integers(-3, 15))
def test_the_nearest_place_of_an_answer(text: str, context: str, start: int) -> None:
    places = [at for at in range(len(context)) if context.startswith(text, at)]
    said = _mismatch(text, start, context)
    if places:
        assert said.endswith(f"the nearest {text!r} is at {min(places, key=lambda at: abs(at - start))}")
    else:
        assert said.endswith("which is nowhere in the context")


def test_very_many_wrong_answers(tmp_path: Path) -> None:
    context = "가" * LONG
    qas = [{"id": str(n), "question": "?가", "answers": [{"text": "나", "answer_start": 0}]} for n in range(20_000)]
    data = {"version": "KorQuAD_v1.0_x", "data": [{"title": "x", "paragraphs": [{"context": context, "qas": qas}]}]}
    (tmp_path / "x.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(DataError, match="nowhere in the context") as caught:
        read_korquad(tmp_path / "x.json")
    assert "and 19995 more" in str(caught.value)


def test_a_prediction_twice_among_very_many(tmp_path: Path) -> None:
    pairs = ", ".join(f'"{n}": "x"' for n in range(LONG))
    (tmp_path / "x.json").write_text(f'{{{pairs}, "{LONG - 1}": "y"}}', "utf-8")
    with pytest.raises(DataError, match=f"key '{LONG - 1}': occurs twice"):
        read_predictions(tmp_path / "x.json")


@given(annotated(), st.data())
def test_relations_of_answers_and_entities(text: AnnotatedText, data: st.DataObject) -> None:
    if not text.text:
        return
    start = data.draw(st.integers(0, len(text.text) - 1))
    end = data.draw(st.integers(start + 1, len(text.text)))
    answer = Answer(text.text[start:end], start)
    touching = [entity for entity in text.entities if entity.start < end and entity.end > start]
    relation = _relation(answer, text.entities)
    assert (relation == "no entity") == (not touching)
    assert (relation == "is an entity") == any((e.start, e.end) == (start, end) for e in touching)
    within = any(e.start <= start and end <= e.end for e in touching)
    assert (relation in ("is an entity", "inside of an entity")) == within
    assert (answer_type(answer, text.entities) == "other") or within


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_answers_that_share_an_end(a: str, b: str) -> None:
    naive = any(a[-n:] == b[:n] or b[-n:] == a[:n] for n in range(2, min(len(a), len(b)) + 1))
    assert _share_an_end(a, b) == naive


def test_long_answers_that_share_an_end() -> None:
    assert _share_an_end("가" * LONG + "나", "나" + "다" * LONG) is False
    assert _share_an_end("가" * LONG + "나다", "나다" + "라" * LONG) is True


def test_entities_in_characters_that_normalised_together() -> None:
    """An analyser may cut between a letter and its marks: what it finds on both sides is one place of the original."""
    normal = Normalizer("NFC")("서울\u0301\u0323은")
    assert len(normal.text) > 3
    first, last = normal.text.index("울"), len(normal.text) - 1
    found = mapped_back(normal, [(0, first + 1, "A"), (first + 1, last, "B"), (last, last + 1, "C")])
    assert [(e.start, e.end, e.label) for e in found.entities] == [(0, 4, "A"), (4, 5, "C")]


@pytest.mark.parametrize("piece", ["김철수가 서울에 갔다. ", "김철수가\n", "가나"])
def test_mecab_gets_long_texts_in_parts(piece: str) -> None:
    """The parts' morphemes are those of the whole where it is cut at white space, and stand where they stand."""
    analyser = make_analyser("mecab")
    text = "  " + piece * (50_000 // len(piece))
    found = analyser.analyse(text)
    assert [m.start for m in found] == sorted(m.start for m in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert "".join(text[m.start : m.end] for m in found) == "".join(text.split())
    assert analyser.edges(text) == {edge for m in found for edge in (m.start, m.end)}
    if " " in piece:
        one = analyser.analyse(piece * 100)
        assert found[: len(one) - 20] == [m._replace(start=m.start + 2, end=m.end + 2) for m in one[:-20]]


def test_marks_are_found_without_copying() -> None:
    """A search for a number of another type copies the whole column."""
    column = np.arange(10, dtype=np.int32)
    for value in (-1, 0, 5, 9, 10):
        for side in ("left", "right"):
            assert place_of(column, value, side) == np.searchsorted(column, value, side)  # type: ignore[arg-type]
