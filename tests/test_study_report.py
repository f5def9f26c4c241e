"""The report on finished runs: numbers by hand, groups, protocols, damage, and a page that is safe."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import run_door
from studies import REPOSITORY, SAMPLE, asked, composed, finetuned, job, pretrained, report, rows_of
from web import Page

from korbert.config import REPORT_SECTIONS, DataConfig
from korbert.config.sweeping import note_failure
from korbert.data.download import KORQUAD_DEV
from korbert.data.korquad import read_korquad, read_predictions
from korbert.errors import ConfigError, DataError
from korbert.files import checksum, read_json, write_json_atomically
from korbert.metrics import score_per_question
from korbert.study.answers import Answers
from korbert.study.collection import Found, failed_jobs, find_records, unfinished_runs
from korbert.study.contrasts import _over_folds, _whole_units, choose_baselines, score
from korbert.study.grouping import Table, make_tables, shown
from korbert.study.lineage import _settings, describe_runs
from korbert.study.multibootstrap import bootstrap_difference
from korbert.study.protocols import folds_of, scored_file
from korbert.study.report_plots import forest_picture
from korbert.study.report_sheets import score_table
from korbert.study.significance import holm, summarise
from korbert.tasks.finetune import protocol

EVIL = '<script>alert("1")</script>'


def tables_of(*places: Path) -> list[Table]:
    return make_tables(describe_runs(find_records([str(place) for place in places]), {}))


def change(run: Path, **values: Any) -> None:
    record = read_json(run / "record.json")
    for key, value in values.items():
        record["results"][key] = value
    write_json_atomically(run / "record.json", record)


# ---- groups ----


def test_groups_differ_in_more_than_seed_and_fold(study_runs: Path) -> None:
    answers, pretraining = tables_of(study_runs)
    assert answers.columns == ["tokenizer.kind", "entities.mode"]  # the tokenizer's is the pretraining's setting
    assert [(group.name, len(group.runs)) for group in answers.groups] == [
        ("tokenizer.kind=sentencepiece, entities.mode=both", 3),
        ("tokenizer.kind=sentencepiece, entities.mode=none", 3),
        ("tokenizer.kind=character, entities.mode=both", 3),
        ("tokenizer.kind=character, entities.mode=none", 3),
    ]
    assert {"tokenizer.vocab_size", "pretrain.entities.mode"} <= set(answers.further)
    assert pretraining.columns == ["tokenizer.kind", "entities.mode"]
    assert all(list(group.units()) == [1, 2, 3] for table in (answers, pretraining) for group in table.groups)
    assert not any(group.rests_on_one_pretraining() for group in answers.groups)


def test_each_group_is_compared_with_the_baseline_that_is_most_like_it(study_runs: Path) -> None:
    table = tables_of(study_runs)[0]
    pairs = [(group.label, base.label) for group, base in choose_baselines(table, ["entities.mode:none"])]
    assert pairs == [("sentencepiece · both", "sentencepiece · none"), ("character · both", "character · none")]
    one = choose_baselines(table, ["tokenizer.kind=character", "entities.mode:none"])
    assert {base.label for _, base in one} == {"character · none"}
    assert len(one) == 3
    assert choose_baselines(table, ["sentencepiece · none"])
    assert not choose_baselines(table, ["entities.mode:markers"])
    assert not choose_baselines(table, ["no such thing"])


def test_what_changes_no_result_makes_no_group() -> None:
    free = ["data.root=/a", "train.log_every=5", "runtime.workers=2", "+runtime.threads=1", "seed=3", "task.fold=1"]
    record = {"task": "pipeline", "config": {"finetuning": ["train.epochs=1", *free], "data": {"root": "x"}}}
    assert _settings(Found("x", Path("x"), None, record), {}) == {"finetuning": ["train.epochs=1"]}


def test_runs_without_their_pretraining_stay_apart_and_say_so(tmp_path: Path) -> None:
    for seed in (1, 2):
        finetuned(tmp_path / "runs" / f"run{seed}", 0.5, seed=seed, init=f"elsewhere/{seed}")
    (table,) = tables_of(tmp_path / "runs")
    assert table.columns == ["init"]
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    assert "run1: init=elsewhere/1 has no record here" in said.replace("\\", "")


def test_a_run_is_linked_to_the_one_that_has_its_weights(tmp_path: Path) -> None:
    """Two machines had a pretraining of the same name, of different seeds."""
    for machine, seed in (("a", 3), ("b", 4)):
        base = pretrained(tmp_path / machine / "base", seed=seed)
        edit(
            base, config={**read_json(base / "record.json")["config"], "run_dir": "runs/base"}, weights=f"of {machine}"
        )
    for name, weights in (("first", "of b"), ("second", "of c"), ("third", None)):
        run = finetuned(tmp_path / name, 0.5, init="runs/base")
        edit(run, inputs={"{root}/base/model/model.safetensors": weights} if weights else {})
    edit(finetuned(tmp_path / "fourth", 0.5, init="runs/base/model"), inputs={"x/model.safetensors": "of a"})
    here = pretrained(tmp_path / "elsewhere" / "here", seed=5)  # not on a page, not below what is searched
    edit(here, weights="of here")
    away = pretrained(tmp_path / "away", seed=6)
    edit(away, config={**read_json(away / "record.json")["config"], "run_dir": str(here)}, weights="of away")
    edit(finetuned(tmp_path / "fifth", 0.5, init=here), inputs={f"{here}/model/model.safetensors": "of here"})
    places = [str(tmp_path / name) for name in ("a", "b", "away", "first", "second", "third", "fourth", "fifth")]
    runs = {run.name: run for run in describe_runs(find_records(places), {})}
    assert [runs[name].pretraining_seed for name in ("fourth", "fifth")] == [3, 5]
    assert not [*runs["fourth"].warnings, *runs["fifth"].warnings]
    assert (runs["first"].pretraining_seed, list(runs["first"].warnings)) == (4, [])
    assert runs["second"].pretraining_seed is None
    assert "init=runs/base has other weights here; its seed" in runs["second"].warnings[0]
    assert runs["third"].pretraining_seed == 3
    assert "is the name of 2 runs here, of which a/base is taken" in runs["third"].warnings[0]


def edit(run: Path, **changes: Any) -> None:
    write_json_atomically(run / "record.json", read_json(run / "record.json") | changes)


@pytest.mark.parametrize("spelled", ["{}", "{}/", "{}/model", "./{}"])
@pytest.mark.parametrize("recorded", [True, False])
def test_one_pretraining_is_one_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str, recorded: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if recorded:
        pretrained(tmp_path / "runs" / "base")
    for seed in (1, 2, 3):
        finetuned(
            tmp_path / "runs" / f"run{seed}", 0.5, seed=seed, init=(spelled if seed == 3 else "{}").format("runs/base")
        )
    (table,) = (table for table in tables_of(tmp_path / "runs") if table.has_answers())
    assert all(group.rests_on_one_pretraining() for group in table.groups if len(group.runs) > 1)
    assert len(table.groups) == 1 or not recorded


def test_one_pretraining_that_was_made_on_two_machines_is_one(tmp_path: Path) -> None:
    for machine in ("a", "b"):
        base = pretrained(tmp_path / machine / "base", seed=1)
        edit(base, weights=machine)
        for seed in (1, 2):
            finetuned(tmp_path / machine / f"run{seed}-{machine}", 0.5, seed=10 * ord(machine) + seed, init=base)
    (group,) = tables_of(tmp_path)[0].groups
    assert len({run.origin for run in group.runs}) == 2
    assert group.rests_on_one_pretraining()


def test_a_group_with_other_folds_is_called_as_beside_the_others(tmp_path: Path) -> None:
    """In a table of its own, and the one that stays is not called as if it were it."""
    for mode, folds in (("none", (0, 1)), ("both", (0,))):
        entities = ("entities=none",) if mode == "none" else ("entities=mecab", f"entities.mode={mode}")
        for seed, fold in itertools.product((1, 2), folds):
            finetuned(tmp_path / f"{mode}-{seed}-{fold}", 0.5, *entities, seed=seed, fold=fold)
    assert {group.label: table.folds for table in tables_of(tmp_path) for group in table.groups} == {
        "none": (0, 1), "both": (0,)
    }  # fmt: skip


@pytest.mark.parametrize(("seeds", "unpaired"), [((1, 2, 3), False), ((2, 3, 4), True), ((1, 2), True)])
def test_seeds_that_are_not_paired_are_told(tmp_path: Path, seeds: tuple[int, ...], unpaired: bool) -> None:
    for name, own, entities in (("none", (1, 2, 3), ["entities=none"]), ("both", seeds, ["entities=mecab"])):
        for seed in own:
            finetuned(tmp_path / "runs" / f"{name}{seed}", 0.5, *entities, seed=seed, chance=len(name))
    said = report(tmp_path / "report", tmp_path / "runs", baseline="entities.mode:none")["md"]
    rows = rows_of(said, "Differences, KorQuAD")
    assert rows
    assert all(("⚠ seeds are not paired" in row["from"]) == unpaired for row in rows)


def test_published_models_are_no_runs(tmp_path: Path) -> None:
    for seed, name in ((1, "klue/bert-base"), (2, "klue/bert-base"), (1, "klue/roberta-base")):
        finetuned(tmp_path / f"{name.replace('/', '-')}-{seed}", 0.5, seed=seed, init=f"hf:{name}")
    (table,) = tables_of(tmp_path)
    assert [group.label for group in table.groups] == ["hf:klue/bert-base", "hf:klue/roberta-base"]
    assert [len(group.runs) for group in table.groups] == [2, 1]
    assert not table.groups[0].rests_on_one_pretraining()


def test_a_run_of_several_stages_is_left_to_them(tmp_path: Path) -> None:
    """As a pipeline's: the whole has the scores of its last stage, and its pretraining lies elsewhere."""
    base = pretrained(tmp_path / "pretrained" / "base", "tokenizer=syllable", seed=7)
    run = finetuned(tmp_path / "sweep" / "job" / "finetune", 0.5, seed=2, init=base)
    whole = read_json(run / "record.json") | {"task": "pipeline", "stages": [str(base), "finetune"]}
    write_json_atomically(tmp_path / "sweep" / "job" / "record.json", whole)
    (tmp_path / "sweep" / "next").mkdir()
    (tmp_path / "sweep" / "next" / "sessions.jsonl").write_text("{}\n", "utf-8")
    answers, pretraining = tables_of(tmp_path / "sweep")
    (group,) = answers.groups
    assert [run.name for run in group.runs] == ["job/finetune"]
    assert (group.runs[0].seed, group.runs[0].pretraining_seed) == (2, 7)
    assert group.settings["tokenizer.kind"] == "character"
    assert pretraining.groups[0].runs[0].found.folder == base  # found where the fine-tuning says
    said = report(tmp_path / "report", tmp_path / "sweep")["md"]
    assert "begun and not finished, so not counted: next" in said
    for pattern in ("sw*", "sweep/*"):
        assert "begun and not finished, so not counted: next" in report(tmp_path / "r", tmp_path / pattern)["md"]


