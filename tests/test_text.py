"""Spans and normalisation: against unicodedata, by hand on the characters that hurt, and as laws on any text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.errors import ConfigError
from korbert.text import (
    FORMS,
    AnnotatedText,
    NormalizedText,
    Normalizer,
    Span,
    _Builder,
    blank_mask,
    composed_places,
    trim,
)

NASTY = (
    "가각힣ㄱㅋㆎᄒ\u1161\u11abAaé́１ａ\uff76\uff9e\uffa1ﾣㅤ㈜㎏①½ﬁ伊李\uf9e1"
    "\u3164\u1160\uffa0\u2800\U000e0100"
    " \t\n\u3000\u00a0\u200b\u200d\u200e\ufeff\u00ad\ufe0f👨‍👩‍👧🇰🇷\ud800´ﷺ。.「"
)
TEXTS = st.text(st.sampled_from(NASTY), max_size=30) | st.text(max_size=20)
NORMALIZERS = st.builds(Normalizer, st.sampled_from(FORMS), st.booleans())


def pieces(normal: NormalizedText) -> list[tuple[str, str]]:
    """Each normalised character with the original characters it came from."""
    return [
        (char, normal.original[start:end])
        for char, start, end in zip(normal.text, normal.starts, normal.ends, strict=True)
    ]


# ---- spans ----


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (4, 3)])
def test_spans_that_cannot_be(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="0 <= start < end"):
        Span(start, end)


def test_span_and_slice() -> None:
    text = AnnotatedText("세종은 조선의 왕", (Span(0, 2, "PER"), Span(4, 6, "LOC")))
    assert [e.of(text.text) for e in text.entities] == ["세종", "조선"]
    assert [len(e) for e in text.entities] == [2, 2]
    part = text.slice(2, 7)
    assert part == AnnotatedText("은 조선의", (Span(2, 4, "LOC"),))
    assert text.slice(1, 7).entities == (Span(3, 5, "LOC"),)  # the first one is cut off, so it is gone
    assert sorted([Span(3, 4), Span(1, 9), Span(1, 2)]) == [Span(1, 2), Span(1, 9), Span(3, 4)]


@pytest.mark.parametrize("spans", [[(3, 5), (0, 2)], [(0, 3), (2, 5)], [(7, 11)]])
def test_entities_must_be_in_order_apart_and_inside(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"must not overlap|ends after"):
        AnnotatedText("0123456789", tuple(Span(*span) for span in spans))


# ---- normalisation by hand ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("세종 대왕", "세종 대왕"),
        (unicodedata.normalize("NFD", "세종 대왕"), "세종 대왕"),
        ("  세종\t\n 대왕 ", "세종 대왕"),
        ("세종\u3000대왕\u00a0전", "세종 대왕 전"),
        ("㈜카카오", "(주)카카오"),
        ("１２ａＢ", "12aB"),
        ("ｶﾞ", "ガ"),
        ("ﾡㅋ ㅋㅋㄱ", "ㄱㅋ ㅋㅋㄱ"),  # no jamo melts into a syllable
        ("李\uf9e1", "李李"),
        ("세\u200b종\ufeff은", "세종은"),
        ("\u200e세종", "세종"),
        ("세\u3164종\uffa0은\u2800\u034f\u061c", "세종은"),  # fillers as written for empty names, and their like
        ("葛\U000e0100西", "葛西"),
        ("🏴\U000e0067\U000e0062", "🏴"),
        ("세종\u00ad", "세종"),
        ("½", "1⁄2"),
        ("\ud800", "\ufffd"),
        ("a\u0301", "á"),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_nfkc_by_hand(text: str, expected: str) -> None:
    assert Normalizer()(text).text == expected


def test_map_back_by_hand() -> None:
    decomposed = unicodedata.normalize("NFD", "한")
    assert pieces(Normalizer()(f"㈜{decomposed}\u200b 글")) == [
        ("(", "㈜"), ("주", "㈜"), (")", "㈜"), ("한", f"{decomposed}\u200b"), (" ", " "), ("글", "글"),
    ]  # fmt: skip
    assert pieces(Normalizer()("\ufeff가  나\u200d")) == [("가", "\ufeff가"), (" ", "  "), ("나", "나\u200d")]
    normal = Normalizer()("(ｶﾞ)")
    assert normal.to_original(1, 2) == (1, 3)
    assert normal.to_original(0, 3) == (0, 4)
    assert Normalizer()("가 \u200b 나").text == "가 \u200b 나"  # alone between spaces: kept, not lost


def test_emoji_stay_whole_in_the_map() -> None:
    family = "👨\u200d👩\u200d👧"
    normal = Normalizer()(f"가{family}나")
    assert normal.text == "가👨👩👧나"
    assert normal.to_original(1, 4) == (1, 1 + len(family))
    assert Normalizer()("❤\ufe0f").text == "❤"


def test_forms_differ() -> None:
    assert Normalizer("NFC")("㈜ａ").text == "㈜ａ"
    assert Normalizer("NFC")("e\u0301").text == "é"
    assert Normalizer("none")("e\u0301 ｶﾞ").text == "e\u0301 ｶﾞ"
    assert Normalizer(lowercase=True)("ABC İ Ａ").text == "abc i̇ a"
    with pytest.raises(ConfigError, match=r"normalizer\.form: 'nfkc' is unknown, wanted NFKC, NFC or none"):
        Normalizer("nfkc")


# ---- laws ----


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="´ﷺ"), max_size=12))
def test_visible_text_is_what_unicodedata_gives(text: str) -> None:
    """Character by character, so that only what must combine is compared with the whole."""
    for form in ("NFC", "NFKC"):
        if any("\u1100" <= c <= "\u11ff" or "ㄱ" <= c <= "ㆎ" or "\uffa0" <= c <= "\uffdc" for c in text):
            continue  # jamo: deliberately otherwise, see above
        expected = unicodedata.normalize(form, text)
        if not any(map(str.isspace, expected)) and not any("\ufe00" <= c <= "\ufe0f" for c in text):
            assert Normalizer(form)(text).text == expected


@given(TEXTS, NORMALIZERS)
@example("\u200b", Normalizer())
@example("\u3164", Normalizer())
@example("\uffa0", Normalizer())
@example("\u1112\u1160\u1161", Normalizer())
@example("ᄒ\u1161\u11ab\u200b\u11ab", Normalizer())
def test_every_character_is_accounted_for(text: str, normalizer: Normalizer) -> None:
    normal = normalizer(text)
    starts, ends = normal.starts.tolist(), normal.ends.tolist()
    assert len(starts) == len(ends) == len(normal.text)
    covered: set[int] = set()
    previous = (0, 0)
    for start, end in zip(starts, ends, strict=True):
        assert 0 <= start < end <= len(text)
        assert (start, end) == previous or start >= previous[1]  # one cluster, or apart
        previous = (start, end)
        covered |= set(range(start, end))
    assert all(char.isspace() for i, char in enumerate(text) if i not in covered)
    for char, original in pieces(normal):
        assert (char == " ") == original.isspace()
    assert normal.text == normal.text.strip()
    assert "  " not in normal.text


@given(TEXTS, NORMALIZERS)
def test_normal_text_is_normal(text: str, normalizer: Normalizer) -> None:
    once = normalizer(text).text
    assert normalizer(once).text == once


@given(TEXTS, NORMALIZERS, st.data())
def test_ranges_map_to_ranges(text: str, normalizer: Normalizer, data: st.DataObject) -> None:
    normal = normalizer(text)
    if not normal.text:
        with pytest.raises(ValueError, match="is not a range"):
            normal.to_original(0, 1)
        return
    start = data.draw(st.integers(0, len(normal.text) - 1))
    end = data.draw(st.integers(start + 1, len(normal.text)))
    first, last = normal.to_original(start, end)
    assert 0 <= first < last <= len(text)
    assert first == normal.starts[start]
    assert last == normal.ends[end - 1]


@given(TEXTS, NORMALIZERS, st.integers(0, 30))
def test_cuts_fall_between_clusters(text: str, normalizer: Normalizer, position: int) -> None:
    normal = normalizer(text)
    index = normal.cut_before(position)
    inside = any(s < position < e for s, e in zip(normal.starts, normal.ends, strict=True))
    if index is None:
        before = [i for i in range(len(normal.text)) if normal.starts[i] < position]
        assert inside or not before or len(before) == len(normal.text)
    else:
        assert not inside
        assert normal.ends[index - 1] <= position <= normal.starts[index]


def test_what_shows_nothing_is_blank_for_every_asker() -> None:
    everything = "".join(map(chr, range(0x110000)))
    is_blank = blank_mask(everything)
    for code in (
        0x20,
        0x3000,
        0x34F,
        0x115F,
        0x1160,
        0x200B,
        0x2800,
        0x3164,
        0xFE0F,
        0xFFA0,
        0xE0020,
        0xE0100,
        0xE01EF,
    ):
        assert is_blank[code], hex(code)
        assert trim(f"{chr(code)}가{chr(code)}", 0, 3) == (1, 2)
        assert Normalizer().in_place(f"가{chr(code)}나") in (None, "가 나"), hex(code)
    assert not is_blank[[0x21, 0x1100, 0x1161, 0x3131, 0x3163, 0x3165, 0xAC00, 0x1F600, 0xE1000, 0x10FFFF]].any()


@given(TEXTS, st.data())
def test_trim_takes_only_blanks(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = trim(text, start, end)
    assert start <= first <= last <= end

    def blank(char: str) -> bool:
        return Normalizer("none")(f"가{char}가").text in ("가가", "가 가")

    assert all(map(blank, text[start:first] + text[last:end]))
    assert first == last or not (blank(text[first]) or blank(text[last - 1]))


@example("\uffa0\uffa1\uffc2", Normalizer())  # half-width jamo: each a character of its own
@given(
    st.text("세종 은1420년(ㅋㅋ)「集賢殿」·—あA é\n（２①\u00a0\uf9e1\uff76", max_size=20)
    | st.text("가 b", max_size=6)
    | TEXTS,
    NORMALIZERS,
)
def test_the_short_way_gives_what_the_long_way_gives(text: str, normalizer: Normalizer) -> None:
    short, long = normalizer(text), _Builder(text, normalizer).build()
    assert short.text == long.text
    assert short.starts.tolist() == long.starts.tolist()
    assert short.ends.tolist() == long.ends.tolist()


@given(normalizer=NORMALIZERS, texts=st.lists(st.text("가b １Σ\n\u0301", max_size=4) | TEXTS, max_size=5))
@example(normalizer=Normalizer(), texts=["", "가", " 가", "가 ", "가  나", "", "\U0001faff", "\U0001f600", " "])
def test_many_in_place_as_one_at_a_time(normalizer: Normalizer, texts: list[str]) -> None:
    assert normalizer.in_place_all(texts) == [normalizer.in_place(text) for text in texts]


def test_most_korean_text_takes_the_short_way() -> None:
    normalizer = Normalizer()
    text = "세종(世宗)은 1420년 ‘집현전’을—다시—두었다. 《훈민정음》 · カナ ㅋㅋ 😀"
    assert normalizer.in_place(text) is text
    assert normalizer.in_place("가\n（２）\u3000나\u00a0①，") == "가 (2) 나 1,"
    assert Normalizer("none", lowercase=True).in_place("가\tＡ AΒ") is None
    assert Normalizer("NFKC", lowercase=True).in_place("가\tＡ AΒ") == "가 a aβ"
    for text in (" 가", "가 ", "가  나", "가\n\n나", "가\u200b나", "㈜", "\u1112\u1161", "e\u0301", "▁", "\ud800", "ﾞ"):
        assert normalizer.in_place(text) is None


def test_stable_characters_are_left_alone_by_unicodedata() -> None:
    stable = [
        char for char in map(chr, range(0x110000)) if Normalizer().in_place(char) == char and not "ㄱ" <= char <= "ㆎ"
    ]
    assert len(stable) > 40_000
    for form in ("NFC", "NFKC"):
        assert unicodedata.is_normalized(form, "".join(stable))
    assert not any(map(str.isspace, stable))
    assert all(len(char.lower()) == 1 for char in stable)


@given(TEXTS, st.sampled_from(["NFC", "NFD", "none"]))
def test_composed_places_are_those_of_every_beginning(text: str, form: str) -> None:
    text = text if form == "none" else unicodedata.normalize(form, text)  # type: ignore[arg-type]
    wanted = [len(unicodedata.normalize("NFC", text[:place])) for place in range(len(text) + 1)]
    assert composed_places(text).tolist() == wanted
