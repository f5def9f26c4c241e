"""How far chance alone could move a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], groups: Sequence[object], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, whole groups drawn together.

    groups: what each value belongs to, an article for a question: questions of one article are alike, and drawing them
    one by one would promise too much. The seed is fixed. Source: Efron and Tibshirani 1993, section 13.3; Field and
    Welsh 2007 for groups.
    """
    means = _resampled_means(np.asarray(values, dtype=np.float64), groups)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two means, b - a, with its interval and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def paired_difference(
    a: Sequence[float], b: Sequence[float], groups: Sequence[object], level: float = 0.95
) -> Difference:
    """Paired bootstrap of the mean of b - a over the same questions, whole groups drawn together; the seed is fixed.

    p: twice the share of resamples in which the difference has the other sign or is zero, at least 2 / (resamples + 1).
    Source: Efron and Tibshirani 1993, section 16.4; Koehn 2004 for its use with test sets.
    """
    gains = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    means = _resampled_means(gains, groups)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    if not gains.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(float(gains.mean()), float(low), float(high), min(1.0, 2 * (1 + int(tail)) / (_RESAMPLES + 1)))


def _resampled_means(values: npt.NDArray[np.float64], groups: Sequence[object]) -> npt.NDArray[np.float64]:
    names = list(dict.fromkeys(groups))
    index = {name: number for number, name in enumerate(names)}
    member = np.array([index[group] for group in groups])
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    return (drawn @ sums) / (drawn @ sizes)
