"""Tokenizers of other libraries: their ids, spans by our laws, cuts where they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tokenizers import TEXTS

from korbert.config import CorpusConfig, DataConfig, TokenizerConfig
from korbert.data.korquad import read_korquad
from korbert.errors import ConfigError, DataError
from korbert.tasks.prepare import prepare_tokenizer
from korbert.tokenizers import Tokenizer, load_tokenizer, open_published

tokenizers = pytest.importorskip("tokenizers")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(corpus: list[str], path: Path) -> Path:
    backend = tokenizers.BertWordPieceTokenizer(lowercase=False)
    backend.train_from_iterator(corpus, 1500, show_progress=False)
    backend.save(str(path / "tokenizer.json"))
    return path


def vocab(corpus: list[str], path: Path) -> Path:
    backend = tokenizers.BertWordPieceTokenizer(lowercase=False)
    backend.train_from_iterator(corpus, 1500, show_progress=False)
    backend.save_model(str(path))
    return path / "vocab.txt"


def byte_bpe(corpus: list[str], path: Path) -> Path:
    backend = tokenizers.ByteLevelBPETokenizer(add_prefix_space=True)
    backend.train_from_iterator(
        corpus, 1500, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    backend.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json"


def metaspace(corpus: list[str], path: Path) -> Path:
    backend = tokenizers.SentencePieceUnigramTokenizer()
    backend.train_from_iterator(corpus, 1500, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False)
    backend.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json"


def model(corpus: list[str], path: Path) -> Path:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(path / "m"), vocab_size=1500, minloglevel=2
    )
    return path / "m.model"


MAKE: dict[str, Callable[[list[str], Path], Path]] = {
    "wordpiece": wordpiece,
    "vocab": vocab,
    "byte_bpe": byte_bpe,
    "metaspace": metaspace,
    "model": model,
}


@pytest.fixture(scope="module")
def corpus(sample: Path) -> list[str]:
    return (sample / "corpus.txt").read_text("utf-8").split("\n")


@pytest.fixture(scope="module")
def files(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(corpus, tmp_path_factory.mktemp(kind)) for kind, make in MAKE.items()}


@pytest.fixture(scope="module")
def opened(files: dict[str, Path]) -> dict[str, Tokenizer]:
    return {kind: open_published(path) for kind, path in files.items()}


def check_spans(text: str, tokens: Any) -> None:
    starts, ends = tokens.starts, tokens.ends
    assert len(tokens.ids) == len(starts) == len(ends)
    assert (starts <= ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    if len(starts):
        assert starts[0] >= 0
        assert ends[-1] <= len(text)
    for start, end in zip(starts, ends, strict=True):
        assert text[start:end] == text[start:end].strip()


@pytest.mark.parametrize("kind", MAKE)
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, data=st.data())
@example(text="", data=None)
@example(text=" \n", data=None)
@example(text="\ud83d\ude00 가", data=None)
@example(text="'\x1f;", data=None)
def test_spans_and_cuts_on_any_text(
    opened: dict[str, Tokenizer], kind: str, text: str, data: st.DataObject | None
) -> None:
    tokenizer = opened[kind]
    whole = tokenizer.encode(text)
    check_spans(text, whole)
    assert not set(whole.ids.tolist()) & (set(tokenizer.special.names.values()) - {tokenizer.special.unk})
    boundaries = data.draw(st.lists(st.integers(0, len(text)), max_size=4)) if data else []
    cut = tokenizer.encode(text, boundaries)
    check_spans(text, cut)
    for position in boundaries:
        assert not ((cut.starts < position) & (cut.ends > position)).any()
    covered = [np.zeros(len(text) + 1, dtype=bool) for _ in range(2)]
    for tokens, where in zip((whole, cut), covered, strict=True):
        for start, end in zip(tokens.starts, tokens.ends, strict=True):
            where[start:end] = True
    assert all(a == b or char.isspace() for a, b, char in zip(*covered, text + " ", strict=True))


@pytest.mark.parametrize("kind", MAKE)
def test_ids_are_the_librarys(
    opened: dict[str, Tokenizer], files: dict[str, Path], corpus: list[str], kind: str
) -> None:
    if kind == "model":
        processor = sentencepiece.SentencePieceProcessor(model_file=str(files[kind]))
        theirs = [processor.encode(text) for text in corpus]
    elif kind == "vocab":
        backend = tokenizers.BertWordPieceTokenizer(str(files[kind]), lowercase=False)
        theirs = [backend.encode(text, add_special_tokens=False).ids for text in corpus]
    else:
        path = files[kind] / "tokenizer.json" if files[kind].is_dir() else files[kind]
        backend = tokenizers.Tokenizer.from_file(str(path))
        theirs = [backend.encode(text, add_special_tokens=False).ids for text in corpus]
    assert [opened[kind].encode(text).ids.tolist() for text in corpus] == theirs


@pytest.mark.parametrize("kind", MAKE)
def test_cut_parts_are_the_best_entries(opened: dict[str, Tokenizer], corpus: list[str], kind: str) -> None:
    """Cut everywhere, every token is one character and says it."""
    tokenizer = opened[kind]
    text = corpus[1]
    tokens = tokenizer.encode(text, range(len(text)))
    assert (tokens.ends - tokens.starts <= 1).all()
    if kind != "byte_bpe":
        said = [tokenizer.vocabulary[i].removeprefix("##").removeprefix("▁") for i in tokens.ids]
        held = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
        assert [s for s, i in zip(said, tokens.ids, strict=True) if i != tokenizer.special.unk] == [
            h for h, i in zip(held, tokens.ids, strict=True) if i != tokenizer.special.unk
        ]
    assert tokenizer.special.unk not in tokens.ids


@pytest.mark.parametrize("kind", MAKE)
def test_folder_round_trip(opened: dict[str, Tokenizer], corpus: list[str], kind: str, tmp_path: Path) -> None:
    tokenizer = opened[kind]
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.vocabulary, again.special) == (
        tokenizer.fingerprint, tokenizer.vocabulary, tokenizer.special,
    )  # fmt: skip
    assert again.encode(corpus[1]).ids.tolist() == tokenizer.encode(corpus[1]).ids.tolist()
    assert again.decode(again.encode("한글은 글자다").ids) == "한글은 글자다"


def test_special_tokens_are_found_or_added(opened: dict[str, Tokenizer]) -> None:
    bert, roberta, plain = (opened[kind] for kind in ("wordpiece", "byte_bpe", "model"))
    assert [bert.vocabulary[i] for i in bert.special.ids] == [*SPECIAL, "[ENT]", "[/ENT]"]
    assert [roberta.vocabulary[i] for i in roberta.special.ids] == [
        "<pad>", "<unk>", "<s>", "</s>", "<mask>", "[ENT]", "[/ENT]",
    ]  # fmt: skip
    assert [plain.vocabulary[i] for i in plain.special.ids] == [
        "[PAD]", "<unk>", "<s>", "</s>", "[MASK]", "[ENT]", "[/ENT]",
    ]  # fmt: skip
    assert bert.special.ent == len(bert) - 2
    assert len(set(plain.special.ids.tolist())) == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
def test_all_of_korquad(opened: dict[str, Tokenizer], data_root: Path, kind: str) -> None:
    dataset = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    for article in dataset.articles:
        for paragraph in article.paragraphs:
            check_spans(paragraph.context, opened[kind].encode(paragraph.context, range(0, len(paragraph.context), 7)))


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder: holds no tokenizer: wanted one of tokenizer\.json"):
        open_published(tmp_path)
    for name, content, message in (
        ("tokenizer.json", "{}", "is no tokenizer of Hugging Face's"),
        ("vocab.txt", "가\n나\n", "an entry for what is unknown"),
        ("vocab.txt", "[UNK]\n▁가\n나\n", r"entries with ▁: wanted SentencePiece's \.model beside it"),
        ("x.model", "nothing", "not a SentencePiece model"),
        ("x.bin", "", "wanted a folder, tokenizer.json"),
    ):
        (tmp_path / name).write_text(content, "utf-8")
        with pytest.raises(DataError, match=message):
            open_published(tmp_path / name)
    with pytest.raises(DataError, match="not found"):
        open_published(tmp_path / "none.model")


def test_as_configuration(files: dict[str, Path], opened: dict[str, Tokenizer], tmp_path: Path) -> None:
    config = TokenizerConfig(kind="published", path=str(files["wordpiece"]))
    corpus, data = CorpusConfig(files=[]), DataConfig(cache=str(tmp_path))
    folder = prepare_tokenizer(config, corpus, data)
    assert load_tokenizer(folder).fingerprint == opened["wordpiece"].fingerprint
    assert prepare_tokenizer(config, corpus, data) == folder
    with pytest.raises(ConfigError, match=r"tokenizer\.path: tokenizer=published needs the path"):
        prepare_tokenizer(TokenizerConfig(kind="published"), corpus, data)