@pytest.mark.parametrize("stages", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_jobs_without_their_pretrainings_know_their_seeds(tmp_path: Path, stages: bool, shared: bool) -> None:
    """As on a laptop, where the jobs' folders were copied to, with or without the fine-tunings in them."""
    for mode, seed in itertools.product(("none", "both"), (1, 2, 3)):
        arm = ("entities=none",) if mode == "none" else ("entities=mecab", f"entities.mode={mode}")
        name, of = f"{mode}-{seed}", 9 if shared else seed
        base = tmp_path / "elsewhere" / f"{mode}-seed{of}"
        folder = job(tmp_path / "runs" / name, base, 0.5, "tokenizer=syllable", *arm, seed=seed, pretraining_seed=of)
        if not stages:
            shutil.rmtree(folder / "finetune")
    (table,) = tables_of(tmp_path / "runs")
    assert [len(group.runs) for group in table.groups] == [3, 3]
    assert all(list(group.units()) == ([1, 2, 3]) for group in table.groups)
    assert {run.pretraining_seed for group in table.groups for run in group.runs} == ({9} if shared else {1, 2, 3})
    assert {group.settings["tokenizer.kind"] for group in table.groups} == {"character"}
    assert all(group.rests_on_one_pretraining() == shared for group in table.groups)
    said = report(tmp_path / "report", tmp_path / "runs", baseline="entities.mode:none")["md"]
    rows = rows_of(said, "Differences, KorQuAD")
    assert [row["from"].partition(";")[0] for row in rows] == ["seeds and questions" if stages else "seeds"] * 2
    assert all(("p" not in row) == shared for row in rows)
    told = "/finetune and 2 more: init has no record here; its seed and settings are as the job's own record tells them"
    assert said.count(told) == stages  # once for all


def test_jobs_alone_are_one_row_over_folds(tmp_path: Path) -> None:
    for seed, fold in itertools.product((1, 2), (0, 1)):
        folder = tmp_path / "runs" / f"{seed}-{fold}"
        job(folder, tmp_path / "base", 0.5, "tokenizer=syllable", seed=seed, pretraining_seed=seed, fold=fold)
        shutil.rmtree(folder / "finetune")
    (table,) = tables_of(tmp_path / "runs")
    (group,) = table.groups
    assert (table.folds, list(group.units())) == ((0, 1), [1, 2])


def test_a_job_is_one_run_however_it_is_named(tmp_path: Path) -> None:
    """By its folder, its record, or both; what predicts with its model knows the job's pretraining, too."""
    folder = job(tmp_path / "runs" / "job", tmp_path / "elsewhere", 0.5, "tokenizer=syllable", pretraining_seed=7)
    places = [folder, folder / "record.json", folder / "finetune"]
    for chosen in ([*places], [places[1]], [places[0], places[1]], [tmp_path / "runs"]):
        (run,) = describe_runs(find_records([str(place) for place in chosen]), {})
        assert (run.task, run.pretraining_seed, run.found.folder) == ("finetune_korquad", 7, folder / "finetune")
    record = read_json(folder / "finetune" / "record.json") | {"task": "predict_korquad"}
    record["config"] = {"run": str(folder / "finetune"), "seed": 5}
    write_json_atomically(tmp_path / "answers" / "record.json", record)
    run = describe_runs(find_records([str(tmp_path / "answers")]), {})[0]
    assert (run.seed, run.pretraining_seed, run.settings["tokenizer.kind"]) == (1, 7, "character")


def test_jobs_that_failed_are_told_with_their_reason(tmp_path: Path) -> None:
    """A sweep's job leaves a note; one that was tried again and is finished has nothing to tell."""
    for number in (1, 2):
        finetuned(tmp_path / "sweep" / f"job{number}", 0.5, seed=number)
    note_failure(tmp_path / "sweep" / "job2", "the first try")
    for name in ("job3", "job4", "job40"):
        (tmp_path / "sweep" / name / "finetune").mkdir(parents=True)
        (tmp_path / "sweep" / name / "finetune" / "sessions.jsonl").write_text("{}\n", "utf-8")
    note_failure(tmp_path / "sweep" / "job4", f"no\nsuch {'thing' * 99}")
    note_failure(tmp_path / "sweep" / "job5", f"{'x' * 200}yz")
    said = report(tmp_path / "report", tmp_path / "sweep")["md"].replace("\\", "")
    assert f"- ⚠ failed, so not counted: job4 (no); job5 ({'x' * 200}…)\n" in said
    assert "- ⚠ begun and not finished, so not counted: job3/finetune, job40/finetune\n" in said
    assert failed_jobs([str(tmp_path / "sweep" / "job4")]).keys() == {"job4"}  # given by its own folder
    assert unfinished_runs([str(tmp_path / "sweep" / "job4")]) == []
    (tmp_path / "sweep" / "job4" / "failure.json").write_text("{", "utf-8")  # of a disk that was full
    said = report(tmp_path / "report", tmp_path / "sweep")["md"].replace("\\", "")
    assert "job4 (what it says of that cannot be read: " in said


def test_unknown_tasks_show_what_they_measured(tmp_path: Path) -> None:
    record = {"task": "check_layouts", "results": {"error, relative": 1.5e-7, "steps": 3, "note": "x", "ok": True}}
    write_json_atomically(tmp_path / "runs" / "check" / "record.json", record)
    (row,) = rows_of(report(tmp_path / "report", tmp_path / "runs")["md"], "check layouts")
    assert row == {"run": "check", "error, relative": "1.5e−07", "runs": "1", "seeds": "1"}


# ---- numbers ----


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


def scores_by_hand(run: Path, key: str) -> list[float]:
    gold = asked(None).gold()
    return [
        100 * getattr(s, key) for s in score_per_question(gold, read_predictions(run / "predictions.json")).values()
    ]


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


# ---- one seed ----


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
            edit(deep, hardware={"device": "another computer", "threads": 1}, commit="f" * 40)
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
    change(run, exact_match=99.0)
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


# ---- protocols ----


def test_protocols_are_never_mixed(tmp_path: Path) -> None:
    finetuned(tmp_path / "whole", 0.5)
    for fold in (0, 1):
        finetuned(tmp_path / f"fold{fold}", 0.5, fold=fold)
    finetuned(tmp_path / "other", 0.5, "dropout=0.3", fold=0)
    pretrained(tmp_path / "base")
    pretrained(tmp_path / "short", "task.validation_length=64")
    pretrained(tmp_path / "part", "corpus.holdout=0.5")
    tables = tables_of(tmp_path)
    assert [(table.title, table.folds) for table in tables[:3]] == [
        ("KorQuAD", (0, 1)), ("KorQuAD", (0,)), ("KorQuAD", (None,))
    ]  # fmt: skip
    assert len({table.protocol for table in tables[3:]}) == 3
    for table in tables:
        assert len({run.protocol for group in table.groups for run in group.runs}) == 1
    for text in report(tmp_path / "report", tmp_path).values():
        for table in tables:
            if table.title == "KorQuAD":
                assert re.split(" on | of ", table.protocol)[0] in text


def copied_sample(folder: Path, name: str, articles: int | None = None) -> Path:
    """A file of that name with the first articles of the sample, under other ids: other questions."""
    text = re.sub(r'("id": ")', r"\1other-", SAMPLE.read_text("utf-8"))
    whole = json.loads(text)
    write_json_atomically(folder / name, {**whole, "data": whole["data"][:articles]})
    return folder / name


def on_file(run: Path, file: Path, checksum: str | None, **results: Any) -> None:
    """As if the run were scored on that file. checksum: as its record has it, None: the record is an old one."""
    record, named = read_json(run / "record.json"), f"{{root}}/{file.name}"
    record["config"]["task"]["test"], record["config"]["data"]["root"] = named, str(file.parent)
    record |= {"inputs": {named: checksum}} if checksum else {}
    record["results"] |= {"protocol": f"scored on {file.name}", **results}
    write_json_atomically(run / "record.json", record)


def test_the_dev_file_is_known_by_its_content(tmp_path: Path) -> None:
    """Another file of its name is another protocol: when it is scored, and where an older record has the name."""
    official = KORQUAD_DEV.checksum.removeprefix("sha256:")
    other = copied_sample(tmp_path, KORQUAD_DEV.name)
    called = f"five folds of {KORQUAD_DEV.name} (sha256 {checksum(other)[:12]}…)"
    task = composed("finetune_korquad", "task=korquad_sample", "entities=none", "task.fold=1").task
    assert protocol(task, other) == f"{called}, fold 1"
    assert folds_of(f"a/{KORQUAD_DEV.name}", official) == "korquad-dev-5fold"
    assert folds_of("a/b.json", official) == "five folds of b.json"  # called by its own name
    for name, sum_ in (("real", official), ("copy", checksum(other)), ("old", None)):
        for seed in (1, 2):
            run = finetuned(tmp_path / "runs" / f"{name}{seed}", 0.5, seed=seed, fold=1)
            on_file(run, other, sum_, protocol="korquad-dev-5fold, fold 1")
    tables = {table.protocol: [run.name for run in table.groups[0].runs] for table in tables_of(tmp_path / "runs")}
    assert tables == {"korquad-dev-5fold": ["old1", "old2", "real1", "real2"], called: ["copy1", "copy2"]}


def test_files_of_one_name_are_apart_by_their_content(tmp_path: Path) -> None:
    """An easy and a hard file of one name are no two rows of a table; what is not known is with neither, then."""
    sums = {"easy": "1" * 64, "hard": "2" * 64, "old": None}
    for seed, (name, sum_) in itertools.product((1, 2), sums.items()):
        dropout = () if name == "easy" else ("dropout=0.3",)
        run = finetuned(tmp_path / "runs" / f"{name}{seed}", 0.9 if name == "easy" else 0.2, *dropout, seed=seed)
        on_file(run, tmp_path / name / "dev.json", sum_)
    protocols = [table.protocol for table in tables_of(tmp_path / "runs")]
    wanted = ["111111111111…", "222222222222…", "not known"]
    assert protocols == [f"scored on dev.json (sha256 {text})" for text in wanted]
    (table,) = tables_of(*(tmp_path / "runs" / f"{name}{seed}" for name in ("hard", "old") for seed in (1, 2)))
    assert (table.protocol, len(table.groups)) == ("scored on dev.json", 1)  # as it always was
    said = report(tmp_path / "report", tmp_path / "runs", baseline="dropout:null")["md"]
    assert "Differences" not in said


@pytest.mark.parametrize(
    ("named", "noted"),
    [
        ("{root}/a.json", "{root}/a.json"),
        ("/data/a.json", "{root}/a.json"),
        ("data/a.json", "data/a.json"),
        ("./a.json", "./a.json"),
        ("a.json", "./a.json"),
        ("{root}/a.json", "{root}/b/a.json"),
    ],
)
def test_the_checksum_of_the_file_that_was_scored_on(named: str, noted: str) -> None:
    """However its name was written; of another file of that name it is not taken."""
    record: dict[str, Any] = {"config": {"task": {"test": named}, "data": {"root": "/data"}}}
    others = {"{root}/train.json": "0", "x/model.safetensors": "1"}
    assert scored_file({**record, "inputs": {**others, noted: "2"}}) == ("2" if "/b/" not in noted else None)
    for old in (record, {**record, "inputs": None}, {"inputs": {noted: "2"}}, {"config": {"task": "x"}}):
        assert scored_file(old) is None


@pytest.mark.parametrize("kept", ["answers", "total", "later answers"])
def test_other_questions_are_not_compared_where_nothing_but_them_tells(tmp_path: Path, kept: str) -> None:
    """Old records without checksums: by ids where answers are at hand, by their number where they are not."""
    other = copied_sample(tmp_path / "b", SAMPLE.name, articles=3 if kept == "total" else None)
    for seed in (1, 2, 3):
        for name, dropout in (("plain", ()), ("deep", ("dropout=0.3",))):
            run = finetuned(tmp_path / "runs" / f"{name}{seed}", 0.5, *dropout, seed=seed, chance=len(name))
            if name == "deep":
                predictions = {f"other-{key}": text for key, text in read_predictions(run / "predictions.json").items()}
                write_json_atomically(run / "predictions.json", predictions)
                on_file(run, other, None, total=len(read_korquad(other)))
            else:
                on_file(run, SAMPLE, None)
            if kept == "total" or (kept == "later answers" and (name, seed) == ("deep", 1)):
                (run / "predictions.json").unlink()
    said = report(tmp_path / "report", tmp_path / "runs", baseline="dropout:null")["md"].replace("\\", "")
    assert "runs of 0.3 and – were scored on different questions" in said
    assert "in no comparison are –; 0.3" in said or "in no comparison are 0.3; –" in said
    assert "Differences" not in said
    for seed in (1, 2, 3):  # and as one row they have no score
        record = read_json(tmp_path / "runs" / f"deep{seed}" / "record.json")
        record["config"]["dropout"], record["config"]["seed"], record["seed"] = None, seed + 3, seed + 3
        write_json_atomically(tmp_path / "runs" / f"deep{seed}" / "record.json", record)
    said = report(tmp_path / "report", tmp_path / "runs")["md"]
    assert [row["EM (%)"] for row in rows_of(said, "KorQuAD")] == ["not measured"]
    assert "runs of all runs were scored on different questions" in said


# ---- missing and damaged ----


def test_missing_scores(tmp_path: Path) -> None:
    whole = finetuned(tmp_path / "runs" / "whole", 0.5)
    part = finetuned(tmp_path / "runs" / "part", 0.5, "dropout=0.3")
    change(part, f1=None, exact_match=float("nan"))
    said = report(tmp_path / "report", tmp_path / "runs", baseline="whole")
    rows = {row["run"]: row for row in rows_of(said["md"], "KorQuAD")}
    assert rows["part"]["EM (%)"] == rows["part"]["F1 (%)"] == "not measured"
    assert rows["whole"]["EM (%)"] == f"{read_json(whole / 'record.json')['results']['exact_match']:.2f}"
    assert "no exact_match in part" in said["md"].replace("\\", "")
    assert "nan" not in said["md"]
    assert ">nan<" not in said["html"]


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ('{"task": "pretrain", "results": {', r"bad/record\.json: line 1 column \d+: broken JSON"),
        ("[]", r"bad/record\.json: top level: wanted a JSON object"),
        ('{"results": {}}', r"bad/record\.json: task: wanted a string"),
        ('{"task": "pretrain", "results": []}', r"bad/record\.json: results: wanted an object"),
        ('{"task": "pretrain", "results": {}, "config": 3}', r"bad/record\.json: config: wanted an object"),
        ('{"task": "x", "results": {"f1": 1}, "config": {"seed": [}', r"bad/record\.json: line 1 column \d+"),
    ],
)
def test_damaged_records_are_named(tmp_path: Path, damage: str, where: str) -> None:
    finetuned(tmp_path / "good", 0.5)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text(damage, "utf-8")
    with pytest.raises(DataError, match=where):
        report(tmp_path / "report", tmp_path)


