"""Token shards made beforehand are those that the configuration speaks of, or refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from korbert.config import DataConfig, EntitiesConfig
from korbert.config.parts import CorpusConfig
from korbert.data import piecework
from korbert.data.building import Builder
from korbert.data.piecework import Recipe
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.errors import ConfigError
from korbert.files import read_sealed_json, write_sealed_json
from korbert.morphology.kiwi import KiwiAnalyser
from korbert.tasks import prepare
from korbert.tasks.prepare import prepare_shards
from korbert.tokenizers import WordTokenizer

TEXT = "김철수는 서울역에서 이영희를 만났다. 둘은 부산으로 갔다."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "tokenizer"
    WordTokenizer.train([TEXT], 100).save(folder)
    return folder


def shards_of(tmp_path: Path, tokenizer: Path, annotator: str, cut: bool = True) -> Path:
    (tmp_path / "text.txt").write_text(TEXT + "\n", "utf-8")
    build_shards(tmp_path / "shards", [tmp_path / "text.txt"], tokenizer, annotator, cut=cut, workers=1)
    return tmp_path / "shards"


def given(tmp_path: Path, tokenizer: Path, shards: Path, annotator: str, mode: str = "both") -> ShardedCorpus:
    corpus = CorpusConfig(files=[], shards=str(shards))
    data = DataConfig(cache=str(tmp_path / "cache"))
    return prepare_shards(tokenizer, EntitiesConfig(annotator=annotator, mode=mode), corpus, data, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "wanted", "mode", "message"),
    [
        ("kiwi", "nouns-kiwi", "both", r"its annotator is proper-noun-runs.*, but entities.annotator=nouns-kiwi is"),
        ("kiwi", "random-kiwi", "both", "but entities.annotator=random-kiwi is"),
        ("kiwi+expressions-kiwi", "kiwi", "both", "but entities.annotator=kiwi is"),
        ("kiwi+expressions-kiwi+nouns-kiwi", "kiwi+nouns-kiwi", "both", r"but entities.annotator=kiwi\+nouns-kiwi is"),
        ("kiwi", "none", "none", r"cut at entity boundaries; that does not go with entities.annotator=none"),
        ("kiwi", "kiwi", "none", r"cut at entity boundaries; that does not go with .* entities.mode=none"),
    ],
)
def test_of_another_annotator_they_are_refused(
    tmp_path: Path, tokenizer: Path, made: str, wanted: str, mode: str, message: str
) -> None:
    shards = shards_of(tmp_path, tokenizer, made)
    with pytest.raises(ConfigError, match=message):
        given(tmp_path, tokenizer, shards, wanted, mode)


@pytest.mark.slow
@pytest.mark.parametrize("annotator", ["kiwi", "random-kiwi", "kiwi+expressions-kiwi"])
def test_of_another_version_they_are_taken_with_a_warning(
    tmp_path: Path,
    tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    annotator: str,
) -> None:
    shards = shards_of(tmp_path, tokenizer, annotator)
    with caplog.at_level(logging.WARNING):
        assert len(given(tmp_path, tokenizer, shards, annotator)) == 1
        assert not caplog.records
        for version in ("0.24.1+kiwipiepy_model-0.25.0", "unknown+kiwipiepy_model-unknown"):
            monkeypatch.setattr(KiwiAnalyser, "version", version)
            assert len(given(tmp_path, tokenizer, shards, annotator)) == 1
            assert f"kiwi-{version}, which may find others" in caplog.text.replace(")", "")


def test_where_the_annotator_cannot_be_made_nobody_can_tell(
    tmp_path: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The lists of names may lie on the machine alone that made the corpus."""
    (tmp_path / "names.txt").write_text("서울역\n", "utf-8")
    shards = shards_of(tmp_path, tokenizer, f"gazetteer:{tmp_path / 'names.txt'}")
    (tmp_path / "names.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(given(tmp_path, tokenizer, shards, f"gazetteer:{tmp_path / 'names.txt'}")) == 1
    assert "is not known here" in caplog.text
    assert "names.txt" in caplog.text


@pytest.mark.parametrize("what", ["normalisation", "rules"])
def test_of_other_code_they_are_taken_with_a_warning(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """And a build of theirs is not gone on with."""
    shards = shards_of(tmp_path, tokenizer, "none", cut=False)
    recipe = Recipe((tmp_path / "text.txt",), tokenizer, cut=False)
    with caplog.at_level(logging.WARNING):
        given(tmp_path, tokenizer, shards, "none", "none")
        assert not caplog.records
        before = recipe.identity()
        if what == "normalisation":
            monkeypatch.setattr(prepare, "NORMALISATION", 99)
            monkeypatch.setattr(piecework, "NORMALISATION", 99)
        else:
            monkeypatch.setattr(WordTokenizer, "rules", "other")
        given(tmp_path, tokenizer, shards, "none", "none")
        assert "made by a version that encodes some texts in another way" in caplog.text
        assert recipe.identity() != before
        caplog.clear()
        manifest = read_sealed_json(shards / "manifest.json")
        del manifest["recipe"][what]  # as before there were such keys
        write_sealed_json(shards / "manifest.json", manifest)
        given(tmp_path, tokenizer, shards, "none", "none")
        assert "made by a version" not in caplog.text
    with pytest.raises(ConfigError, match="encodes some texts in another way, or does not say; choose another folder"):
        Builder(shards, recipe).finished()


def test_they_are_read_whole(tmp_path: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture) -> None:
    shards = shards_of(tmp_path, tokenizer, "none", cut=False)
    corpus = CorpusConfig(files=[], shards=str(shards), max_documents=1)
    data = DataConfig(cache=str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        prepare_shards(tokenizer, EntitiesConfig(annotator="none", mode="none"), corpus, data, workers=1)
    assert "corpus.max_documents=1: not used, corpus.shards is read whole" in caplog.text
