"""What happens between normalised text and a vocabulary: cutting at morphemes, and rewriting characters as symbols.

A vocabulary model sees *pieces*, strings of symbols. A symbol is a character, a jamo, a byte, or the tag of a morpheme;
the characters that it stands for are kept, so that any segmentation of the symbols has exact spans.
"""

from __future__ import annotations

import itertools
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from korbert.errors import ConfigError, check_known
from korbert.morphology import Analyser, Morpheme, make_analyser
from korbert.text import WORD_START, IntArray

log = logging.getLogger(__name__)
SYMBOLS = ("text", "jamo", "bytes")
NO_SPLIT = "none"
_FIRST_TAG = 0xF0000  # a private-use plane; a character of the text that is in it becomes U+FFFD where tags are on
_PRIVATE = re.compile(f"[{chr(_FIRST_TAG)}-{chr(0xFFFFD)}]")
_FIRST_SYLLABLE, _SYLLABLES, _VOWELS, _FINALS = 0xAC00, 11172, 21, 28


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of symbols, in order, of a text with a space in front; a space marks the start of a word.

    firsts: (characters + 1,) int32, the first symbol of each character and the number of all; None where every symbol
    is a character.
    """

    pieces: list[str]
    firsts: IntArray | None


class Pretokenizer:
    """Text → pieces that no token crosses.

    split: "none", or the analyser at whose morphemes the text is cut. tags: whether a morpheme ends with a symbol for
    its part of speech. symbols: "text", "jamo" (conjoining: an initial ᄀ is not a final ᆨ), or "bytes" (of UTF-8,
    shown as GPT-2 shows them). Raises ConfigError for settings that do not go together.
    """

    def __init__(
        self,
        split: str = NO_SPLIT,
        tags: bool = False,
        symbols: str = "text",
        tag_names: Iterable[str] = (),
        version: str | None = None,
    ) -> None:
        """Take the settings; tag_names and version, the analyser's, are those of the training, if there was one."""
        check_known("tokenizer.symbols", symbols, SYMBOLS)
        if tags and split == NO_SPLIT:
            raise ConfigError(
                "tokenizer.tags: tags are those of morphemes: choose an analyser, e.g. tokenizer.split=mecab"
            )
        self.split, self.tags, self.symbols = split, tags, symbols
        self.is_plain = split == NO_SPLIT and symbols == "text"  # pieces are words as they are
        self.tag_names = list(tag_names)
        self.analyser: Analyser | None = None
        if split != NO_SPLIT:
            self.analyser = make_analyser(split, "tokenizer.split", exact=version is not None)
            self.split = self.analyser.name
            self.version = version or self.analyser.version
            if version is not None and not self.analyser.is_installed:
                log.warning(
                    "this tokenizer was made with %s %s, which is not installed: it cannot cut any text here",
                    self.analyser.install, self.version,
                )  # fmt: skip
            elif self.version != self.analyser.version:
                log.warning(
                    "this tokenizer was made with %s %s; %s is installed, whose morphemes may differ",
                    self.analyser.install, self.version, self.analyser.version,
                )  # fmt: skip

    @property
    def keeps_characters(self) -> bool:
        """Whether every symbol is a character of the text."""
        return self.symbols == "text" and not self.tags

    def description(self) -> dict[str, Any]:
        """What decides the pieces, as JSON: the arguments that are not the defaults, and the analyser's version."""
        settings: dict[str, Any] = {}
        if self.analyser is not None:
            settings |= {"split": self.split, "version": self.version}
        if self.tags:
            settings |= {"tags": True, "tag_names": self.tag_names}
        return settings | ({"symbols": self.symbols} if self.symbols != "text" else {})

    def __call__(self, text: str, cuts: Iterable[int] = (), learn: bool = False) -> Pieces:
        """Cut and rewrite a normalised text that is not empty.

        cuts: further places to cut at, indices of `text`; learn: whether tags that were never seen get a symbol.
        """
        words = f" {text}"
        edges = set(cuts)
        morphemes: list[Morpheme] = []
        if self.tags and self.analyser is not None:
            morphemes = self.analyser.analyse(text)
            edges.update(edge for start, end, _ in morphemes for edge in (start, end))
        elif self.analyser is not None:
            edges |= self.analyser.edges(text)
        # A word keeps the white space in front of it: a cut behind a space falls before it. All are one on in `words`.
        places = {edge if words[edge] == " " else edge + 1 for edge in edges if 0 < edge < len(text)}
        places.discard(0)
        ordered = [0, *sorted(places), len(words)]
        if self.symbols != "bytes":
            words = words.replace(WORD_START, "_")  # as a literal character it would be taken for a space
        if self.tags:
            words = _PRIVATE.sub("\ufffd", words)
        symbols, firsts = _REWRITE[self.symbols](words)
        if self.tags:
            symbols, firsts = self._with_tags(symbols, firsts, words, morphemes, learn)
        if firsts is not None:
            ordered = firsts[ordered].tolist()
        return Pieces([symbols[a:b] for a, b in itertools.pairwise(ordered)], firsts)

    def _with_tags(
        self, symbols: str, firsts: IntArray | None, words: str, morphemes: list[Morpheme], learn: bool
    ) -> tuple[str, IntArray]:
        """Put each morpheme's tag behind its last symbol."""
        if firsts is None:
            firsts = np.arange(len(words) + 1, dtype=np.int32)
        parts, before, shift = [], 0, np.zeros(len(words) + 2, dtype=np.int32)
        for morpheme in morphemes:
            if learn and morpheme.tag not in self.tag_names:
                self.tag_names.append(morpheme.tag)
            if morpheme.tag in self.tag_names:
                place = int(firsts[morpheme.end + 1])
                parts += [symbols[before:place], chr(_FIRST_TAG + self.tag_names.index(morpheme.tag))]
                before = place
                shift[morpheme.end + 1] += 1
        # The tag belongs to what stands before it: the next character's first symbol is the one behind the tag.
        return "".join([*parts, symbols[before:]]), (firsts + np.cumsum(shift)[:-1]).astype(np.int32)

    @property
    def required(self) -> str:
        """Symbols that a vocabulary of subwords must have, however rare: all bytes, the tags."""
        tags = "".join(chr(_FIRST_TAG + i) for i in range(len(self.tag_names)))
        return tags + ("".join(byte_signs()) if self.symbols == "bytes" else "")

    def shown(self, token: str) -> str:
        """A vocabulary entry for people to read: tags as /NNG, the rest as it is."""
        return _PRIVATE.sub(lambda match: f"/{self._tag(match[0])}", token) if self.tags else token

    def _tag(self, symbol: str) -> str:
        number = ord(symbol) - _FIRST_TAG
        return self.tag_names[number] if number < len(self.tag_names) else "?"

    def text(self, symbols: str) -> str:
        """Turn symbols back into text: without tags, syllables from jamo, characters from bytes."""
        if self.tags:
            symbols = _PRIVATE.sub("", symbols)
        if self.symbols == "jamo":
            return unicodedata.normalize("NFC", symbols)
        return _text_of_bytes(symbols) if self.symbols == "bytes" else symbols