def test_damaged_scores_and_curves_are_named(tmp_path: Path) -> None:
    run = finetuned(tmp_path / "runs" / "one", 0.5)
    change(run, f1="good")
    with pytest.raises(DataError, match=r"one/record\.json: results\.f1: wanted a number, found 'good'"):
        report(tmp_path / "report", tmp_path / "runs")
    change(run, f1=50.0)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"loss": 3}\n', "utf-8")
    with pytest.raises(DataError, match=r"one/metrics\.jsonl: line 2: wanted an object with a step"):
        report(tmp_path / "report", tmp_path / "runs")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": "low"}\n', "utf-8")
    with pytest.raises(DataError, match=r"one/metrics\.jsonl: line 1: wanted numbers alone"):
        report(tmp_path / "report", tmp_path / "runs")


def test_a_pattern_takes_runs_alone(study_runs: Path, tmp_path: Path) -> None:
    """The store of records lies beside them."""
    (study_runs / "records.sqlite").write_bytes(b"SQLite format 3\0\xff")
    made = [report(tmp_path / name, runs) for name, runs in (("a", study_runs), ("b", study_runs / "*"))]
    (study_runs / "records.sqlite").unlink()
    assert made[0] == made[1]


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs=.*no record\.json"):
        report(tmp_path / "report", tmp_path)
    with pytest.raises(DataError, match=r"nowhere: file: not found"):
        report(tmp_path / "report", tmp_path / "nowhere")
    finetuned(tmp_path / "one", 0.5)
    with pytest.raises(ConfigError, match=r"baseline=seed:3: no run here has a setting seed"):
        report(tmp_path / "report", tmp_path, baseline="seed:3")
    with pytest.raises(ConfigError, match=r"baseline=two: no group of runs is that; there are: one"):
        report(tmp_path / "report", tmp_path, baseline="two")
    with pytest.raises(ConfigError, match=r"no run here has a setting entity\.mode; is entities\.mode meant"):
        report(tmp_path / "report", tmp_path, baseline="entity.mode:none")
    with pytest.raises(ConfigError, match="baseline: wanted key:value"):
        report(tmp_path / "report", tmp_path, baseline=[3])
    assert not (tmp_path / "report").exists()
    for number in range(9):
        finetuned(tmp_path / f"more{number}", 0.5, f"train.optimizer.learning_rate={number + 1}e-4")
    with pytest.raises(ConfigError, match=r"focus=nobody: .*; and \d+ more$"):
        report(tmp_path / "report", tmp_path, focus="nobody")


