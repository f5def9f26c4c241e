"""How far seeds and questions together could move a score, or the difference of two: the multi-bootstrap.

Runs of one setting differ by their seed, and would differ on other questions, too. The multi-bootstrap draws both
again, whole articles of questions as in `korbert.study.significance`. Source: Sellam et al. 2022, The MultiBERTs,
section 4 (arXiv 2106.16163).

Its plain percentiles are wrong for the three to five seeds that one can afford: drawing n of n values makes them
(n - 1) / n as variable as they are, and knows no Student's tail, while noise that belongs to one seed on one article is
counted thrice (Owen 2007, The pigeonhole bootstrap, section 4). So the drawn deviations are stretched, as Hesterberg
2015, section 3.2, does for a plain bootstrap: to what crossed random effects of seeds and articles allow, each part
with Student's t of its own degrees of freedom, added as squares, and never to less than the t test of the seeds' means.
Means of two or three seeds take few values, whose outer quantiles lie too near: none is taken to be nearer than a
normal one. For few seeds this errs on the safe side, see tests/test_multibootstrap.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.study.significance import special_functions

Floats = npt.NDArray[np.float64]
_RESAMPLES = 10_000
_HALVINGS = 30  # of the search for a p-value, in its logarithm
_SMALLEST_P = 1e-12
_NOTHING = 1e-12  # a standard error, or a value, that only rounding has made


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or a difference of means, with its interval and the two-sided p-value of 0.

    error: standard error; where it is 0 and the value is not, as of two questions that were both mended, nothing is
    known of how chance moves it: the interval is unbounded and p is 1. seeds: of the arm with fewer; with one, nothing
    is known of how seeds move the value, and interval and p-value are of questions alone. paired: seeds were drawn
    together for both arms.
    """

    value: float
    low: float
    high: float
    p: float
    error: float
    seeds: int
    paired: bool

    @property
    def one_seed(self) -> bool:
        """Whether the value rests on one seed."""
        return self.seeds == 1

    @property
    def has_spread(self) -> bool:
        """Whether there is anything to judge the value by."""
        return math.isfinite(self.low)


def bootstrap_mean(
    scores: npt.ArrayLike, groups: Sequence[object], level: float = 0.95, resamples: int = _RESAMPLES
) -> Estimate:
    """The mean of scores (seeds, questions), with the interval over seeds and questions; the seed is fixed.

    groups: the article of each question. Raises ValueError for shapes that do not fit, or less than two articles.
    """
    return _estimate([_sums(scores, groups)], groups, level, resamples, paired=False)


def bootstrap_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: Sequence[object],
    paired: bool,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
) -> Estimate:
    """The mean of b less that of a, both (seeds, questions) on the same questions; the seed is fixed.

    paired: row s of both has the same seed (began with the same weights, say), and seeds are drawn for both at once;
    else for each. groups: the article of each question. Raises ValueError as `bootstrap_mean` does.
    """
    less, more = (-1.0, a), (1.0, b)
    return bootstrap_contrast([[less, more]] if paired else [[less], [more]], groups, level, resamples)


def bootstrap_contrast(
    arms: Sequence[Sequence[tuple[float, npt.ArrayLike]]],
    groups: Sequence[object],
    level: float = 0.95,
    resamples: int = _RESAMPLES,
) -> Estimate:
    """The sum of weighted mean scores, each (seeds, questions) on the same questions; the seed is fixed.

    arms: each a list of weights and scores whose seeds are drawn together, row s of all of them having the same seed;
    those of other arms are drawn on their own. groups: the article of each question. Raises ValueError as
    `bootstrap_mean` does, and for an arm whose parts differ in how many seeds they have.
    """
    summed = []
    for arm in arms:
        parts = [weight * _sums(scores, groups) for weight, scores in arm]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"paired seeds: wanted as many in all, got {' and '.join(str(len(p)) for p in parts)}")
        summed.append(np.sum(parts, axis=0))
    return _estimate(summed, groups, level, resamples, paired=len(arms) == 1)


