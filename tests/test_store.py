"""Annotations kept in a file: made once, shared by processes, read where nothing can be written, never mixed."""

from __future__ import annotations

import errno
import multiprocessing
import re
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from korbert.entities import (
    CachedAnnotator,
    EntityAnnotator,
    NoEntities,
    StoredAnnotator,
    make_annotator,
    with_cache,
    write_store,
)
from korbert.entities.store import AnnotationFile
from korbert.errors import DataError, KorbertError, WriteError
from korbert.morphology import make_analyser
from korbert.text import AnnotatedText, Span


def test_stored_annotations_need_no_analyser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["세종은 서울에서 태어났다.", "KBS교향악단", "", "그냥 글"]
    store = tmp_path / "store.sqlite"
    assert write_store(store, "mecab", make_annotator("mecab"), [*texts, texts[0]]) == 4
    expected = [make_annotator("mecab").annotate(text) for text in texts]
    stored = make_annotator("mecab", store)
    other = make_annotator("mecab", store).annotate("부산은 항구다.")  # not stored: analysed here
    assert other == make_annotator("mecab").annotate("부산은 항구다.")
    monkeypatch.setitem(sys.modules, make_analyser("mecab").package, None)
    assert [stored.annotate(text) for text in texts] == expected
    assert stored.fingerprint == make_annotator("mecab").fingerprint
    with pytest.raises(KorbertError, match="pip install"):
        stored.annotate("부산은 항구다.")
    with pytest.raises(DataError, match="these are annotations of 'mecab', wanted 'kiwi'"):
        make_annotator("kiwi", store)
    store.with_name("store.sqlite.sha256").unlink()
    store.write_text("not a data base, but long enough to be looked at as one", "utf-8")
    with pytest.raises(DataError, match="cannot be used as a store of annotations"):
        make_annotator("mecab", store)
    with pytest.raises(DataError, match="not found"):
        make_annotator("mecab", tmp_path / "nowhere")


def test_files_of_an_annotator_may_lie_elsewhere(tmp_path: Path) -> None:
    """Annotated where the list of names is, read where it is in another folder, or not at all."""
    name, store = "expressions-mecab+gazetteer:{}/names.txt,{}/more.txt+mecab", tmp_path / "store.sqlite"
    for file in ("names.txt", "more.txt"):
        (tmp_path / file).write_text("한강\n", "utf-8")
    text = "1443년 한강은 서울에 있다."
    here = make_annotator(name.format(tmp_path, tmp_path))
    write_store(store, name.format("{root}/lists", "{root}"), here, [text])
    for elsewhere in ("/nowhere", "nowhere/at/all", "."):
        stored = make_annotator(name.format(elsewhere, elsewhere), store)
        assert stored.annotate(text) == here.annotate(text)
        assert len(stored.annotate(text).entities) == 3
    for other in ("expressions-mecab+gazetteer:/nowhere/other.txt,/nowhere/more.txt+mecab", "mecab"):
        with pytest.raises(DataError, match="these are annotations of"):
            make_annotator(other, store)


