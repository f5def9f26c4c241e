"""The entity input: by hand, and as laws for any text, any spans, any tokenizer and every mode."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from korbert.encoding import Encoding, EntityInput, EntityMode, balanced, encode, encode_all
from korbert.entities import make_annotator
from korbert.text import AnnotatedText, IntArray, Span
from korbert.tokenizers import Pretokenizer, SpecialTokens, Tokenizer, WordPieceTokenizer, open_published
from korbert.tokenizers.lookup import CharacterTokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer

SPECIAL = SpecialTokens()
ENT, ENT_END = SPECIAL.ent, SPECIAL.ent_end
NAMES = ["subwords", "syllables", "jamo", "bytes", "tagged"]
PUBLISHED = ["wordpiece", "vocab", "uncased", "byte_bpe", "metaspace", "words", "model", "model_bytes"]
TEXT = AnnotatedText("세종(世宗)은 조선의 왕이다.", (Span(0, 2), Span(3, 5), Span(8, 10)))


@pytest.fixture(scope="module")
def tokenizers(sample: Path) -> dict[str, Tokenizer]:
    corpus = (sample / "corpus.txt").read_text("utf-8").split("\n")
    return {
        "subwords": SentencePieceTokenizer.train(corpus, 1200),
        "syllables": CharacterTokenizer.train(corpus, 1000),
        # Tokens without characters of their own: later jamo, later bytes, tags.
        "jamo": CharacterTokenizer.train(corpus, 1000, pretokenizer=Pretokenizer(symbols="jamo")),
        "bytes": SentencePieceTokenizer.train(corpus, 1000, pretokenizer=Pretokenizer(symbols="bytes")),
        "tagged": WordPieceTokenizer.train(corpus, 1000, pretokenizer=Pretokenizer("mecab", tags=True)),
    }


@pytest.fixture(scope="module")
def every(
    tokenizers: dict[str, Tokenizer], sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tokenizer]:
    """Those and tokenizers of other libraries."""
    pytest.importorskip("tokenizers")
    from test_published import MAKE

    assert list(MAKE) == PUBLISHED
    corpus = (sample / "corpus.txt").read_text("utf-8").split("\n")
    made = {name: make(corpus, tmp_path_factory.mktemp(name)) for name, make in MAKE.items()}
    return tokenizers | {name: open_published(path) for name, path in made.items()}


def printed(encoding: Encoding, text: str, special: SpecialTokens = SPECIAL) -> list[str]:
    """Each token by the characters of its span; markers by name."""
    names = {special.ent: "[ENT]", special.ent_end: "[/ENT]"}
    return [
        names.get(int(token), text[start:end])
        for token, start, end in zip(encoding.token_ids, encoding.starts, encoding.ends, strict=True)
    ]


@pytest.mark.parametrize(
    ("mode", "tokens", "entity_ids"),
    [
        (EntityMode.NONE, "세 종 ( 世 宗 ) 은 조 선 의 왕 이 다 .", "0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
        (EntityMode.SPLIT, "세 종 ( 世 宗 ) 은 조 선 의 왕 이 다 .", "0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
        (EntityMode.EMBEDDING, "세 종 ( 世 宗 ) 은 조 선 의 왕 이 다 .", "1 1 0 1 1 0 0 1 1 0 0 0 0 0"),
        (
            EntityMode.MARKERS,
            "[ENT] 세 종 [/ENT] ( [ENT] 世 宗 [/ENT] ) 은 [ENT] 조 선 [/ENT] 의 왕 이 다 .",
            "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        ),
        (
            EntityMode.BOTH,
            "[ENT] 세 종 [/ENT] ( [ENT] 世 宗 [/ENT] ) 은 [ENT] 조 선 [/ENT] 의 왕 이 다 .",
            "0 1 1 0 0 0 1 1 0 0 0 0 1 1 0 0 0 0 0 0",
        ),
    ],
)
def test_modes_by_hand(tokenizers: dict[str, Tokenizer], mode: EntityMode, tokens: str, entity_ids: str) -> None:
    encoding = encode(TEXT, tokenizers["syllables"], mode)
    assert printed(encoding, TEXT.text) == tokens.split()
    assert encoding.entity_ids.tolist() == [int(i) for i in entity_ids.split()]


def test_markers_stand_at_their_mention_s_edges(tokenizers: dict[str, Tokenizer]) -> None:
    encoding = encode(TEXT, tokenizers["subwords"])
    at = encoding.token_ids == ENT
    assert encoding.starts[at].tolist() == encoding.ends[at].tolist() == [e.start for e in TEXT.entities]
    at = encoding.token_ids == ENT_END
    assert encoding.starts[at].tolist() == encoding.ends[at].tolist() == [e.end for e in TEXT.entities]


def test_adjoining_mentions_close_before_they_open(tokenizers: dict[str, Tokenizer]) -> None:
    text = AnnotatedText("서울부산", (Span(0, 2), Span(2, 4)))
    encoding = encode(text, tokenizers["syllables"])
    assert printed(encoding, text.text) == ["[ENT]", "서", "울", "[/ENT]", "[ENT]", "부", "산", "[/ENT]"]


def test_split_cuts_what_none_does_not(tokenizers: dict[str, Tokenizer]) -> None:
    """Some word of the vocabulary, with an entity that ends inside it."""
    tokenizer = tokenizers["subwords"]
    piece = next(p for p in tokenizer.vocabulary if p.startswith("▁") and len(p) == 4 and p[1:].isalpha())
    text = AnnotatedText(piece[1:], (Span(0, 2),))
    assert printed(encode(text, tokenizer, EntityMode.NONE), text.text) == [piece[1:]]
    assert 2 in encode(text, tokenizer, EntityMode.SPLIT).ends
    assert 1 in encode(text, tokenizer, EntityMode.NONE, boundaries=[1]).ends


def test_empty_and_blank(tokenizers: dict[str, Tokenizer]) -> None:
    for text in ("", " \n", "\t"):
        for mode in EntityMode:
            assert len(encode(AnnotatedText(text), tokenizers["subwords"], mode)) == 0


@pytest.mark.parametrize("name", ["subwords", "syllables"])
def test_letters_of_special_tokens_stay_letters(tokenizers: dict[str, Tokenizer], name: str) -> None:
    text = "[ENT]세종[/ENT]은 [MASK] [CLS]"
    encoding = encode(AnnotatedText(text), tokenizers[name])
    ids = set(encoding.token_ids.tolist())
    assert not ids & {SPECIAL.pad, SPECIAL.cls, SPECIAL.sep, SPECIAL.mask, ENT, ENT_END}
    assert "".join(printed(encoding, text)).replace(" ", "") == text.replace(" ", "")
    marked = encode(AnnotatedText(text, (Span(5, 7),)), tokenizers[name])
    assert (marked.token_ids == ENT).sum() == (marked.token_ids == ENT_END).sum() == 1


# ---- laws ----

NASTY = "세종대왕은 (世宗)abc12㈜½ｶﾞㅋ\u1112\u1161\u11ab \n\u3000\u200b👨\u200d👩[ENT]/MASK李."


@st.composite
def annotated_texts(draw: st.DrawFn) -> AnnotatedText:
    text = draw(st.text(st.sampled_from(NASTY), max_size=30))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    spans = tuple(Span(a, b) for a, b in pairs if text[a:b].strip() == text[a:b] and text[a:b].strip("\u200b\u200d"))
    return AnnotatedText(text, spans)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None)
@given(annotated=annotated_texts())
@example(annotated=AnnotatedText("㈜세종은", (Span(0, 3),)))
@example(annotated=AnnotatedText("세종", (Span(0, 1), Span(1, 2))))
@example(annotated=AnnotatedText("세\u200b종은", (Span(0, 1),)))
def test_every_mention_decodes_back(tokenizers: dict[str, Tokenizer], name: str, annotated: AnnotatedText) -> None:
    """Between its markers stand the mention's characters, wherever a cut at its edges is possible; ids agree."""
    tokenizer = tokenizers[name]
    both = encode(annotated, tokenizer, EntityMode.BOTH)
    opened = np.flatnonzero(both.token_ids == ENT).tolist()
    closed = np.flatnonzero(both.token_ids == ENT_END).tolist()
    assert len(opened) == len(closed)
    assert all(a < b for a, b in zip(opened, closed, strict=True))
    assert all(b < a for b, a in zip(closed, opened[1:], strict=False))
    normal = tokenizer.normalizer(annotated.text)

    def can_cut(position: int) -> bool:
        return not any(s < position < e for s, e in zip(normal.starts, normal.ends, strict=True))

    exact = [e for e in annotated.entities if can_cut(e.start) and can_cut(e.end)]
    found = {(int(both.starts[a + 1]), int(both.ends[b - 1])) for a, b in zip(opened, closed, strict=True)}
    for entity in exact:
        mention = annotated.text[entity.start : entity.end]
        lead = len(mention) - len(mention.lstrip("\u200b\u200d"))  # a sign that shows nothing may go with its neighbour
        assert any(
            start - entity.start in range(-2, lead + 1) and entity.end - 3 < end <= entity.end + 2
            for start, end in found
        ), entity
        if mention.isprintable() and "\u200d" not in annotated.text and "\u200b" not in annotated.text:
            assert (entity.start, entity.end) in found
    inside = np.zeros(len(both), dtype=np.int32)
    for a, b in zip(opened, closed, strict=True):
        inside[a + 1 : b] = 1
    assert both.entity_ids.tolist() == inside.tolist()


