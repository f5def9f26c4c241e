"""Every kind of tokenizer, by the same laws: exact spans on any text, and on all of KorQuAD; faithful folders."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from korbert.config import TokenizerConfig
from korbert.data.corpus import read_documents
from korbert.data.korquad import read_korquad
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.tasks.prepare import train_tokenizer
from korbert.text import WORD_START, Normalizer
from korbert.tokenizers import (
    KINDS,
    CharacterTokenizer,
    Pretokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    load_tokenizer,
    subwords,
)
from korbert.tokenizers.pretokenizer import byte_signs
from korbert.tokenizers.trained import TrainedTokenizer

Train = Callable[..., Tokenizer]


def strategy(kind: type[Any], *pretokenizer: Any, **fixed: Any) -> Train:
    def train(texts: Iterable[str], size: int = 1100, **options: Any) -> Tokenizer:
        return kind.train(texts, size, pretokenizer=Pretokenizer(*pretokenizer), **fixed, **options)

    return train


TRAIN: dict[str, Train] = {
    "unigram": strategy(SentencePieceTokenizer),
    "bpe": strategy(SentencePieceTokenizer, model_type="bpe"),
    "byte_fallback": strategy(SentencePieceTokenizer, byte_fallback=True, character_coverage=0.98),
    "byte_bpe": strategy(SentencePieceTokenizer, "none", False, "bytes", model_type="bpe"),
    "wordpiece": strategy(WordPieceTokenizer),
    "syllable": strategy(CharacterTokenizer),
    "jamo": strategy(CharacterTokenizer, "none", False, "jamo"),
    "subcharacter": strategy(SentencePieceTokenizer, "none", False, "jamo"),
    "subcharacter_wordpiece": strategy(WordPieceTokenizer, "none", False, "jamo"),
    "word": strategy(WordTokenizer),
    "morpheme": strategy(WordTokenizer, "mecab"),
    "tagged_morpheme": strategy(WordTokenizer, "mecab", True),
    "kiwi_morpheme": strategy(WordTokenizer, "kiwi"),
    "mecab_unigram": strategy(SentencePieceTokenizer, "mecab"),
    "tagged_mecab_bpe": strategy(SentencePieceTokenizer, "mecab", True, model_type="bpe"),
    "mecab_wordpiece": strategy(WordPieceTokenizer, "mecab"),
    "mecab_subcharacter": strategy(SentencePieceTokenizer, "mecab", False, "jamo", model_type="bpe"),
}
PLAIN = [name for name in TRAIN if not re.search("tagged|jamo|sub|byte_bpe", name)]  # symbols are the characters
NASTY = (
    "세종대왕은 가나다 abc12㈜①½ｶﾞ１ㅋㅋ\u1112\u1161\u11ab"
    "▁_<>[]/ENTMASKunk \t\n\u3000\u200b\ufeff\ufe0f👨‍👩‍👧李\uf9e1\ud800ﷺ´"
)
TEXTS = st.text(st.sampled_from(NASTY), max_size=30) | st.text(max_size=20)


@pytest.fixture(scope="module")
def corpus(sample: Path) -> list[str]:
    return (sample / "corpus.txt").read_text("utf-8").split("\n")


@pytest.fixture(scope="module")
def trained(corpus: list[str]) -> dict[str, Tokenizer]:
    return {name: train(corpus) for name, train in TRAIN.items()}


def check_spans(tokenizer: Tokenizer, text: str) -> None:
    """Spans are in order, apart, inside the text, cover all that can be seen, and hold what their token says."""
    tokens = tokenizer.encode(text)
    normal = tokenizer.normalizer(text)
    assert len(tokens.ids) == len(tokens.starts) == len(tokens.ends)
    if not len(tokens):
        assert normal.text == ""
        return
    starts, ends = tokens.starts, tokens.ends
    assert (starts <= ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    assert starts[0] >= 0
    assert ends[-1] <= len(text)
    covered = np.zeros(len(text) + 1, dtype=np.int32)
    np.add.at(covered, starts, 1)
    np.add.at(covered, ends, -1)
    covered = np.cumsum(covered)[:-1]
    assert covered.max(initial=0) <= 1
    visible_characters = np.array([char != " " for char in normal.text])
    uncovered = np.concatenate([[0], np.cumsum(covered == 0)])
    visible_starts, visible_ends = normal.starts[visible_characters], normal.ends[visible_characters]
    assert (uncovered[visible_starts] == uncovered[visible_ends]).all()
    said = [visible(tokenizer, i) for i in tokens.ids]
    assert all(i == tokenizer.special.unk or i >= len(tokenizer.special.names) for i in tokens.ids)
    symbols = tokenizer.pretokenizer.symbols
    if tokenizer.special.unk not in tokens.ids:
        literal = normal.text if symbols == "bytes" else normal.text.replace(WORD_START, "_")
        assert squeezed(tokenizer.decode(tokens.ids)) == squeezed(literal)
    # Each span holds what its token says; but a token may hold a part of an expansion (the last dots of … and the next
    # one), and then its span begins behind the character that it shares.
    rewritten = Pretokenizer(symbols=symbols)(normal.text)
    written = "".join(rewritten.pieces)[1:]
    places = np.arange(len(normal.text) + 1) if rewritten.firsts is None else rewritten.firsts[1:] - 1
    is_shared = np.zeros(len(text) + 1, dtype=np.bool_)
    is_shared[normal.ends[1:][normal.starts[1:] == normal.starts[:-1]]] = True
    firsts, lasts = np.searchsorted(normal.starts, starts), np.searchsorted(normal.starts, ends)
    shared = [*np.cumsum(is_shared).tolist(), 0]  # shared[-1] is 0: nothing is shared before the first character
    for piece, start, end, a, b in zip(
        said, starts.tolist(), ends.tolist(), places[firsts].tolist(), places[lasts].tolist(), strict=True
    ):
        if piece is not None and start < end and shared[end] == shared[start - 1]:
            held = written[a:b].strip(" ")
            if symbols == "text" or not held:
                assert piece == held
            else:  # the rest of the character before; then its own, of which the last may go on in the next token
                rests = [i for i in range(len(piece)) if held.startswith(piece[i:])]
                assert any(set(piece[:i]) <= set(LATER[symbols]) for i in rests)


# What can't begin a character: vowels and final consonants; bytes from 0x80 to 0xBF, as GPT-2 shows them.
LATER = {"jamo": "".join(map(chr, range(0x1161, 0x11C3))), "bytes": "".join(byte_signs()[0x7F:0xBF])}


@pytest.mark.slow
def test_bytes_melt_into_syllables_and_words(trained: dict[str, Tokenizer], corpus: list[str]) -> None:
    """The signs of a syllable's three bytes are of different scripts, at whose borders SentencePiece would cut."""
    text = " ".join(corpus)
    by_bytes, by_characters = (len(trained[name].encode(text)) for name in ("byte_bpe", "bpe"))
    assert by_bytes < 1.5 * by_characters


