"""Kiwi."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from korbert.morphology.base import Analyser, Morpheme, cut_long

_MAX_TEXT = 1 << 14  # characters that Kiwi is given at once: it takes the square of those of a word without end


class KiwiAnalyser(Analyser):
    """Kiwi through kiwipiepy. Of morphemes contracted into the same characters the first one is kept."""

    name = "kiwi"
    package = "kiwipiepy"
    install = "kiwipiepy"
    dictionary = "kiwipiepy_model"

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
        for first, part in cut_long(text, _MAX_TEXT):
            for token in self.parse(part):
                start = first + token.start
                end = start + token.len
                if last <= start < end:
                    last = end
                    yield start, end, token
