"""How sure a model may say it is: a temperature for the softmax over its n-best answers, fitted on held-out questions.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2, and Naeini et al. 2015 for the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_BINS = 10
_TEMPERATURES = np.geomspace(0.05, 50.0, 400)
Floats = npt.NDArray[np.float64]


def shares(scores: Sequence[float], temperature: float = 1.0) -> Floats:
    """Each answer's share in the softmax of the n-best scores, (N,), of one answer at least."""
    values = np.asarray(scores, dtype=np.float64) / temperature
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def confidence(scores: Sequence[float], temperature: float = 1.0) -> float:
    """The best answer's share; 0 without an answer."""
    return float(shares(scores, temperature).max()) if len(scores) else 0.0


def fit_temperature(scores: Sequence[Sequence[float]], right: Sequence[bool]) -> float:
    """The temperature with which confidences say best how often the best answer is right (log-likelihood).

    scores: the n-best scores of each question; right: whether its best answer is. Raises ValueError without questions.
    """
    if not len(scores):
        raise ValueError("there is no question to calibrate on")
    truth = np.asarray(right, dtype=np.bool_)
    losses = []
    for temperature in _TEMPERATURES:
        sure = np.clip([confidence(of_question, temperature) for of_question in scores], 1e-6, 1 - 1e-6)
        losses.append(-np.where(truth, np.log(sure), np.log1p(-sure)).mean())
    return float(_TEMPERATURES[int(np.argmin(losses))])


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error in [0, 1]: how far confidence and share of right answers are apart, over ten bins."""
    sure, truth = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    number = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    apart = [abs(float((sure - truth)[number == one].sum())) for one in range(_BINS)]
    return sum(apart) / max(1, len(sure))
