"""Differences along a setting: slopes by hand, what goes along with it, how far chance moves them, and what is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import SAMPLE, finetuned, pretrained, report, rows_of, scores_by_hand

from korbert.data.korquad import read_korquad
from korbert.errors import ConfigError
from korbert.study.multibootstrap import bootstrap_contrast, bootstrap_difference, bootstrap_mean

INTERVAL = "a doubling adds, interval"
WIDE = ("model.hidden_size=256", "model.intermediate_size=1024")
WIDER = ("model.hidden_size=512", "model.intermediate_size=2048")


def articles() -> list[int]:
    return [
        number
        for number, article in enumerate(read_korquad(SAMPLE).articles)
        for _ in range(article.num_questions)
    ]  # fmt: skip


def arms(folder: Path, sizes: dict[str, tuple[str, ...]], seeds: tuple[int, ...] = (1, 2, 3), **wide: Any) -> Path:
    """Models of several sizes, without and with entities; with entities the larger gain more."""
    for level, (name, size) in enumerate(sizes.items()):
        for gain, mode in enumerate(("none", "both")):
            entities = ("entities=none",) if mode == "none" else ("entities=mecab", f"entities.mode={mode}")
            for seed in wide.get(name, seeds):
                arm = folder / f"{name}-{mode}-{seed}"
                pretrained(arm / "pretrain", *size, *entities, seed=seed)
                right = 0.2 + 0.1 * level + 0.2 * gain * level
                finetuned(arm / "finetune", right, *entities, seed=seed, init=arm / "pretrain", chance=gain + 2 * level)
    return folder


SIZES = {"small": ("model.hidden_size=128",), "wide": WIDE, "wider": WIDER}


def test_a_slope_is_that_of_the_differences_by_hand(tmp_path: Path) -> None:
    runs = arms(tmp_path / "runs", SIZES)
    said = report(
        tmp_path / "report", runs, focus="entities.mode:both", trends=["model.hidden_size"], sections=["differences"]
    )
    exact, f1 = rows_of(said["md"], "Differences along model.hidden")
    assert (exact["measure"], f1["measure"]) == ("EM (%)", "F1 (%)")
    scores = {
        (name, mode): np.array(
            [scores_by_hand(runs / f"{name}-{mode}-{seed}" / "finetune", "exact_match") for seed in (1, 2, 3)]
        )
        for name in SIZES
        for mode in ("none", "both")
    }
    gains = [float((scores[name, "both"] - scores[name, "none"]).mean()) for name in SIZES]
    shown = [f"{size}: {gain:+.2f}".replace("-", "−") for size, gain in zip((128, 256, 512), gains, strict=True)]
    assert exact["differences"] == "; ".join(shown)
    slope = float(np.polyfit([7, 8, 9], gains, 1)[0])
    assert slope > 5
    assert exact["a doubling adds"].rstrip("*\\") == f"+{slope:.2f}"
    # Of three equal steps the slope is half of the last difference less the first one.
    first, last = (scores[name, "both"] - scores[name, "none"] for name in ("small", "wider"))
    drawn = bootstrap_difference(first / 2, last / 2, articles(), paired=True)
    assert exact[INTERVAL] == f"{drawn.low:+.2f} to {drawn.high:+.2f}".replace("-", "−")
    assert exact["p"] == (f"{drawn.p:.4f}" if drawn.p >= 0.0001 else "< 0.0001")
    assert "to mind" not in exact
    assert "Along with it goes model.intermediate\\_size" in said["md"]
    assert "Holm: corrected for all 2 trends of this table" in said["md"]
    assert said["html"].count("differences along model.hidden_size") >= 2
    plain = rows_of(said["md"], "Differences, KorQuAD")
    assert len(plain) == 6  # those are corrected on their own


def test_arms_are_apart_and_budgets_too(tmp_path: Path) -> None:
    """Two settings that vary, not all pairs of them: a trend is over what is alike in the other one."""
    sizes = {
        "short": ("model.hidden_size=128", "train.steps=20"),
        "small": ("model.hidden_size=128", "train.steps=40"),
        "wide": (*WIDE, "train.steps=40"),
    }
    runs = arms(tmp_path / "runs", sizes)
    trends = ["model.hidden_size", "pretrain.train.steps"]
    said = report(tmp_path / "report", runs, baseline="entities.mode:none", trends=trends)["md"]
    for key, levels in zip(trends, ("128: ; 256: ", "20: ; 40: "), strict=True):
        rows = rows_of(said, "Differences along " + key.replace("_", r"\\_"))
        assert len(rows) == 2
        assert all(re.sub(r"[+−][\d.]+", "", row["differences"]) == levels for row in rows)
        assert all(row["runs"] == "both" or "both" in row["runs"] for row in rows)
        assert all("none" in row["baseline"] for row in rows)


def test_other_seeds_at_one_level_are_not_paired(tmp_path: Path) -> None:
    sizes = {name: SIZES[name] for name in ("small", "wide")}
    runs = arms(tmp_path / "runs", sizes, wide=(2, 3, 4))
    said = report(tmp_path / "report", runs, focus="entities.mode:both", trends=["model.hidden_size"])["md"]
    rows = rows_of(said, "Differences along")
    assert [row["to mind"] for row in rows] == ["⚠ seeds are not paired"] * 2
    assert all(row["p"] for row in rows)
    parts = [
        [
            (
                sign * weight,
                [scores_by_hand(runs / f"{name}-{mode}-{seed}" / "finetune", "exact_match") for seed in seeds],
            )
        ]
        for name, seeds, sign in (("small", (1, 2, 3), -1), ("wide", (2, 3, 4), 1))
        for mode, weight in (("none", -1), ("both", 1))
    ]
    drawn = bootstrap_contrast(parts, articles())
    assert rows[0][INTERVAL] == f"{drawn.low:+.2f} to {drawn.high:+.2f}".replace("-", "−")


def test_one_seed_has_no_trend_that_is_tested(tmp_path: Path) -> None:
    runs = arms(tmp_path / "runs", {name: SIZES[name] for name in ("small", "wide")}, seeds=(1,))
    said = report(tmp_path / "report", runs, focus="entities.mode:both", trends=["model.hidden_size"])["md"]
    rows = rows_of(said, "Differences along")
    assert all(row["to mind"] == "⚠ one seed" and "p" not in row and row[INTERVAL] for row in rows)
    assert not any("*" in row["a doubling adds"] for row in rows)


def test_what_has_no_trend(tmp_path: Path) -> None:
    runs = arms(tmp_path / "runs", {name: SIZES[name] for name in ("small", "wide")}, seeds=(1,))

    def asked(**values: Any) -> None:
        report(tmp_path / "report", runs, **values)

    with pytest.raises(ConfigError, match="breakdowns and trends are of differences: give a baseline"):
        asked(trends=["model.hidden_size"])
    with pytest.raises(ConfigError, match=r"trends: the runs do not differ in model\.hiden_size.*model\.hidden_size"):
        asked(baseline="entities.mode:none", trends=["model.hiden_size"])
    with pytest.raises(ConfigError, match="trends: seed: wanted a setting, not what the runs of one row are repeated"):
        asked(baseline="entities.mode:none", trends=["seed"])
    with pytest.raises(ConfigError, match="trends and breakdowns are of differences, which sections leaves out"):
        asked(baseline="entities.mode:none", trends=["model.hidden_size"], sections=["scores"])
    with pytest.raises(ConfigError, match=r"trends: no difference is there at two values of entities\.annotator"):
        asked(baseline="entities.mode:none", trends=["entities.annotator"])
    with pytest.raises(ConfigError, match=r"wanted numbers above 0 for entities\.mode, got 'both' in .*both-1"):
        asked(baseline="model.hidden_size:128", trends=["entities.mode"])


# ---- the sum of weighted means ----


def test_a_contrast_of_weights_is_the_mean_of_the_weighted_sum() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 5)
    parts = [(weight, rng.normal(size=(4, 100))) for weight in (-1.0, 0.25, 2.0)]
    together = bootstrap_contrast([parts], groups)
    assert together.paired
    summed = bootstrap_mean(sum(weight * scores for weight, scores in parts), groups)  # type: ignore[arg-type]
    for name in ("value", "low", "high", "p", "error"):
        assert getattr(together, name) == pytest.approx(getattr(summed, name))
    alone = bootstrap_contrast([[part] for part in parts], groups)
    assert not alone.paired
    assert alone.value == pytest.approx(together.value)


@pytest.mark.parametrize("paired", [True, False])
def test_no_trend_is_found_where_there_is_none_as_often_as_promised(paired: bool) -> None:
    """Three levels with one true gain, seeds and articles that have a luck of their own; 400 studies of three seeds."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), rng.integers(2, 8, size=30))
    false = 0
    for _ in range(400):
        luck = rng.normal(size=(3, 1)) * 0.3  # a seed's, the same at all levels where they are paired
        parts = []
        for weight in (-0.5, 0.0, 0.5):
            for sign in (-1, 1):
                own = rng.normal(size=(3, 1)) * 0.3 + (luck if paired else 0)
                of_articles = rng.normal(size=30)[groups] * 0.5
                scores = own + of_articles + rng.normal(size=(3, len(groups)))
                parts.append((sign * weight, scores + 0.3 * (sign > 0)))
        arms = [parts] if paired else [[part] for part in parts]
        false += bootstrap_contrast(arms, groups, resamples=400).p < 0.05
    assert false / 400 < 0.08  # three standard errors above the level
