"""Windows from the cache: the same as made, another file for anything that could change them, damage, two processes."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question, read_korquad
from korbert.data.mention_dropout import without_marks
from korbert.data.window_store import stored_windows, window_key
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import EntityAnnotator, make_annotator
from korbert.text import AnnotatedText
from korbert.tokenizers import CharacterTokenizer, SentencePieceTokenizer, Tokenizer

SHORT = WindowConfig(90, 20, 16)


@pytest.fixture(scope="module")
def dev(sample: Path) -> KorquadDataset:
    return read_korquad(sample / "KorQuAD_sample_dev.json")


@pytest.fixture(scope="module")
def tokenizer(sample: Path) -> Tokenizer:
    return SentencePieceTokenizer.train((sample / "corpus.txt").read_text("utf-8").splitlines(), 1200)


def same(ours: Sequence[Window], others: Sequence[Window]) -> None:
    """Every field, with its type; and nothing padded: each column ends with its window."""
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        for field in dataclasses.fields(Window):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b), field.name
            else:
                assert a == b, field.name


class Never(EntityAnnotator):
    """Fails when it is asked for anything but its fingerprint."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def annotate(self, text: str) -> AnnotatedText:
        raise AssertionError("asked again")


@pytest.mark.parametrize(
    "entities",
    [
        EntityInput(EntityMode.NONE), EntityInput(EntityMode.SPLIT), EntityInput(EntityMode.MARKERS),
        EntityInput(EntityMode.EMBEDDING, typed=True), EntityInput(EntityMode.BOTH, typed=True, embed_markers=True),
        EntityInput(EntityMode.BOTH, max_entities=4),
    ],
    ids=lambda e: f"{e.mode.value}-{e.max_entities}",
)  # fmt: skip
def test_read_is_as_made(dev: KorquadDataset, tokenizer: Tokenizer, entities: EntityInput, tmp_path: Path) -> None:
    annotator = make_annotator("mecab")
    maker = WindowMaker(tokenizer, annotator, entities, SHORT)
    expected, statistics = maker.dataset(dev)
    made, said = stored_windows(maker, dev, tmp_path)
    same(made, expected)
    assert said == statistics
    # Neither text is annotated again nor tokenized: both would fail.
    again = WindowMaker(tokenizer, Never(annotator.fingerprint), entities, SHORT)
    again.dataset = again._paragraph = None  # type: ignore[method-assign, assignment]
    read, said = stored_windows(again, dev, tmp_path)
    same(read, expected)
    assert said == statistics
    assert statistics.windows > statistics.questions
    assert statistics.truncated_questions > 0
    assert len(list((tmp_path / "windows").iterdir())) == 1
    if entities.mode.has_markers:
        rng = [np.random.default_rng(1) for _ in range(2)]
        same(
            *(
                [without_marks(w, 0.5, tokenizer.special, r) for w in some]
                for some, r in zip((read, made), rng, strict=True)
            )
        )