def test_runs_of_one_name_keep_their_own_scores(tmp_path: Path) -> None:
    """Each is told by what is around it, in the table of scores as in that of differences."""
    exact = {}
    for folder, right, rate in (("a", 0.9, "3e-4"), ("b", 0.1, "1e-4")):
        run = finetuned(tmp_path / folder / "job" / "finetune", right, f"train.optimizer.learning_rate={rate}")
        exact[f"{folder}/job/finetune"] = read_json(run / "record.json")["results"]["exact_match"]
    places = [tmp_path / folder / "job" for folder in ("a", "b")]
    said = report(tmp_path / "report", *places, baseline="a/job/finetune")["md"]
    rows = rows_of(said, "KorQuAD")
    assert {row["run"]: float(row["EM (%)"]) for row in rows} == {k: round(v, 2) for k, v in exact.items()}
    (table,) = tables_of(*places)
    (difference, _) = score_table(table, ["a/job/finetune"], Answers(None)).contrasts
    assert difference.difference == pytest.approx(exact["b/job/finetune"] - exact["a/job/finetune"])


def test_long_settings_are_told_apart(tmp_path: Path) -> None:
    """Of a long one the end is shown, too; all of it where two are alike but in the middle."""
    assert shown("x" * 60 + "/one") == "x" * 16 + "…" + "x" * 27 + "/one"
    stores = [f"{'/folder' * 9}/{end}" for end in ("1" + "/entities" * 5, "2" + "/entities" * 5, "other")]
    for seed, store in itertools.product((1, 2), stores):
        finetuned(tmp_path / f"{stores.index(store)}-{seed}", 0.5, f"entities.store={store}", seed=seed)
    (table,) = tables_of(tmp_path)
    assert [group.label for group in table.groups] == [*stores[:2], shown(stores[2])]


