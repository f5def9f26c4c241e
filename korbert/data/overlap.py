"""Text that two documents share: what of a text counts for that, hashes of its n-grams, and evaluation files to stay
away from.

Long shared n-grams tell a passage from another one on the same subject (Brown et al. 2020, appendix C, with words;
Korean spacing and josa are edited easily, so characters without spaces count here).
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import read_korquad

Hashes = npt.NDArray[np.uint64]

_NOT_COUNTED = re.compile(r"[\W_]+")
_LONG_RUN = re.compile(r"[^\w\s]{31}")  # any run of more than thirty marks is one
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SLOTS = 1 << 24  # of the table that most n-grams of other texts are sent away by


def comparable(text: str) -> str:
    """Letters and digits alone, in NFKC and without case: what spacing, punctuation and NFD do not change."""
    if _LONG_RUN.search(text):
        text = _too_many_marks().sub("", text)
    return _NOT_COUNTED.sub("", unicodedata.normalize("NFKC", text).casefold())


@functools.cache
def _too_many_marks() -> re.Pattern[str]:
    """Marks behind thirty others: putting them in order takes the square of their number, and they count for nothing.

    Thirty as in Unicode's Stream-Safe Text Format (annex 15, section 13).
    """
    marks = "".join(re.escape(c) for c in map(chr, range(0x300, sys.maxunicode + 1)) if unicodedata.combining(c))
    return re.compile(rf"(?<=[{marks}]{{30}})[{marks}]+")


def ngram_hashes(text: str, length: int) -> Hashes:
    """64-bit hash of each run of `length` characters, (len(text) - length + 1,); none where the text is shorter.

    The same on every machine. A polynomial, which is put together from shorter runs' in log(length) steps.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < length:
        return np.empty(0, dtype=np.uint64)
    runs = _mixed(codes * _BASE)
    whole: Hashes | None = None  # of the first `done` characters from each place
    done, power, size = 0, _BASE, 1
    with np.errstate(over="ignore"):
        while True:
            if length & size:
                whole = runs if whole is None else whole[: len(codes) - done - size + 1] * power + runs[done:]
                done += size
            if done == length:
                assert whole is not None
                return _mixed(whole)
            runs = runs[:-size] * power + runs[size:]
            power, size = power * power, 2 * size


def _mixed(values: Hashes) -> Hashes:
    """Every bit of a value into all bits (the end of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX
    return values ^ (values >> np.uint64(27))


class EvaluationText:
    """N-grams of the paragraphs of evaluation files, and which documents have too many of a paragraph's.

    length: characters of an n-gram. share: of a paragraph's different n-grams that a document may not reach, but never
    fewer than `fewest` of them (or all, where it has less): a few long names in common are no copy.
    """

    def __init__(self, paragraphs: Iterable[str], length: int = 12, share: float = 0.1, fewest: int = 24) -> None:
        self.length = length
        each = [np.unique(ngram_hashes(comparable(text), length)) for text in paragraphs]
        sizes = np.array([len(hashes) for hashes in each], dtype=np.int64)
        everything = np.concatenate([*each, np.empty(0, dtype=np.uint64)])
        order = np.argsort(everything, kind="stable")
        self._hashes = everything[order]
        self._paragraphs = np.repeat(np.arange(len(each)), sizes)[order]
        self._wanted = np.maximum(np.ceil(share * sizes), np.minimum(fewest, sizes))
        self._seen = np.zeros(_SLOTS, dtype=np.bool_)
        self._seen[self._slots(self._hashes)] = True

    @classmethod
    def of_files(cls, paths: Iterable[Path], length: int, share: float) -> EvaluationText:
        """The paragraphs of KorQuAD or SQuAD files. Raises DataError where one is not such a file."""
        articles = [article for path in paths for article in read_korquad(path).articles]
        return cls((paragraph.context for article in articles for paragraph in article.paragraphs), length, share)

    def overlaps(self, text: str) -> bool:
        """Whether a `comparable` text has too many n-grams of any one paragraph."""
        hashes = ngram_hashes(text, self.length)
        hashes = np.unique(hashes[self._seen[self._slots(hashes)]])
        first = np.searchsorted(self._hashes, hashes, side="left")
        counts = np.searchsorted(self._hashes, hashes, side="right") - first
        if not counts.any():
            return False
        # Places first, first + 1, …, first + count - 1 of each hash.
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        shared = np.bincount(self._paragraphs[np.repeat(first, counts) + inside], minlength=len(self._wanted))
        return bool(np.any((shared >= self._wanted) & (shared > 0)))

    @staticmethod
    def _slots(hashes: Hashes) -> npt.NDArray[np.intp]:
        return (hashes & np.uint64(_SLOTS - 1)).astype(np.intp)
