"""The report's numbers by hand: scores, intervals and differences, and what keeps one from being tested."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from studies import (
    SAMPLE,
    asked,
    finetuned,
    pretrained,
    report,
    rows_of,
    scores_by_hand,
    set_record,
    set_results,
    tables_of,
)

from korbert.config import DataConfig
from korbert.files import read_json, write_json_atomically
from korbert.study.answers import Answers
from korbert.study.contrasts import _over_folds, _whole_units, score
from korbert.study.multibootstrap import bootstrap_difference
from korbert.study.significance import holm, summarise

EVIL = '<script>alert("1")</script>'


def test_scores_are_those_of_the_records(study_runs: Path, study_report: dict[str, str]) -> None:
    rows = {(row["tokenizer.kind"], row["entities.mode"]): row for row in rows_of(study_report["md"], "KorQuAD")}
    assert len(rows) == 4
    for (kind, mode), row in rows.items():
        name = {"character": "syllable", "sentencepiece": "mecab_bpe"}[kind]
        results = [
            read_json(study_runs / f"{name}-{mode}-{seed}/finetune/record.json")["results"] for seed in (1, 2, 3)
        ]
        for title, key in (("EM (%)", "exact_match"), ("F1 (%)", "f1")):
            values = [result[key] for result in results]
            assert row[title] == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert (row["runs"], row["seeds"]) == ("3", "3")


def test_losses_have_the_t_interval_over_seeds(tmp_path: Path) -> None:
    for seed, loss in enumerate((2.0, 2.1, 2.3)):
        pretrained(tmp_path / "runs" / str(seed), seed=seed, loss=loss)
    (row,) = rows_of(report(tmp_path / "report", tmp_path / "runs")["md"], "pretrain")
    found = summarise([2.0, 2.1, 2.3])
    assert row["MLM nats / character"] == "2.133 ± 0.153"
    assert row["MLM nats / character, interval"] == f"{found.low:.3f} to {found.high:.3f}"


def test_equal_scores_of_two_seeds_prove_nothing(tmp_path: Path) -> None:
    """Student's t would take them for certain."""
    for norm, loss in (("post", 2.0), ("pre", 2.5)):
        for seed in (1, 2):
            pretrained(tmp_path / "runs" / f"{norm}-{seed}", f"model.norm={norm}", seed=seed, loss=loss)
    said = report(tmp_path / "report", tmp_path / "runs", baseline="model.norm:post")["md"]
    assert all("MLM nats / character, interval" not in row for row in rows_of(said, "pretrain"))
    assert "no spread to test against" in said
    assert "\\*\\*\\*" not in said


def test_differences_are_those_of_the_predictions(study_runs: Path, study_report: dict[str, str]) -> None:
    rows = rows_of(study_report["md"], "Differences, KorQuAD")
    assert len(rows) == 4
    articles = [number for number, article in enumerate(asked(None).articles) for _ in range(article.num_questions)]
    p_values = []
    for row in rows:
        name = {"character": "syllable", "sentencepiece": "mecab_bpe"}[row["runs"].split(" · ")[0]]
        key = "exact_match" if row["measure"] == "EM (%)" else "f1"
        with_, without = (
            np.array([scores_by_hand(study_runs / f"{name}-{mode}-{seed}" / "finetune", key) for seed in (1, 2, 3)])
            for mode in ("both", "none")
        )
        wanted = bootstrap_difference(without, with_, articles, paired=True)
        assert row["difference"].rstrip("\\*") == f"{with_.mean() - without.mean():+.2f}".replace("-", "−")
        assert row["95 % interval"] == f"{wanted.low:+.2f} to {wanted.high:+.2f}".replace("-", "−")
        assert row["p"] == f"{wanted.p:.4f}"
        assert row["from"] == "seeds and questions"
        p_values.append(wanted.p)
    corrected = holm(p_values)
    assert [row["p (Holm)"] for row in rows] == [f"{p:.4f}" for p in corrected]
    assert [row["difference"].count("*") for row in rows] == [
        sum(p < limit for limit in (0.05, 0.01, 0.001)) for p in corrected
    ]