def test_a_baseline_is_named_by_the_one_name_of_its_runs(tmp_path: Path) -> None:
    """The same run made again elsewhere, on another commit, say: two records of one name are one group."""
    places = [tmp_path / "here", tmp_path / "there"]
    for chance, place in enumerate(places):
        finetuned(place / "best", 0.5, chance=chance)
    finetuned(tmp_path / "here" / "other", 0.4, "train.optimizer.learning_rate=3e-4")
    assert "Difference" in report(tmp_path / "report", *places, baseline="best")["md"]
    (tmp_path / "there" / "best").rename(tmp_path / "there" / "second")
    with pytest.raises(ConfigError, match="baseline=best: no group of runs is that"):
        report(tmp_path / "report", *places, baseline="best")


# ---- tokenizers ----


def comparison(folder: Path, **fingerprints: str) -> Path:
    """Rows as `compare_tokenizers` leaves them, of the study's two tokenizers."""
    rows = []
    for name, fertility, ceiling in (("syllable", 3.5, 100.0), ("mecab_bpe", 2.1, 97.0)):
        settings = read_json(pretrained(folder / name, f"tokenizer={name}") / "config.json")["tokenizer"]
        cost, reach = {"per_eojeol": fertility}, {"exact_match": ceiling}
        rows.append(
            {"name": name, "fingerprint": fingerprints.get(name, name), "settings": "s", "tokenizer": settings,
             "vocabulary": 8000, "results": {"cost": cost, "ceiling": reach}}
        )  # fmt: skip
    rows[0]["results"]["downstream"] = {"protocol": "p", "exact_match": 30.0, "f1": 40.0}
    rows[1]["results"]["downstream"] = {"protocol": "p", "exact_match": 31.0, "f1": 42.0}
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_scores_against_tokenizers(study_runs: Path, tmp_path: Path) -> None:
    made = report(tmp_path / "report", study_runs, comparison=str(comparison(tmp_path / "comparison")))
    titles = re.findall(r"<h3>((?:EM|F1) against [^<]*)</h3>", made["html"])
    assert titles == [f"{m} against {x}" for m in ("EM", "F1") for x in ("tokens by eojeol", "oracle EM")] * 2
    assert "comparison&#39;s own models, p" in made["html"]
    with pytest.raises(DataError, match=r"results\.jsonl: file: not found"):
        report(tmp_path / "report", study_runs, comparison=str(tmp_path))


