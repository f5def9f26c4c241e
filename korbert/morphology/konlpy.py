"""KoNLPy's taggers. Their morphemes have no spans: they are aligned to the text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from korbert.errors import KorbertError
from korbert.morphology.base import Analyser, Morpheme, cut_long

# What is two characters in Java, which taggers tear apart, or half of one; control characters, at which some fail.
_NO_JAVA_CHARACTER = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\U00010000-\U0010ffff]")
_MAX_LINE = 1000  # characters that a Java tagger is given at once
log = logging.getLogger(__name__)


class KonlpyAnalyser(Analyser):
    """A KoNLPy tagger, its morphemes aligned to the text."""

    package = "konlpy.tag"
    install = "konlpy"
    tagger: ClassVar[str]

    def _start(self, module: Any) -> Any:
        try:
            return getattr(module, self.tagger)()
        except Exception as error:  # JPype and KoNLPy raise whatever they like: all of it means "cannot start"
            raise KorbertError(
                f"KoNLPy's {self.tagger} cannot start: it needs {self.needs()} ({_first_line(error)})"
            ) from error

    def needs(self) -> str:
        """What has to be installed beside KoNLPy."""
        return "a Java runtime, version 8 or newer (apt-get install default-jre, brew install openjdk)"

    def parse(self, text: str) -> Any:
        """Pairs of form and tag."""
        return self._tagger.pos(text)

    def _analyse(self, text: str) -> list[Morpheme]:
        # A line at a time: some of the Java taggers stop at, or lose, a line break; some take the square of its length.
        out: list[Morpheme] = []
        offset = 0
        for line in _lines(text):
            if line.strip():
                seen = _NO_JAVA_CHARACTER.sub("□", line)
                morphemes, unaligned = align_morphemes(seen, self._pairs(seen))
                out += [Morpheme(m.start + offset, m.end + offset, m.tag) for m in morphemes]
                self.unaligned += unaligned
            offset += len(line)
        return out

    def _pairs(self, line: str) -> list[tuple[str, str]]:
        """What the tagger says of a line; where it fails, one form that is not in the text, so that it is counted."""
        _ = self._tagger  # a missing Java is no failure at this line
        try:
            return self.parse(line)
        except Exception as error:  # the tagger's own, of any kind: Komoran's null pointers, Kkma's cast errors
            log.warning("%s fails at %r (%s); it is taken as a whole", self.name, line[:40], _first_line(error))
            return [("\0", "")]


class OktAnalyser(KonlpyAnalyser):
    """Open Korean Text (Java) through KoNLPy; it tags no proper nouns."""

    name = "okt"
    tagger = "Okt"
    proper_noun = frozenset()
    foreign = frozenset({"Alpha", "Foreign"})
    noun = frozenset({"Noun", "Alpha", "Foreign", "Number"})


class HannanumAnalyser(KonlpyAnalyser):
    """Hannanum (Java) through KoNLPy; its tag for proper nouns does not come through."""

    name = "hannanum"
    tagger = "Hannanum"
    proper_noun = frozenset()
    foreign = frozenset({"F"})
    noun = frozenset({"N", "F"})


class KomoranAnalyser(KonlpyAnalyser):
    """Komoran (Java) through KoNLPy."""

    name = "komoran"
    tagger = "Komoran"


class KkmaAnalyser(KonlpyAnalyser):
    """Kkma (Java) through KoNLPy."""

    name = "kkma"
    tagger = "Kkma"
    foreign = frozenset({"OL", "OH"})
    noun = frozenset({"NNG", "NNP", "OL", "OH", "NR", "XSN"})


class KonlpyMecabAnalyser(KonlpyAnalyser):
    """MeCab-ko through KoNLPy, for a MeCab that is installed on the system."""

    name = "konlpy_mecab"
    tagger = "Mecab"

    def needs(self) -> str:
        """What has to be installed beside KoNLPy."""
        return "MeCab-ko with its dictionary on this system; the analyser mecab needs neither"


def align_morphemes(text: str, pairs: Iterable[tuple[str, str]]) -> tuple[list[Morpheme], int]:
    """Find each (form, tag) in `text`, left to right; return those found and how many were not.

    A form counts as found where it begins behind the last one found, with no more visible characters between them
    than the forms lost in between can account for. Forms may be any analyser's; they may also not be in the text.
    """
    out: list[Morpheme] = []
    position = lost_forms = lost_characters = 0
    for form, tag in pairs:
        start = text.find(form, position) if form else -1
        gap = len("".join(text[position:start].split())) if start >= 0 else 0
        # A contraction shows at most as many characters as its forms have, one more for irregular stems.
        if start < 0 or gap > lost_characters + bool(lost_characters):
            lost_forms += 1
            lost_characters += len(form)
            continue
        out.append(Morpheme(start, start + len(form), tag))
        position, lost_characters = start + len(form), 0
    return out, lost_forms


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def _lines(text: str, limit: int = _MAX_LINE) -> Iterator[str]:
    """The lines of a text; those of more than `limit` characters in parts, cut at white space where there is any."""
    for line in text.splitlines(keepends=True):
        yield from (part for _, part in cut_long(line, limit))
