"""Named-entity corpora: by hand, on the real files, and with what can be wrong in a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.data.ner import read_ner, read_ner_documents, spans_of, split_documents
from korbert.errors import DataError
from korbert.text import AnnotatedText, Span

TAGGED = "## one\t<세종:PS>이\n세\tB-PS\n종\tI-PS\n이\tO\n \tO\n#\tO\n\n\n한\tB-LC\n국\tB-LC\n"


def test_both_formats_by_hand(tmp_path: Path) -> None:
    tagged, lines = tmp_path / "a.tsv", tmp_path / "a.jsonl.gz"
    tagged.write_text(TAGGED, "utf-8")
    lines.write_bytes(gzip.compress('{"text": "세종이", "entities": [[0, 2, "PER", "세종"]], "file": 1}\n\n'.encode()))
    assert read_ner(tagged) == [
        AnnotatedText("세종이 #", (Span(0, 2, "PS"),)),
        AnnotatedText("한국", (Span(0, 1, "LC"), Span(1, 2, "LC"))),
    ]
    assert read_ner(lines) == [AnnotatedText("세종이", (Span(0, 2, "PER"),))]


@pytest.mark.parametrize("comment", ["## one <세종:PS>이", "##", "## ", "##one\tB-PS", "###"])
def test_comments_and_white_space_behind_tags_say_nothing(tmp_path: Path, comment: str) -> None:
    (tmp_path / "a.tsv").write_text(f"{comment}\n세\tB-PS \n종\tI-PS\u3000\r\n이\tO \n#\tO\n", "utf-8")
    assert read_ner(tmp_path / "a.tsv") == [AnnotatedText("세종이#", (Span(0, 2, "PS"),))]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: file name: wanted \.jsonl or \.tsv"),
        ("a.tsv", "\n", r"a\.tsv: file: holds no sentence"),
        ("a.tsv", "세\tB-PS\n종\tI-LC\n", r"a\.tsv: line 2: the tag I-LC follows B-PS"),
        ("a.tsv", "세\tI-PS\n", r"a\.tsv: line 1: the tag I-PS follows O"),
        ("a.tsv", "세종\tO\n", r"a\.tsv: line 1: wanted a character"),
        ("a.tsv", "세\tB- \n", r"a\.tsv: line 1: wanted a character"),
        ("a.tsv", "세 O\n", r"a\.tsv: line 1: wanted a character"),
        ("a.tsv", "세\tPS\n", r"a\.tsv: line 1: wanted a character"),
        ("a.jsonl", '{"text": "가나", "entities": [[0.0, 1, "A"]]}', r"a\.jsonl: line 1: wanted an object .*no entity"),
        ("a.jsonl", '{"text": "가나", "entities": [[0, true, "A"]]}', r"a\.jsonl: line 1: wanted an object"),
        ("a.jsonl", '{"text": "가나", "entities": [[0, 1, ""]]}', r"a\.jsonl: line 1: wanted an object"),
        ("a.jsonl", '{"text": "가나", "entities": [[0, 1, null]]}', r"a\.jsonl: line 1: wanted an object"),
        ("a.jsonl", '{"text": ["가"], "entities": []}', r"a\.jsonl: line 1: wanted an object .*is no string"),
        ("a.jsonl", '{"text": "가", "entities": []}\n{"text"', r"a\.jsonl: line 2 column 8: broken JSON"),
        ("a.jsonl", '{"text": "가", "entities": [[0, 2, "PER"]]}', r"a\.jsonl: line 1: wanted an object"),
        ("a.jsonl", '{"text": "가나", "entities": [[0, 2, "P"], [1, 2, "P"]]}', r"a\.jsonl: line 1: wanted .*overlap"),
        (
            "a.jsonl",
            '{"text": "가 나", "entities": [[1, 2, "P", "나"]]}',
            r"a\.jsonl: line 1: .*the text has ' ' there",
        ),
        ("a.jsonl", '{"sentence": "가"}', r"a\.jsonl: line 1: wanted an object"),
    ],
)
def test_bad_files_name_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        read_ner(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "sentences", "entities"),
    [("kmou_sentences.jsonl.gz", 23713, 80107), ("klue_ner_dev_half.tsv.gz", 2500, None)],
)
def test_real_corpora(data_root: Path, name: str, sentences: int, entities: int | None) -> None:
    found = read_ner(data_root / "ner" / name)
    assert len(found) == sentences
    count = sum(len(sentence.entities) for sentence in found)
    assert count == entities if entities else count > 5000
    assert all(entity.label.isalpha() and entity.label.isupper() for s in found for entity in s.entities)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from("AB")), max_size=6))
def test_spans_come_back_from_their_tags(parts: list[tuple[int, int, str]]) -> None:
    tags: list[str] = []
    spans = []
    for gap, length, label in parts:
        tags += ["O"] * gap
        spans.append(Span(len(tags), len(tags) + length, label))
        tags += [f"B-{label}", *[f"I-{label}"] * (length - 1)]
    assert list(spans_of(tags)) == spans


def test_tags_of_a_model_need_not_be_well_formed() -> None:
    assert list(spans_of(["I-A", "I-A", "I-B", "O", "I-B"])) == [Span(0, 2, "A"), Span(2, 3, "B"), Span(4, 5, "B")]


def test_no_document_is_on_both_sides(data_root: Path) -> None:
    sentences = read_ner_documents(data_root / "ner" / "kmou_sentences.jsonl.gz")
    train, held_out = split_documents(sentences, 0.2)
    assert len(train) + len(held_out) == len(sentences)
    assert 0.1 < len(held_out) / len(sentences) < 0.3
    where: dict[str, set[bool]] = {}
    inside = set(map(id, held_out))
    for document, sentence in sentences:
        where.setdefault(document, set()).add(id(sentence) in inside)
    assert len(where) == 1427
    assert all(len(sides) == 1 for sides in where.values())
    assert sum(True in sides for sides in where.values()) == round(0.2 * 1427)
    # What was held out once stays held out when more is, and whatever the order.
    assert inside < set(map(id, split_documents(sentences[::-1], 0.4)[1]))
