"""The study for a GPU machine, at toy size on a CPU: prepared here, run where analysers and wandb are not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from korbert.files import read_json, write_json_atomically

ABSENT = ("mecab", "mecab_ko", "konlpy", "kiwipiepy", "jpype", "wandb", "matplotlib")
SIZES = (
    "corpus=sample", "tokenizer.vocab_size=1200", "arms=[none,random,both]", "seeds=[1]", "runtime.workers=1",
    "runtime.threads=1", "test_file=data/sample/KorQuAD_sample_dev.json",
    "train_files=[data/sample/KorQuAD_sample_train.json]",
)  # fmt: skip


def quoted(*overrides: str) -> str:
    return "[" + ",".join(f"'{override}'" for override in overrides) + "]"


SMALL = (
    "pretraining=" + quoted(
        "recipe=modern", "model=tiny", "model.hidden_size=32", "model.num_layers=1", "train.steps=4",
        "train.batch_size=8", "task.validation_examples=20", "task.selection.share=1", "task.selection.echo=1",
        "task.selection.words=1",
    ),
    "finetuning=" + quoted("train.steps=2", "train.batch_size=8"),
    "benchmark=" + quoted(
        "cases=[{num_layers: 1, hidden_size: 32, num_heads: 2, length: 32, batch_size: 4}]", "rounds=1", "steps=1"
    ),
)  # fmt: skip


def study(repository: Path, *words: str, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the script; `absent` packages cannot be imported."""
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({absent!r})); sys.argv = {['gpu_study.py', *words]!r}; "
        "runpy.run_path('experiments/gpu_study.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def prepared(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "prepared"
    done = study(repository, "prepare", *SIZES, f"folder={folder}", f"data.cache={folder.parent / 'cache'}")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder.parent / "cache")
    return folder


@pytest.mark.slow
def test_runs_without_analysers_and_goes_on_where_it_was(repository: Path, prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    call = ("run", *SIZES, *SMALL, f"folder={prepared}", f"output={output}")
    first = study(repository, *call, "minutes=0.0001", absent=ABSENT)  # at least one job, whatever the time
    assert first.returncode == 0, first.stderr
    assert "time is over; the same command goes on with" in first.stderr
    assert [path.name for path in output.glob("*/record.json")] == ["record.json"]

    second = study(repository, *call, "minutes=20", absent=(*ABSENT, "transformers"))
    assert second.returncode == 0, second.stderr
    assert "time is over" not in second.stderr
    done = {path.parent.name for path in output.glob("*/record.json")}
    arms = ("none", "random", "both")
    assert done == {"check", *(f"pretrain-{arm}" for arm in arms), *(f"finetune-{arm}-fold0-seed1" for arm in arms)}
    assert "korbert[hf]" in read_json(output / "failed-benchmark.json")["error"]  # and the rest went on
    table = (output / "study.md").read_text("utf-8")
    assert "failed: benchmark" in table
    for arm in arms:
        record = read_json(output / f"finetune-{arm}-fold0-seed1" / "record.json")
        assert f"| {arm} | 1 | {record['results']['exact_match']:.2f} | {record['results']['f1']:.2f} |" in table
        assert record["results"]["protocol"] == "korquad-dev-5fold, fold 0"
        assert record["config"]["entities"]["mode"] == ("none" if arm == "none" else "both")

    pytest.importorskip("transformers")
    third = study(repository, *call, "minutes=20")
    assert third.returncode == 0, third.stderr
    assert third.stderr.count(": finished before, skipped") == 6
    assert re.findall(r"(\S+): begins after", third.stderr) == ["benchmark"]
    table = (output / "study.md").read_text("utf-8")
    assert "failed" not in table
    for contender in ("Hugging Face, padded", "Hugging Face, group_texts", "Hugging Face, bucketed", "korbert"):
        assert f"| 1×32 | 32 | 4 | 0.1 | {contender} |" in table


@pytest.mark.slow
def test_what_is_there_stays_until_all_is_there(repository: Path, prepared: Path, tmp_path: Path) -> None:
    """Whatever the folder was, it was removed first of all."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("thesis", "utf-8")
    earlier = sorted(prepared.rglob("*"))
    for folder, more, message in (
        (tmp_path / "x", (), f"error: folder={tmp_path}/x: there is something in it"),
        (tmp_path / "x" / "thesis.txt", (), "this is a file; wanted a folder"),
        (prepared, ("test_file=nope.json",), "nope.json: file: not found"),
        (prepared, (f"test_file={prepared}/KorQuAD_sample_dev.json", "arms=[none]"), "lies in it"),
    ):
        given = [*SIZES, f"folder={folder}", f"data.cache={tmp_path}/cache", f"output={tmp_path}/out", *more]
        done = study(repository, "prepare", *given)
        assert done.returncode == 1
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "x" / "thesis.txt").read_text("utf-8") == "thesis"
    assert sorted(prepared.rglob("*")) == earlier


@pytest.mark.slow
def test_wrong_calls_say_what_was_wanted(repository: Path, prepared: Path, tmp_path: Path) -> None:
    for words, message in (
        (("walk",), "walk"),
        (("run", "arms=[bold]"), "arms: wanted some of none, split"),
        (("run", *SIZES, f"folder={tmp_path}"), "study.json: file: not found"),
        (
            ("run", *SIZES, *SMALL, f"folder={prepared}", "arms=[none]", "finetuning=['train.lerning_rate=1']"),
            "lerning",
        ),
    ):
        done = study(repository, *words, f"output={tmp_path / 'out'}")
        assert done.returncode != 0
        assert message in done.stderr, done.stderr
    (tmp_path / "out" / "check").mkdir(parents=True, exist_ok=True)
    call = ("run", *SIZES, *SMALL, f"folder={prepared}", f"output={tmp_path / 'out'}", "arms=[none]")
    for record, message in (
        ({}, "record.json: task: wanted a string: this is no record of a run"),
        ({"task": "pretrain", "results": {}}, "is a run of the task 'pretrain'; choose another folder"),
    ):
        write_json_atomically(tmp_path / "out" / "check" / "record.json", record)
        done = study(repository, *call)
        assert done.returncode == 1
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
