"""How sure a model may say it is: a temperature for the softmax over its n-best answers, fitted on held-out questions.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2, and Naeini et al. 2015 for the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_BINS = 10
_TEMPERATURES = np.geomspace(0.05, 50.0, 400)
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def shares(scores: Sequence[float], temperature: float = 1.0) -> Floats:
    """Each answer's share in the softmax of the n-best scores, (N,), of one answer at least."""
    values = np.asarray(scores, dtype=np.float64) / temperature
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def confidence(scores: Sequence[float], temperature: float = 1.0) -> float:
    """The best answer's share in the softmax of the n-best scores; 0 without an answer."""
    return float(confidences([scores], temperature)[0])


def confidences(scores: Sequence[Sequence[float]], temperature: float = 1.0) -> Floats:
    """`confidence` of each of several questions, (questions,)."""
    return _best_shares(*_end_to_end(scores), temperature)


def _end_to_end(scores: Sequence[Sequence[float]]) -> tuple[Floats, Counts]:
    """All scores, and how many each question has."""
    counts = np.array([len(of_question) for of_question in scores], dtype=np.int64)
    return np.fromiter(itertools.chain.from_iterable(scores), dtype=np.float64, count=int(counts.sum())), counts


def _best_shares(flat: Floats, counts: Counts, temperature: float) -> Floats:
    shares = np.zeros(len(counts))
    has_answer = counts > 0
    first = (np.cumsum(counts) - counts)[has_answer]
    if len(first):
        best = np.maximum.reduceat(flat, first)
        weights = np.exp((flat - np.repeat(best, counts[has_answer])) / temperature)
        shares[has_answer] = 1 / np.add.reduceat(weights, first)
    return shares


def fit_temperature(scores: Sequence[Sequence[float]], right: Sequence[bool]) -> float:
    """The temperature with which confidences say best how often the best answer is right (log-likelihood).

    scores: the n-best scores of each question; right: whether its best answer is. Raises ValueError without questions.
    """
    if not len(scores):
        raise ValueError("there is no question to calibrate on")
    truth = np.asarray(right, dtype=np.bool_)
    flat, counts = _end_to_end(scores)
    losses = []
    for temperature in _TEMPERATURES:
        sure = np.clip(_best_shares(flat, counts, temperature), 1e-6, 1 - 1e-6)
        losses.append(-np.where(truth, np.log(sure), np.log1p(-sure)).mean())
    return float(_TEMPERATURES[int(np.argmin(losses))])


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error in [0, 1]: how far confidence and share of right answers are apart, over ten bins."""
    sure, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    number = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    apart = [abs(float((sure - truth)[number == one].sum())) for one in range(_BINS)]
    return sum(apart) / max(1, len(sure))
