"""Which runs are one group: settings that tell them apart, what they began with, jobs and their names."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from studies import (
    finetuned,
    job,
    pretrained,
    report,
    rows_of,
    set_record,
    tables_of,
)

from korbert.config.sweeping import note_failure
from korbert.files import read_json, write_json_atomically
from korbert.study.collection import Found, failed_jobs, find_records, unfinished_runs
from korbert.study.contrasts import choose_baselines
from korbert.study.lineage import _settings, describe_runs

EVIL = '<script>alert("1")</script>'


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
        set_record(
            base, config={**read_json(base / "record.json")["config"], "run_dir": "runs/base"}, weights=f"of {machine}"
        )
    for name, weights in (("first", "of b"), ("second", "of c"), ("third", None)):
        run = finetuned(tmp_path / name, 0.5, init="runs/base")
        set_record(run, inputs={"{root}/base/model/model.safetensors": weights} if weights else {})
    set_record(finetuned(tmp_path / "fourth", 0.5, init="runs/base/model"), inputs={"x/model.safetensors": "of a"})
    here = pretrained(tmp_path / "elsewhere" / "here", seed=5)  # not on a page, not below what is searched
    set_record(here, weights="of here")
    away = pretrained(tmp_path / "away", seed=6)
    set_record(away, config={**read_json(away / "record.json")["config"], "run_dir": str(here)}, weights="of away")
    set_record(finetuned(tmp_path / "fifth", 0.5, init=here), inputs={f"{here}/model/model.safetensors": "of here"})
    places = [str(tmp_path / name) for name in ("a", "b", "away", "first", "second", "third", "fourth", "fifth")]
    runs = {run.name: run for run in describe_runs(find_records(places), {})}
    assert [runs[name].pretraining_seed for name in ("fourth", "fifth")] == [3, 5]
    assert not [*runs["fourth"].warnings, *runs["fifth"].warnings]
    assert (runs["first"].pretraining_seed, list(runs["first"].warnings)) == (4, [])
    assert runs["second"].pretraining_seed is None
    assert "init=runs/base has other weights here; its seed" in runs["second"].warnings[0]
    assert runs["third"].pretraining_seed == 3
    assert "is the name of 2 runs here, of which a/base is taken" in runs["third"].warnings[0]


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
        set_record(base, weights=machine)
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