def squeezed(text: str) -> str:
    """Text without white space, decomposed: jamo that nobody wrote as a syllable come back as one."""
    return unicodedata.normalize("NFD", "".join(text.split()))


def visible(tokenizer: Tokenizer, token: int) -> str | None:
    """A token's own symbols, without the sign for white space and without tags; None for unknown ones and bytes."""
    piece = tokenizer.vocabulary[token].removeprefix(WORD_START)
    if token == tokenizer.special.unk or (tokenizer.training.get("byte_fallback") and piece.startswith("<0x")):
        return None
    return re.sub("[\U000f0000-\U000ffffd]", "", piece)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAIN)
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="")
@example(text=" \n")
@example(text="㈜")
@example(text="▁")
def test_spans_on_any_text(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    check_spans(trained[kind], text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLAIN)
@settings(max_examples=200, deadline=None)
@given(text=st.text("세종대왕은 1420년\n집현전을 두었다.李qx（２", max_size=30) | TEXTS)
@example(text="李")
@example(text="세 李")
def test_the_short_way_gives_what_the_long_way_gives(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = trained[kind]
    short, ids = tokenizer.encode(text), tokenizer.encode_ids(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedTokenizer, "_plain", lambda *_: None)
        long = tokenizer.encode(text)
    for ours, theirs in ((short.ids, long.ids), (short.starts, long.starts), (short.ends, long.ends), (ids, long.ids)):
        assert ours.dtype == theirs.dtype == np.int32
        assert ours.tolist() == theirs.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAIN)
@pytest.mark.parametrize(
    "text", ["세종대왕은 집현전을 두었다. ", "가나다라마바사아자차카타", "㈜\u200b李 ", "\u1112\u1161\u11ab"]
)
def test_a_hundred_thousand_characters(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    # Analysers are slow: one text in full length, the others a tenth of it.
    length = 10_000 if trained[kind].pretokenizer.analyser and "집현전" not in text else 100_000
    check_spans(trained[kind], (text * length)[:length])


@pytest.mark.parametrize("kind", TRAIN)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), data=st.data())
def test_many_texts_as_one_at_a_time(
    trained: dict[str, Tokenizer], kind: str, texts: list[str], data: st.DataObject
) -> None:
    tokenizer = trained[kind]
    cuts = [data.draw(st.lists(st.integers(0, len(text)), max_size=3)) for text in texts]
    for boundaries in ([], cuts):
        for i, tokens in enumerate(tokenizer.encode_all(texts, boundaries)):
            alone = tokenizer.encode(texts[i], boundaries[i] if boundaries else [])
            assert (tokens.ids.tolist(), tokens.starts.tolist(), tokens.ends.tolist()) == (
                alone.ids.tolist(), alone.starts.tolist(), alone.ends.tolist(),
            )  # fmt: skip
    ids = [tokenizer.encode_ids(text).tolist() for text in texts]
    assert [found.tolist() for found in tokenizer.encode_ids_all(texts)] == ids


