"""Reports of result pages: what a page keeps of its runs is enough to draw seeds and questions again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import finetuned, report, rows_of

from korbert.config import PublishConfig
from korbert.errors import DataError
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
        ({"f1": [1.0]}, r"question_scores.*articles and scores are not of as many questions"),
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
