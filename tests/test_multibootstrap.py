"""Seeds and questions together: by hand, against scipy, and whether intervals and p-values keep what they promise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from korbert.study.multibootstrap import bootstrap_difference, bootstrap_mean
from korbert.study.significance import bootstrap_interval, holm, paired_difference, summarise

Floats = npt.NDArray[np.float64]
SIMULATIONS = 400  # with these, a share of 0.95 has a standard deviation of 0.011
COVERS, ERRS = (0.92, 0.98), (0.02, 0.08)  # as nominal, within three of them


# ---- one number for each run ----


def test_summary_by_hand() -> None:
    """Of 2, 4 and 9: mean 5, squares 9 + 1 + 16 = 26, spread the root of 13, t of two degrees of freedom 4.3027."""
    found = summarise([2, 4, 9])
    assert (found.count, found.mean) == (3, 5)
    assert found.spread == pytest.approx(13**0.5)
    assert found.low == pytest.approx(5 - 4.30265273 * (13 / 3) ** 0.5)
    assert found.high == pytest.approx(5 + 4.30265273 * (13 / 3) ** 0.5)


@pytest.mark.parametrize("count", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_t_interval_against_scipy(count: int, level: float) -> None:
    values = np.random.default_rng(count).normal(70, 3, size=count)
    found = summarise(values.tolist(), level)
    assert found.spread == pytest.approx(np.std(values, ddof=1))
    wanted = stats.t.interval(level, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted)


def test_one_value_has_no_interval() -> None:
    found = summarise([70.5])
    assert (found.mean, found.spread, found.low, found.high) == (70.5, None, None, None)
    with pytest.raises(ValueError, match="no value"):
        summarise([])


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.015 × 3, 0.04 × 2, then 0.03 × 2 which may not be below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.015]) == pytest.approx([0.04, 0.06, 0.06, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_rejects_as_the_step_down_does() -> None:
    """Corrected p-values are below alpha where Holm's own rule, step by step, rejects."""
    rng = np.random.default_rng(6)
    for alpha, size in itertools.product((0.05, 0.2), (1, 3, 8)):
        for _ in range(40):
            p_values = rng.beta(0.4, 2, size=size)
            rejected = set()
            for rank, number in enumerate(np.argsort(p_values)):
                if p_values[number] > alpha / (size - rank):
                    break
                rejected.add(int(number))
            assert {i for i, p in enumerate(holm(p_values.tolist())) if p <= alpha} == rejected


def test_holm_errs_at_most_as_often_as_promised() -> None:
    rng = np.random.default_rng(7)
    wrong = sum(min(holm(rng.uniform(size=6).tolist())) < 0.05 for _ in range(2000))
    assert 0.035 <= wrong / 2000 <= 0.065


# ---- the bootstrap of one seed against scipy's ----


def test_plain_bootstrap_against_scipy() -> None:
    values = np.random.default_rng(8).gamma(0.5, size=150)  # skewed
    scipys = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = scipys.high - scipys.low
    assert bootstrap_interval(values.tolist(), range(150)) == pytest.approx(tuple(scipys), abs=0.03 * width)
    found = paired_difference([0.0] * 150, values.tolist(), range(150))
    assert (found.low, found.high) == pytest.approx(tuple(scipys), abs=0.03 * width)
    # Of many questions, the stretched interval is nearly the same: Student's tail and n / (n - 1) say little.
    stretched = bootstrap_mean(values[None], range(150))
    assert (stretched.low, stretched.high) == pytest.approx(tuple(scipys), abs=0.04 * width)
    assert stretched.low < scipys.low + 0.02 * width


def test_many_seeds_and_questions_against_the_normal_test() -> None:
    """With seeds, articles and noise known, the standard error is that of the crossed random effects."""
    rng = np.random.default_rng(9)
    scores = rng.normal(size=(200, 1)) + rng.normal(size=(1, 300)) + rng.normal(size=(200, 300))
    found = bootstrap_mean(scores, range(300))
    error = (1 / 200 + 1 / 300 + 1 / 60_000) ** 0.5
    assert found.error == pytest.approx(error, rel=0.1)
    assert found.value == pytest.approx(scores.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.error, rel=0.05)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.value) / found.error), abs=0.03)


def test_scores_that_differ_by_seed_alone_are_a_t_test() -> None:
    """Questions that all say the same leave the seeds' means: Student's standard error and freedom."""
    means = np.array([1.0, 2.0, 4.0, 4.5])
    found = bootstrap_mean(np.repeat(means[:, None], 50, 1), range(50))
    assert found.value == pytest.approx(means.mean())
    assert found.error == pytest.approx(stats.sem(means))
    assert found.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=0.5)
    other = np.array([0.5, 2.5, 3.0])
    apart = bootstrap_difference(
        np.repeat(other[:, None], 50, 1), np.repeat(means[:, None], 50, 1), range(50), paired=False
    )
    assert apart.error == pytest.approx((means.var(ddof=1) / 4 + other.var(ddof=1) / 3) ** 0.5)
    assert apart.p == pytest.approx(stats.ttest_ind(means, other, equal_var=False).pvalue, abs=0.1)


# ---- laws ----


