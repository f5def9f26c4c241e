"""Which documents a corpus is better off without, and why: each document has one reason to be left out, or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.corpus import Record
from korbert.data.overlap import EvaluationText, comparable
from korbert.errors import ConfigError
from korbert.lines import read_lines

_LETTER, _HANGUL = 1, 2
_HANGUL_BLOCKS = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FB))


class Reason(IntEnum):
    """Why a document is left out; where several hold, the first of them."""

    KEPT = 0
    BLANK = 1
    SHORT = 2
    LONG = 3
    TITLE = 4
    NOT_KOREAN = 5
    EVALUATION = 6
    DUPLICATE = 7
    NEAR_DUPLICATE = 8

    @property
    def label(self) -> str:
        """As manifests name it."""
        return self.name.lower()

    @property
    def key(self) -> str:
        """The setting of `Filters` that decides it, "" where any of them does."""
        return _KEYS.get(self, "")


_KEYS = {
    Reason.SHORT: "min_characters",
    Reason.LONG: "max_characters",
    Reason.TITLE: "titles",
    Reason.NOT_KOREAN: "min_korean",
    Reason.EVALUATION: "evaluation",
    Reason.DUPLICATE: "duplicates",
    Reason.NEAR_DUPLICATE: "near_duplicates",
}


@dataclass
class Filters:
    """What is left out; as it is, nothing. Where anything is, so are documents without a letter or digit.

    min_characters, max_characters: of a document. min_korean: share of Hangul among letters. duplicates: documents
    whose letters and digits are those of an earlier one. near_duplicates: the Jaccard similarity of their character
    n-grams, of `shingle` characters, from which on the later of two is left out; null: none is. titles: files with a
    title a line, whose documents are left out. evaluation: KorQuAD or SQuAD files; a document with `evaluation_share`
    of the different character n-grams (`evaluation_ngram` long) of any of their paragraphs is left out, see
    `korbert.data.overlap.EvaluationText`.
    """

    min_characters: int = 0
    max_characters: int | None = None
    min_korean: float = 0.0
    duplicates: bool = False
    near_duplicates: float | None = None
    shingle: int = 6
    titles: list[str] = field(default_factory=list)
    evaluation: list[str] = field(default_factory=list)
    evaluation_ngram: int = 12
    evaluation_share: float = 0.1

    def __post_init__(self) -> None:
        for key, least in (("min_characters", 0), ("shingle", 1), ("evaluation_ngram", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"filters.{key}: wanted at least {least}, got {getattr(self, key)}")
        if self.max_characters is not None and self.max_characters < max(self.min_characters, 1):
            raise ConfigError(f"filters.max_characters={self.max_characters} leaves nothing")
        for key in ("min_korean", "near_duplicates", "evaluation_share"):
            value = getattr(self, key)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ConfigError(f"filters.{key}: wanted a share between 0 and 1, got {value}")

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self != Filters(
            shingle=self.shingle, evaluation_ngram=self.evaluation_ngram, evaluation_share=self.evaluation_share
        )

    @property
    def compares(self) -> bool:
        """Whether documents are compared with each other."""
        return self.duplicates or self.near_duplicates is not None


class DocumentFilter:
    """Reasons that a document has by itself. titles, evaluation: the files of `filters`, found."""

    def __init__(self, filters: Filters, titles: Sequence[Path] = (), evaluation: Sequence[Path] = ()) -> None:
        self.filters = filters
        self._titles = frozenset(_titles(titles))
        self._evaluation = None
        if evaluation:
            self._evaluation = EvaluationText.of_files(evaluation, filters.evaluation_ngram, filters.evaluation_share)

    def __call__(self, record: Record, text: str) -> Reason:
        """The first reason to leave a document out; text: `comparable` of all of it."""
        size = len(record)
        if not text:
            return Reason.BLANK
        if size < self.filters.min_characters:
            return Reason.SHORT
        if self.filters.max_characters is not None and size > self.filters.max_characters:
            return Reason.LONG
        if self._titles and title_key(record.title) in self._titles:
            return Reason.TITLE
        if self.filters.min_korean > 0 and korean_share(text) < self.filters.min_korean:
            return Reason.NOT_KOREAN
        if self._evaluation is not None and self._evaluation.overlaps(text):
            return Reason.EVALUATION
        return Reason.KEPT


def korean_share(text: str) -> float:
    """Share of Hangul among the letters of a text; 0 without letters."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[codes]
    letters = int(np.count_nonzero(kinds & _LETTER))
    return int(np.count_nonzero(kinds & _HANGUL)) / letters if letters else 0.0


@lru_cache(maxsize=1)
def _kinds() -> npt.NDArray[np.uint8]:
    """Bits of every character."""
    kinds = np.fromiter((chr(code).isalpha() for code in range(0x110000)), dtype=np.uint8, count=0x110000)
    for first, last in _HANGUL_BLOCKS:
        kinds[first : last + 1] |= _HANGUL * kinds[first : last + 1]
    return kinds


def title_key(title: str) -> str:
    """A title without spacing, punctuation and case, where anything is left of it then."""
    return comparable(title) or title.strip()


def _titles(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        for _, line in read_lines(path):
            if line.strip():
                yield title_key(line)
