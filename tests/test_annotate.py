"""The door that annotates a corpus: into the cache, once, whatever the number of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from test_store import read_only

from korbert.config import compose_config
from korbert.data.corpus import read_documents
from korbert.data.ner import read_ner_documents
from korbert.entities import make_annotator
from korbert.errors import ConfigError, KorbertError, WriteError
from korbert.tasks.annotate import annotate_corpus


@pytest.fixture
def annotate(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(repository)

    def run(name: str, *overrides: str) -> dict[str, Any]:
        basic = [f"run_dir={tmp_path / name}", f"data.cache={tmp_path / 'cache'}", "runtime.workers=1"]
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            return annotate_corpus(compose_config("annotate_corpus", [*basic, *overrides]))

    return run


def test_once_and_whatever_the_workers(annotate: Any, tmp_path: Path, sample: Path) -> None:
    first = annotate("first", "output=true")["results"]
    documents = list(read_documents(sample / "corpus.txt"))
    paragraphs = [paragraph for document in documents for paragraph in document]
    assert first["documents"] == len(documents)
    assert first["characters"] == sum(map(len, paragraphs))
    assert first["new_paragraphs"] == len(paragraphs)
    found = read_ner_documents(tmp_path / "first" / "entities.jsonl")
    assert [text for _, text in found] == [make_annotator("mecab").annotate(paragraph) for paragraph in paragraphs]
    assert len({name for name, _ in found}) == len(documents)
    assert first["entities"] == sum(first["labels"].values()) == sum(len(text.entities) for _, text in found)
    assert first["peak_megabytes"][0][0] == 1

    second = annotate("second", "output=true", "runtime.workers=2")["results"]
    assert second["new_paragraphs"] == 0
    written = [(tmp_path / name / "entities.jsonl").read_text("utf-8") for name in ("first", "second")]
    assert written[0] == written[1]
    third = annotate("third", "runtime.workers=2", f"data.cache={tmp_path / 'other'}")["results"]
    assert third["new_paragraphs"] == len(paragraphs)
    assert not (tmp_path / "third" / "entities.jsonl").exists()


def test_cut_off_and_begun_again(annotate: Any, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was annotated before the interruption is not annotated again."""
    from korbert.entities.morphology import NounRunAnnotator

    whole = NounRunAnnotator.annotate
    left = [15]

    def annotate_some(self: Any, text: str) -> Any:
        left[0] -= bool(text)
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(NounRunAnnotator, "annotate", annotate_some)
        with pytest.raises(KeyboardInterrupt):
            annotate("run", "output=true")
    assert not (tmp_path / "run" / "record.json").exists()
    assert not (tmp_path / "run" / "entities.jsonl").exists()
    results = annotate("run", "output=true")["results"]
    paragraphs = sum(map(len, read_documents(sample / "corpus.txt")))
    assert paragraphs - 15 <= results["new_paragraphs"] < paragraphs  # all but those of the document it stopped in
    lines = (tmp_path / "run" / "entities.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == paragraphs
    assert all(json.loads(line)["text"] for line in lines)


def test_what_is_missing_is_said_first(annotate: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="annotator=none finds nothing"):
        annotate("run", "annotator=none")
    with pytest.raises(ConfigError, match=r"corpus\.shards=x: text of corpus\.files is annotated"):
        annotate("run", "corpus.shards=x")
    with pytest.raises(KorbertError, match=r"nowhere\.txt"):
        annotate("run", "'annotator=gazetteer:nowhere.txt'")
    assert not (tmp_path / "run" / "sessions.jsonl").exists()  # nothing was begun


def test_half_a_surrogate_pair_comes_through(annotate: Any, tmp_path: Path) -> None:
    texts = ["서울\ud800은 한국에 있다.", "\udc00", "서울 😀"]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), "utf-8")
    annotate("run", "output=true", "corpus=text", f"corpus.files=[{tmp_path}/corpus.jsonl]")
    found = [text for _, text in read_ner_documents(tmp_path / "run" / "entities.jsonl")]
    assert found == [make_annotator("mecab").annotate(text) for text in texts]


def test_a_cache_in_which_nothing_can_be_kept_is_said_first(
    annotate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = annotate("first")["results"]
    read_only(monkeypatch)
    with pytest.raises(WriteError, match=r"data\.cache: only can be read: give another one, or output=true"):
        annotate("second")
    assert not (tmp_path / "second" / "sessions.jsonl").exists()
    assert annotate("third", "output=true")["results"]["entities"] == expected["entities"]