def _as_text(words: str) -> tuple[str, None]:
    return words, None


def _as_jamo(words: str) -> tuple[str, IntArray | None]:
    """Syllables as initial, vowel and final consonant, by Unicode's arithmetic (section 3.12)."""
    codes = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    syllable = codes - _FIRST_SYLLABLE
    is_syllable = (syllable >= 0) & (syllable < _SYLLABLES)
    final = np.where(is_syllable, syllable % _FINALS, 0)
    firsts = np.concatenate([[0], np.cumsum(1 + is_syllable + (final > 0))])
    out = np.empty(firsts[-1], dtype=np.uint32)
    out[firsts[:-1]] = np.where(is_syllable, 0x1100 + syllable // (_VOWELS * _FINALS), codes)
    out[firsts[:-1][is_syllable] + 1] = 0x1161 + syllable[is_syllable] // _FINALS % _VOWELS
    out[firsts[:-1][final > 0] + 2] = 0x11A7 + final[final > 0]
    return out.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"), firsts.astype(np.int32)


def as_bytes(words: str) -> tuple[str, IntArray]:
    """Text → its bytes in UTF-8, and the first one of each character; a space stays the sign of a word."""
    encoded = [char.encode("utf-8", "surrogatepass") for char in words]
    firsts = np.concatenate([[0], np.cumsum([len(code) for code in encoded])]).astype(np.int32)
    return b"".join(encoded).decode("latin-1").translate(_byte_signs()), firsts


_REWRITE: dict[str, Callable[[str], tuple[str, IntArray | None]]] = {
    "text": _as_text,
    "jamo": _as_jamo,
    "bytes": as_bytes,
}


@lru_cache(maxsize=1)
def _byte_signs() -> dict[int, int]:
    """Byte → a visible character, as in GPT-2 (Radford et al. 2019); the space excepted."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    signs = {byte: byte for byte in visible} | {byte: 0x100 + i for i, byte in enumerate(hidden)}
    return signs | {0x20: 0x20}


def _text_of_bytes(symbols: str) -> str:
    back = {sign: byte for byte, sign in _byte_signs().items()}
    return symbols.translate(back).encode("latin-1", "replace").decode("utf-8", "replace")


def byte_signs() -> list[str]:
    """The 255 symbols that bytes are shown as, in their order, the space not among them."""
    return [chr(sign) for byte, sign in sorted(_byte_signs().items()) if byte != 0x20]