# What an entity or the text beside one may be: expansions, signs that are one with the letter before, pictures.
CHUNKS = [
    "세종", "世宗", "은", "1420년", "㈜", "½", "ｶﾞ", "ﬁ", "´", "(", ".", "b", "é", "e\u0301", "😀", "👨\u200d👩", "李",
    *(unicodedata.normalize("NFD", word) for word in ("세종", "한글", "왕이다")),
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(CHUNKS), st.booleans(), st.sampled_from(["", "", " ", "\n", " \u3000"]))),
    lead=st.sampled_from(["", " "]),
)
@example(parts=[("세종", True, " "), ("世宗", False, ""), ("은", False, "")], lead="")
@example(parts=[("세종", True, " "), ("世宗", True, " ")], lead=" ")
@example(parts=[("b", True, ""), ("㈜", True, ""), ("세종", False, "")], lead="")
def test_mentions_are_exact(
    every: dict[str, Tokenizer], name: str, parts: list[tuple[str, bool, str]], lead: str
) -> None:
    """Between its markers stand a mention's characters, all of them and no others, and tokens say no more and no less.

    White space before the next word, as a token of its own, is that word's.
    """
    tokenizer, text, spans = every[name], lead, []
    for chunk, is_entity, space in parts:
        spans += [Span(len(text), len(text) + len(chunk))] if is_entity else []
        text += chunk + space
    encoding = encode(AnnotatedText(text, tuple(spans)), tokenizer)
    special = tokenizer.special
    opened, closed = (np.flatnonzero(encoding.token_ids == token).tolist() for token in (special.ent, special.ent_end))
    assert len(opened) == len(closed) == len(spans)
    for span, a, b in zip(spans, opened, closed, strict=True):
        inside = encoding.take(slice(a + 1, b))
        assert (inside.starts[0], inside.ends[-1]) == (span.start, span.end)
        assert (inside.starts[1:] == inside.ends[:-1]).all()
        assert inside.starts[0] < inside.ends[0]
        said, alone = (said_by(tokenizer, ids) for ids in (inside.token_ids, tokenizer.encode(span.of(text)).ids))
        if said is not None and alone is not None:
            assert said == alone