def test_scores_stand_beside_figures_of_tokenizers(study_runs: Path, tmp_path: Path) -> None:
    """Two tokenizers with two modes of entities each: their figures, and no correlation, as each stands twice."""
    rows = comparison(tmp_path / "comparison")
    made = report(tmp_path / "report", study_runs, comparison=str(rows))
    found = rows_of(made["md"], "Tokenizers, KorQuAD")
    scores = {(row["tokenizer.kind"], row["entities.mode"]): row["F1 (%)"] for row in rows_of(made["md"], "KorQuAD")}
    names = {"sentencepiece": "mecab\\_bpe", "character": "syllable"}
    assert len(found) == len(scores) == 4
    for row, ((kind, mode), f1) in zip(found, scores.items(), strict=True):
        assert (row["runs"], row["tokenizer"], row["entries"]) == (f"{kind} · {mode}", names[kind], "8,000")
        assert f1.startswith(row["F1 (%)"])
        assert (row["tok/eojeol"], row["oracle EM"]) == (
            ("2.10", "97.0") if kind == "sentencepiece" else ("3.50", "100.0")
        )
    assert "Figures that go with scores" not in made["html"]
    for ending in ("html", "tex"):
        assert "Tokenizers, KorQuAD" in made[ending]
    assert "Tokenizers, " not in report(tmp_path / "plain", study_runs)["html"]