def test_store_of_another_version_is_not_mixed(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    write_store(store, "mecab", make_annotator("mecab"), ["서울"])
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE annotator SET fingerprint = 'proper-noun-runs-0'")
    store.with_name("store.sqlite.sha256").unlink()
    with pytest.raises(DataError, match="texts would be annotated in two ways"):
        make_annotator("mecab", store).annotate("부산")


class Counting(EntityAnnotator):
    """Finds the first two characters, and counts."""

    fingerprint = "counting"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def annotate(self, text: str) -> AnnotatedText:
        self.seen.append(text)
        return AnnotatedText(text, (Span(0, 2, "X"),) if len(text) > 1 else ())


def test_no_text_is_annotated_twice(tmp_path: Path) -> None:
    base = Counting()
    first = with_cache(base, tmp_path)
    texts = ["가나다", "라", "", "가나다", "\ud800가"]
    assert first.annotate_all(texts) == [Counting().annotate(text) for text in texts]
    assert base.seen == ["가나다", "라", "", "\ud800가"]
    again = with_cache(base, tmp_path)
    assert [again.annotate(text) for text in texts] == [Counting().annotate(text) for text in texts]
    assert again.annotate_all(["새글 들", "라"])[0].entities == (Span(0, 2, "X"),)
    assert base.seen[4:] == ["새글 들"]
    assert isinstance(again, CachedAnnotator)
    assert again.made == 1
    assert again.fingerprint == "counting"
    assert isinstance(with_cache(make_annotator("none"), tmp_path), NoEntities)
    assert with_cache(base, None) is base


class Careless(EntityAnnotator):
    """Somebody's own annotator that does not keep to what is promised."""

    fingerprint = "careless"

    def __init__(self, gives: Callable[[str], AnnotatedText]) -> None:
        self.gives = gives

    def annotate(self, text: str) -> AnnotatedText:
        return self.gives(text)


def test_white_space_at_an_entity_s_ends_is_left_out(tmp_path: Path) -> None:
    annotator = Careless(lambda text: AnnotatedText(text, (Span(0, 3, "PS"), Span(3, 4), Span(4, 7, "JOB"))))
    wanted = (Span(0, 2, "PS"), Span(4, 6, "JOB"))
    assert with_cache(annotator, tmp_path).annotate("세종  임금 ").entities == wanted
    write_store(tmp_path / "store.sqlite", "careless", annotator, ["세종  임금 "])
    assert StoredAnnotator(tmp_path / "store.sqlite", "careless", None).annotate("세종  임금 ").entities == wanted


def test_an_annotator_that_gives_back_other_texts_is_named(tmp_path: Path) -> None:
    """Its entities were kept for another text, and lost."""
    stripping = Careless(lambda text: AnnotatedText(text.strip()))
    message = re.escape("annotator careless: gave 2 texts for 2, and not the same ones, e.g. for ' 세종'")
    with pytest.raises(KorbertError, match=message):
        with_cache(stripping, tmp_path).annotate_all(["서울", " 세종"])
    with pytest.raises(KorbertError, match=message):
        write_store(tmp_path / "store.sqlite", "careless", stripping, ["서울", " 세종"])
    few = Careless(AnnotatedText)
    few.annotate_all = lambda texts: [AnnotatedText(text) for text in texts[1:]]  # type: ignore[method-assign]
    with pytest.raises(KorbertError, match="gave 1 texts for 2"):
        with_cache(few, tmp_path / "few").annotate_all(["서울", "세종"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "gave None, wanted an AnnotatedText for each text"),
        (AnnotatedText("서울은", (Span(0, 2, None),)), "wanted a span of whole numbers with a label that is text"),  # type: ignore[arg-type]
        (AnnotatedText("서울은", (Span(0, 1.5, "PS"),)), "wanted a span of whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_an_annotator_that_gives_something_else_is_named(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(KorbertError, match=f"annotator careless: gave .*{message.removeprefix('gave ')}"):
        write_store(tmp_path / "store.sqlite", "careless", Careless(lambda _: given), ["서울은"])
    assert not (tmp_path / "store.sqlite").exists()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    annotator = Careless(lambda text: AnnotatedText(text, (Span(*np.array([0, 2]), "PS"),)))
    write_store(str(tmp_path / "store.sqlite"), "careless", annotator, ["서울은"])
    stored = StoredAnnotator(tmp_path / "store.sqlite", "careless", None)
    assert stored.annotate("서울은").entities == (Span(0, 2, "PS"),)


def test_a_store_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path, texts = tmp_path / "store.sqlite", [f"{number}번 글" for number in range(1200)]
    write_store(path, "counting", Counting(), texts[:1])

    class Dying(Counting):
        def annotate(self, text: str) -> AnnotatedText:
            if text == texts[1100]:
                raise KeyboardInterrupt
            return super().annotate(text)

    with pytest.raises(KeyboardInterrupt):
        write_store(path, "counting", Dying(), texts)
    assert StoredAnnotator(path, "counting", None).annotate_all(texts[:2]) == [
        AnnotatedText(texts[0], (Span(0, 2, "X"),)), AnnotatedText(texts[1]),
    ]  # fmt: skip
    assert write_store(path, "counting", Counting(), texts) == len(texts)
    assert StoredAnnotator(path, "counting", None).annotate(texts[-1]).entities == (Span(0, 2, "X"),)
    assert {file.name for file in tmp_path.iterdir()} == {"store.sqlite", "store.sqlite.sha256"}


def test_labels_without_a_type_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spans = (Span(0, 1, "PS"), Span(1, 2, "LABEL_3"), Span(2, 3, ""), Span(3, 4, "PERSON"))
    write_store(tmp_path / "store.sqlite", "careless", Careless(lambda text: AnnotatedText(text, spans)), ["서울한강"])
    (record,) = caplog.records
    assert "labels LABEL_3, PERSON are none of PER, PS, LOC," in record.getMessage()


def test_texts_that_nobody_has_annotated_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_store(tmp_path / "store.sqlite", "counting", Counting(), ["서울은", "한강은"])
    stored = StoredAnnotator(tmp_path / "store.sqlite", "counting", None)
    stored.annotate_all(["서울은", "한강은"])
    caplog.clear()
    stored.annotate("한강은")
    assert not caplog.records
    for number in range(25):
        stored.annotate_all(["서울은", f"{number}번"])
    shown = [record.getMessage().partition("store.sqlite: ")[2] for record in caplog.records]
    assert [text.partition(" so far")[0] for text in shown] == ["1 of 5 texts", "10 of 23 texts"]
    assert shown[0].endswith("are taken to have no entity, e.g. '0번'")


def test_a_large_store_is_written_in_parts(tmp_path: Path) -> None:
    texts = [f"{number % 1201}번 글" for number in range(2400)]
    base = Counting()
    assert write_store(tmp_path / "store.sqlite", "counting", base, iter(texts)) == 1201
    assert base.seen == list(dict.fromkeys(texts))
    stored = StoredAnnotator(tmp_path / "store.sqlite", "counting", None)
    assert stored.annotate_all(texts) == [Counting().annotate(text) for text in texts]


def test_several_processes_share_a_cache(tmp_path: Path) -> None:
    """While one writes, another one reads and writes."""
    one, two = with_cache(Counting(), tmp_path), with_cache(Counting(), tmp_path)
    for number in range(50):
        one.annotate_all([f"글 {number}", f"말 {number}"])
        two.annotate_all([f"글 {number}", f"삶 {number}"])
    assert isinstance(one, CachedAnnotator)
    assert isinstance(two, CachedAnnotator)
    assert (one.made, two.made) == (100, 50)


def opened_at_once(path: Path, barrier: Any, failed: Any) -> None:
    for number in range(25):
        barrier.wait(60)
        try:
            AnnotationFile(path / f"{number}.sqlite", "x", "one").close()
        except DataError as error:
            failed.put(str(error))


def test_processes_that_make_a_cache_at_the_same_time(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    barrier, failed = fork.Barrier(4), fork.Queue()
    processes = [fork.Process(target=opened_at_once, args=(tmp_path, barrier, failed)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert failed.empty(), failed.get()


def test_a_cache_outlives_threads_and_forks(tmp_path: Path) -> None:
    cached = with_cache(Counting(), tmp_path)
    cached.annotate("가나")
    thread = threading.Thread(target=cached.annotate, args=("다라",))
    thread.start()
    thread.join()
    child = multiprocessing.get_context("fork").Process(target=cached.annotate_all, args=(["가나", "마바", "사아"],))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert cached.annotate_all(["가나", "다라", "마바", "자차"])[3].entities == (Span(0, 2, "X"),)
    again = with_cache(Counting(), tmp_path)
    again.annotate_all(["가나", "다라", "마바", "사아", "자차"])
    assert isinstance(again, CachedAnnotator)
    assert again.made == 0


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were there can be read, and nothing be written, whoever runs the test."""
    whole = sqlite3.connect

    def connect(path: Any, **options: Any) -> sqlite3.Connection:
        address = path if options.get("uri") else f"{Path(path).absolute().as_uri()}?mode=ro"
        return whole(address, **{**options, "uri": True})

    monkeypatch.setattr(sqlite3, "connect", connect)


def test_a_cache_that_only_can_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = with_cache(Counting(), tmp_path)
    first.annotate_all(["가나", "다라"])
    assert isinstance(first, CachedAnnotator)
    assert first.can_write
    first._file.close()
    (path,) = (tmp_path / "annotations").iterdir()
    content = path.read_bytes()
    read_only(monkeypatch)
    base = Counting()
    again = with_cache(base, tmp_path)
    for _ in range(2):
        assert again.annotate_all(["가나", "마바"]) == [Counting().annotate("가나"), Counting().annotate("마바")]
    assert base.seen == ["마바"] * 2  # what is new is found anew
    assert isinstance(again, CachedAnnotator)
    assert not again.can_write
    assert path.read_bytes() == content
    with pytest.raises(WriteError, match=r"\.sqlite: file: cannot be written"):
        with_cache(make_annotator("mecab"), tmp_path).annotate("가나")  # nothing of it is there


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(WriteError, match=r"annotations/.*\.sqlite: file: cannot be written \(Permission denied\)"):
        with_cache(Counting(), tmp_path).annotate("가나")


def test_a_finished_store_is_one_file(tmp_path: Path) -> None:
    """SQLite needs to write nothing beside it, so that it can be read wherever it is."""
    store = tmp_path / "store.sqlite"
    write_store(store, "mecab", make_annotator("mecab"), ["서울"])
    assert {path.name for path in tmp_path.iterdir()} == {"store.sqlite", "store.sqlite.sha256"}
    assert store.read_bytes()[18:20] == b"\1\1"  # of SQLite's file format: no write-ahead log
    assert make_annotator("mecab", store).annotate("서울").entities == (Span(0, 2, "NNP"),)


def test_a_store_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.sqlite"
    file = AnnotationFile(path, "links", "links-2/x")
    file.write([AnnotatedText("서울은", (Span(0, 2, "LINK"),))])
    for _ in range(2):
        with pytest.raises(DataError, match=r"links\.sqlite: checksum: not finished"):
            make_annotator(f"mecab+links:{path}")
        file.seal()
        assert make_annotator(f"links:{path}").annotate("서울은").entities == (Span(0, 2, "LINK"),)
        file = AnnotationFile(path, "links", "links-2/x")  # somebody goes on with it


def test_links_that_were_written_again_are_others(tmp_path: Path) -> None:
    """Nothing that was made of the former ones is taken for theirs; an annotator's own store says nothing new of it."""
    path, texts = (
        tmp_path / "links.sqlite",
        [AnnotatedText(text, (Span(0, 2, "LINK"),)) for text in ("서울은", "한강은")],
    )
    known = []
    for count in (1, 2, 1):
        path.unlink(missing_ok=True)
        file = AnnotationFile(path, "links", "links-2/x")
        file.write(texts[:count])
        file.seal()
        known.append(make_annotator(f"links:{path}").fingerprint)
    assert known[0] == known[2] != known[1]
    assert all(name.startswith("links-2/x/") for name in known)
    fingerprints = set()
    for text in ("서울", "한강"):
        store = tmp_path / f"{text}.sqlite"
        write_store(store, "mecab", make_annotator("mecab"), [text])
        fingerprints.add(make_annotator("mecab", store).fingerprint)
    assert fingerprints == {make_annotator("mecab").fingerprint}


def test_what_is_added_stands_beside_what_was_found_before(tmp_path: Path) -> None:
    """And once more, as where an interrupted part is made again, changes nothing."""
    file = AnnotationFile(tmp_path / "links.sqlite", "links", "links-4/x")
    text = "서울의 강은 한강이다"
    found = [AnnotatedText(text, spans) for spans in ((Span(0, 2),), (), (Span(0, 3), Span(4, 5)), (Span(7, 9),))]
    everything = {text: (Span(0, 2), Span(4, 5), Span(7, 9)), "서울": ()}
    for part in (found[:1], found[1:], found, [AnnotatedText("서울")]):
        file.add(part)
    assert file.read(everything) == everything
    file.write([found[-1]])
    assert file.read([text]) == {text: (Span(7, 9),)}


def test_a_cache_of_another_annotator_or_a_damaged_one_is_named(tmp_path: Path) -> None:
    with_cache(Counting(), tmp_path).annotate("가나")
    (path,) = (tmp_path / "annotations").glob("*.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE spans SET found = '[[2,1]'")
    with pytest.raises(DataError, match=rf"{path.name}.*cannot be used"):
        with_cache(Counting(), tmp_path).annotate("가나")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE annotator SET fingerprint = 'other'")
    with pytest.raises(DataError, match="these are annotations of other, wanted counting"):
        with_cache(Counting(), tmp_path).annotate("가나")
