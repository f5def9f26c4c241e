"""Reports of result pages: what a page keeps of its runs is enough to draw seeds and questions again."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from studies import finetuned, pretrained, report, rows_of

from korbert.config import PublishConfig
from korbert.errors import ConfigError, DataError
from korbert.files import read_json, write_json_atomically
from korbert.study.collection import find_records, read_records
from korbert.study.grouping import make_tables
from korbert.study.lineage import describe_runs
from korbert.study.page import BEGIN, END
from korbert.study.significance import summarise
from korbert.tasks.publish import publish_results


def page_of(runs: Path, folder: Path) -> Path:
    (folder / "study.md").write_text(f"# Study\n{BEGIN}\n{END}\n", "utf-8")
    names = [str(path.parent) for path in sorted(runs.rglob("record.json"))]
    publish_results(PublishConfig(page="study", runs=names, folder=str(folder)))
    return folder / "study.jsonl"


def page_of_two_groups(folder: Path) -> Path:
    """Three seeds of each."""
    for seed in (1, 2, 3):
        finetuned(folder / "runs" / f"plain{seed}", 0.4, seed=seed)
        finetuned(folder / "runs" / f"deep{seed}", 0.6, "dropout=0.3", seed=seed, chance=1)
    return page_of(folder / "runs", folder)


def test_pages_keep_scores_of_single_questions(tmp_path: Path) -> None:
    """A report of a page is that of its runs' folders; questions are drawn without the data set at hand."""
    page = page_of_two_groups(tmp_path)
    of_runs, of_page = (
        rows_of(report(tmp_path / name, place, baseline="dropout:null")["md"], "Differences, KorQuAD")
        for name, place in (("a", tmp_path / "runs"), ("b", page))
    )
    assert [row["from"] for row in of_page] == ["seeds and questions"] * 2
    assert [row["difference"] for row in of_page] == [row["difference"] for row in of_runs]
    assert of_page[0] == of_runs[0]
    # A run that is found in its folder and on a page is one run.
    found = find_records([str(tmp_path / "runs"), str(page)])
    (table,) = make_tables(describe_runs(found, {}))
    assert [len(group.runs) for group in table.groups] == [3, 3]
    assert all(run.found.folder is not None for group in table.groups for run in group.runs)


def test_pages_without_scores_of_single_questions(tmp_path: Path) -> None:
    """Student's t over seeds, and said so: pages of before, or of runs whose questions were not at hand."""
    page = page_of_two_groups(tmp_path)
    records = read_records(page)
    for record in records.values():
        del record["question_scores"]
    page.write_text("".join(json.dumps(record) + "\n" for record in records.values()), "utf-8")
    said = report(tmp_path / "report", page, baseline="dropout:null")["md"]
    rows = rows_of(said, "Differences, KorQuAD")
    assert [row["from"] for row in rows] == ["seeds"] * 2
    assert "scores question by question, are not at hand for every run" in said
    gains = [
        read_json(tmp_path / f"runs/deep{seed}/record.json")["results"]["f1"]
        - read_json(tmp_path / f"runs/plain{seed}/record.json")["results"]["f1"]
        for seed in (1, 2, 3)
    ]
    found = summarise(gains)
    assert rows[1]["95 % interval"] == f"{found.low:+.2f} to {found.high:+.2f}".replace("-", "−")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exact_match": "01x"}, r"question_scores.*damaged"),
        ({"f1": [1.0]}, r"question_scores.*articles, scores and places are not of as many questions"),
        ({"places": [[1, 2]]}, r"question_scores.*articles, scores and places are not of as many questions"),
        ({"places": [1, 2]}, r"question_scores.*damaged"),
        ({"articles": None}, r"question_scores.*damaged"),
    ],
)
def test_damaged_scores_of_a_page_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    finetuned(tmp_path / "runs" / "a", 0.4)
    page = page_of(tmp_path / "runs", tmp_path)
    (record,) = read_records(page).values()
    page.write_text(json.dumps({**record, "question_scores": {**record["question_scores"], **change}}) + "\n", "utf-8")
    with pytest.raises(DataError, match=rf"study\.jsonl: record 'a': {said}"):
        report(tmp_path / "report", page)


def test_runs_whose_questions_are_not_at_hand_are_published_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finetuned(tmp_path / "runs" / "a", 0.4)
    config = read_json(run / "record.json")
    config["config"]["task"]["test"] = "{root}/none.json"
    write_json_atomically(run / "record.json", config)
    page = page_of(tmp_path / "runs", tmp_path)
    assert "question_scores" not in next(iter(read_records(page).values()))
    assert "keeps no scores of single questions" in caplog.text