def said_by(tokenizer: Tokenizer, ids: IntArray) -> str | None:
    """The symbols of tokens, without signs of where words start; None with unknown ones among them."""
    if tokenizer.special.unk in ids:
        return None
    return re.sub("##|[▁Ġ]", "", "".join(tokenizer.vocabulary[token] for token in ids))


@pytest.mark.parametrize("name", [*NAMES, *PUBLISHED])
@settings(max_examples=200, deadline=None)
@given(annotated=annotated_texts(), cut=st.booleans())
@example(annotated=AnnotatedText("한e\u0301나", (Span(1, 2),)), cut=True)
@example(annotated=AnnotatedText("\u1112\u1161\u11ab나", (Span(0, 1), Span(2, 4))), cut=True)
def test_no_marker_stands_in_a_character(
    every: dict[str, Tokenizer], name: str, annotated: AnnotatedText, cut: bool
) -> None:
    """An entity that ends in one has all of it: bytes and jamo of a character stay together."""
    special = every[name].special
    encoding = encode(annotated, every[name], cut=cut)
    is_marker = (encoding.token_ids == special.ent) | (encoding.token_ids == special.ent_end)
    numbers = np.cumsum(~is_marker)  # of tokens up to each place
    tokens = encoding.take(np.flatnonzero(~is_marker))
    for number in numbers[is_marker].tolist():
        if 0 < number < len(tokens):
            goes_on = tokens.starts[number] == tokens.ends[number] == tokens.ends[number - 1]
            assert not goes_on, printed(encoding, annotated.text, special)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(annotated=annotated_texts())
