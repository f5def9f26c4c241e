"""Corpora: every format gives the same documents, every fault names file and line; sentences lose nothing."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.data import corpus
from korbert.data.corpus import expand_paths, read_documents, read_raw, to_record
from korbert.errors import DataError
from korbert.sentences import split_sentences
from korbert.text import AnnotatedText, Span

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DOCUMENTS = [["첫 문단이다.", "둘째 문단이다."], ["다른 문서이다."]]
TEXT = "\ufeff\n첫 문단이다.  \n 둘째 문단이다.\r\n \t\n\n다른 문서이다."
JSON = "\n".join(
    [
        json.dumps({"id": 1, "text": "첫 문단이다.\n\n둘째 문단이다.\n"}, ensure_ascii=False),
        "",
        json.dumps({"text": " \n"}),
        json.dumps({"text": "다른 문서이다."}),
    ]
)


PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstd.compress}


def test_a_folder_is_no_file_of_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(DataError, match=r"b\.txt: corpus\.files: a folder; wanted a file"):
        expand_paths([str(tmp_path / "b.txt")])
    assert expand_paths([str(tmp_path / "*.txt")]) == [tmp_path / "a.txt"]
    with pytest.raises(DataError, match="no file matches"):
        expand_paths([str(tmp_path / "b*")])


def test_names_with_brackets_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And patterns where nothing is called so."""
    folder = tmp_path / "data[1]"
    (folder / "in").mkdir(parents=True)
    for name in ("a[1].txt", "a1.txt", "a2.txt", "in/*.txt", "in/b.txt"):
        (folder / name).touch()
    found = {
        "a[1].txt": ["a[1].txt"], "a[12].txt": ["a1.txt", "a2.txt"], "in/*.txt": ["in/*.txt"],
        "**/*.txt": ["a1.txt", "a2.txt", "a[1].txt", "in/*.txt", "in/b.txt"], "i?/b*": ["in/b.txt"],
    }  # fmt: skip
    monkeypatch.chdir(folder)
    for pattern, names in found.items():
        assert expand_paths([pattern]) == list(map(Path, names))
        assert expand_paths([str(folder / pattern)]) == [folder / name for name in names]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".bz2", ".zst"])
