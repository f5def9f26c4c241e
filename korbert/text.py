"""Characters of the user's own string are the only coordinates: spans, annotated text, normalisation with a map back.

Normalisation follows Unicode Standard Annex 15 (NFC, NFKC), cluster by cluster, so that every normalised
character knows which original characters it came from.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from korbert.errors import check_known

IntArray = npt.NDArray[np.int32]

LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: no UTF-8 file can hold it

FORMS = ("NFKC", "NFC", "none")
_UnicodeForm = Literal["NFC", "NFKC"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open range `[start, end)` of characters (Unicode code points) with an optional entity type."""

    start: int
    end: int
    label: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a span needs 0 <= start < end, got [{self.start}, {self.end})")

    def __len__(self) -> int:
        return self.end - self.start

    def of(self, text: str) -> str:
        """Return the characters of `text` that this span covers."""
        return text[self.start : self.end]


def span_edges(text: str, spans: Iterable[Span]) -> list[int]:
    """Where spans of `text` begin and end: the characters at which tokens are cut.

    Invisible characters behind a span are one with its last character: nothing can be cut between them.
    """
    return [edge for span in spans for edge in (span.start, _behind_invisible(text, span.end))]


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with the entities found in it: in order, without overlap, inside the text.

    Raises ValueError on construction otherwise.
    """

    text: str
    entities: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        for entity in self.entities:
            if entity.start < end:
                raise ValueError(f"entities must be in order and must not overlap: {entity} starts before {end}")
            end = entity.end
        if end > len(self.text):
            raise ValueError(f"entity {self.entities[-1]} ends after the text's {len(self.text)} characters")

    def slice(self, start: int, end: int) -> AnnotatedText:
        """Return characters `[start, end)` with the entities that lie wholly inside, shifted to start at 0."""
        first = bisect.bisect_left(self.entities, start, key=lambda e: e.start)
        inside = self.entities[first : bisect.bisect_right(self.entities, end, key=lambda e: e.end)]
        return AnnotatedText(self.text[start:end], tuple(Span(e.start - start, e.end - start, e.label) for e in inside))


# Characters that show nothing: those with Unicode's property Default_Ignorable_Code_Point (zero-width spaces and
# joiners, direction marks, the byte order mark, the soft hyphen, Hangul fillers, variation selectors, tags) and the
# blank Braille cell. They are taken out of a word and stay part of its original span.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)


# Raise the number when any text becomes another one: tokenizers, shards and pretrainings of the older one are then made
# again. Annotators, units and windows have numbers of their own.
NORMALISATION = 2

# Where stable characters are looked for, from one code up to another; nothing stable lies beyond.
_STABLE_BLOCKS = ((0x21, 0x600), (0x2010, 0x2C00), (0x3001, 0x3131), (0x3190, 0x3400), (0x1F300, 0x1FB00))


def _stable_characters() -> str:
    """A class of characters, for a regular expression, that every form leaves alone, beside whichever of themselves.

    It has what Korean text is mostly made of; a character that is missing is only slower. Compatibility jamo (ㅋㅋ, ㄱ)
    belong here although NFKC would turn them into conjoining jamo: those would then melt into syllables that nobody
    wrote. The sign of a word's start is left out for the pretokenizer's sake, the capital sigma because its lower case
    depends on its neighbours.
    """
    stable = [
        ord(char)
        for char in (chr(code) for first, end in _STABLE_BLOCKS for code in range(first, end))
        if unicodedata.normalize("NFKC", char) == char
        and unicodedata.category(char)[0] not in "MZC"
        and re.match(f"[{WORD_START}Σ{_INVISIBLE}]", char) is None
        and len(char.lower()) == 1
    ]
    # Ranges, because what lies beyond 0xFFFF would otherwise be compared one by one.
    after_gap = [code for code, last in zip(stable, [-1, *stable[:-1]], strict=True) if code != last + 1]
    before_gap = [code for code, after in zip(stable, [*stable[1:], -1], strict=True) if after != code + 1]
    ranges = (f"\\U{first:08x}-\\U{last:08x}" for first, last in zip(after_gap, before_gap, strict=True))
    return f"{''.join(ranges)}ㄱ-ㅣㅥ-ㆎ㐀-䶿一-鿿가-힣"


WORD_START = "▁"  # as in SentencePiece: white space before a word is part of the word's first token
_STABLE = _stable_characters()
_UNSTABLE = re.compile(f"[^{_STABLE} ]")
_RUN = re.compile(
    rf"(?P<stable>[{_STABLE}]+(?: [{_STABLE}]+)*)|(?P<space>\s+)|(?P<invisible>[{_INVISIBLE}]+)|(?P<other>.)", re.S
)
_BEYOND_BLANK = 0xE1000  # no blank character has this code or one above
# Of one character; more begin a cluster of their own, as in Unicode's Stream-Safe Text Format (annex 15, section 13):
# what takes the square of their number takes no time then, and no language has as many.
_MOST_MARKS = 30
_REMOVE_INVISIBLE = re.compile(f"[{_INVISIBLE}]+")
_BLANK = re.compile(rf"[\s{_INVISIBLE}]+")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """Normalised text and, for each of its characters, the original characters it came from.

    starts, ends: (len(text),) int32; normalised character i came from `original[starts[i]:ends[i]]`. All characters
    of one expansion (㈜ → "(주)") share one range; ranges of different clusters never overlap.
    """

    original: str
    text: str
    starts: IntArray
    ends: IntArray

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """Map a non-empty normalised range to the range of original characters that it covers."""
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"[{start}, {end}) is not a range of the {len(self.text)} normalised characters")
        return int(self.starts[start]), int(self.ends[end - 1])

    def cut_before(self, position: int) -> int | None:
        """Index of the normalised character at which a cut before original `position` falls.

        None where a cut is impossible: at either end, or inside characters that normalised together.
        """
        index = place_of(self.starts, min(max(position, 0), len(self.original)), "left")
        if index == 0 or index == len(self.text):
            return None
        return index if self.ends[index - 1] <= position else None


def place_of(column: IntArray, value: int, side: Literal["left", "right"]) -> int:
    """Where `value` stands in a column in order, (T,) int32: a number of another type would have all of it copied."""
    return int(column.searchsorted(np.int32(value), side))


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Normalise text: Unicode form, white space runs to one space, invisible characters out, optionally lower case.

    form: "NFKC", "NFC" or "none". White space at both ends goes; a lone surrogate becomes U+FFFD. Invisible
    characters that stand alone between white space are kept, so that no visible gap is left unaccounted for.
    Raises ConfigError for an unknown form.
    """

    form: str = "NFKC"
    lowercase: bool = False

    def __post_init__(self) -> None:
        check_known("normalizer.form", self.form, FORMS)

    def __call__(self, text: str) -> NormalizedText:
        """Normalise `text` once and keep the map back to its characters."""
        if text and (normal := self.in_place(text)) is not None:
            positions = np.arange(len(text) + 1, dtype=np.int32)
            return NormalizedText(text, normal, positions[:-1], positions[1:])
        return _Builder(text, self).build()

    def in_place(self, text: str) -> str | None:
        """Normalise a text of which every character stays one character; None where one does not, or nobody knows.

        Most Korean text is found to be normal already at a few hundred MB a second.
        """
        if _UNSTABLE.search(text) is not None:
            text = text.translate(_replacements(self.form))
            if _UNSTABLE.search(text) is not None:
                return None
        if "  " in text or text.startswith(" ") or text.endswith(" "):
            return None
        return text.lower() if self.lowercase else text

    def in_place_all(self, texts: Sequence[str]) -> list[str | None]:
        """Several texts as `in_place` gives them; those that are normal already are found all at once."""
        if len(texts) == 1:
            return [self.in_place(texts[0])]
        codes = np.frombuffer(f" {' '.join(texts)} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        is_odd = ~_is_stable_code().take(codes, mode="clip")
        is_space = codes == ord(" ")
        is_odd[1:] |= is_space[1:] & is_space[:-1]  # the second one is in the text, or right behind it
        ends = np.cumsum([len(text) + 1 for text in texts])  # the space behind each text
        odd = set(ends.searchsorted(np.flatnonzero(is_odd)).tolist())
        return [
            self.in_place(text) if i in odd else text.lower() if self.lowercase else text
            for i, text in enumerate(texts)
        ]

    def cluster(self, cluster: str) -> str:
        """Normalise one cluster: a character with whatever combines with it."""
        visible = _REMOVE_INVISIBLE.sub("", cluster) or cluster
        return _normalize_cluster(visible, self.form, self.lowercase)


@lru_cache(maxsize=1)
def _is_stable_code() -> npt.NDArray[np.bool_]:
    """Of each code up to the last one that is stable, and of all beyond as one."""
    codes = "".join(map(chr, range(_STABLE_BLOCKS[-1][1] + 1)))
    is_stable = np.zeros(len(codes), dtype=np.bool_)
    for run in re.finditer(f"[{_STABLE} ]+", codes):
        is_stable[run.start() : run.end()] = True
    return is_stable


@lru_cache(maxsize=len(FORMS))
def _replacements(form: str) -> dict[int, str]:
    """Characters that become one stable character whatever is beside them: other white space, （, ２, ①."""
    table = {}
    for char in map(chr, [*range(0x600), *range(0x2000, 0x3400), *range(0xF900, 0xFB00), *range(0xFE10, 0xFFFF)]):
        normal = " " if char.isspace() else _normalize_cluster(char, form, False)
        if normal != char and len(normal) == 1 and _UNSTABLE.search(normal) is None:
            table[ord(char)] = normal
    return table


@lru_cache(maxsize=1 << 16)
def _normalize_cluster(cluster: str, form: str, lowercase: bool) -> str:
    out = "".join(_replace(char, form) for char in cluster)
    if form != "none":
        normal = unicodedata.normalize(cast(_UnicodeForm, form), out) if not _is_stable(out) else out
        # A few compatibility forms (´, ﷺ) expand to text with spaces; a word must not fall apart in the middle.
        out = normal if not any(map(str.isspace, normal)) else unicodedata.normalize("NFC", out)
    return out.lower() if lowercase else out


def _replace(char: str, form: str) -> str:
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    if (
        form == "NFKC" and "\uffa0" <= char <= "\uffdc"
    ):  # half-width jamo: to compatibility jamo, not on to conjoining jamo
        decomposition = unicodedata.decomposition(char).split()
        return chr(int(decomposition[1], 16)) if decomposition else char
    return char


def _is_stable(text: str) -> bool:
    return all("ㄱ" <= char <= "ㆎ" for char in text)


@lru_cache(maxsize=1 << 16)
def _extends(char: str, form: str) -> bool:
    """Whether `char` combines with what stands before it: a mark, a conjoining vowel or final consonant."""
    replaced = _replace(char, form)
    if form == "none" or _is_stable(replaced):  # a half-width jamo becomes one that combines with nothing
        return False
    first = unicodedata.normalize(cast(_UnicodeForm, form), replaced)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff" or "\ud7b0" <= first <= "\ud7fb"


def composed_places(text: str) -> IntArray:
    """How many characters the first p characters of a text have in NFC, for every p, (length + 1,)."""
    places = np.arange(len(text) + 1, dtype=np.int32)
    if _UNSTABLE.search(text) is None:
        return places
    count = begin = 0
    for end in range(1, len(text) + 1):
        if end - begin <= _MOST_MARKS and end < len(text) and _extends(text[end], "NFC"):
            places[end] = count + len(unicodedata.normalize("NFC", text[begin:end]))
        else:
            count += len(unicodedata.normalize("NFC", text[begin:end]))
            places[end], begin = count, end
    return places


class _Builder:
    """One pass over a text that is not already normal."""

    def __init__(self, text: str, normalizer: Normalizer) -> None:
        self.original = text
        self.normalizer = normalizer
        self.chars: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.pending: int | None = None  # start of invisible characters that wait for a word to belong to
        self.marks = 0  # that the last cluster has taken

    def build(self) -> NormalizedText:
        for match in _RUN.finditer(self.original):
            start, end = match.span()
            if match.lastgroup == "stable":
                self.marks = 0
                self._stable(match.group(), start)
            elif match.lastgroup == "space":
                self._space(start, end)
            elif match.lastgroup == "invisible":
                if self._after_word():
                    self._extend(end)
                else:
                    self.pending = start
            elif self.marks < _MOST_MARKS and self._after_word() and _extends(match.group(), self.normalizer.form):
                self.marks += 1
                self._extend(end)
            else:
                self.marks = 0
                self._append(self.normalizer.cluster(match.group()), self._take_pending(start), end)
        self._flush(len(self.original))
        if self.chars and self.chars[-1] == " ":
            self._pop(len(self.chars) - 1)
        text = "".join(self.chars)
        return NormalizedText(
            self.original, text, np.array(self.starts, dtype=np.int32), np.array(self.ends, dtype=np.int32)
        )

    def _after_word(self) -> bool:
        return self.pending is None and bool(self.chars) and self.chars[-1] != " "

    def _take_pending(self, start: int) -> int:
        start, self.pending = (start if self.pending is None else self.pending), None
        return start

    def _stable(self, run: str, start: int) -> None:
        first = self._take_pending(start)
        self.chars.extend(run.lower() if self.normalizer.lowercase else run)
        self.starts.append(first)
        self.starts.extend(range(start + 1, start + len(run)))
        self.ends.extend(range(start + 1, start + len(run) + 1))

    def _space(self, start: int, end: int) -> None:
        self._flush(start)
        if self.chars:
            self._append(" ", start, end)

    def _flush(self, end: int) -> None:
        """Keep invisible characters that found no word to belong to."""
        if self.pending is not None:
            start = self._take_pending(end)
            self._append(self.original[start:end], start, end)

    def _append(self, out: str, start: int, end: int) -> None:
        self.chars.extend(out)
        self.starts.extend([start] * len(out))
        self.ends.extend([end] * len(out))

    def _extend(self, end: int) -> None:
        """Let the last cluster go on to `end` and normalise it again as a whole."""
        start = self.starts[-1]
        first = len(self.starts) - 1
        while first > 0 and self.starts[first - 1] == start:
            first -= 1
        self._pop(first)
        self._append(self.normalizer.cluster(self.original[start:end]), start, end)

    def _pop(self, first: int) -> None:
        del self.chars[first:], self.starts[first:], self.ends[first:]


def _behind_invisible(text: str, place: int) -> int:
    found = _REMOVE_INVISIBLE.match(text, place)
    return place if found is None else found.end()


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Shrink `[start, end)` past white space and invisible characters at both of its ends."""
    while start < end and _is_blank(text[start]):
        start += 1
    while end > start and _is_blank(text[end - 1]):
        end -= 1
    return start, end


def blank_mask(text: str) -> npt.NDArray[np.bool_]:
    """Which characters are white space or invisible, as `trim` takes them, (length,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return _blank_codes()[np.minimum(codes, _BEYOND_BLANK)]


@lru_cache(maxsize=1)
def _blank_codes() -> npt.NDArray[np.bool_]:
    """Of each code up to the last one that can be blank, and of all beyond as one."""
    is_blank = np.zeros(_BEYOND_BLANK + 1, dtype=np.bool_)
    for run in _BLANK.finditer("".join(map(chr, range(_BEYOND_BLANK)))):
        is_blank[run.start() : run.end()] = True
    return is_blank


@lru_cache(maxsize=1 << 17)
def _is_blank(char: str) -> bool:
    return _BLANK.fullmatch(char) is not None