def test_modes_agree_on_the_tokens(tokenizers: dict[str, Tokenizer], name: str, annotated: AnnotatedText) -> None:
    """SPLIT, MARKERS, EMBEDDING and BOTH have the same ordinary tokens; markers and ids are all they differ in."""
    tokenizer = tokenizers[name]
    encodings = {mode: encode(annotated, tokenizer, mode) for mode in EntityMode}
    split = encodings[EntityMode.SPLIT]
    for mode in (EntityMode.MARKERS, EntityMode.EMBEDDING, EntityMode.BOTH):
        encoding = encodings[mode]
        ordinary = encoding.take(np.flatnonzero((encoding.token_ids != ENT) & (encoding.token_ids != ENT_END)))
        assert ordinary.token_ids.tolist() == split.token_ids.tolist()
        assert ordinary.starts.tolist() == split.starts.tolist()
        assert ordinary.ends.tolist() == split.ends.tolist()
        assert bool(encoding.entity_ids.any()) <= mode.has_embedding
        assert (len(encoding) > len(split)) <= mode.has_markers
    plain = tokenizer.encode(annotated.text)
    assert encodings[EntityMode.NONE].token_ids.tolist() == plain.ids.tolist()
    if not annotated.entities:
        assert all(e.token_ids.tolist() == plain.ids.tolist() for e in encodings.values())


@pytest.mark.parametrize("name", [*NAMES, "words", "model_bytes"])
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(annotated_texts(), max_size=4), cut=st.booleans())
@example(
    texts=[AnnotatedText("㈜세종은", (Span(0, 3),)), AnnotatedText(""), AnnotatedText("종은", (Span(0, 1),))], cut=True
)
def test_many_texts_at_once(every: dict[str, Tokenizer], name: str, texts: list[AnnotatedText], cut: bool) -> None:
    """They are what each of them is alone, end to end."""
    tokenizer = every[name]
    whole, lengths = encode_all(texts, tokenizer, cut)
    each = [encode(text, tokenizer, EntityInput(typed=True), cut=cut) for text in texts]
    assert lengths.tolist() == list(map(len, each))
    for column in ("token_ids", "entity_ids", "starts", "ends"):
        assert getattr(whole, column).dtype == np.int32
        assert getattr(whole, column).tolist() == [number for one in each for number in getattr(one, column).tolist()]