# ---- sweeps, and reports inside of pages ----

ARMS = {"none": ("entities=none",), "both": ("entities=mecab", "entities.mode=both")}
PART = '<!-- report: focus=entities.mode:both "title=두 팔" breakdowns=[type] -->'


def sweep(root: Path, seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """A sweep as pipeline.py leaves it: jobs of two stages, the pretraining shared and elsewhere."""
    for number, (mode, overrides) in enumerate(ARMS.items()):
        base = pretrained(root / "pretrained" / mode, "tokenizer=syllable", *overrides, seed=1)
        for seed in seeds:
            job = root / "sweep" / f"{mode}-seed{seed}"
            run = finetuned(job / "finetune", 0.3 + 0.3 * number, *overrides, seed=seed, init=base, chance=number)
            whole = read_json(run / "record.json") | {"task": "pipeline", "stages": [str(base), "finetune"]}
            write_json_atomically(job / "record.json", whole)
    return root / "sweep"


def with_part(folder: Path, runs: Path, part: str = f"{PART}\nold 99.9\n<!-- end of report -->") -> str:
    (folder / "study.md").write_text(f"# Study\n\n{part}\n\nText.\n\n{BEGIN}\n{END}\n", "utf-8")
    publish_results(PublishConfig(page="study", runs=[str(runs)], folder=str(folder)))
    return (folder / "study.md").read_text("utf-8")


def test_a_page_says_nothing_of_runs_that_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page's runs began with was another machine's; a run of that name here may be any."""
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        finetuned(tmp_path / "runs" / f"run{seed}", 0.5, seed=seed, init="runs/base")
    page = page_of(tmp_path / "runs", tmp_path)
    before = report(tmp_path / "a", page)["md"]
    pretrained(tmp_path / "runs" / "base", seed=77)
    assert report(tmp_path / "b", page)["md"] == before
    assert "77 " in report(tmp_path / "c", tmp_path / "runs")["md"]


def test_another_run_of_the_same_name_takes_no_place(tmp_path: Path) -> None:
    for seed in (1, 2):
        finetuned(tmp_path / str(seed) / "finetune", 0.5, seed=seed)
    (tmp_path / "study.md").write_text(f"# Study\n{BEGIN}\n{END}\n", "utf-8")

    def publish(seed: int, replace: bool = False) -> int:
        run = str(tmp_path / str(seed) / "finetune")
        publish_results(PublishConfig(page="study", runs=[run], folder=str(tmp_path), replace=replace))
        return int(read_records(tmp_path / "study.jsonl")["finetune"]["seed"])

    assert publish(1) == publish(1) == 1  # made again
    with pytest.raises(ConfigError, match=r"study\.md has another run of the name 'finetune', .*seed was 1, is 2"):
        publish(2)
    assert publish(2, replace=True) == 2


def test_a_sweep_is_published_by_its_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = sweep(tmp_path)
    (runs / "begun").mkdir()
    (runs / "begun" / "sessions.jsonl").write_text("{}\n", "utf-8")
    with_part(tmp_path, runs)
    records = read_records(tmp_path / "study.jsonl")
    assert set(records) == {*ARMS, *(f"{mode}-seed{n}" for mode in ARMS for n in (1, 2, 3))}
    assert {record["task"] for record in records.values()} == {"pretrain", "finetune_korquad"}
    assert "begun: begun and not finished, so not published" in caplog.text
    tables = make_tables(describe_runs(find_records([str(tmp_path / "study.jsonl")]), {}))
    answers = next(table for table in tables if table.has_answers())
    assert [(len(group.runs), group.runs[0].pretraining_seed) for group in answers.groups] == [(3, 1), (3, 1)]


def test_sweeps_are_published_by_the_folder_around_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two sweeps, one of them a folder deeper, and a single run; what lies in a run's folder belongs to it."""
    runs = tmp_path / "runs"
    finetuned(runs / "single", 0.5, seed=9)
    finetuned(runs / "single" / "inner", 0.5, seed=8)
    sweep(runs / "a" / "b", seeds=(1, 2))
    for seed in (3, 4):
        finetuned(runs / "c" / f"job{seed}", 0.5, seed=seed)
    finetuned(runs / "a" / "b" / "sweep" / "next" / "finetune", 0.5, seed=5)  # of a job that is not finished
    for begun in (runs / "c" / "job5", runs / "a" / "b" / "sweep" / "next", runs / "single" / "kept"):
        begun.mkdir(exist_ok=True)
        (begun / "sessions.jsonl").write_text("{}\n", "utf-8")
    with_part(tmp_path, runs, "")
    jobs = [f"{mode}-seed{n}" for mode in ARMS for n in (1, 2)]
    assert set(read_records(tmp_path / "study.jsonl")) == {*ARMS, *jobs, "single", "job3", "job4"}
    told = [record.message for record in caplog.records if "begun and not finished" in record.message]
    assert told == [
        f"{run}: begun and not finished, so not published" for run in (runs / "a/b/sweep/next", runs / "c/job5")
    ]


def test_a_page_shows_the_report_it_asks_for(tmp_path: Path) -> None:
    text = with_part(tmp_path, sweep(tmp_path))
    assert "99.9" not in text
    assert text.startswith(f"# Study\n\n{PART}\n")
    assert "focus=entities.mode:both 'title=두 팔' 'breakdowns=[type]'" in text
    made = report(tmp_path / "report", tmp_path / "study.jsonl", focus="entities.mode:both", breakdowns=["type"])["md"]
    for title in ("KorQuAD", "Differences, KorQuAD", "Differences by answer type"):
        assert rows_of(text, title) == rows_of(made, title)
    differences = rows_of(text, "Differences, KorQuAD")
    assert [(row["runs"], row["baseline"]) for row in differences] == [("both", "none")] * 2  # the focus comes first
    turned = report(tmp_path / "turned", tmp_path / "study.jsonl", baseline="entities.mode:none")["md"]
    there, here = rows_of(turned, "Differences, KorQuAD"), differences
    assert [row["95 % interval"] for row in there] == [row["95 % interval"] for row in here]
    for name in re.findall(r"\]\((study-report1-\d\.svg)\)", text):
        assert ET.parse(tmp_path / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "study-report1-1.svg" in text
    before = text
    (tmp_path / "study-report2-1.svg").write_text("of a report that was there once", "utf-8")
    publish_results(PublishConfig(page="study", folder=str(tmp_path)))
    assert not (tmp_path / "study-report2-1.svg").exists()
    assert (tmp_path / "study.md").read_text("utf-8") == before


def test_a_page_without_records_shows_reports_of_another_one_s(tmp_path: Path) -> None:
    text = with_part(tmp_path, sweep(tmp_path))
    mark = PART.replace("<!-- report: ", f"<!-- report: 'runs=[{tmp_path / 'study.jsonl'}]' ")
    (tmp_path / "README.md").write_text(f"# Summary\n\n{mark}\n<!-- end of report -->\n", "utf-8")
    publish_results(PublishConfig(page="README", folder=str(tmp_path)))
    shown = (tmp_path / "README.md").read_text("utf-8")
    for title in ("KorQuAD", "Differences, KorQuAD", "Differences by answer type"):
        assert rows_of(shown, title) == rows_of(text, title)
    assert shown.count("runs=[") == 2  # in the mark, and in the command
    assert (tmp_path / "README-report1-1.svg").exists()
    assert not (tmp_path / "README.jsonl").exists()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (PART, "wanted <!-- end of report --> behind it"),
        ("<!-- report: 'a -->\n<!-- end of report -->", "No closing quotation"),
        ("<!-- report: colour=red -->\n<!-- end of report -->", "colour"),
        ("<!-- report: baseline=a focus=b -->\n<!-- end of report -->", "wanted one of them, got both"),
        ("<!-- report: focus=nobody -->\n<!-- end of report -->", "focus=nobody: no group of runs is that"),
        ("<!-- report: breakdowns=[type] -->\n<!-- end of report -->", "give a baseline, or a focus"),
    ],
)
def test_reports_that_cannot_be_name_the_page_and_the_mark(tmp_path: Path, part: str, said: str) -> None:
    runs = sweep(tmp_path, seeds=(1,))
    with pytest.raises(DataError, match=rf"study\.md: <!-- report: .*{re.escape(said)}"):
        with_part(tmp_path, runs, part)


def test_very_many_runs_are_lines_of_a_table(tmp_path: Path) -> None:
    for seed in range(41):
        finetuned(tmp_path / "runs" / f"run{seed}", 0.4, seed=seed)
    text = with_part(tmp_path, tmp_path / "runs", "")
    assert "### run0" not in text
    assert text.count("| run7 |") == 2  # what came out, and how it was run
    assert "<code>python experiments/finetune_korquad.py run_dir=run7</code>" in text


def test_stages_that_are_not_there_are_named(tmp_path: Path) -> None:
    runs = sweep(tmp_path, seeds=(1,))
    (tmp_path / "pretrained" / "none" / "record.json").unlink()
    with pytest.raises(DataError, match=r"none-seed1.*stages: .*pretrained/none has no record here"):
        with_part(tmp_path, runs)