def _sums(scores: npt.ArrayLike, groups: Sequence[object]) -> Floats:
    """Sums of (seeds, questions) by group, (seeds, groups)."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] != len(groups):
        raise ValueError(f"wanted scores (seeds, questions) of {len(groups)} questions, got the shape {values.shape}")
    member = _members(groups)
    return np.stack([np.bincount(member, weights=row) for row in values])


def _members(groups: Sequence[object]) -> npt.NDArray[np.int64]:
    """The number of each question's group."""
    index = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    if len(index) < 2:
        raise ValueError("wanted questions of two articles or more: of one, nothing is known of how articles differ")
    return np.array([index[group] for group in groups])


def _estimate(arms: list[Floats], groups: Sequence[object], level: float, resamples: int, paired: bool) -> Estimate:
    """What the sum of the arms' means is. arms: (seeds, groups) sums of scores, a negative one to be taken away."""
    sizes = np.bincount(_members(groups)).astype(np.float64)
    value = sum(float(arm.sum()) / len(arm) for arm in arms) / float(sizes.sum())
    seeds = min(map(len, arms))
    parts = _Variances.of(arms, sizes)
    error = parts.reach(lambda freedom: 1.0)
    if error < _NOTHING:  # the same everywhere, as of equal predictions
        reach = 0.0 if abs(value) < _NOTHING else math.inf
        return Estimate(value, value - reach, value + reach, 1.0, 0.0, seeds, paired)
    drawn = np.sort(_resample(arms, sizes, resamples) - value)
    places = np.linspace(0, 1, resamples)
    special = special_functions()
    deviation = float(drawn.std())

    def bounds(alpha: float) -> tuple[float, float]:
        normal = float(special.ndtri(alpha / 2))  # below 0
        stretch = parts.reach(lambda freedom: float(special.stdtrit(freedom, alpha / 2))) / (deviation * -normal)
        below, above = np.interp([alpha / 2, 1 - alpha / 2], places, drawn).tolist()
        below, above = min(below, deviation * normal), max(above, -deviation * normal)
        return value + stretch * below, value + stretch * above

    low, high = bounds(1 - level)
    least, most = np.log(_SMALLEST_P), 0.0  # p is where an interval begins to touch 0
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        below, above = bounds(float(np.exp(middle)))
        least, most = (middle, most) if below <= 0 <= above else (least, middle)
    return Estimate(value, low, high, float(np.exp(most)), error, seeds, paired)


def _resample(arms: list[Floats], sizes: Floats, count: int) -> Floats:
    """The value on articles and seeds drawn with replacement, `count` times."""
    rng = np.random.default_rng(0)
    articles = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=count).astype(np.float64)
    questions = articles @ sizes
    total = np.zeros(count)
    for arm in arms:
        seeds = rng.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), size=count)
        total += (seeds * (articles @ arm.T)).sum(1) / len(arm)
    return total / questions


@dataclass(frozen=True, slots=True)
class _Variances:
    """What the value's variance is made of.

    seeds: what differing seeds add, with freedom (degrees of freedom, Welch's where there are two arms); shared: the
    part of it that seeds have on single articles; articles: what differing articles add, with that part in it, too.
    """

    seeds: float
    shared: float
    freedom: float
    articles: float
    count: int  # of articles

    @classmethod
    def of(cls, arms: list[Floats], sizes: Floats) -> _Variances:
        """Estimate them without bias. The mean over articles of unequal sizes is a ratio, taken by its linear part."""
        by_article = np.zeros(len(sizes))
        seeds = shared = squares = 0.0
        for arm in arms:
            means = arm.sum(1) / sizes.sum()
            influence = (arm - means[:, None] * sizes) / sizes.mean()  # (seeds, articles)
            by_article += influence.mean(0)
            if (count := len(arm)) > 1:
                variance = float(means.var(ddof=1)) / count
                alone = float(((influence - influence.mean(0)) ** 2).sum()) / ((count - 1) * (len(sizes) - 1))
                seeds += variance
                squares += variance**2 / (count - 1)
                shared += alone / (count * len(sizes))
        freedom = seeds**2 / squares if squares else 1.0
        return cls(seeds, shared, freedom, float(by_article.var(ddof=1)) / len(sizes), len(sizes))

    def reach(self, t: Callable[[float], float]) -> float:
        """How far an interval reaches to each side. t: Student's quantile for degrees of freedom."""
        of_seeds = t(self.freedom) ** 2
        both = of_seeds * max(0.0, self.seeds - self.shared) + t(self.count - 1) ** 2 * self.articles
        return max(both, of_seeds * self.seeds) ** 0.5
