"""Tokenizers of other libraries: their ids, spans by our laws, cuts where they are asked for."""

from __future__ import annotations

import itertools
import json
import unicodedata
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


def uncased(corpus: list[str], path: Path) -> Path:
    """As multilingual BERT's: accents go, which takes syllables apart into letters."""
    backend = tokenizers.BertWordPieceTokenizer(lowercase=True)
    backend.train_from_iterator(corpus, 1500, show_progress=False)
    backend.save_model(str(path))
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
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


def words(corpus: list[str], path: Path) -> Path:
    """As XLM-R's: the sign of a word's start has the span of its first character, also as a token of its own."""
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram())
    backend.normalizer = tokenizers.normalizers.NFKC()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )
    backend.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    backend.save(str(path / "tokenizer.json"))
    return path / "tokenizer.json"


def model(corpus: list[str], path: Path, *, vocab_size: int = 1500, **options: Any) -> Path:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_prefix=str(path / "m"), vocab_size=vocab_size, minloglevel=2, **options
    )
    return path / "m.model"


def model_bytes(corpus: list[str], path: Path) -> Path:
    return model(corpus, path, byte_fallback=True, character_coverage=0.98)


MAKE: dict[str, Callable[[list[str], Path], Path]] = {
    "wordpiece": wordpiece,
    "vocab": vocab,
    "uncased": uncased,
    "byte_bpe": byte_bpe,
    "metaspace": metaspace,
    "words": words,
    "model": model,
    "model_bytes": model_bytes,
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
    before = 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        assert text[start:end] == text[start:end].strip()
        if start == end and not 0 < end == before:  # white space; else the rest of a character
            assert not text[:end].strip() or text[end - 1].isspace()
            assert not text[end:].strip() or not text[end].isspace()
        before = end


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
    if kind.startswith("model"):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(files[kind]))
        theirs = [processor.encode(text) for text in corpus]
    elif kind in ("vocab", "uncased"):
        backend = tokenizers.BertWordPieceTokenizer(str(files[kind]), lowercase=kind == "uncased")
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
    assert tokenizer.special.unk not in tokens.ids
    if kind in ("byte_bpe", "model_bytes"):
        return
    said = [tokenizer.vocabulary[i].removeprefix("##").removeprefix("▁") for i in tokens.ids]
    held = [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]
    if kind == "uncased":  # the first letter of a syllable has all of it
        begins = [*np.flatnonzero(tokens.starts < tokens.ends).tolist(), len(said)]
        said = ["".join(said[a:b]) for a, b in itertools.pairwise(begins)]
        held = [unicodedata.normalize("NFD", text).lower() for text in held if text]
    assert said == held


def shown(tokenizer: Tokenizer, text: str, boundaries: tuple[int, ...] = ()) -> list[tuple[str, int, int]]:
    tokens = tokenizer.encode(text, boundaries)
    entries = [tokenizer.vocabulary[i] for i in tokens.ids]
    return list(zip(entries, tokens.starts.tolist(), tokens.ends.tolist(), strict=True))


def test_the_first_token_of_a_character_has_it(opened: dict[str, Tokenizer]) -> None:
    """And the others are empty behind it, whole and where the token before is cut."""
    for kind in ("metaspace", "words", "model", "model_bytes"):
        for cuts in ((), (1, 2)):
            tokens = shown(opened[kind], "가㈜ 은", cuts)
            assert [token for token in tokens if token[2] == 2] == [("(", 1, 2), ("주", 2, 2), (")", 2, 2)], kind
    assert shown(opened["model_bytes"], "은 龘")[-4:] == [
        ("▁", 2, 2), ("<0xE9>", 2, 3), ("<0xBE>", 3, 3), ("<0x98>", 3, 3),
    ]  # fmt: skip
    syllables = [unicodedata.normalize("NFD", syllable) for syllable in "세종은"]
    tokens = shown(opened["uncased"], "세종은", (1, 2))
    begins = [i for i, (_, start, end) in enumerate(tokens) if start < end]
    assert [tokens[i][1:] for i in begins] == [(0, 1), (1, 2), (2, 3)]
    parts = itertools.pairwise([*begins, len(tokens)])
    assert ["".join(entry.removeprefix("##") for entry, _, _ in tokens[a:b]) for a, b in parts] == syllables


