"""What all analysers have in common."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

from korbert.errors import KorbertError
from korbert.text import Normalizer

PARTICLE_TAG = "J"  # with which the tags of josa begin, in every set of tags, and no other does
ABSENT = "unknown"  # version of what is not installed
_NORMALIZER = Normalizer("NFC")


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
    dictionary: ClassVar[str] = ""  # the package that the dictionary or model comes in, where it is another one
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

    def analyse_in_nfc(self, text: str) -> list[Morpheme]:
        """As `analyse`, of the text in NFC, which is all that analysers know; spans are of the text as it is given."""
        normal = _NORMALIZER(text)
        found = self.analyse(normal.text)
        return found if normal.text == text else [Morpheme(*normal.to_original(m.start, m.end), m.tag) for m in found]

    def edges(self, text: str) -> set[int]:
        """Where the morphemes of `text` begin and end; in less time than they take themselves, where that can be."""
        return {edge for start, end, _ in self.analyse(text) for edge in (start, end)}

    @cached_property
    def version(self) -> str:
        """Version of the analyser's package, and of its dictionary's where that is another one, for fingerprints."""
        own = version_of(self.install)
        return f"{own}+{self.dictionary}-{version_of(self.dictionary)}" if self.dictionary else own

    @property
    def is_installed(self) -> bool:
        """Whether the analyser's package is there."""
        return version_of(self.install) != ABSENT

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
            before = self.analyser.unaligned  # the other one may have been at work on its own
            self._found[text] = self.analyser.analyse(text)
            self.unaligned += self.analyser.unaligned - before
        return self._found[text]


def version_of(package: str) -> str:
    """Version of an installed package, or ABSENT."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def cut_long(text: str, limit: int) -> Iterator[tuple[int, str]]:
    """Places and parts of at most `limit` characters, cut at white space where there is any."""
    first = 0
    while len(text) - first > limit:
        space = max(text.rfind(char, first + 1, first + limit) for char in " \n\t\u00a0\u3000")
        end = space if space > first else first + limit
        yield first, text[first:end]
        first = end
    yield first, text[first:]
