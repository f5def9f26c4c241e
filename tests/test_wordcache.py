"""Many texts at once are encoded as each of them alone, whatever was encoded before and however small the memory is."""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from korbert.data.korquad import read_korquad
from korbert.text import IntArray, Normalizer
from korbert.tokenizers import SentencePieceTokenizer, Tokenizer, subwords, trained
from korbert.tokenizers.wordcache import WordCache

OPTIONS: dict[str, dict[str, bool | float]] = {
    "all known": {},
    "unknown": {"character_coverage": 0.98},
    "bytes": {"character_coverage": 0.98, "byte_fallback": True},
}
NASTY = "세종은 가나abc12㈜①½ｶﾞ１ㅋ\u1112\u1161\u11ab▁_<> \t\n\u3000\u200b\ufe0f👨‍👩李\uf9e1\ud800ﷺ\0\uffff"
WORDS = st.sampled_from(
    ["세종은", "집현전을", "두었다.", "李", "李a李", "가" * 7, "가" * 8, "나" * 40, "a\0", "\U0001f600", "\uf600"]
)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(st.sampled_from(NASTY), max_size=30) | st.text(max_size=20)
BATCHES = st.lists(st.lists(TEXTS, max_size=8), max_size=4)


@pytest.fixture(scope="module")
def corpus(sample: Path) -> list[str]:
    return (sample / "corpus.txt").read_text("utf-8").split("\n")


@pytest.fixture(scope="module", params=OPTIONS)
def bpe(request: pytest.FixtureRequest, corpus: list[str]) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(corpus, 1100, model_type="bpe", **OPTIONS[request.param])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few texts are looked up as many would be, and some of them together."""
    monkeypatch.setattr(subwords, "_MANY", 1)
    monkeypatch.setattr(trained, "_BATCH", 40)


def check(tokenizer: Tokenizer, texts: list[str], boundaries: list[list[int]]) -> None:
    alone = [tokenizer.encode(text, edges) for text, edges in zip(texts, boundaries, strict=True)]
    for tokens, expected in zip(tokenizer.encode_all(texts, boundaries), alone, strict=True):
        for column, wanted in (
            (tokens.ids, expected.ids), (tokens.starts, expected.starts), (tokens.ends, expected.ends),
        ):  # fmt: skip
            assert column.dtype == wanted.dtype
            assert column.tolist() == wanted.tolist()


def check_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    found = tokenizer.encode_ids_all(texts)
    assert [ids.tolist() for ids in found] == [tokenizer.encode_ids(text).tolist() for text in texts]
    assert all(ids.dtype == np.int32 for ids in found)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("bits", [1, 3, 12])
@settings(max_examples=150, deadline=None)
@given(batches=BATCHES, data=st.data())
@example(batches=[[], ["", " \n"], ["세종은", "", "세종은"]], data=None)
@example(batches=[["a\0 a", "\U0001f600 \uf600"], ["a a\0", "\uf600 \U0001f600"]], data=None)
def test_batches_by_one_at_a_time(
    bpe: SentencePieceTokenizer, bits: int, batches: list[list[str]], data: st.DataObject | None
) -> None:
    """Two rows, of which each word but the last ones has been overwritten; and as many as there are words."""
    bpe.__dict__.pop("_words", None)
    assert bpe._words is not None
    segment, begins_word, _ = bpe._words.__reduce__()[1]
    bpe.__dict__["_words"] = WordCache(segment, begins_word, bits)
    for texts in itertools.chain(batches, batches):
        places = [st.lists(st.integers(-1, len(text) + 1), max_size=5 if data else 0) for text in texts]
        check(bpe, texts, [data.draw(each) if data else [] for each in places])
        check_ids(bpe, texts)


@pytest.mark.slow
def test_all_of_korquad(data_root: Path) -> None:
    dataset = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    contexts = [paragraph.context for article in dataset.articles for paragraph in article.paragraphs]
    texts = contexts + [question.text for _, _, question in dataset.questions()]
    for options in ({}, {"byte_fallback": True, "character_coverage": 0.98}):
        tokenizer = SentencePieceTokenizer.train(contexts, 4000, model_type="bpe", **options)
        for _ in range(2):
            check(tokenizer, texts, [[] for _ in texts])
            check_ids(tokenizer, texts)


# ---- the cache alone, of a model that takes each character for a token ----

BEGINS_WORD = np.arange(0x110000) == ord(" ")
PIECES = st.lists(
    st.lists(st.text(st.characters(exclude_characters=" ", exclude_categories=["Cs"]), max_size=9), min_size=1)
    .map(" ".join)
    .filter(lambda piece: piece.strip(" ")),
    min_size=1, max_size=6,
)  # fmt: skip


def characters(text: str) -> IntArray:
    return np.array(list(map(ord, text)), dtype=np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 12])
@settings(max_examples=300, deadline=None)
@given(batches=st.lists(PIECES, max_size=4))
@example(batches=[["a\0"], ["a"], [" \uffff" * 9], ["\uffff" * 8]])
def test_no_word_is_taken_for_another(bits: int, batches: list[list[str]]) -> None:
    cache = WordCache(characters, BEGINS_WORD, bits)
    for pieces in itertools.chain(batches, batches):
        assert cache(pieces).tolist() == characters("".join(pieces)).tolist()


def counted(cache_of: Callable[[Callable[[str], IntArray]], WordCache]) -> tuple[WordCache, list[str]]:
    seen: list[str] = []

    def segment(text: str) -> IntArray:
        seen.append(text)
        return characters(text)

    return cache_of(segment), seen


def test_what_is_segmented_again() -> None:
    """Words of at most four tokens and of the basic plane are not; a piece without its space has a call of its own."""
    cache, seen = counted(lambda segment: WordCache(segment, BEGINS_WORD))
    for _ in range(2):
        cache([" 세종은 집현전을 😀", "이 두었다"])
        cache(["세종은 이"])
    assert seen == [" 세종은 집현전을 😀", "이 두었다", "세종은 이", " 집현전을 😀"]


def test_copies_begin_empty(corpus: list[str]) -> None:
    tokenizer = SentencePieceTokenizer.train(corpus, 1100, model_type="bpe")
    small = len(pickle.dumps(tokenizer))
    before = [ids.tolist() for ids in tokenizer.encode_ids_all(corpus)]
    copied = pickle.dumps(tokenizer)
    assert len(copied) < small + 100_000  # the table has eight megabytes
    assert [ids.tolist() for ids in pickle.loads(copied).encode_ids_all(corpus)] == before


def test_threads(corpus: list[str]) -> None:
    tokenizer = SentencePieceTokenizer.train(corpus, 1100, model_type="bpe")
    wanted = [tokenizer.encode_ids(text).tolist() for text in corpus]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(tokenizer.encode_ids_all, [corpus] * 12):
            assert [ids.tolist() for ids in found] == wanted


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("options", [{"model_type": "unigram"}, {"model_type": "bpe", "split_by_whitespace": False}])
def test_models_whose_words_are_not_independent(corpus: list[str], options: dict[str, str | bool]) -> None:
    model = io.BytesIO()
    lines: Iterable[str] = (f" {line}" for line in corpus)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=1500, normalization_rule_name="identity",
        add_dummy_prefix=False, remove_extra_whitespaces=False, bos_id=-1, eos_id=-1, minloglevel=2, **options,
    )  # fmt: skip
    tokenizer = SentencePieceTokenizer(model.getvalue(), Normalizer(), {})
    assert tokenizer._words is None
    check_ids(tokenizer, corpus)
