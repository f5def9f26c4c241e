"""Entities that are left out or moved: laws over any text, and what a fine-tuned model is told."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.entities import DamagedAnnotator, EntityAnnotator, RandomSpanAnnotator, make_annotator
from korbert.errors import ConfigError
from korbert.text import AnnotatedText, Normalizer, Span, blank_mask, trim


class Given(EntityAnnotator):
    """Finds every other word, by turns of two types."""

    @property
    def fingerprint(self) -> str:
        return "given"

    def annotate(self, text: str) -> AnnotatedText:
        spans = []
        start = 0
        for number, word in enumerate(text.split(" ")):
            first, last = trim(text, start, start + len(word))
            if number % 2 == 0 and first < last:
                spans.append(Span(first, last, "AB"[number // 2 % 2]))
            start += len(word) + 1
        return AnnotatedText(text, tuple(spans))


texts = st.text(alphabet="가각힣ab1㈜ \u200b\u0301ᄒ", max_size=80)
shares = st.floats(0, 1)


def visible(text: str) -> int:
    return int((~blank_mask(Normalizer("NFC")(text).text)).sum())


def sizes(text: str, spans: Sequence[Span]) -> list[tuple[str, int]]:
    return sorted((span.label, visible(span.of(text))) for span in spans)


@given(texts, st.integers(0, 5))
def test_what_is_dropped(text: str, seed: int) -> None:
    """All or nothing at the ends; with a larger share more of them, never others; the rest is untouched."""
    whole = Given().annotate(text).entities
    found = [DamagedAnnotator(Given(), dropped=share, seed=seed).annotate(text) for share in (0.0, 0.3, 0.6, 1.0)]
    assert all(one.text == text for one in found)
    kept = [set(one.entities) for one in found]
    assert kept[0] == set(whole)
    assert kept[0] >= kept[1] >= kept[2] >= kept[3] == set()


@given(texts, shares, shares, st.integers(0, 5))
def test_what_is_moved_lies_where_no_entity_is(text: str, dropped: float, share: float, seed: int) -> None:
    """Not where one stays, nor where one was taken from; what has no room is left out, and counted."""
    whole = Given().annotate(text).entities
    damaged = DamagedAnnotator(Given(), dropped, (1 - dropped) * share, seed)
    found = damaged.annotate(text).entities
    kept = set(found) & set(whole)
    for one in set(found) - kept:
        assert not any(one.start < entity.end and entity.start < one.end for entity in whole)
    counts = damaged.counts([text])
    assert counts.moved == len(found) - len(kept)
    assert counts.entities == len(whole) == len(kept) + counts.moved + counts.no_room + counts.dropped


def test_entities_without_room_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Between the other two there is room for one of two characters, and the text ends before there is for another."""
    annotator = DamagedAnnotator(Given(), moved=1.0)
    text = "가각 힣a 가각"
    (one,) = annotator.annotate(text).entities
    assert (one.start, one.end) == (3, 5)
    assert annotator.counts([text, "가 b 각 b"]) == (4, 0, 3, 1)
    said = "damage.moved=1.0: 1 of 4 entities found no room beside the others of their text, and are left out"
    assert said in caplog.text


@given(texts, shares, shares, st.integers(0, 5))
def test_what_is_moved(text: str, dropped: float, share: float, seed: int) -> None:
    """What is kept is what neither share has; moved ones keep type and size, and nothing overlaps."""
    moved = (1 - dropped) * share
    whole = Given().annotate(text).entities
    found = DamagedAnnotator(Given(), dropped, moved, seed).annotate(text)
    assert found == DamagedAnnotator(Given(), dropped, moved, seed).annotate(text)
    assert found.text == text
    for before, after in zip(found.entities, found.entities[1:], strict=False):
        assert before.end <= after.start
    for span in found.entities:
        assert trim(text, span.start, span.end) == (span.start, span.end)
    at_home = DamagedAnnotator(Given(), min(1.0, dropped + moved), 0.0, seed).annotate(text).entities
    assert set(at_home) <= set(found.entities)
    left = sizes(text, whole)
    for one in sizes(text, found.entities):  # raises where a size or type is of none
        left.remove(one)


