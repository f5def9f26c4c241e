"""Intervals: against the closed form, wider for groups, and covering what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from korbert.study.significance import bootstrap_interval, paired_difference


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
def test_covers_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        groups = np.repeat(np.arange(40), rng.integers(1, 30, size=40))
        values = rng.normal(size=40)[groups] + rng.normal(size=len(groups))
        low, high = bootstrap_interval(values.tolist(), groups.tolist())
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_all_the_same() -> None:
    assert bootstrap_interval([1.0] * 9, [0, 0, 0, 1, 1, 1, 2, 2, 2]) == [1.0, 1.0]


def test_of_one_article_nothing_is_known_of_how_articles_differ() -> None:
    assert bootstrap_interval([0.0, 1.0, 1.0], ["a", "a", "a"]) is None
    assert paired_difference([0.0, 0.0], [1.0, 1.0], ["a", "a"]) is None
