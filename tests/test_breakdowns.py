"""Differences by kinds of questions: the parts are the questions by hand, and add up to the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from studies import SAMPLE, asked, finetuned, report, rows_of

from korbert.config import DataConfig
from korbert.data.korquad import read_predictions
from korbert.entities import make_annotator
from korbert.errors import ConfigError
from korbert.files import read_json, write_json_atomically
from korbert.metrics import score_per_question
from korbert.study.errors import BREAKDOWNS, cases, question_groups
from korbert.study.multibootstrap import bootstrap_difference
from korbert.study.significance import holm

ANNOTATOR = "expressions-mecab"  # of the runs, and not one that anything has by default
ARMS = {"none": ("entities=none",), "both": ("entities=mecab", f"entities.annotator={ANNOTATOR}", "entities.mode=both")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of one published model, three seeds, two folds."""
    root = tmp_path_factory.mktemp("arms")
    for number, (mode, overrides) in enumerate(ARMS.items()):
        for seed in (1, 2, 3):
            for fold in (0, 1):
                name = f"{mode}-{seed}-{fold}"
                finetuned(root / name, 0.4 + 0.2 * number, *overrides, seed=seed, fold=fold, chance=7 * number + fold)
    return root


def scores(runs: Path, mode: str, key: str) -> np.ndarray:
    rows = []
    for seed in (1, 2, 3):
        row: list[float] = []
        for fold in (0, 1):
            predictions = read_predictions(runs / f"{mode}-{seed}-{fold}" / "predictions.json")
            row += [100 * getattr(s, key) for s in score_per_question(asked(fold).gold(), predictions).values()]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("key", BREAKDOWNS)
def test_parts_are_the_questions_by_hand(runs: Path, key: str, tmp_path: Path) -> None:
    said = report(tmp_path, runs, baseline="entities.mode:none", breakdowns=[key])
    rows = rows_of(said["md"].replace("\\", ""), f"Differences by {BREAKDOWNS[key].partition(' (')[0]}")
    annotator = make_annotator(ANNOTATOR)
    names = np.array([g[BREAKDOWNS[key]] for fold in (0, 1) for g in question_groups(asked(fold), annotator)])
    articles = [(fold, article.title) for fold in (0, 1) for article, _, _ in asked(fold).questions()]
    assert {row[BREAKDOWNS[key]] for row in rows} == set(names)
    p_values, shown = [], []
    for measure, name in (("EM (%)", "exact_match"), ("F1 (%)", "f1")):
        without, with_ = (scores(runs, mode, name) for mode in ARMS)
        whole = 0.0
        of_measure = [row for row in rows if row["measure"] == measure]
        for row in of_measure:
            there = names == row[BREAKDOWNS[key]]
            a, b = without[:, there], with_[:, there]
            assert int(row["questions"]) == there.sum()
            assert float(row["baseline's"]) == pytest.approx(a.mean(), abs=0.006)
            difference = float(row["difference"].rstrip("*").replace("−", "-"))
            assert difference == pytest.approx(b.mean() - a.mean(), abs=0.006)
            whole += difference * int(row["questions"]) / len(names)
            if name == "exact_match":
                pairs = [(x, y) for x in a / 100 for y in b / 100]
                mended = 100 * np.mean([(y > x).mean() for x, y in pairs])
                made = 100 * np.mean([(x > y).mean() for x, y in pairs])
                assert float(row["mended (%)"]) == pytest.approx(mended, abs=0.06)
                assert float(row["made (%)"]) == pytest.approx(made, abs=0.06)
                assert mended - made == pytest.approx(b.mean() - a.mean())
            of_part = [article for article, is_there in zip(articles, there, strict=True) if is_there]
            if len(set(of_part)) > 1:
                wanted = bootstrap_difference(a, b, of_part, paired=True)
                assert row["95 % interval"] == f"{wanted.low:+.2f} to {wanted.high:+.2f}".replace("-", "−")
                p_values.append(wanted.p)
                shown.append(row["p (Holm)"])
            else:
                assert row["95 % interval"] == row["p"] == ""
        assert whole == pytest.approx(with_.mean() - without.mean(), abs=0.02)
        sizes = [int(row["questions"]) for row in of_measure]
        assert sizes == sorted(sizes, reverse=True)
    assert shown == ["< 0.0001" if p < 0.0001 else f"{p:.4f}" for p in holm(p_values)]
    assert BREAKDOWNS[key] in said["html"]
    assert (f"Entities are those that {ANNOTATOR} finds" in said["md"]) == (key in ("type", "entities"))
    assert "mended" in said["tex"]


def test_a_models_report_has_the_same_parts() -> None:
    """What one model's errors are broken down by, and what differences are, are one thing."""
    dataset, annotator = asked(None), make_annotator(ANNOTATOR)
    assert [case.groups for case in cases(dataset, {}, annotator)] == question_groups(dataset, annotator)


def test_what_cannot_be(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="breakdowns: 'colour' is unknown, wanted type, entities, length"):
        report(tmp_path, runs, baseline="entities.mode:none", breakdowns=["type", "colour"])
    with pytest.raises(ConfigError, match="breakdowns are of differences: give a baseline"):
        report(tmp_path, runs, breakdowns=["type"])


def test_whose_entities(runs: Path, tmp_path: Path) -> None:
    """Those of the runs, where they have one annotator, unless another one is named."""
    given = {"baseline": "entities.mode:none", "breakdowns": ["entities"]}
    named = report(tmp_path, runs, **given, annotator="mecab")["md"]
    assert "Entities are those that mecab finds" in named
    assert named != report(tmp_path, runs, **given)["md"]
    random = ("entities=mecab", f"entities.annotator=random-{ANNOTATOR}", "entities.mode=both")
    finetuned(tmp_path / "more" / "random", 0.4, *random, seed=1, fold=0)
    assert "Entities are those that" in report(tmp_path, runs, tmp_path / "more", **given)["md"]  # with a control
    finetuned(tmp_path / "more" / "other", 0.4, "entities=mecab", "entities.mode=both", seed=1, fold=0)
    with pytest.raises(ConfigError, match=f"annotator: the runs have {ANNOTATOR} and mecab; which one says"):
        report(tmp_path, runs, tmp_path / "more", **given)
    finetuned(tmp_path / "plain" / "run", 0.4, "entities=none", seed=1, fold=0)
    with pytest.raises(ConfigError, match="annotator: the runs have none"):
        report(tmp_path, tmp_path / "plain", **given)


def test_questions_that_are_not_at_hand_are_said(tmp_path: Path) -> None:
    for mode, overrides in ARMS.items():
        for seed in (1, 2):
            run = finetuned(tmp_path / "runs" / f"{mode}-{seed}", 0.5, *overrides, seed=seed)
            record = read_json(run / "record.json")
            record["config"]["task"]["test"] = "{root}/KorQuAD_sample_dev.json"
            record["config"]["data"]["root"] = str(tmp_path / "elsewhere")
            write_json_atomically(run / "record.json", record)
    wanted = {"baseline": "entities.mode:none", "breakdowns": ["type"]}
    said = report(tmp_path / "report", tmp_path / "runs", **wanted)["md"]
    assert "questions are not at hand" in said
    assert "Differences by" not in said
    found = report(tmp_path / "report", tmp_path / "runs", data=DataConfig(root=str(SAMPLE.parent)), **wanted)["md"]
    assert "Differences by answer type" in found
