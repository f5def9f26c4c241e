"""What was made from a corpus is found again, as long as the corpus is the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from korbert.config import CorpusConfig, DataConfig, EntitiesConfig, TokenizerConfig
from korbert.errors import ConfigError
from korbert.tasks import prepare
from korbert.tasks.prepare import corpus_identity, prepare_shards, prepare_tokenizer
from korbert.tokenizers import KINDS, CharacterTokenizer, load_tokenizer


def test_identity_is_name_and_content(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\n")
    first = corpus_identity([file], tmp_path / "cache")
    assert first == [["a.txt", hashlib.sha256(b"one\n").hexdigest()]]
    os.utime(file, ns=(1, 1))  # copied or downloaded once more
    assert corpus_identity([file], tmp_path / "cache") == first
    file.write_bytes(b"two\n")  # as long as before
    os.utime(file, ns=(2, 2))
    assert corpus_identity([file], tmp_path / "cache") == [["a.txt", hashlib.sha256(b"two\n").hexdigest()]]


def test_unchanged_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(prepare, "checksum", lambda path: read.append(path) or "0")
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file in files:
        file.write_text("text")
        corpus_identity([file], tmp_path / "cache")
    corpus_identity(files, tmp_path / "cache")
    assert read == files


def test_a_corpus_of_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.files: wanted one or more files, or corpus\.shards"):
        prepare_tokenizer(TokenizerConfig(kind="character"), CorpusConfig(files=[]), DataConfig(cache=str(tmp_path)))


def test_a_kind_that_is_unknown(tmp_path: Path) -> None:
    """Of a tokenizer to be made; where one is given, nobody asks what kind it is."""
    with pytest.raises(ConfigError, match=r"tokenizer\.kind: 'publishd' is unknown, wanted .*; is published meant"):
        prepare_tokenizer(TokenizerConfig(kind="publishd"), CorpusConfig(), DataConfig(cache=str(tmp_path / "cache")))


def test_a_kind_of_one_s_own_needs_no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As README says it: a class in KINDS, and a file in conf/tokenizer."""

    class Mine(CharacterTokenizer):
        kind = "mine"

    monkeypatch.setitem(KINDS, "mine", Mine)
    (tmp_path / "a.txt").write_text("가나다 라마\n", encoding="utf-8")
    data, corpus = DataConfig(cache=str(tmp_path / "cache")), CorpusConfig(files=[str(tmp_path / "a.txt")])
    folder = prepare_tokenizer(TokenizerConfig(kind="mine", vocab_size=50), corpus, data)
    assert isinstance(load_tokenizer(folder), Mine)


def test_tokenizer_of_a_moved_corpus_is_found(tmp_path: Path) -> None:
    config = TokenizerConfig(kind="character", vocab_size=50)
    folders = []
    for name in ("here", "there"):
        file = tmp_path / name / "a.txt"
        file.parent.mkdir()
        file.write_text("가나다 라마\n", encoding="utf-8")
        corpus = CorpusConfig(files=[str(file)])
        folders.append(prepare_tokenizer(config, corpus, DataConfig(cache=str(tmp_path / "cache"))))
    assert folders[0] == folders[1]


@pytest.mark.parametrize(
    ("max_documents", "max_characters", "letters"),
    [
        (None, 100, "가나다라마바"),
        (3, 100, "가나다"),
        (2, 100, "가나"),
        (9, 100, "가나다라마바"),
        (None, 6, "가다마"),
        (4, 4, "가나"),
    ],
)
def test_a_tokenizer_learns_from_the_documents_that_the_corpus_has(
    tmp_path: Path, max_documents: int | None, max_characters: int, letters: str
) -> None:
    """`max_documents` are those of all files together; without it, each file gives as many characters."""
    for number, pair in enumerate(("가나", "다라", "마바")):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(letter * 2 for letter in pair), encoding="utf-8")
    corpus = CorpusConfig(files=[f"{tmp_path}/*.txt"], max_documents=max_documents)
    config = TokenizerConfig(kind="character", vocab_size=50, train_characters=max_characters)
    folder = prepare_tokenizer(config, corpus, DataConfig(cache=str(tmp_path / "cache")))
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8")
    assert {letter for letter in "가나다라마바" if letter in vocabulary} == set(letters)


@pytest.mark.parametrize(("name", "warns"), [("없는이름", True), ("세종대왕", False)])
def test_an_annotator_that_finds_nothing_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, warns: bool
) -> None:
    (tmp_path / "text.txt").write_text("세종대왕은 글자를 만들었다.\n", "utf-8")
    (tmp_path / "names.txt").write_text(name, "utf-8")
    corpus, data = CorpusConfig(files=[f"{tmp_path}/text.txt"]), DataConfig(cache=str(tmp_path / "cache"))
    tokenizer = prepare_tokenizer(TokenizerConfig(kind="character", vocab_size=50), corpus, data)
    annotator = f"gazetteer-all:{tmp_path / 'names.txt'}"
    for mode in ("both", "none"):
        shards = prepare_shards(tokenizer, EntitiesConfig(annotator=annotator, mode=mode), corpus, data, workers=1)
        assert shards.has_entities() != warns
    assert ("has found no entity in the whole corpus" in caplog.text) == warns
