"""How far chance alone could move a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], groups: Sequence[object], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, whole groups drawn together.

    groups: what each value belongs to, an article for a question: questions of one article are alike, and drawing them
    one by one would promise too much. The seed is fixed. Source: Efron and Tibshirani 1993, section 13.3; Field and
    Welsh 2007 for groups.
    """
    names = list(dict.fromkeys(groups))
    index = {name: number for number, name in enumerate(names)}
    member = np.array([index[group] for group in groups])
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