def test_what_goes_with_scores_is_tested(tmp_path: Path) -> None:
    """Six tokenizers: scores fall with the length, go with one ceiling nearly, and with names, which are alike, not."""
    rows = []
    for number, name in enumerate(("jamo", "syllable", "word", "wordpiece", "mecab_bpe", "sentencepiece_bpe")):
        before = pretrained(tmp_path / "runs" / f"p-{name}", f"tokenizer={name}")
        for seed in (1, 2):
            run = finetuned(tmp_path / "runs" / f"{name}-{seed}", 0.5, seed=seed, init=before)
            change(run, exact_match=20.0 + number + seed / 4, f1=30.0 + number + seed / 4)
            (run / "predictions.json").unlink()
        settings = read_json(before / "config.json")["tokenizer"]
        ceiling = {"exact_match": 80.0 + number**2, "f1": 90.0 + (number ^ 1)}  # the first is the length's reverse
        results = {"cost": {"per_eojeol": 9.0 - number}, "ceiling": ceiling, "names": {"whole": 0.5}}
        row = {"name": name, "fingerprint": name, "settings": "s", "tokenizer": settings}
        rows.append({**row, "vocabulary": 8, "results": results})
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = report(tmp_path / "report", tmp_path / "runs", comparison=str(tmp_path))
    found = rows_of(made["md"], "Figures that go with scores, KorQuAD")
    value = 1 - 6 * 6 / (6 * 35)  # three pairs of neighbours have changed places
    extreme = [
        abs(1 - 6 * sum((a - b) ** 2 for a, b in enumerate(order)) / 210) >= value - 1e-9
        for order in itertools.permutations(range(6))
    ]
    wanted = {"tok/eojeol": ("−1.00", 2 / 720, 4), "oracle F1": (f"+{value:.2f}", sum(extreme) / 720, 2)}
    assert [(row["figure"], row["score"]) for row in found] == [(f, m) for f in wanted for m in ("EM (%)", "F1 (%)")]
    for row in found:
        correlation, p, times = wanted[row["figure"]]
        assert row["rank correlation"].replace("\\", "").rstrip("*") == correlation
        assert float(row["p"]) == pytest.approx(p, abs=0.01 if p > 0.01 else 0.002)
        assert float(row["p (Holm)"]) == pytest.approx(times * float(row["p"]), abs=0.0005)
        assert row["rank correlation"].endswith("*") == (p < 0.01)
    (picture,) = re.findall(r"EM against tokens by eojeol</h3>\s*(<svg.*?</svg>)", made["html"], re.DOTALL)
    assert all(name in picture for name in ("jamo", "mecab_bpe"))


