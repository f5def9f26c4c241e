"""The letters of a token, as numbers that a model can embed: a Hangul syllable as its three jamo, anything else as one.

For edges of answers that lie inside of tokens: josa are glued to most of KorQuAD's answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from korbert.data.windows import Window

_FIRST, _COUNT = 0xAC00, 11172
LetterArray = npt.NDArray[np.int16]


def letter_numbers(text: str) -> LetterArray:
    """Four numbers for each character, below `LETTER_SIZES`, (length, 4); all 0 is for where there is no character."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    syllable = codes - _FIRST
    is_hangul = (syllable >= 0) & (syllable < _COUNT)
    # ASCII by itself, whatever else there is in 128 classes.
    other = 1 + np.where(codes < 128, codes, 128 + codes % 128)
    columns = (1 + syllable // 588, 1 + syllable % 588 // 28, 1 + syllable % 28)
    hangul = [np.where(is_hangul, column, 0) for column in columns]
    return np.stack([*hangul, np.where(is_hangul, 0, other)], axis=1).astype(np.int16)


def token_letters(
    window: Window, tokens: npt.NDArray[np.int64], most: int, from_end: bool
) -> tuple[LetterArray, npt.NDArray[np.int64]]:
    """The first `most` letters of context tokens, or the last ones, the last first: (n, most, 4); and lengths, (n,)."""
    starts, ends = window.starts[tokens].astype(np.int64), window.ends[tokens].astype(np.int64)
    lengths = ends - starts
    if not len(tokens):
        return np.zeros((0, most, 4), dtype=np.int16), lengths
    first = int(starts.min())
    # One row of nothing behind, for where a token has no more letters.
    numbers = np.append(letter_numbers(window.context[first : int(ends.max())]), np.zeros((1, 4), np.int16), axis=0)
    offsets = np.arange(most)
    at = (ends[:, None] - 1 - offsets if from_end else starts[:, None] + offsets) - first
    at = np.where(offsets < lengths[:, None], at, len(numbers) - 1)
    return numbers[at], lengths


def gold_letters(windows: Sequence[Window], most: int, from_end: bool) -> tuple[LetterArray, npt.NDArray[np.int64]]:
    """`token_letters` of the first or the last answer token of windows that have one, (B, most, 4) and (B,)."""
    letters = np.zeros((len(windows), most, 4), dtype=np.int16)
    lengths = np.zeros(len(windows), dtype=np.int64)
    for row, window in enumerate(windows):
        token = np.array([window.answer[from_end] - window.context_start])
        letters[row : row + 1], lengths[row : row + 1] = token_letters(window, token, most, from_end)
    return letters, lengths