def test_folds_count_by_their_questions(tmp_path: Path) -> None:
    """The mean over folds is the score on all questions of the file; a seed that lacks a fold is said to."""
    for seed in (1, 2):
        for fold in range(5):
            finetuned(tmp_path / "runs" / f"{seed}-{fold}", 0.6, seed=seed, fold=fold, chance=fold)
    finetuned(tmp_path / "runs" / "3-0", 0.6, seed=3, fold=0)
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    (row,) = rows_of(said, "KorQuAD: five folds of .*, folds 0, 1, 2, 3, 4")
    results = {
        run: read_json(tmp_path / "runs" / run / "record.json")["results"]
        for run in ("1-0", "1-1", "1-2", "1-3", "1-4")
    }
    right = sum(result["exact_match"] * result["total"] for result in results.values())
    (table,) = tables_of(tmp_path / "runs")
    by_seed = _over_folds(_whole_units(table.groups[0], table.measures[0], table.folds), table.groups[0])
    assert by_seed[1] == pytest.approx(right / len(asked(None)))
    assert set(by_seed) == {1, 2}  # a mean of other folds is of other questions
    found = score(table.groups[0], table.measures[0], table.folds, None)
    assert found.mean == pytest.approx((by_seed[1] + by_seed[2]) / 2)
    assert (row["runs"], row["seeds"], row["folds"]) == ("11", "2 of 3", "0, 1, 2, 3, 4")
    assert "seed 3 has no fold 1, 2, 3, 4" in said


def test_seeds_on_other_folds_have_no_interval(tmp_path: Path) -> None:
    """Two seeds, of which one has folds that are hard, the other one easy ones: chance is not all that moves them."""
    for seed, fold in ((1, 0), (1, 1), (2, 2), (2, 3)):
        finetuned(tmp_path / "runs" / f"{seed}-{fold}", 0.1 if seed == 1 else 0.9, seed=seed, fold=fold)
    (table,) = tables_of(tmp_path / "runs")
    means = []
    for seed, folds in ((1, (0, 1)), (2, (2, 3))):
        records = [read_json(tmp_path / "runs" / f"{seed}-{fold}" / "record.json") for fold in folds]
        right = sum(record["results"]["exact_match"] * record["results"]["total"] for record in records)
        means.append(right / sum(record["results"]["total"] for record in records))
    for answers in (None, Answers(None)):
        found = score(table.groups[0], table.measures[0], table.folds, answers)
        assert found.mean == pytest.approx(statistics.mean(means))
        assert (found.spread, found.low, found.high, found.units) == (None, None, None, 2)
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    (row,) = rows_of(said, "KorQuAD")
    assert "EM (%), interval" not in row
    assert "±" not in row["EM (%)"]
    assert "all runs: no seed has all folds (1: 0, 1; 2: 2, 3), so that its mean is over scores on different" in said
    assert "Student" not in said
    assert "questions are drawn without" not in said
    finetuned(tmp_path / "runs" / "1-2", 0.1, seed=1, fold=2)
    finetuned(tmp_path / "runs" / "1-3", 0.1, seed=1, fold=3)
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    assert "all runs: seed 2 has no fold 0, 1; questions are drawn without this seed" in said
    assert "no seed has all folds" not in said


def test_one_seed_is_said_beside_each_difference(tmp_path: Path) -> None:
    finetuned(tmp_path / "runs" / "plain", 0.4)
    finetuned(tmp_path / "runs" / "deep", 0.6, "dropout=0.3", chance=1)
    said = report(tmp_path / "report", tmp_path / "runs", baseline="plain")
    rows = rows_of(said["md"], "Differences, KorQuAD")
    assert [row["from"] for row in rows] == ["questions; ⚠ one seed"] * 2
    assert all(row["95 % interval"] and "p" not in row and "*" not in row["difference"] for row in rows)
    assert "One seed: no test. Another seed of the same settings may move the score" in said["md"]
    assert "⚠ one seed" in said["html"]
    assert "⚠ cannot be tested" in said["html"]
    scores = rows_of(said["md"], "KorQuAD")
    assert [row["run"] for row in scores] == ["deep", "plain"]
    assert all("±" not in row["EM (%)"] and row["seeds"] == "1" for row in scores)


