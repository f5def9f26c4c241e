"""Intervals: against the closed form, wider for groups, and covering what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from korbert.study.significance import (
    _student,
    bootstrap_interval,
    paired_difference,
    rank_correlation,
    summarise,
    t_difference,
)


def test_single_values_against_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=2000)
    low, high = bootstrap_interval(list(values), range(2000))
    error = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.1 * error)
    assert bootstrap_interval(list(values), range(2000)) == [low, high]


def test_alike_values_in_groups_say_less() -> None:
    """Fifty groups of twenty equal values are fifty values, not a thousand."""
    means = np.random.default_rng(2).normal(size=50)
    values, groups = np.repeat(means, 20).tolist(), np.repeat(np.arange(50), 20).tolist()
    low, high = bootstrap_interval(values, groups)
    alone = bootstrap_interval(means.tolist(), range(50))
    assert (low, high) == pytest.approx(alone)
    single = bootstrap_interval(values, range(1000))
    assert high - low > 3 * (single[1] - single[0])


@pytest.mark.slow
@pytest.mark.parametrize("articles", [6, 12, 27])
def test_covers_the_truth_as_often_as_promised(articles: int) -> None:
    """With few articles, too, of which plain percentiles promise too much: a fold of KorQuAD dev has 27."""
    rng = np.random.default_rng(3)
    covered = differ = 0
    for _ in range(800):
        groups = np.repeat(np.arange(articles), rng.integers(20, 60, size=articles))
        values = rng.normal(size=articles)[groups] + rng.normal(size=len(groups))
        low, high = bootstrap_interval(values.tolist(), groups.tolist())
        covered += low <= 0 <= high
        found = paired_difference([0.0] * len(values), values.tolist(), groups.tolist())
        differ += found.p < 0.05
        assert (found.low, found.high) == pytest.approx((low, high))
    assert 0.93 <= covered / 800 <= 0.975  # one standard error is 0.008
    assert 0.025 <= differ / 800 <= 0.07


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [3, 5, 26, 139])
def test_students_quantile_without_scipy(level: float, freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    z = float(stats.norm.ppf((1 + level) / 2))
    assert _student(z, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=0.03)


def test_no_mean_lies_beyond_its_values() -> None:
    low, high = bootstrap_interval([0.0, 0.0, 0.0, 100.0], [0, 1, 2, 3])
    assert (low, high) == (0.0, 100.0)


def test_what_is_the_same_but_for_rounding_has_no_spread() -> None:
    """Of three equal gains sums in another order must not make a p-value of 1e-30."""
    before = [100 * count / 1155 for count in (301, 352, 407)]
    after = [100 * (count + 17) / 1155 for count in (301, 352, 407)]
    assert len({b - a for a, b in zip(before, after, strict=True)}) > 1
    found = t_difference(before, after, paired=True)
    assert found.low == found.high
    assert summarise([0.1 + 0.2, 0.3]).spread == 0.0
    assert t_difference([0.1 + 0.2, 0.3], [0.3, 0.3], paired=False).p == 1.0
    assert t_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.001], paired=True).p < 0.01


def test_all_the_same() -> None:
    assert bootstrap_interval([1.0] * 9, [0, 0, 0, 1, 1, 1, 2, 2, 2]) == [1.0, 1.0]


def test_of_one_article_nothing_is_known_of_how_articles_differ() -> None:
    assert bootstrap_interval([0.0, 1.0, 1.0], ["a", "a", "a"]) is None
    assert paired_difference([0.0, 0.0], [1.0, 1.0], ["a", "a"]) is None


def test_ranks_correlate_as_scipys() -> None:
    """With ties, too; p is what counting all orders gives, as near as draws are."""
    rng = np.random.default_rng(5)
    for size in (5, 13, 40):
        a = rng.integers(0, size, size=size).astype(float)
        b = a + rng.normal(scale=size / 2, size=size)
        found, p = rank_correlation(a, b)
        wanted = stats.spearmanr(a, b)
        assert found == pytest.approx(wanted.statistic)
        assert p == pytest.approx(wanted.pvalue, abs=0.06 if size == 5 else 0.02)  # scipy's is Student's, of large n
    orders = list(itertools.permutations(range(5)))
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    extreme = sum(abs(stats.spearmanr(a, [b[i] for i in order]).statistic) >= 0.8 - 1e-9 for order in orders)
    assert rank_correlation(a, b) == (pytest.approx(0.8), pytest.approx(extreme / len(orders), abs=0.015))
    assert rank_correlation(a, a)[1] == pytest.approx(2 / 120, abs=0.005)
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