def test_sections_are_chosen(study_runs: Path, tmp_path: Path) -> None:
    """What is left out is in none of the forms; what is there is the whole report's."""
    asked = {"baseline": "entities.mode:none", "comparison": str(comparison(tmp_path / "comparison"))}
    whole, part = (
        report(tmp_path / name, study_runs, **asked, **sections)
        for name, sections in (("whole", {}), ("part", {"sections": ["differences", "cost"]}))
    )
    assert re.findall(r'<h2 id="(\w+)">', whole["html"]) == [*REPORT_SECTIONS, "runs"]
    assert re.findall(r'<a href="#(\w+)">', whole["html"]) == [*REPORT_SECTIONS, "runs"]
    assert re.findall(r'<h2 id="(\w+)">', part["html"]) == ["differences", "cost", "runs"]
    assert re.findall(r"^## (.*)$", part["md"], re.MULTILINE) == ["Differences", "What it took", "Runs"]
    assert rows_of(part["md"], "Differences, KorQuAD") == rows_of(whole["md"], "Differences, KorQuAD")
    assert "nats / character, interval" not in part["tex"]
    assert len(part["tex"]) < len(whole["tex"]) - 500
    assert part["html"].count("<svg") == 2 < whole["html"].count("<svg")  # the two tables' forests
    for sections, said in (
        (["figures"], "sections: 'figures' is unknown, wanted scores, diff"),
        ([], "sections: wanted one or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            report(tmp_path / "report", study_runs, sections=sections)


def test_runs_are_chosen(study_runs: Path, tmp_path: Path) -> None:
    """By their settings, those of the pretraining included, by seed and by results; the others are as if not there."""
    whole, part = (
        rows_of(report(tmp_path / name, study_runs, where=where)["md"], "Runs, KorQuAD")
        for name, where in (("whole", None), ("part", "tokenizer.kind=character entities.mode=both seed<3"))
    )
    assert len(whole) == 12
    wanted = [row for row in whole if re.match(r"\[syllable-both-[12]/", row["run"])]
    assert [(row["run"], row["EM (%)"]) for row in part] == [(row["run"], row["EM (%)"]) for row in wanted]
    assert len(wanted) == 2
    best = max(float(row["EM (%)"]) for row in whole)
    (one,) = rows_of(report(tmp_path / "best", study_runs, where=f"exact_match>{best - 0.01}")["md"], "Runs, KorQuAD")
    assert float(one["EM (%)"]) == best
    for where, said in (
        ("entities.mod=both", r"where=entities\.mod=both: no run has 'entities\.mod'; is entities\.mode"),
        ("seed=99", "where=seed=99: of 24 runs none is so"),
        ("seed", "where: 'seed': wanted KEY"),
    ):
        with pytest.raises(ConfigError, match=said):
            report(tmp_path / "report", study_runs, where=where)


# ---- what the repository holds ----


@pytest.mark.slow
def test_committed_results_make_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the door, and in another process the same to the byte."""
    run_door("report", f"folder={tmp_path}", "baseline=task:lexical_baseline")
    files = {ending: (tmp_path / f"report.{ending}").read_text("utf-8") for ending in ("md", "tex", "html")}
    monkeypatch.chdir(REPOSITORY)
    assert report(tmp_path, Path("experiments/results"), baseline="task:lexical_baseline") == files
    records = [
        json.loads(line)
        for page in (REPOSITORY / "experiments" / "results").rglob("*.jsonl")
        if page.with_suffix(".md").exists()
        for line in page.read_text("utf-8").splitlines()
    ]
    for record in records:
        if "exact_match" in record["results"]:
            assert f"| {record['results']['exact_match']:.2f} |" in files["md"]
            assert record["commit"][:12] in files["md"]
    assert Page(files["html"]).open == []


@pytest.mark.filterwarnings("error:constrained_layout")
@pytest.mark.parametrize("long", [False, True])
def test_a_plot_has_room_beside_the_names_of_its_rows(study_runs: Path, long: bool) -> None:
    """Rows that differ in much have names longer than the plot is wide: they stand above their lines."""
    scored = score_table(tables_of(study_runs)[0], ["entities.mode:none"], Answers(None))
    name = "finetune_korquad · sentencepiece · unigram · none · expressions-mecab · 256 · 0 · 2.0 · 0.0005 · muon · 2"
    renamed = [replace(one, group=replace(one.group, label=name) if long else one.group) for one in scored.contrasts]
    picture = forest_picture(replace(scored, contrasts=renamed), "forest")
    assert picture is not None
    places = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)"', picture.svg)]
    assert max(places) - min(places) > 100  # points and ticks stand apart
    assert ("· muon" in picture.svg) == long