@settings(max_examples=200, deadline=None)
@given(annotated=annotated_texts(), data=st.data())
def test_windows_have_no_lone_marker(
    tokenizers: dict[str, Tokenizer], annotated: AnnotatedText, data: st.DataObject
) -> None:
    encoding = encode(annotated, tokenizers["syllables"])
    start = data.draw(st.integers(0, len(encoding)))
    end = data.draw(st.integers(start, len(encoding)))
    window = encoding.window(start, end, SPECIAL)
    depth = 0
    for token in window.token_ids:
        depth += int(token == ENT) - int(token == ENT_END)
        assert depth in (0, 1)
    assert depth == 0
    whole = encoding.take(np.arange(start, end, dtype=np.int32))
    ordinary = [t for t in whole.token_ids.tolist() if t not in (ENT, ENT_END)]
    assert [t for t in window.token_ids.tolist() if t not in (ENT, ENT_END)] == ordinary


def test_balanced_by_hand() -> None:
    ids = np.array([9, ENT_END, 8, ENT, 7, ENT_END, ENT, 16], dtype=np.int32)
    assert balanced(ids, SPECIAL).tolist() == [0, 2, 3, 4, 5, 7]
    assert balanced(ids[2:6], SPECIAL).tolist() == [0, 1, 2, 3]
    assert balanced(ids[:0], SPECIAL).tolist() == []
    assert balanced(ids[1:2], SPECIAL).tolist() == balanced(ids[3:4], SPECIAL).tolist() == []


def test_josa_stays_attached_on_real_text(tokenizers: dict[str, Tokenizer], sample: Path) -> None:
    """Every mention that MeCab finds in the sample decodes back exactly, and no space is put before its josa."""
    annotator = make_annotator("mecab")
    tokenizer = tokenizers["subwords"]
    mentions = glued = 0
    for line in (sample / "corpus.txt").read_text("utf-8").split("\n"):
        annotated = annotator.annotate(line)
        encoding = encode(annotated, tokenizer)
        opened = np.flatnonzero(encoding.token_ids == ENT)
        closed = np.flatnonzero(encoding.token_ids == ENT_END)
        found = [line[encoding.starts[a + 1] : encoding.ends[b - 1]] for a, b in zip(opened, closed, strict=True)]
        assert found == [entity.of(line) for entity in annotated.entities]
        mentions += len(found)
        for entity, close in zip(annotated.entities, closed, strict=True):
            if line[entity.end : entity.end + 1].isalpha():
                following = tokenizer.vocabulary[encoding.token_ids[close + 1]]
                assert not following.startswith("▁")
                glued += 1
    assert mentions > 500
    assert glued > 300


@pytest.mark.parametrize("blank", ["", "\u200b", "\u00ad\ufeff", "\ufe0f"])
def test_invisible_characters_behind_an_entity_do_not_glue_it_to_its_josa(
    tokenizers: dict[str, Tokenizer], blank: str
) -> None:
    """They are one with its last character, and the cut comes behind them."""
    text = AnnotatedText(f"그는 조선{blank}의 왕이다.", (Span(3, 5),))
    plain = AnnotatedText("그는 조선의 왕이다.", (Span(3, 5),))
    for name, tokenizer in tokenizers.items():
        for mode in EntityMode:
            found, expected = encode(text, tokenizer, mode), encode(plain, tokenizer, mode)
            assert found.token_ids.tolist() == expected.token_ids.tolist(), name
            assert found.entity_ids.tolist() == expected.entity_ids.tolist(), name


@given(
    ids=st.lists(st.integers(0, 12), max_size=30),
    special=st.lists(st.integers(0, 12), min_size=7, max_size=7).map(lambda numbers: SpecialTokens(*numbers)),
)
def test_special_tokens_are_told_from_others(ids: list[int], special: SpecialTokens) -> None:
    """Also of a vocabulary that has one token for two roles."""
    array = np.array(ids, dtype=np.int32)
    np.testing.assert_array_equal(special.among(array), np.isin(array, special.ids))
