"""What a score was measured on: test files and folds, which never share a table."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from studies import (
    SAMPLE,
    composed,
    finetuned,
    pretrained,
    report,
    rows_of,
    tables_of,
)

from korbert.data.download import KORQUAD_DEV
from korbert.data.korquad import read_korquad, read_predictions
from korbert.files import checksum, read_json, write_json_atomically
from korbert.study.protocols import folds_of, scored_file
from korbert.tasks.finetune import protocol

EVIL = '<script>alert("1")</script>'


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
