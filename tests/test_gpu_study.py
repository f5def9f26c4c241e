"""The study for a GPU machine, at toy size on a CPU: prepared here, run where analysers and wandb are not installed."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data.shards import ShardedCorpus
from korbert.files import read_json, write_json_atomically
from korbert.tasks.gpu_study import write_table

ABSENT = ("mecab", "mecab_ko", "konlpy", "kiwipiepy", "jpype", "wandb", "matplotlib")
SIZES = (
    "corpus=sample", "corpus.max_documents=null", "tokenizer.vocab_size=1200", "arms=[none,random,both]", "seeds=[1]",
    "folds=[0]", "runtime.workers=1", "runtime.threads=1", "test_file=data/sample/KorQuAD_sample_dev.json",
    "train_files=[data/sample/KorQuAD_sample_train.json]", "prepared_arms=[none,random,both]", "side_by_side=2",
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


def study(repository: Path, *words: str, absent: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script; what stands in the folder `absent` is imported from there, and cannot be."""
    paths = [str(path) for path in (absent, repository) if path is not None]
    return subprocess.run(
        [sys.executable, "experiments/gpu_study.py", *words], cwd=repository, capture_output=True, text=True,
        check=False, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip


def without(folder: Path, *packages: str) -> Path:
    """A folder for PYTHONPATH, with which these packages cannot be imported."""
    folder.mkdir(exist_ok=True)
    for package in packages:
        (folder / f"{package}.py").write_text(f"raise ModuleNotFoundError('no {package}', name='{package}')\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made where the annotator's list of names is, which the machine that runs has not."""
    folder = tmp_path_factory.mktemp("study") / "prepared"
    root = folder.parent / "root"
    (root / "gazetteer").mkdir(parents=True)
    names = gzip.compress("세종대왕\n훈민정음\n한강\n".encode())
    (root / "gazetteer" / "kowiki_titles.txt.gz").write_bytes(names)
    cache = folder.parent / "cache"
    done = study(repository, "prepare", *SIZES, f"folder={folder}", f"data.cache={cache}", f"data.root={root}")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(root)
    cache.rename(folder.parent / "elsewhere")
    return folder


@pytest.mark.slow
def test_runs_without_analysers_and_goes_on_where_it_was(repository: Path, prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    call = ("run", *SIZES, *SMALL, f"folder={prepared}", f"output={output}")
    absent = without(tmp_path / "absent", *ABSENT)
    first = study(repository, *call, "minutes=0.0001", absent=absent)  # told to stop as soon as they have begun
    assert first.returncode == 0, first.stderr
    assert "not done; the same command goes on with: " in first.stderr
    assert not list(output.glob("finetune-*/record.json"))

    second = study(repository, *call, "minutes=20", absent=without(absent, "transformers"))
    assert second.returncode == 0, second.stderr
    assert "not done; the same command goes on with: benchmark" in second.stderr
    done = {path.parent.name for path in output.glob("*/record.json")}
    arms = ("none", "random", "both")
    assert done == {"check", *(f"pretrain-{arm}-seed1" for arm in arms), *(f"{arm}-fold0-seed1" for arm in arms)}
    assert ".[hf]" in read_json(output / "failed-benchmark.json")["error"]  # and the rest went on
    table = (output / "study.md").read_text("utf-8")
    assert "failed: benchmark" in table
    for arm in arms:
        record = read_json(output / f"{arm}-fold0-seed1" / "record.json")
        assert f"| {arm} | 1 | {record['results']['exact_match']:.2f} | {record['results']['f1']:.2f} |" in table
        assert record["results"]["protocol"] == "five folds of KorQuAD_sample_dev.json, fold 0"
        assert record["config"]["entities"]["mode"] == ("none" if arm == "none" else "both")

    pytest.importorskip("transformers")
    third = study(repository, *call, "minutes=20")
    assert third.returncode == 0, third.stderr
    assert third.stderr.count(": finished before, skipped") == 4
    assert f"nothing is left: {output / 'study.md'}" in third.stderr
    assert re.findall(r"(\S+): begins after", third.stderr) == ["benchmark"]
    table = (output / "study.md").read_text("utf-8")
    assert "failed" not in table
    for contender in ("Hugging Face, padded", "Hugging Face, group_texts", "Hugging Face, bucketed", "korbert"):
        assert f"| 1×32 | 32 | 4 | 0.1 | {contender} |" in table


def test_the_table_is_by_fold_and_keeps_what_other_calls_have_made(repository: Path, tmp_path: Path) -> None:
    """An arm that has not all folds yet would have another mean over folds."""
    scores = {
        ("none", 0, 1): 10.0, ("none", 0, 2): 12.0, ("none", 1, 1): 30.0, ("both", 1, 1): 31.0, ("markers", 0, 3): 11.0,
    }  # fmt: skip
    for (arm, fold, seed), score in scores.items():
        folder = tmp_path / f"{arm}-fold{fold}-seed{seed}"
        results = {"exact_match": score, "f1": score + 1, "protocol": f"five folds of dev.json, fold {fold}"}
        write_json_atomically(folder / "record.json", {"task": "finetune_korquad", "results": results})
    write_json_atomically(tmp_path / "other-fold0-seed1" / "record.json", {"task": "plan_run"})
    write_json_atomically(
        tmp_path / "pretrain-none-seed1" / "record.json", {"results": {"mlm_loss_per_character": 2.5}}
    )
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        write_table(compose_config("gpu_study", ["stage=run", f"output={tmp_path}", "arms=[both]"]), [])
    rows = [line for line in (tmp_path / "study.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| 0 | none | 2 | 11.00 ± 1.41 | 12.00 ± 1.41 | 2.50 |",
        "| 0 | markers | 1 | 11.00 | 12.00 |  |",
        "| 1 | both | 1 | 31.00 | 32.00 |  |",
        "| 1 | none | 1 | 30.00 | 31.00 | 2.50 |",
    ]
    assert "Protocol: five folds of dev.json. Mean" in (tmp_path / "study.md").read_text("utf-8")


@pytest.mark.slow
def test_a_run_that_is_stopped_stops_what_it_has_started(repository: Path, prepared: Path, tmp_path: Path) -> None:
    """With their state written; nothing runs on behind it on a machine that others want."""
    output = tmp_path / "out"
    long = SMALL[0].replace("train.steps=4", "train.steps=100000")
    words = ("run", *SIZES, long, *SMALL[1:], f"folder={prepared}", f"output={output}", "arms=[none,both]")
    process = subprocess.Popen(
        [sys.executable, "experiments/gpu_study.py", *words], cwd=repository, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(repository)}, start_new_session=True,
    )  # fmt: skip
    runs = [output / f"pretrain-{arm}-seed1" for arm in ("none", "both")]
    deadline = time.monotonic() + 200
    while not all((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size for run in runs):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "not done; the same command goes on with: none-seed1, both-seed1, benchmark" in said.replace(
        "both-seed1, none-seed1", "none-seed1, both-seed1"
    )
    assert all((run / "checkpoint.safetensors").exists() for run in runs)
    assert not list(output.glob("failed-*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody is left of its session


@pytest.mark.slow
def test_shards_come_out_as_they_went_in(repository: Path, prepared: Path, tmp_path: Path) -> None:
    """All kinds, from one archive; a damaged one is refused."""
    call = ("run", *SIZES, *SMALL, f"output={tmp_path / 'out'}", "arms=[none]", "minutes=0.0001")
    assert study(repository, *call, f"folder={prepared}").returncode == 0
    fingerprint = read_json(prepared / "tokenizer" / "tokenizer.json")["fingerprint"]
    unpacked = {path.name: path for path in (tmp_path / "out" / "unpacked").glob("shards-*")}
    assert set(unpacked) == {"shards-none", "shards-random", "shards-both"}
    originals = [ShardedCorpus(path, fingerprint) for path in (prepared.parent / "elsewhere" / "shards").iterdir()]
    for name, path in unpacked.items():
        corpus = ShardedCorpus(path, fingerprint, verify=True)
        (same,) = [other for other in originals if other.manifest == corpus.manifest]
        for document in range(len(corpus)):
            length = corpus.document_length(document)
            for found, wanted in zip(corpus.tokens(document, 0, length), same.tokens(document, 0, length), strict=True):
                np.testing.assert_array_equal(found, wanted, err_msg=name)

    damaged = tmp_path / "damaged"
    shutil.copytree(prepared, damaged)
    content = bytearray(lzma.decompress((damaged / "study.tar.xz").read_bytes()))
    content[len(content) // 2] ^= 1
    (damaged / "study.tar.xz").write_bytes(lzma.compress(content))
    done = study(repository, *call[:-3], f"output={tmp_path / 'other'}", *call[-2:], f"folder={damaged}")
    assert done.returncode == 1
    assert f"error: {damaged}/study.tar.xz: checksum: damaged, this is not what study.json says" in done.stderr


@pytest.mark.slow
def test_what_is_there_stays_until_all_is_there(repository: Path, prepared: Path, tmp_path: Path) -> None:
    """Whatever the folder was, it was removed first of all."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("thesis", "utf-8")
    (tmp_path / "gazetteer").mkdir()
    (tmp_path / "gazetteer" / "kowiki_titles.txt.gz").write_bytes(gzip.compress("한강\n".encode()))
    own = prepared / "mine.json"
    shutil.copy(repository / "data" / "sample" / "KorQuAD_sample_dev.json", own)
    earlier = sorted(prepared.rglob("*"))
    for folder, more, message in (
        (tmp_path / "x", (), f"error: folder={tmp_path}/x: there is something in it"),
        (tmp_path / "x" / "thesis.txt", (), "this is a file; wanted a folder"),
        (prepared, ("test_file=nope.json",), "nope.json: file: not found"),
        (prepared, (f"test_file={own}", "prepared_arms=[none]"), "lies in it"),
    ):
        given = [*SIZES, f"folder={folder}", f"data.cache={tmp_path}/cache", f"output={tmp_path}/out", *more]
        done = study(repository, "prepare", *given, f"data.root={tmp_path}")
        assert done.returncode == 1
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "x" / "thesis.txt").read_text("utf-8") == "thesis"
    assert sorted(prepared.rglob("*")) == earlier
    own.unlink()


@pytest.mark.slow
def test_wrong_calls_say_what_was_wanted(repository: Path, prepared: Path, tmp_path: Path) -> None:
    for words, message in (
        (("walk",), "walk"),
        (
            ("run", *SIZES, f"folder={prepared}", "arms=[bold]"),
            "arms: pretrain: arm=bold: there is no such file in conf/arm, wanted both, ",
        ),
        (
            ("prepare", "prepared_arms=[bold]"),
            "prepared_arms: pretrain: arm=bold: there is no such file in conf/arm, wanted both, ",
        ),
        (("run", *SIZES, f"folder={prepared}", "arms=[none,mecab]"), "was prepared without mecab"),
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