@pytest.mark.parametrize(("kind", "text"), [(".txt", TEXT), (".jsonl", JSON)])
def test_all_formats_give_the_same_documents(tmp_path: Path, kind: str, text: str, ending: str) -> None:
    pack = PACK[ending]
    path = tmp_path / f"some.name{kind}{ending}"
    path.write_bytes(pack(text.encode()))
    assert [document for document in read_documents(path) if document] == DOCUMENTS
    assert len(list(read_documents(path))) == (3 if kind == ".jsonl" else 2)  # one record is blank


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt: file: holds no document"),
        ("a.txt", b" \n\n", "holds no document"),
        ("a.jsonl", b'{"text": ""}\n', "holds no document"),
        ("a.txt", "좋다\n나쁘다\n".encode() + "가".encode("cp949"), "a.txt: line 3: not UTF-8 at byte 0"),
        ("a.jsonl", b'{"text": "a"}\n{"text": }\n', "a.jsonl: line 2 column 10: broken JSON"),
        ("a.jsonl", b'{"title": "a"}\n', 'a.jsonl: line 1: wanted an object with a string "text"'),
        ("a.jsonl", b'{"text": 3}\n', 'line 1: wanted an object with a string "text"'),
        ("a.jsonl", b"[1]\n", "line 1: wanted an object"),
        ("a.jsonl", b'{"text": "a"}\n{"id": ' + b"9" * 5000, "a.jsonl: line 2: a number that cannot be read"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl: line 1: brackets within brackets, deeper than can be read"),
        ("a.csv", b"a,b\n", "a.csv: file name: wanted .txt, .jsonl or .xml"),
        ("corpus", b"a", "corpus: file name: wanted .txt, .jsonl or .xml"),
        ("a.txt.gz", b"not gzip", "a.txt.gz: after line 0: cannot be read on"),
        ("a.txt.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 40, "a.txt.gz: after line 0: cannot be read on"),
        ("a.txt.xz", lzma.compress("가나다\n\n라마바\n".encode() * 9999)[:-40], "a.txt.xz: after line"),
        ("a.txt.bz2", bz2.compress("가나다\n\n라마바\n".encode() * 9999)[:-40], "a.txt.bz2: after line"),
        ("a.txt.gz", gzip.compress("가나다\n\n라마바\n".encode() * 9999)[:-40], "a.txt.gz: after line"),
        ("a.txt.zst", zstd.compress("가나다\n\n라마바\n".encode() * 9999)[:-10], "a.txt.zst: after line"),
        ("a.txt.zst", b"not zst", "a.txt.zst: after line 0: cannot be read on"),
        ("a.parquet", b"not parquet", "a.parquet: after row 0: no Parquet, or cut off or damaged"),
        ("a.parquet", b"", "a.parquet: after row 0: no Parquet"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        list(read_documents(tmp_path / name))
    assert message in str(error.value)


def table(path: Path, rows: list[dict[str, object]], rows_in_group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_in_group)
    return path


def test_parquet_as_wikimedia_has_it(tmp_path: Path) -> None:
    texts = ["첫 문단이다.\n\n둘째 문단이다.\n", " \n", "다른 문서이다."]
    rows = [{"id": str(n), "url": f"u{n}", "title": f"제목 {n}", "text": text} for n, text in enumerate(texts)]
    path = table(tmp_path / "train-00000-of-00001.parquet", rows)
    assert [document for document in read_documents(path) if document] == DOCUMENTS
    assert [(r.title, len(r.paragraphs)) for r in map(to_record, read_raw(path))] == [
        ("제목 0", 2),
        ("제목 1", 0),
        ("제목 2", 1),
    ]
    assert list(read_documents(table(tmp_path / "bare.parquet", [{"text": "가"}]))) == [["가"]]


def test_faults_of_parquet(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"문서 {n} " * 500} for n in range(20)]
    path = table(tmp_path / "a.parquet", rows)
    path.write_bytes(path.read_bytes()[:-100])  # the footer
    with pytest.raises(DataError, match=r"a\.parquet: after row 0: no Parquet, or cut off"):
        list(read_documents(path))
    with pytest.raises(DataError, match=r"b\.parquet: columns: wanted \"text\", found title"):
        list(read_documents(table(tmp_path / "b.parquet", [{"title": "가"}])))
    with pytest.raises(DataError, match=r"c\.parquet: row 2: \"text\" is no string"):
        list(read_documents(table(tmp_path / "c.parquet", [{"text": "가"}, {"text": None}])))


def test_titles_and_links(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "세종", "text": "가"}\n{"title": 3, "text": "나"}\n{"text": "다"}\n', "utf-8")
    assert [(to_record(raw).title, to_record(raw).links) for raw in read_raw(path)] == [
        ("세종", None),
        ("", None),
        ("", None),
    ]


def test_text_without_blank_lines_is_no_document_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_MOST_CHARACTERS", 100)
    (tmp_path / "a.txt").write_text("열 글자의 줄이다..\n" * 20, "utf-8")
    with pytest.raises(DataError, match=r"a\.txt: line 9: a document of more than 100 characters: a blank line ends"):
        list(read_documents(tmp_path / "a.txt"))


def test_patterns(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).write_text("x", "utf-8")
    paths = expand_paths([f"{tmp_path}/c.jsonl", f"{tmp_path}/*.txt"])
    assert [path.name for path in paths] == ["c.jsonl", "a.txt", "b.txt"]
    with pytest.raises(DataError, match="no such file"):
        expand_paths([f"{tmp_path}/*.xz"])


def test_real_wikipedia(data_root: Path) -> None:
    path = data_root / "kowiki" / "kowiki-00000-of-00008.jsonl.xz"
    with lzma.open(path, "rt", encoding="utf-8") as file:
        raw = [json.loads(next(file))["text"] for _ in range(50)]
    for text, document in zip(raw, read_documents(path), strict=False):
        assert "".join("".join(document).split()) == "".join(text.split())


# ---- sentences ----


def texts(annotated: AnnotatedText) -> list[str]:
    return [sentence.text for sentence in split_sentences(annotated)]


def test_sentences_by_hand() -> None:
    text = "세종은 조선의 제4대 국왕이다. 그는 「훈민정음을 만들었다.」 정말 그런가? 1. 그렇다."
    assert texts(AnnotatedText(text)) == [
        "세종은 조선의 제4대 국왕이다.",
        "그는 「훈민정음을 만들었다.」",
        "정말 그런가? 1. 그렇다.",  # too short to stand alone
    ]
    assert texts(AnnotatedText("원주율은 3.14이고 korbert.py는 파일이다.")) == [
        "원주율은 3.14이고 korbert.py는 파일이다."
    ]
    assert texts(AnnotatedText("")) == texts(AnnotatedText(" \n")) == []


def test_sentences_do_not_depend_on_how_the_text_is_composed() -> None:
    """What is too short for a sentence is counted in characters that are seen."""
    text = "그는 갔다. 그날 저녁 그녀는 서울에서 왔다. 눈이 왔다."
    decomposed = texts(AnnotatedText(unicodedata.normalize("NFD", text)))
    assert [unicodedata.normalize("NFC", part) for part in decomposed] == texts(AnnotatedText(text)) == [text]


def test_no_sentence_ends_inside_an_entity() -> None:
    text = "어제는 밴드 그대는 누구인가? 의 공연을 보았다. 오늘은 집에서 쉬었다."
    title = "그대는 누구인가? 의"
    start = text.index(title)
    annotated = AnnotatedText(text, (Span(start, start + len(title)),))
    sentences = split_sentences(annotated)
    assert [s.text for s in sentences] == ["어제는 밴드 그대는 누구인가? 의 공연을 보았다.", "오늘은 집에서 쉬었다."]
    assert [e.of(sentences[0].text) for e in sentences[0].entities] == [title]


@given(st.text(st.sampled_from("가나다 .?!\n」…A1"), max_size=80), st.data())
def test_sentences_lose_no_character_and_no_entity(text: str, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = [Span(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if text[a:b].strip() == text[a:b] != ""]
    sentences = split_sentences(AnnotatedText(text, tuple(spans)))
    assert "".join("".join(s.text.split()) for s in sentences) == "".join(text.split())
    assert [e.of(s.text) for s in sentences for e in s.entities] == [span.of(text) for span in spans]
    assert all(s.text.strip() == s.text != "" for s in sentences)


def test_a_file_that_two_patterns_match_is_read_once(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, "utf-8")
    found = expand_paths([f"{tmp_path}/b.txt", f"{tmp_path}/*.txt", f"{tmp_path}/../{tmp_path.name}/a.txt"])
    assert found == [tmp_path / "b.txt", tmp_path / "a.txt"]