def expanding(path: Path, kind: str) -> Tokenizer:
    """With tokens that hold parts of ㈜, which becomes three characters, and of what stands beside it."""
    pieces = ["가(", "주)나", "다"]
    if kind == "model":
        options = {"model_type": "bpe", "add_dummy_prefix": False, "split_by_unicode_script": False}
        return open_published(model(pieces * 50, path, vocab_size=12, **options))
    pieces += ["가", "나", "(", "주", ")"]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram([("[UNK]", -9.0), *((p, -1.0) for p in pieces)], unk_id=0))
    backend.normalizer = tokenizers.normalizers.NFKC()
    backend.save(str(path / "tokenizer.json"))
    return open_published(path / "tokenizer.json")


@pytest.mark.parametrize("kind", ["metaspace", "model"])
def test_tokens_that_share_a_character_are_cut_together(kind: str, tmp_path: Path) -> None:
    """Nothing of a character is lost, or said twice."""
    tokenizer = expanding(tmp_path, kind)
    assert shown(tokenizer, "가㈜나다") == [("가(", 0, 2), ("주)나", 2, 3), ("다", 3, 4)]
    first, middle, last = [("가", 0, 1)], [("(", 1, 2), ("주", 2, 2), (")", 2, 2)], [("나", 2, 3), ("다", 3, 4)]
    assert shown(tokenizer, "가㈜나다", (1, 2)) == first + middle + last
    assert shown(tokenizer, "가㈜나다", (1,)) == [*first, ("(", 1, 2), ("주)나", 2, 3), ("다", 3, 4)]
    assert shown(tokenizer, "가㈜나다", (2,)) == [("가(", 0, 2), *middle[1:], *last]
    assert shown(tokenizer, "가㈜나다", (3,)) == shown(tokenizer, "가㈜나다")


def test_a_sign_alone_stands_before_its_word(opened: dict[str, Tokenizer]) -> None:
    """Not behind the word before, nor does it have a character of its word; at the end of a text behind all of it."""
    for kind in ("metaspace", "words", "model", "model_bytes"):
        tokens = shown(opened[kind], "세종 \n世宗 \n")
        assert [token for token in tokens if token[0] == "▁"][:1] == [("▁", 4, 4)], kind
        assert [token[1:] for token in tokens if token[1] < 5 <= token[2]] == [(4, 5)], kind
        assert tokens[-1] == ("▁", 8, 8) or tokens[-1][2] == 6, kind
    assert shown(opened["byte_bpe"], "龘")[:2] == [("Ġ", 0, 0), ("é", 0, 1)]
    assert shown(opened["byte_bpe"], "은\n世")[-4:-2] == [("Ċ", 2, 2), ("ä", 2, 3)]
    assert shown(opened["byte_bpe"], "은\n")[-1] == ("Ċ", 2, 2)


@pytest.mark.parametrize("kind", ["metaspace", "words", "model", "model_bytes"])
def test_letters_of_a_syllable_are_as_the_syllable(opened: dict[str, Tokenizer], corpus: list[str], kind: str) -> None:
    """Its token has all of them, and a cut behind them is one behind the syllable."""
    encoded = []
    for form in ("NFC", "NFD"):
        letters = [unicodedata.normalize(form, letter) for letter in unicodedata.normalize("NFC", corpus[1])]
        edges = list(itertools.accumulate(map(len, letters)))
        text = "".join(letters)
        tokens = opened[kind].encode(text, edges[::3])
        place = {edge: i for i, edge in enumerate([0, *edges])}
        starts, ends = ([place[at] for at in side.tolist()] for side in (tokens.starts, tokens.ends))
        encoded.append((tokens.ids.tolist(), starts, ends))
        covered = "".join(text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True))
        assert covered == text.replace(" ", "")
    assert encoded[0] == encoded[1]


@pytest.mark.parametrize("kind", MAKE)
def test_folder_round_trip(opened: dict[str, Tokenizer], corpus: list[str], kind: str, tmp_path: Path) -> None:
    tokenizer = opened[kind]
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.vocabulary, again.special) == (
        tokenizer.fingerprint, tokenizer.vocabulary, tokenizer.special,
    )  # fmt: skip
    assert again.encode(corpus[1]).ids.tolist() == tokenizer.encode(corpus[1]).ids.tolist()
    assert unicodedata.normalize("NFC", again.decode(again.encode("한글은 글자다").ids)) == "한글은 글자다"


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