def crossed(rng: np.random.Generator, seeds: int, articles: int, of_seed: float, of_both: float) -> tuple[Floats, Any]:
    """Scores (seeds, questions) whose true mean is 0, with articles of unequal sizes."""
    groups = np.repeat(np.arange(articles), rng.integers(2, 12, size=articles))
    scores = rng.normal(size=(seeds, 1)) * of_seed + rng.normal(size=articles)[groups]
    scores = scores + rng.normal(size=(seeds, articles))[:, groups] * of_both
    return scores + rng.normal(size=(seeds, len(groups))), groups


def test_difference_turns_with_its_arms_and_shifts_with_its_scores() -> None:
    rng = np.random.default_rng(10)
    a, groups = crossed(rng, 4, 30, 0.3, 0.5)
    b = a + rng.normal(0.2, 0.5, size=a.shape)
    for paired in (True, False):
        forth, back = (bootstrap_difference(x, y, groups, paired) for x, y in ((a, b), (b, a)))
        assert (forth.value, forth.error) == pytest.approx((-back.value, back.error))
        assert (forth.low, forth.high, forth.p) == pytest.approx((-back.high, -back.low, back.p), abs=0.05)
        assert (forth.p < 0.05) == (not forth.low <= 0 <= forth.high)
        moved = bootstrap_difference(a, b + 1, groups, paired)
        assert (moved.low, moved.high) == pytest.approx((forth.low + 1, forth.high + 1))
    assert bootstrap_difference(a, b, groups, True).error < bootstrap_difference(a, b, groups, False).error


def test_articles_and_order() -> None:
    """Article by article or question by question is not the same; the order of seeds and the articles' names are."""
    scores, groups = crossed(np.random.default_rng(11), 3, 25, 0.2, 0.5)
    found = bootstrap_mean(scores, groups)
    assert bootstrap_mean(scores[::-1], [f"article {g}" for g in groups]).error == pytest.approx(found.error)
    assert bootstrap_mean(scores, range(len(groups))).error < 0.8 * found.error
    assert bootstrap_mean(scores, groups) == found


def test_what_nothing_moves_proves_nothing() -> None:
    """Two questions that were both mended, and no seed that has it otherwise: chance does that, too."""
    for seeds in (1, 5):
        found = bootstrap_difference(np.zeros((seeds, 2)), np.full((seeds, 2), 100.0), ["a", "b"], paired=True)
        assert (found.value, found.p, found.has_spread) == (100.0, 1.0, False)
        assert not math.isfinite(found.low)
    assert bootstrap_mean(np.full((3, 4), 100.0), list("aabb")).has_spread is False


def test_equal_arms_do_not_differ() -> None:
    scores, groups = crossed(np.random.default_rng(12), 3, 25, 0.2, 0.5)
    found = bootstrap_difference(scores, scores, groups, paired=True)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    single = bootstrap_difference(scores[:1], scores[:1], groups, paired=False)
    assert (single.value, single.p, single.one_seed) == (0, 1, True)
    assert not found.one_seed


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"4 questions, got the shape \(2, 3\)"):
        bootstrap_mean(np.zeros((2, 3)), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="two articles"):
        bootstrap_mean(np.zeros((2, 3)), [0, 0, 0])
    with pytest.raises(ValueError, match="paired seeds: wanted as many in all, got 2 and 3"):
        bootstrap_difference(np.zeros((2, 3)), np.zeros((3, 3)), [0, 1, 2], paired=True)


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_both"),
    [(1, 0.0, 0.0), (3, 0.1, 0.5), (3, 1.0, 0.1), (8, 0.2, 0.5)],
    ids=["one seed", "few seeds", "mostly of seeds", "many seeds"],
)
def test_means_cover_the_truth_as_often_as_promised(seeds: int, of_seed: float, of_both: float) -> None:
    rng = np.random.default_rng(13)
    covered = 0
    for _ in range(SIMULATIONS):
        scores, groups = crossed(rng, seeds, 40, of_seed, of_both)
        found = bootstrap_mean(scores, groups, resamples=500)
        covered += found.low <= 0 <= found.high
    assert COVERS[0] <= covered / SIMULATIONS <= COVERS[1]


@pytest.mark.parametrize(
    ("paired", "seeds", "of_seed"), [(False, 1, 0.0), (True, 3, 0.2), (False, 3, 1.0), (True, 6, 0.5), (False, 6, 0.1)]
)
def test_no_difference_is_found_as_often_as_chance_has_it(paired: bool, seeds: int, of_seed: float) -> None:
    """Two equally good arms on the same questions: one in twenty differs with p < 0.05, and as many miss the truth."""
    rng = np.random.default_rng(14)
    small = covered = 0
    for _ in range(SIMULATIONS):
        easy, groups = crossed(rng, 1, 40, 0.0, 0.0)  # of questions, the same for both
        shared = rng.normal(size=(seeds, 1)) * of_seed if paired else 0.0
        arms = [
            easy + shared + rng.normal(size=(seeds, 1)) * of_seed / 2 + rng.normal(size=(seeds, len(groups)))
            for _ in range(2)
        ]
        found = bootstrap_difference(*arms, groups, paired, resamples=500)
        small += found.p < 0.05
        covered += found.low <= 0 <= found.high
    assert ERRS[0] <= small / SIMULATIONS <= ERRS[1]
    assert COVERS[0] <= covered / SIMULATIONS <= COVERS[1]