def test_one_pretraining_is_said_where_arms_differ_in_it(tmp_path: Path) -> None:
    for mode in ("none", "both"):
        entities = ("entities=none",) if mode == "none" else ("entities=mecab", f"entities.mode={mode}")
        base = pretrained(tmp_path / "runs" / mode, *entities)
        for seed in (1, 2, 3):
            finetuned(tmp_path / "runs" / f"{mode}-{seed}", 0.5, *entities, seed=seed, init=base)
            finetuned(tmp_path / "runs" / f"{mode}-d{seed}", 0.5, *entities, "dropout=0.3", seed=seed, init=base)
    said = report(tmp_path / "a", tmp_path / "runs", baseline="entities.mode:none", breakdowns=["entities"])["md"]
    rows = rows_of(said, "Differences, KorQuAD")
    assert len(rows) == 4
    assert all(row["from"] == "seeds and questions; ⚠ one pretraining seed" and "p" not in row for row in rows)
    parts = rows_of(said, "Differences by")
    assert parts
    assert all(row["to mind"] == "⚠ one pretraining seed" and "p" not in row for row in parts)
    assert not any("*" in row["difference"] for row in (*rows, *parts))
    rows = rows_of(report(tmp_path / "b", tmp_path / "runs", baseline="dropout:0.3")["md"], "Differences, KorQuAD")
    assert len(rows) == 4  # both sides began with the same weights
    assert all(row["from"] == "seeds and questions; ⚠ of one pretrained model" and row["p"] for row in rows)
    for mode in ("none", "both"):
        (tmp_path / "runs" / mode / "record.json").unlink()  # of what they began with nothing is known but its name
    said = report(tmp_path / "c", tmp_path / "runs", baseline="entities.mode:none")["md"]
    rows = rows_of(said, "Differences, KorQuAD")
    assert [row["from"] for row in rows] == ["seeds and questions; ⚠ one pretraining seed"] * 4


def test_one_pretraining_against_several_is_not_tested(tmp_path: Path) -> None:
    """The first run of either side began with the same weights, the others of one side did not."""
    bases = [pretrained(tmp_path / "runs" / f"base{seed}", seed=seed) for seed in (1, 2, 3)]
    for seed, base in enumerate(bases, start=1):
        finetuned(tmp_path / "runs" / f"plain{seed}", 0.4, seed=seed, init=base)
        finetuned(tmp_path / "runs" / f"deep{seed}", 0.7, "dropout=0.3", seed=seed, init=bases[0], chance=1)
    said = "seeds and questions; ⚠ one pretraining seed; ⚠ seeds are not paired"
    for baseline in ("dropout:null", "dropout:0.3"):
        rows = rows_of(report(tmp_path / "report", tmp_path / "runs", baseline=baseline)["md"], "Differences, KorQuAD")
        assert [row["from"] for row in rows] == [said] * 2
        assert all(row["95 % interval"] and "p" not in row and "*" not in row["difference"] for row in rows)