def test_nothing_is_padded(dev: KorquadDataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Bytes on disk: four for each token, eight for each token of a context, twenty-eight for each window."""
    for length in (90, 2000):
        maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, WindowConfig(length, 20, 40))
        windows, _ = stored_windows(maker, dev, tmp_path)
        path = tmp_path / "windows" / f"{window_key(maker, dev)}.safetensors"
        content = sum(4 * len(w) + 8 * len(w.starts) + 28 for w in windows)
        assert content < path.stat().st_size < content + 1000


def one_question(**changes: Any) -> KorquadDataset:
    given = {"context": "세종은 조선의 왕이다.", "id": "q", "question": "누구?", "start": 0, "text": "세종", **changes}
    question = Question(given["id"], given["question"], (Answer(given["text"], given["start"]),))
    return KorquadDataset((Article("t", (Paragraph(given["context"], (question,)),)),), "1", Path("x"))


def test_anything_that_could_change_windows_changes_the_key(tokenizer: Tokenizer) -> None:
    def key(dataset: KorquadDataset | None = None, **changes: Any) -> str:
        given = {
            "tokenizer": tokenizer, "annotator": Never("a"), "entities": EntityInput(EntityMode.BOTH), "config": SHORT,
            **changes,
        }  # fmt: skip
        return window_key(WindowMaker(**given), dataset or one_question())

    other = CharacterTokenizer.train(["세종"], 20)
    keys = [
        key(), key(tokenizer=other), key(annotator=Never("b")), key(config=WindowConfig(91, 20, 16)),
        key(config=WindowConfig(90, 21, 16)), key(config=WindowConfig(90, 20, 15)),
        *(key(entities=EntityInput(mode)) for mode in EntityMode if mode is not EntityMode.BOTH),
        key(entities=EntityInput(EntityMode.BOTH, typed=True)),
        key(entities=EntityInput(EntityMode.BOTH, embed_markers=True)),
        key(entities=EntityInput(EntityMode.BOTH, max_entities=3)),
        key(one_question(context="세종은 조선의 왕이다!")), key(one_question(id="r")),
        key(one_question(question="누가?")), key(one_question(text="세")), key(one_question(start=1, text="종")),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    # What changes nothing: the file's name and title, and an annotator that nobody asks.
    moved = dataclasses.replace(one_question(), path=Path("y"), version="2")
    assert key(moved) == key()
    plain = EntityInput(EntityMode.NONE)
    assert key(entities=plain, annotator=Never("a")) == key(entities=plain, annotator=Never("b"))


@pytest.mark.parametrize("damage", ["cut", "bit", "nothing", "text", "another"])
def test_damage_is_said_and_mended(
    dev: KorquadDataset, tokenizer: Tokenizer, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, SHORT)
    expected, statistics = stored_windows(maker, dev, tmp_path)
    (path,) = (tmp_path / "windows").iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "another":
        other = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, WindowConfig(91, 20, 16))
        stored_windows(other, dev, tmp_path)
        (tmp_path / "windows" / f"{window_key(other, dev)}.safetensors").rename(path)
    else:
        path.write_bytes(
            {"cut": content[:middle], "bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
             "nothing": b"", "text": b"these are no windows"}[damage]
        )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        windows, again = stored_windows(maker, dev, tmp_path)
    assert f"{path}: " in caplog.text
    assert "the windows are made again" in caplog.text
    same(windows, expected)
    assert again == statistics
    assert len(path.read_bytes()) == len(content)
    caplog.clear()
    same(stored_windows(maker, dev, tmp_path)[0], expected)
    assert not caplog.records or "again" not in caplog.text


def _make(folder: Path, dataset: Path, cache: Path, barrier: Any, results: Any) -> None:
    from korbert.tokenizers import load_tokenizer

    maker = WindowMaker(load_tokenizer(folder), make_annotator("none"), EntityMode.NONE, SHORT)
    dev = read_korquad(dataset)
    barrier.wait()
    counts = []
    for _ in range(5):
        windows, _ = stored_windows(maker, dev, cache)
        counts.append(sum(int(w.token_ids.sum()) for w in windows))
        (cache / "windows" / f"{window_key(maker, dev)}.safetensors").unlink(missing_ok=True)
    results.put(counts)


def test_two_processes_at_once(dev: KorquadDataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Both make, read and remove the same file, again and again: each always has the right windows."""
    tokenizer.save(tmp_path / "tokenizer")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "tokenizer", dev.path, tmp_path / "cache", barrier, results)
    processes = [context.Process(target=_make, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, SHORT)
    expected = sum(int(w.token_ids.sum()) for w in maker.dataset(dev)[0])
    assert found == [[expected] * 5] * 2
    assert not [path for path in (tmp_path / "cache" / "windows").iterdir() if path.name.startswith(".")]


def test_columns_lie_in_the_file_s_map(dev: KorquadDataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("only Linux says what is mapped")
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, SHORT)
    stored_windows(maker, dev, tmp_path)
    windows, _ = stored_windows(maker, dev, tmp_path)
    (path,) = (tmp_path / "windows").iterdir()
    ranges = [line.split()[0] for line in maps.read_text("utf-8").splitlines() if line.endswith(str(path))]
    address = windows[0].token_ids.__array_interface__["data"][0]
    assert any(int(a, 16) <= address < int(b, 16) for a, b in (one.split("-") for one in ranges))