@pytest.mark.parametrize("kind", TRAIN)
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, data=st.data())
def test_no_token_crosses_a_boundary(trained: dict[str, Tokenizer], kind: str, text: str, data: st.DataObject) -> None:
    tokenizer = trained[kind]
    boundaries = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    tokens = tokenizer.encode(text, boundaries)
    normal = tokenizer.normalizer(text)
    for position in boundaries:
        inside_cluster = any(s < position < e for s, e in zip(normal.starts, normal.ends, strict=True))
        crossing = ((tokens.starts < position) & (tokens.ends > position)).any()
        assert not crossing or inside_cluster


@pytest.mark.parametrize("kind", TRAIN)
@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("세종대왕은 1420년 집현전을\n두었다."), max_size=40))
def test_known_text_decodes_to_itself(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = trained[kind]
    tokens = tokenizer.encode(text)
    decoded = tokenizer.decode(tokens.ids)
    if isinstance(tokenizer, WordTokenizer):
        return  # these words are not in the text that it was trained on
    assert tokenizer.special.unk not in tokens.ids
    if isinstance(tokenizer, CharacterTokenizer):
        # A character that was never seen at the start of a word has no form with a space.
        assert "".join(decoded.split()) == "".join(text.split())
    else:
        assert decoded == " ".join(text.split())


@pytest.mark.parametrize("kind", TRAIN)
@pytest.mark.parametrize(
    "text", ["[ENT] 세종 [/ENT]은", "[MASK]", "[CLS][SEP]", "[PAD] [UNK]", "<unk><s></s>", "▁세종"]
)
def test_special_tokens_in_text_stay_text(trained: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = trained[kind]
    ids = tokenizer.encode(text).ids
    special = set(tokenizer.special.names.values()) - {tokenizer.special.unk}
    assert not special & set(ids.tolist())
    check_spans(tokenizer, text)


def check_exactness(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """`check_spans` for many texts: those that normalisation leaves alone need less."""
    surfaces = [token.removeprefix(WORD_START) for token in tokenizer.vocabulary]
    for text in texts:
        if tokenizer.normalizer.in_place(text) != text or not text:
            check_spans(tokenizer, text)
            continue
        tokens = tokenizer.encode(text)
        ids, starts, ends = tokens.ids.tolist(), tokens.starts.tolist(), tokens.ends.tolist()
        assert all(starts[i] <= ends[i] for i in range(len(ids)))
        # Between tokens there is nothing but one space, so slices and spaces give the text back.
        gaps = {text[end:start] for end, start in zip([0, *ends], [*starts, len(text)], strict=True)}
        assert gaps <= {"", " "}
        if tokenizer.pretokenizer.symbols == "text" and not tokenizer.pretokenizer.tags:
            for i, start, end in zip(ids, starts, ends, strict=True):
                said = text[start:end].strip(" ")
                assert surfaces[i] == said or i == tokenizer.special.unk or surfaces[i].startswith("<0x")
        elif tokenizer.special.unk not in ids:
            assert squeezed(tokenizer.decode(ids)) == squeezed(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAIN)
def test_korquad_and_wikipedia(data_root: Path, kind: str) -> None:
    """Every context and question of the official dev file, 1,000 articles; vocabulary trained on the contexts."""
    dataset = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    contexts = [paragraph.context for article in dataset.articles for paragraph in article.paragraphs]
    questions = [question.text for _, _, question in dataset.questions()]
    assert (len(contexts), len(questions)) == (964, 5774)
    tokenizer = TRAIN[kind](contexts, size=4000)
    # Analysers are slow, and what they cut differs less from text to text: a third will do.
    step = 3 if tokenizer.pretokenizer.analyser else 1
    check_exactness(tokenizer, (contexts + questions)[::step])
    articles = itertools.islice(read_documents(data_root / "kowiki" / "kowiki-00000-of-00008.jsonl.xz"), 1000)
    check_exactness(tokenizer, (paragraph for article in list(articles)[:: 5 * step - 4] for paragraph in article))


# ---- vocabularies and folders ----


@pytest.mark.parametrize("kind", TRAIN)
def test_folder_round_trip(trained: dict[str, Tokenizer], corpus: list[str], kind: str, tmp_path: Path) -> None:
    tokenizer = trained[kind]
    tokenizer.save(tmp_path / "deep" / "folder")
    again = load_tokenizer(tmp_path / "deep" / "folder")
    assert type(again) is type(tokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.vocabulary == tokenizer.vocabulary
    assert again.training == tokenizer.training
    assert again.normalizer == tokenizer.normalizer
    for text in corpus:
        assert again.encode(text).ids.tolist() == tokenizer.encode(text).ids.tolist()
    lines = (tmp_path / "deep" / "folder" / "vocab.txt").read_text("utf-8").split("\n")[:-1]
    assert lines == list(tokenizer.vocabulary)
    assert lines[:7] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENT]", "[/ENT]"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAIN)
def test_training_is_deterministic_and_fingerprints_tell_apart(
    trained: dict[str, Tokenizer], corpus: list[str], kind: str
) -> None:
    first = trained[kind]
    assert TRAIN[kind](corpus).fingerprint == first.fingerprint
    smaller = {"jamo": 60, "subcharacter": 700}.get(kind, 980)
    others = [TRAIN[kind](corpus, normalizer=Normalizer("NFC"))]
    if first.pretokenizer.analyser is None:  # analysers are slow
        others += [
            TRAIN[kind](corpus, size=smaller),
            TRAIN[kind](corpus[: len(corpus) // 2], size=smaller),
            TRAIN[kind](corpus, normalizer=Normalizer(lowercase=True)),
        ]
    prints = [first.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)
    assert all(len(p) == 16 for p in prints)


@pytest.mark.parametrize("kind", TRAIN)
def test_vocabulary_has_the_wanted_size(corpus: list[str], kind: str) -> None:
    tokenizer = TRAIN[kind](corpus, size=1000)
    assert len(tokenizer) == min(1000, 7 + tokenizer.training.get("different", 1000))


def damaged(tokenizer: Tokenizer, folder: Path, change: Callable[[Path], object]) -> Path:
    tokenizer.save(folder)
    change(folder)
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.mark.parametrize("kind", TRAIN)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json: file: not found"),
        (lambda f: (f / "tokenizer.json").write_text("{"), r"tokenizer\.json: line 1"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a korbert tokenizer folder"),
        (lambda f: edit(f, kind="strokes"), r"tokenizer\.json: .*'strokes'"),
        (lambda f: edit(f, format=99), r"tokenizer\.json: .*99"),
        (lambda f: edit(f, normalizer={"form": "NFC", "lowercase": False}), "fingerprint: saved as"),
    ],
)
def test_damaged_folder_is_refused(
    trained: dict[str, Tokenizer], kind: str, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = damaged(trained[kind], tmp_path / "t", change)
    with pytest.raises(DataError, match=message):
        load_tokenizer(folder)


def test_changed_vocabulary_is_refused(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    for name, file in (("syllable", "vocab.txt"), ("unigram", "sentencepiece.model")):
        folder = tmp_path / name
        trained[name].save(folder)
        kept = tmp_path / f"{name}_kept"
        shutil.copytree(folder, kept)
        content = bytearray((folder / file).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / file).write_bytes(bytes(content))
        with pytest.raises(DataError):
            load_tokenizer(folder)
        (folder / file).unlink()
        with pytest.raises(DataError, match=f"{file}: file: not found"):
            load_tokenizer(folder)
        assert load_tokenizer(kept).fingerprint == trained[name].fingerprint


def test_every_kind_is_tested(trained: dict[str, Tokenizer]) -> None:
    trained_here = {cls for cls in KINDS.values() if issubclass(cls, TrainedTokenizer)}  # the others: test_published
    assert {type(tokenizer) for tokenizer in trained.values()} == trained_here


# ---- training that cannot be ----


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
@pytest.mark.parametrize("kind", TRAIN)
def test_no_text(kind: str, texts: Iterable[str]) -> None:
    with pytest.raises(KorbertError, match="the corpus is empty"):
        TRAIN[kind](texts)


def test_settings_that_cannot_be(corpus: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=90000: .* they fill \d+ entries at most"):
        SentencePieceTokenizer.train(corpus, 90000)
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=10: .* their characters alone fill \d{3}"):
        SentencePieceTokenizer.train(corpus, 10)
    with pytest.raises(ConfigError, match=r"tokenizer\.model_type: 'word' is unknown"):
        SentencePieceTokenizer.train(corpus, 500, model_type="word")
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size: wanted more than 7, got 7"):
        CharacterTokenizer.train(corpus, 7)


# ---- by hand ----


def test_syllables_by_hand() -> None:
    tokenizer = CharacterTokenizer.train(["세종은 조선 세종"], 100)
    tokens = tokenizer.encode("조세 ㈜ 은")
    assert [tokenizer.vocabulary[i] for i in tokens.ids] == ["▁조", "▁세", "[UNK]", "[UNK]", "[UNK]", "은"]
    spans = list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))
    assert spans == [(0, 1), (1, 2), (3, 4), (4, 4), (4, 4), (5, 6)]
    assert tokenizer.decode(tokens.ids[:2]) == "조 세"


def test_most_frequent_characters_are_kept() -> None:
    tokenizer = CharacterTokenizer.train(["가나나다다다 가"], 7 + 2)
    assert tokenizer.vocabulary[7:] == ("다", "▁가")


def test_overlong_text_is_cut_for_the_trainer_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """SentencePiece drops a text that is too long without a word."""
    monkeypatch.setattr(subwords, "_MAX_SENTENCE_BYTES", 400)
    text = " ".join(["가나다라", "마바사", "아" * 150, "자차카타파하"] * 30)
    tokenizer = SentencePieceTokenizer.train([text], 40, model_type="bpe")
    assert tokenizer.training["characters"] == len(text)
    assert tokenizer.special.unk not in tokenizer.encode(text).ids
    assert any(len(piece) == 5 for piece in tokenizer.vocabulary)  # words were learned: not only the first part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "wordpiece", "byte_fallback": True},
            "tokenizer.byte_fallback=true: of sentencepiece alone",
        ),
        (
            {"kind": "character", "model_type": "bpe"},
            "tokenizer.model_type=bpe: of sentencepiece alone",
        ),
        ({"kind": "sentencepiece", "character_coverage": 0.9}, "character_coverage=0.9: SentencePiece takes 0.98 to 1"),
        ({"kind": "word", "character_coverage": 0.99}, "character_coverage=0.99: of subwords .*, not of word with"),
        ({"kind": "sentencepiece", "symbols": "bytes", "character_coverage": 0.99}, "symbols=bytes"),
        ({"kind": "sentencepiece", "vocab_size": 3}, "tokenizer.vocab_size: wanted more than 7, got 3"),
    ],
)
def test_settings_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(TokenizerConfig(**settings), iter(["가나다"]))


def test_the_sign_that_sentencepiece_keeps_for_itself_costs_no_text() -> None:
    """Its trainer leaves out sentences with it, and here there would be none."""
    texts = [f"한글은 ▅ 글자이고 훈민정음{number}이다" for number in range(20)]
    tokenizer = SentencePieceTokenizer.train(texts, 30)
    assert tokenizer.encode("한글은 글자").ids.tolist().count(tokenizer.special.unk) == 0
    assert tokenizer.training["texts"] == 20


def test_an_empty_line_of_a_vocabulary_is_named(tmp_path: Path) -> None:
    CharacterTokenizer.train(["가나다"], 20).save(tmp_path)
    lines = (tmp_path / "vocab.txt").read_text("utf-8").split("\n")
    (tmp_path / "vocab.txt").write_text("\n".join([*lines[:8], "", *lines[8:]]), "utf-8")
    with pytest.raises(DataError, match=r"vocab\.txt: line 9: is empty"):
        load_tokenizer(tmp_path)