def test_seeds_of_one_side_are_told_from_those_of_both(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        finetuned(tmp_path / "runs" / f"plain{seed}", 0.5, seed=seed)
    finetuned(tmp_path / "runs" / "deep", 0.6, "dropout=0.3", chance=1)
    rows = rows_of(report(tmp_path / "report", tmp_path / "runs", baseline="dropout:0.3")["md"], "Differences, KorQuAD")
    assert [row["from"] for row in rows] == ["questions, and seeds of one side; ⚠ one seed"] * 2
    assert all("p" not in row for row in rows)


def test_a_difference_that_nothing_moves_is_not_tested(tmp_path: Path) -> None:
    """All questions wrong against all right: a bootstrap of them has no spread."""
    for seed in (1, 2):
        finetuned(tmp_path / "runs" / f"bad{seed}", -1.0, seed=seed)
        finetuned(tmp_path / "runs" / f"good{seed}", 1.0, "dropout=0.3", seed=seed)
    rows = rows_of(
        report(tmp_path / "report", tmp_path / "runs", baseline="dropout:null")["md"], "Differences, KorQuAD"
    )
    exact = next(row for row in rows if row["measure"] == "EM (%)")
    assert exact["difference"] == "+100.00"
    assert exact["from"].endswith("no spread to test against")
    assert not exact.get("95 % interval")


def test_comparisons_say_who_is_left_out_and_what_was_not_run_alike(tmp_path: Path) -> None:
    for seed in (1, 2):
        for fold in (0, 1):
            finetuned(tmp_path / "runs" / f"plain{seed}-{fold}", 0.5, seed=seed, fold=fold)
            deep = finetuned(tmp_path / "runs" / f"deep{seed}-{fold}", 0.6, "dropout=0.3", seed=seed, fold=fold)
            set_record(deep, hardware={"device": "another computer", "threads": 1}, commit="f" * 40)
        finetuned(tmp_path / "runs" / f"part{seed}", 0.6, "dropout=0.5", seed=seed, fold=0)
    said = report(tmp_path / "report", tmp_path / "runs", baseline="dropout:null")["md"].replace("\\", "")
    assert "fold 0: in no comparison are runs as part1" in said  # the folds that it has are not those of the others
    assert "0.3 and – were run on different devices: another computer and a computer" in said
    assert "0.3 and – were run on different commits: ffffffffffff and 0123456789ab" in said
    assert "precisions" not in said
    assert "in no comparison" not in report(tmp_path / "plain", tmp_path / "runs")["md"]  # none was asked for


def test_fine_tunings_of_one_pretraining_are_one_unit_and_said(tmp_path: Path) -> None:
    for seed in (1, 2):
        base = pretrained(tmp_path / "base" / str(seed), seed=seed)
        for run in range(2 if seed == 1 else 1):
            finetuned(tmp_path / "runs" / f"{seed}-{run}", 0.5, seed=10 * run + seed, init=base)
    said = report(tmp_path / "report", tmp_path / "runs")["md"].replace("\\", "")
    assert "pretraining seed 1 stands for the mean of 2 fine-tunings" in said
    assert "pretraining seed 2 stands" not in said


def test_losses_of_tokens_are_not_compared_where_text_is_cut_elsewhere(tmp_path: Path) -> None:
    for mode in ("split", "both"):
        for seed in (1, 2):
            arm = ("entities=mecab", f"entities.mode={mode}")
            pretrained(tmp_path / "runs" / f"{mode}{seed}", *arm, seed=seed, loss=2 + 0.1 * seed)
    said = report(tmp_path / "report", tmp_path / "runs", baseline="entities.mode:split")["md"]
    assert {row["measure"] for row in rows_of(said, "Differences, pretrain")} == {"MLM nats / character"}
    assert "MLM nats / token" not in said


def test_what_draws_nothing_has_no_seed(tmp_path: Path) -> None:
    """A lexical baseline is the same for every seed: against three seeds of another, nothing is missing."""
    for seed in (1, 2, 3):
        finetuned(tmp_path / "runs" / f"run{seed}", 0.5, seed=seed)
    lexical = finetuned(tmp_path / "runs" / "lexical", 0.2)
    write_json_atomically(lexical / "record.json", read_json(lexical / "record.json") | {"task": "lexical_baseline"})
    said = report(tmp_path / "report", tmp_path / "runs", baseline="task:lexical_baseline")["md"]
    assert [row["from"] for row in rows_of(said, "Differences, KorQuAD")] == ["seeds and questions"] * 2
    assert {row["task"]: row["seeds"] for row in rows_of(said, "KorQuAD")} == {
        r"finetune\_korquad": "3", r"lexical\_baseline": "–"
    }  # fmt: skip


def test_predictions_of_something_else_are_not_believed(tmp_path: Path) -> None:
    run = finetuned(tmp_path / "runs" / "a", 0.4)
    set_results(run, exact_match=99.0)
    said = report(tmp_path / "report", tmp_path / "runs")["md"].replace("\\", "")
    assert re.search(r"predictions.json has an EM of [\d.]+ on KorQuAD_sample_dev.json, its record 99.0", said)


def test_questions_are_found_where_the_data_lies_now(tmp_path: Path) -> None:
    """Runs from another machine: their data.root is not here, the report's is."""
    for seed in (1, 2):
        run = finetuned(tmp_path / "runs" / str(seed), 0.5, seed=seed)
        record = read_json(run / "record.json")
        record["config"]["task"]["test"] = "{root}/KorQuAD_sample_dev.json"
        record["config"]["data"]["root"] = str(tmp_path / "elsewhere")
        write_json_atomically(run / "record.json", record)
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    assert "questions are not at hand" in said
    assert "Intervals: Student's t over seeds" in said
    said = report(tmp_path / "report", tmp_path / "runs", data=DataConfig(root=str(SAMPLE.parent)))["md"]
    assert "not at hand" not in said
    assert "(multi-bootstrap)" in said
    del record["config"]["task"]["test"]
    write_json_atomically(run / "record.json", record)
    said = report(tmp_path / "report", tmp_path / "runs")["md"].replace("\\", "")
    assert "questions are not at hand: a run's record does not name them (task.test)" in said