def test_shares_on_real_text(sample: Path) -> None:
    """Of many entities the shares are what was asked for; none of the moved ones falls where an entity was."""
    lines = [line for line in (sample / "corpus.txt").read_text("utf-8").splitlines() if line.strip()]
    mecab = make_annotator("mecab")
    whole = [set(one.entities) for one in mecab.annotate_all(lines)]
    count = sum(map(len, whole))
    fewer = [set(one.entities) for one in DamagedAnnotator(mecab, dropped=0.3).annotate_all(lines)]
    assert sum(map(len, fewer)) == pytest.approx(0.7 * count, abs=4 * (0.21 * count) ** 0.5)
    moved = [set(one.entities) for one in DamagedAnnotator(mecab, moved=0.3).annotate_all(lines)]
    assert sum(map(len, moved)) > 0.98 * count
    same = sum(len(a & b) for a, b in zip(whole, moved, strict=True))
    assert same == pytest.approx(0.7 * count, abs=4 * (0.21 * count) ** 0.5)
    others = [set(one.entities) for one in DamagedAnnotator(mecab, dropped=0.3, seed=1).annotate_all(lines)]
    assert others != fewer


def test_decomposed_text_is_damaged_alike(sample: Path) -> None:
    annotator = DamagedAnnotator(make_annotator("mecab"), dropped=0.2, moved=0.5)
    for line in (sample / "corpus.txt").read_text("utf-8").splitlines()[:30]:
        forms = [unicodedata.normalize(form, line) for form in ("NFC", "NFD")]
        words = [[span.of(form) for span in annotator.annotate(form).entities] for form in forms]
        assert [unicodedata.normalize("NFC", word) for word in words[1]] == words[0]


@pytest.mark.parametrize("make", [RandomSpanAnnotator, partial(DamagedAnnotator, dropped=0.2, moved=0.5)])
def test_long_text_is_drawn_alike_decomposed(
    make: Callable[[EntityAnnotator], EntityAnnotator],
) -> None:
    """A stretch's end is counted in NFC: the decomposed text has more than twice as many characters."""
    text = "세종은 ㈜서울 힣e\u0323\u0301\u0307 \u200b한글을  가" * 1100
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    words = [[span.of(form) for span in make(Given()).annotate(form).entities] for form in forms]
    assert len(forms[0]) > 1.2 * 2**14
    assert len(words[0]) > 1000
    assert [unicodedata.normalize("NFC", word) for word in words[1]] == words[0]


def test_long_text_has_its_shares_everywhere() -> None:
    text = "서울 여행 " * 9000
    found = DamagedAnnotator(Given(), dropped=0.5).annotate(text).entities
    assert len(found) == pytest.approx(4500, abs=250)
    for start in range(0, len(text), len(text) // 6):
        assert any(start <= span.start < start + len(text) // 6 for span in found)


@pytest.mark.parametrize(
    ("dropped", "moved", "said"),
    [
        (1.5, 0.0, r"damage\.dropped: wanted a share between 0 and 1, got 1\.5"),
        (0.0, -0.1, r"damage\.moved: wanted a share"),
        (0.6, 0.6, r"damage\.dropped=0\.6 and damage\.moved=0\.6 are more than all"),
        (float("nan"), 0.0, r"damage\.dropped: wanted a share"),
    ],
)
def test_shares_that_cannot_be(dropped: float, moved: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DamagedAnnotator(Given(), dropped, moved)


def test_every_damage_has_its_own_fingerprint() -> None:
    """Or a cache would give one for the other."""
    made = [DamagedAnnotator(Given(), *values) for values in ((0.1,), (0.3,), (0.0, 0.1), (0.1, 0.1), (0.1, 0.0, 7))]
    assert len({one.fingerprint for one in made}) == len(made)
