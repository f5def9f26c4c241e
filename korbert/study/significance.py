"""How far chance alone could move a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.errors import KorbertError

_RESAMPLES = 10_000
_ROUNDING = 1e-9  # what two sums of the same products can differ by


@dataclass(frozen=True, slots=True)
class Summary:
    """Of a few numbers: how many, their mean, and from two on their spread and the interval of the mean.

    spread: sample standard deviation; low, high: Student's t interval.
    """

    count: int
    mean: float
    spread: float | None
    low: float | None
    high: float | None


def summarise(values: Sequence[float], level: float = 0.95) -> Summary:
    """Mean, spread and t interval of independent values, a score for each seed. Raises ValueError without one."""
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        raise ValueError("there is no value to summarise")
    mean, count = float(found.mean()), len(found)
    if count == 1:
        return Summary(1, mean, None, None, None)
    spread = float(found.std(ddof=1))
    if spread <= _ROUNDING * max(1.0, abs(mean)):  # what is the same but for rounding has no spread to test against
        spread = 0.0
    reach = float(special_functions().stdtrit(count - 1, (1 + level) / 2)) * spread / count**0.5
    return Summary(count, mean, spread, mean - reach, mean + reach)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values, in the given order, corrected for how many there are; below alpha, none of them errs with chance alpha.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def holm_of_tested(p_values: Sequence[float | None]) -> list[float | None]:
    """`holm` where None stands for what was not tested, and is not counted."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """Spearman's correlation of ranks, ties sharing theirs, and its two-sided p-value; None where a side is all alike.

    p: the share of orders of one side, drawn with a fixed seed, that go with the other as closely or more, and the one
    at hand. Source: Spearman 1904; Phipson and Smyth 2010 for the p-value.
    """
    sides = [ranks(values) for values in (a, b)]
    if not all(side.any() for side in sides):
        return None
    mine, other = (side / float(np.linalg.norm(side)) for side in sides)
    drawn = np.random.default_rng(0).permuted(np.tile(mine, (_RESAMPLES, 1)), axis=1) @ other
    value = float(mine @ other)
    extreme = int((np.abs(drawn) >= abs(value) - _ROUNDING).sum())
    return value, (1 + extreme) / (_RESAMPLES + 1)


def ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Ranks less their mean; those of ties are the mean of theirs."""
    found: npt.NDArray[np.float64] = _scipy("stats").rankdata(values) - (len(values) + 1) / 2
    return found


def special_functions() -> Any:
    """scipy.special, with Student's distribution. Raises KorbertError where scipy is not installed."""
    return _scipy("special")


def _scipy(part: str) -> Any:
    try:
        return import_module(f"scipy.{part}")
    except ImportError:
        raise KorbertError("intervals over seeds need scipy: pip install -e '.[report]'") from None


def bootstrap_interval(values: Sequence[float], groups: Sequence[object], level: float = 0.95) -> list[float] | None:
    """[low, high], the percentile bootstrap interval of the mean, whole groups drawn together; None for a single group.

    groups: what each value belongs to, an article for a question: questions of one article are alike, and drawing them
    one by one would promise too much. The percentiles of n groups lie too near for small n, and are stretched by
    Student's t and by n / (n - 1). The seed is fixed. Source: Efron and Tibshirani 1993, section 13.3; Field and Welsh
    2007 for groups; Hesterberg 2015, section 3.2, for the stretch.
    """
    found = np.asarray(values, dtype=np.float64)
    means = _resampled_means(found, groups, level)
    if means is None:
        return None
    bounds = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return [float(bound) for bound in bounds.clip(found.min(), found.max())]  # where no mean of such values can lie


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two means, b - a, with its interval and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def paired_difference(
    a: Sequence[float], b: Sequence[float], groups: Sequence[object], level: float = 0.95
) -> Difference | None:
    """Paired bootstrap of the mean of b - a over the same questions, whole groups drawn together; the seed is fixed.

    None for a single group. p: twice the share of resamples in which the difference has the other sign or is zero, at
    least 2 / (resamples + 1). Resamples are stretched for few groups as in `bootstrap_interval`.
    Source: Efron and Tibshirani 1993, section 16.4; Koehn 2004 for its use with test sets.
    """
    gains = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    means = _resampled_means(gains, groups, level)
    if means is None:
        return None
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    if not gains.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(float(gains.mean()), float(low), float(high), min(1.0, 2 * (1 + int(tail)) / (_RESAMPLES + 1)))


def within_percent(low: float, high: float) -> tuple[float, float]:
    """Bounds of a difference of percentages, without what cannot be: more than 100 either way."""
    return max(-100.0, low), min(100.0, high)


def t_difference(a: Sequence[float], b: Sequence[float], paired: bool, level: float = 0.95) -> Difference:
    """Student's t test of the mean of b less that of a, scores of seeds, say; Welch's where they are not paired.

    Raises ValueError for fewer than two values on a side.
    """
    if paired:
        found = summarise([after - before for before, after in zip(a, b, strict=True)], level)
        value, parts = found.mean, [((found.spread or 0.0) ** 2 / found.count, found.count - 1)]
    else:
        sides = [summarise(values, level) for values in (a, b)]
        value = sides[1].mean - sides[0].mean
        parts = [((side.spread or 0.0) ** 2 / side.count, side.count - 1) for side in sides]
    if min(degrees for _, degrees in parts) < 1:
        raise ValueError("wanted two values or more on each side")
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Difference(value, value, value, float(abs(value) <= _ROUNDING))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    special = special_functions()
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * variance**0.5
    p = 2 * float(special.stdtr(freedom, -abs(value) / variance**0.5))
    return Difference(value, value - reach, value + reach, p)


def _resampled_means(
    values: npt.NDArray[np.float64], groups: Sequence[object], level: float
) -> npt.NDArray[np.float64] | None:
    """None for a single group: nothing is known of how groups differ."""
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        return None
    index = {name: number for number, name in enumerate(names)}
    member = np.array([index[group] for group in groups])
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    means = (drawn @ sums) / (drawn @ sizes)
    mean, count = sums.sum() / sizes.sum(), len(names)
    normal = NormalDist().inv_cdf((1 + level) / 2)
    stretch = _student(normal, count - 1) / normal * (count / (count - 1)) ** 0.5
    return np.asarray(mean + stretch * (means - mean))


def _student(z: float, freedom: int) -> float:
    """Student's quantile where the normal one is z, without scipy, which a machine that trains may not have.

    To 1 % from three degrees of freedom on, and too small for fewer. Source: Abramowitz and Stegun 1964, 26.7.5.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
