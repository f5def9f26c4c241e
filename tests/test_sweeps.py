"""Sweeps as a user runs them: killed, started again, two at once, with jobs that fail; names of their folders."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from korbert.config import BaselineConfig, DataConfig, compose_config, composition, decisive, run_door
from korbert.config.identity import FREE, job_folder
from korbert.config.mistakes import Guard
from korbert.config.sweeping import SweepEnd, forget_failure, note_failure
from korbert.errors import ConfigError, KorbertError
from korbert.files import digest, exclusive, read_json, write_json_atomically
from korbert.study.records import RecordStore
from korbert.tasks.baseline import lexical_baseline
from korbert.tasks.inputs import changed_files, input_files
from korbert.tasks.pretrain import pretrain
from korbert.tasks.runs import finish_run, kept, run_once, start_run, warn_of_another_runtime
from korbert.tokenizers import CharacterTokenizer
from korbert.training.interrupt import Interrupted
from korbert.training.settings import RuntimeConfig

TINY = ("model=tiny", "model.hidden_size=32", "model.num_layers=1", "train.batch_size=4")
ONE = ("runtime.threads=1", "runtime.workers=1")


def start(repository: Path, door: str, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, f"experiments/{door}.py", "-m", *overrides, *ONE]
    return subprocess.Popen(command, cwd=repository, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def conf(repository: Path) -> Iterator[None]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield


def listed(*overrides: str) -> str:
    return "[" + ",".join(f"'{override}'" for override in overrides) + "]"


def sweep(folder: Path) -> tuple[str, ...]:
    """Four jobs, two pretrainings that two of them share each."""
    return (
        "tokenizer=syllable", "entities.mode=none,both", "seed=1,2", "pretraining_seed=5", f"run_dir={folder}",
        f"pretrained={folder}/pretrained", f"data.cache={folder}/cache",
        f"pretraining={listed(*TINY, 'train.steps=6', 'train.checkpoint_every=2')}",
        f"finetuning={listed('train.steps=6', 'train.epochs=null', 'train.batch_size=4', 'train.checkpoint_every=1')}",
    )  # fmt: skip


def finished(folder: Path) -> dict[Path, int]:
    """Every file of the finished runs, with its time; not what Hydra and the logs write."""
    runs = [path.parent for path in folder.rglob("record.json")]
    files = [path for run in runs for path in (*run.glob("*.json*"), *run.glob("*.safetensors"), *run.rglob("model/*"))]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_killed_sweep_goes_on_in_two_processes_and_redoes_nothing(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    process = start(repository, "pipeline", *sweep(folder))
    deadline = time.monotonic() + 600
    while process.poll() is None:  # until a job is finished and another one is in its middle
        jobs = {path.parents[1] for path in folder.glob("*/finetune/checkpoint.safetensors")}
        if len({(job / "record.json").exists() for job in jobs}) == 2:
            break
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = finished(folder)
    assert before
    assert len(list(folder.glob("*-*/record.json"))) < 4

    both = [start(repository, "pipeline", *sweep(folder)) for _ in range(2)]
    outputs = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    after = finished(folder)
    assert {path: after[path] for path in before} == before
    jobs = {path.parent.name.rpartition("-")[0] for path in folder.glob("*-*/record.json")}
    assert jobs == {"none-seed1", "none-seed2", "both-seed1", "both-seed2"}  # what varies, to be read
    assert len(list(folder.glob("pretrained/*/record.json"))) == 2
    started = {path.parent: len(read_json(path)["sessions"]) for path in folder.rglob("record.json")}
    assert len(started) == 10  # four jobs, their fine-tunings, two pretrainings
    # Twice were started at most the job that was killed and its fine-tuning: of two sweeps at once one makes each run.
    assert sorted(started.values())[-3:] in ([1, 2, 2], [1, 1, 1])
    assert "finished before, skipped" in outputs[0] + outputs[1]
    for path in folder.glob("*-*/record.json"):
        record = read_json(path)
        assert record["results"]["f1"] == read_json(path.parent / "finetune" / "record.json")["results"]["f1"]
        assert record["tokenizer"]["kind"] == "character"
        assert record["config"]["seed"] == record["seed"] in (1, 2)
        assert read_json(Path(record["results"]["pretraining"]["run"]) / "record.json")["seed"] == 5


@pytest.mark.slow
def test_a_job_that_fails_is_named_and_the_others_go_on(repository: Path, tmp_path: Path) -> None:
    call = (*TINY, "train.steps=1", "tokenizer=syllable", "entities=none", f"data.cache={tmp_path}/cache")
    process = start(repository, "pretrain", *call, "model.num_heads=3,2", f"run_dir={tmp_path}/sweep")
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 1
    end = output[output.index("error: 1 jobs of this sweep failed") :]
    assert f"the same command with run_dir={tmp_path}/sweep tries them again" in end
    assert "num_heads3-" in end
    assert "model.hidden_size=32 is not a multiple of model.num_heads=3" in end
    assert [path.parent.name[:10] for path in tmp_path.glob("sweep/*/record.json")] == ["num_heads2"]
    assert "Traceback" not in output


def test_an_unexpected_error_in_a_job_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.create({"run_dir": str(tmp_path)})

    def fail(_: Any) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(composition, "in_sweep", lambda: True)
    assert run_door(fail, config) is None
    assert "the disk is on fire" in read_json(tmp_path / "failure.json")["error"]
    monkeypatch.setattr(composition, "in_sweep", lambda: False)
    with pytest.raises(RuntimeError):
        run_door(fail, config)


@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
@pytest.mark.parametrize("stop", [Interrupted("stopped"), KeyboardInterrupt()], ids=["training", "other"])
def test_how_an_interrupted_command_goes_on_names_its_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sweep: bool,
    stop: BaseException,
) -> None:
    """The default one is named after the time: the same command alone would begin anew."""

    def task(_: Any) -> None:
        raise stop

    monkeypatch.chdir(tmp_path)
    if sweep:
        given = OmegaConf.create({"sweep": {"dir": "runs/2026"}})
        monkeypatch.setattr(composition, "in_sweep", lambda: True)
        monkeypatch.setattr(composition.HydraConfig, "get", lambda: given)
    with pytest.raises(SystemExit) as ended:
        run_door(task, OmegaConf.create({"run_dir": "runs/2026/job" if sweep else "runs/2026"}))
    assert ended.value.code in (1, 130)
    assert re.search(r"the same command with run_dir=runs/2026 (goes on|begins)", capsys.readouterr().err)


def test_a_finished_run_is_what_was_asked_for_and_made_from_the_same_files(
    conf: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (tmp_path / "root").mkdir()
    questions = tmp_path / "root" / "dev.json"
    shutil.copy(repository / "data" / "sample" / "KorQuAD_sample_dev.json", questions)

    def run(*more: str) -> dict[str, Any]:
        given = ["task.test='{root}/dev.json'", f"data.root={tmp_path}/root", f"data.cache={tmp_path}/cache", *more]
        return lexical_baseline(compose_config("lexical_baseline", [f"run_dir={tmp_path}/run", *given]))

    first = run()
    assert first["inputs"]["{root}/dev.json"] == hashlib.sha256(questions.read_bytes()).hexdigest()
    assert run("runtime.workers=5") == first == read_json(tmp_path / "run" / "record.json")
    with pytest.raises(ConfigError, match=r"finished, with another configuration.*analyser was 'mecab', is 'kiwi'"):
        run("analyser=kiwi")
    shutil.move(tmp_path / "root", tmp_path / "elsewhere")
    assert run(f"data.root={tmp_path}/elsewhere") == first  # the same files in another place
    with (tmp_path / "elsewhere" / "dev.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match=r"has changed; choose another folder: \{root\}/dev\.json"):
        run(f"data.root={tmp_path}/elsewhere")
    store = RecordStore(Path(os.environ["KORBERT_RECORDS"]))
    assert [run.record for run in store.runs() if run.folder.resolve() == (tmp_path / "run").resolve()] == [first]


def test_a_run_goes_on_only_with_the_files_that_it_began_with(conf: None, repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    questions = root / "dev-1.json"
    shutil.copy(repository / "data" / "sample" / "KorQuAD_sample_dev.json", questions)
    stops = [True, True, True, False]

    @run_once
    def task(config: BaselineConfig) -> dict[str, Any]:
        folder = start_run(config)
        measured = kept(config, "text", questions.read_text)
        if stops.pop(0):
            raise KorbertError("stopped")
        return finish_run(folder, "lexical_baseline", config, {"characters": len(measured)})

    files = ["task.test='{root}/dev-*.json'", f"data.root={root}", f"data.cache={tmp_path}/cache"]
    config = compose_config("lexical_baseline", [*files, f"run_dir={tmp_path}/run"])
    refused = r"begun before, and since then .* has changed; choose another folder, or remove .*: \{root\}/dev-%s\.json"
    for _ in range(2):  # it goes on with the same files
        with pytest.raises(KorbertError, match="stopped"):
            task(config)
    before = questions.read_text("utf-8")
    questions.write_text(before + "\n", "utf-8")
    with pytest.raises(ConfigError, match=refused % 1):
        task(config)
    questions.write_text(before, "utf-8")
    (root / "dev-2.json").write_text(before, "utf-8")
    with pytest.raises(ConfigError, match=refused % 2):
        task(config)
    (root / "dev-2.json").rename(root / "other.json")
    questions.rename(root / "away")
    with pytest.raises(ConfigError, match=refused % 1):
        task(config)
    (root / "away").rename(questions)
    noted = read_json(tmp_path / "run" / "inputs.json")
    write_json_atomically(tmp_path / "run" / "inputs.json", {k: v for k, v in noted.items() if "{root}" in k})
    with pytest.raises(KorbertError, match="stopped"):
        task(config)
    assert [name for name in task(config)["inputs"] if "{root}" in name] == ["{root}/dev-1.json"]
    (root / "other.json").rename(root / "dev-2.json")
    with pytest.raises(ConfigError, match=r"finished, but since then .* choose another folder: \{root\}/dev-2\.json"):
        task(config)


@pytest.mark.slow
def test_a_refused_command_changes_nothing_of_the_training_that_was_begun(
    conf: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    for name, letters in (("a", "가나다라"), ("b", "가나다라마바사")):
        CharacterTokenizer.train([letters], 300).save(tmp_path / name)
    run = tmp_path / "run"
    given = [*TINY, "train.steps=2", f"data.cache={tmp_path}/cache", f"run_dir={run}", "runtime.threads=1"]

    def begun(*more: str) -> None:
        pretrain(compose_config("pretrain", [*given, *more]))

    begun(f"tokenizer.path={tmp_path}/a")
    (run / "record.json").unlink()  # as if it had been stopped
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "sessions.jsonl"}
    with pytest.raises(ConfigError, match=r"begun with another configuration.*seed was 42, is 7"):
        begun(f"tokenizer.path={tmp_path}/a", "seed=7")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"has changed; choose another folder.*a/tokenizer\.json"):
        begun(f"tokenizer.path={tmp_path}/a")
    (run / "inputs.json").unlink()  # a run of before these were noted
    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors was made with another conf.*tokenizer was"):
        begun(f"tokenizer.path={tmp_path}/a")
    (run / "inputs.json").write_bytes(before[run / "inputs.json"])
    assert {path: path.read_bytes() for path in before} == before


def test_paths_are_known_without_a_slash_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [
        "./my.txt", "base/model/model.safetensors", "plain/model.safetensors", "tok/tokenizer.json",
        "shards/manifest.json", "bert/model.safetensors", "bert/tokenizer.json", "bert/vocab.txt", "bert/config.json",
        "base/model/model.json", "kobert/kobert.model", "./gold.tsv", "./vocab.txt",
    ]  # fmt: skip
    for name in files:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name, "utf-8")
    Path("base/sessions.jsonl").touch()
    Path("base/config.json").touch()  # of a run: what was asked for, not what came of it
    config: dict[str, Any] = {
        "corpus": {"files": ["my.txt"], "shards": "shards"}, "tokenizer": {"path": "tok", "kind": "base"},
        "init": "base", "other": {"run": "plain", "init": "hf:bert"}, "entities": {"annotator": "mecab"},
        "corpora": {"KLUE": "gold.tsv"}, "tokenizers": ["vocab.txt", "syllable@8000"], "tokenizer_path": "kobert",
    }  # fmt: skip
    found = input_files(config, DataConfig(cache=str(tmp_path / "cache")))
    assert set(found) == set(files)
    assert set(input_files({"path": "shards", "run_dir": "."}, DataConfig(cache="cache"))) == set()  # its own
    Path("my.txt").write_text("another", "utf-8")
    Path("shards/manifest.json").write_text("another", "utf-8")
    assert changed_files(found, config, DataConfig(cache="cache")) == ["./my.txt", "shards/manifest.json"]


def test_files_of_others_are_not_written_over(conf: None, repository: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name, content, message in (
        ("config.json", {"my": "settings"}, r"config\.json is not a run's, and would be written over"),
        ("record.json", {"task": "pretrain", "results": {}}, "a run is finished there, of the task 'pretrain'"),
    ):
        write_json_atomically(run / name, content)
        for again in (None, "build_corpus"):

            @run_once
            def task(config: BaselineConfig) -> dict[str, Any]:
                raise AssertionError("was started")

            config = compose_config("lexical_baseline", [f"run_dir={run}", f"data.cache={tmp_path}/cache"])
            with pytest.raises(ConfigError, match=message):
                task(config) if name == "config.json" else start_run(config, again)
        assert read_json(run / name) == content
        (run / name).unlink()


@pytest.mark.parametrize("behind", [0, 7200])
def test_a_failure_is_seen_whatever_the_clock_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], behind: int
) -> None:
    hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": [], "hydra": []}, "sweeper": {}}
    config = OmegaConf.create({"hydra": hydra})
    for job in ("before", "again", "new"):
        (tmp_path / job).mkdir()
    for job in ("before", "again"):
        note_failure(tmp_path / job, f"{job} failed earlier")
    end = SweepEnd()
    end.on_multirun_start(config)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - behind)
    for job in ("again", "new"):
        note_failure(tmp_path / job, f"{job} failed now")
    with pytest.raises(SystemExit):
        end.on_multirun_end(config)
    said = capsys.readouterr().err
    assert "2 jobs of this sweep failed" in said
    assert "again failed now" in said
    assert "new failed now" in said
    assert "earlier" not in said
    assert "report.py" not in said  # nothing is finished
    (tmp_path / "new" / "record.json").write_text("{}", "utf-8")
    with pytest.raises(SystemExit):
        end.on_multirun_end(config)
    assert f"tables of its jobs: python experiments/report.py runs='[{tmp_path}]'" in capsys.readouterr().err


def sweep_config(folder: Path, *task: str, **more: Any) -> DictConfig:
    hydra = {"sweep": {"dir": str(folder)}, "run": {"dir": str(folder)}, "overrides": {"task": task, "hydra": []}}
    return OmegaConf.create({"hydra": {**hydra, "sweeper": {}}, **more})


def test_a_sweep_names_its_own_failures_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at once in one folder, as their processes see it; a job of both is a failure of both."""
    config = sweep_config(tmp_path)
    ends = [SweepEnd(), SweepEnd()]
    for end in ends:
        end.on_multirun_start(config)

    def fail(end: SweepEnd, job: str) -> None:
        end.on_job_start(config)  # as in a process of its own, which has a copy
        (tmp_path / job).mkdir(exist_ok=True)
        note_failure(tmp_path / job, f"{job} failed")

    fail(ends[0], "first")
    fail(ends[0], "shared")
    fail(ends[1], "shared")
    fail(ends[1], "second")
    said = []
    for end in ends:
        with pytest.raises(SystemExit) as ended:
            end.on_multirun_end(config)
        assert ended.value.code == 1
        said.append(capsys.readouterr().err)
    assert [[job for job in ("first", "second", "shared") if f"{job} failed" in text] for text in said] == [
        ["first", "shared"], ["second", "shared"],
    ]  # fmt: skip
    for job in ("first", "shared"):
        forget_failure(tmp_path / job)  # it was finished after all
    ends[0].on_multirun_end(config)


def test_a_note_that_cannot_be_read_hides_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty one, of a disk that was full."""
    config, end = sweep_config(tmp_path), SweepEnd()
    for job in ("old", "x"):
        (tmp_path / job).mkdir()
        (tmp_path / job / "failure.json").touch()
    end.on_multirun_start(config)
    note_failure(tmp_path / "x", "failed again")
    with pytest.raises(SystemExit):
        end.on_multirun_end(config)
    said = capsys.readouterr().err
    assert "error: 1 jobs of this sweep failed" in said
    assert "failed again" in said


@pytest.mark.parametrize(
    ("task", "params", "run_dir", "message"),
    [
        (["run_dir=a,b"], None, "a", r"run_dir: wanted one name: a sweep has one folder"),
        (
            ["seed=1,2"],
            None,
            "runs/x_${seed}",
            r"x_\$\{seed\}: wanted the same for all jobs, but seed varies",
        ),
        (["tokenizer=a,b"], None, "x_${tokenizer.kind}", r"but tokenizer\.kind varies"),
        ([], {"seed": "1,2"}, "runs/x_${seed}", "seed varies"),
        (["runtime.precision=fp32,bf16", "seed=1,2"], None, "x", r"runtime\.precision: wanted one value"),
        (["runtime=cpu,gpu"], None, "x", "runtime: wanted one value"),
        (["train.log_every=1,2", "tracker=jsonl,wandb"], None, "x", r"train\.log_every, tracker: wanted one value"),
    ],
)
def test_jobs_that_are_one_run_or_have_no_folder_in_common_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: list[str], params: Any, run_dir: str, message: str
) -> None:
    config = sweep_config(tmp_path / "x", *task, run_dir=run_dir)
    config.hydra.sweeper.params = params
    with pytest.raises(SystemExit) as ended:
        SweepEnd().on_multirun_start(config)
    assert ended.value.code == 1
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not (tmp_path / "x").exists()


def test_sweeps_as_they_should_be_are_let_through(tmp_path: Path) -> None:
    given = [
        "seed=1,2",
        "train.steps=5,6",
        "runtime.precision=fp32",
        "data.root=x",
        "tracker.name='j-${hydra:job.name}'",
    ]
    config = sweep_config(tmp_path, *given, run_dir="runs/x_${fold}", fold=1)
    config.hydra.sweeper.params = {"runtime.precision": "fp32,bf16", "arm": "none,both"}  # the command's counts
    SweepEnd().on_multirun_start(config)
    end = SweepEnd()
    end.on_multirun_start(config)
    end.on_job_start(config)
    config.hydra.sweep.dir = "elsewhere"
    with pytest.raises(SystemExit):  # whatever it was that let it vary
        end.on_job_start(config)


@pytest.mark.parametrize(
    ("given", "missing"),
    [([], "arm=… fold=… seed=…"), (["arm=both", "seed=3"], "fold=…"), (["arm=both", "seed=3", "fold=0"], None)],
)
def test_a_study_without_m_is_refused(
    conf: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], missing: str | None
) -> None:
    """It would be one job, of no arm."""
    asked = ["experiment=study_main", f"run_dir={tmp_path}/x", "data.root=x", *given]
    config = compose("pipeline", asked, return_hydra_config=True)
    config.hydra.mode = RunMode.RUN
    if missing is None:
        SweepEnd().on_run_start(config)
        return
    with pytest.raises(SystemExit):
        SweepEnd().on_run_start(config)
    said = capsys.readouterr().err
    assert "a sweep over arm, fold, seed: give -m" in said
    assert said.rstrip().endswith(f"for one run {missing}")
    assert not (tmp_path / "x").exists()


def test_an_error_in_a_callback_ends_the_door(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hydra's own way is a warning; what was to be checked is then not checked."""

    class Broken(Guard):
        def on_run_start(self, config: DictConfig, **_: Any) -> None:
            raise RuntimeError("no such thing")

    callbacks = Callbacks()
    callbacks.callbacks.append(Broken())
    with pytest.raises(SystemExit) as ended:
        callbacks.on_run_start(OmegaConf.create({}))
    assert ended.value.code == 1
    assert "on_run_start: RuntimeError: no such thing" in capsys.readouterr().err
    named = OmegaConf.load(repository / "conf" / "hydra_run.yaml").callbacks
    assert named
    assert all(issubclass(get_class(entry._target_), Guard) for entry in named.values())


def test_what_wandb_kept_is_found_with_the_pretrainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, pretrained = tmp_path / "my sweep", tmp_path / "pretrained"
    kept = [sweep / "job" / "wandb" / "offline-run-1", pretrained / "a" / "wandb" / "offline-run-2"]
    for folder in kept:
        folder.mkdir(parents=True)
    config = sweep_config(sweep, pretrained=str(pretrained))
    end = SweepEnd()
    end.on_multirun_start(config)
    end.on_multirun_end(config)
    (hint,) = re.findall(r"upload with: (.*)", capsys.readouterr().err)
    shown = subprocess.run(hint.replace("wandb sync", "ls -d"), shell=True, capture_output=True, text=True, check=True)
    assert sorted(shown.stdout.splitlines()) == sorted(map(str, kept))


def test_files_are_known_by_names_with_brackets_too(tmp_path: Path) -> None:
    root = tmp_path / "root[1]"
    (root / "deep").mkdir(parents=True)
    for name in ("a[1].txt", "a1.txt", "deep/b.txt"):
        (root / name).write_text(name, "utf-8")
    data = DataConfig(root=str(root), cache=str(tmp_path / "cache"))
    config = {
        "corpus": {"files": ["{root}/**/*.txt"]}, "test": f"{root}/a[1].txt",
        "entities": {"annotator": "mecab+gazetteer:{root}/a[1].txt"},
    }  # fmt: skip
    found = input_files(config, data)
    assert set(found) == {"{root}/a1.txt", "{root}/a[1].txt", "{root}/deep/b.txt"}
    assert set(input_files({"x": config["entities"]}, data)) == {"{root}/a[1].txt"}
    assert changed_files(found, config, data) == []
    (root / "a[1].txt").write_text("other", "utf-8")
    assert changed_files(found, config, data) == ["{root}/a[1].txt"]
    (root / "a[1].txt").unlink()
    assert changed_files(found, config, data) == []  # a1.txt is another file
    (root / "c.txt").write_text("new", "utf-8")
    assert changed_files(found, config, data) == ["{root}/c.txt"]


def test_a_run_that_stopped_leaves_what_it_cost(conf: None, repository: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    @run_once
    def task(config: BaselineConfig) -> dict[str, Any]:
        folder = start_run(config)
        calls.append(1)
        if len(calls) < 3:
            raise KorbertError("stopped")
        return finish_run(folder, "lexical_baseline", config, {"f1": 1.0})

    config = compose_config("lexical_baseline", [f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache"])
    for _ in range(2):
        with pytest.raises(KorbertError, match="stopped"):
            task(config)
    with (tmp_path / "run" / "sessions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"date": "2026", "commit": "x"}) + '\n{"da')  # one that was killed, while it wrote this
        file.write("\n")
    record = task(config)
    assert [set(session) >= {"date", "cost"} for session in record["sessions"]] == [True, True, False, True]
    assert record["cost"]["wall_seconds"] == pytest.approx(
        sum(session["cost"]["wall_seconds"] for session in record["sessions"] if "cost" in session), abs=0.02
    )
    assert task(config) == record
    assert len(calls) == 3


# ---- names of folders ----


def name(*overrides: str, door: str = "pretrain") -> str:
    return job_folder(_root_=compose(door, list(overrides), return_hydra_config=True))


@pytest.mark.slow
def test_folders_are_the_same_for_the_same_results(conf: None, tmp_path: Path) -> None:
    place = f"run_dir={tmp_path}"
    chosen = ["tokenizer=syllable", "entities.mode=split", "seed=3", "train.budget=5s", place]
    first = name(*chosen)
    assert first.startswith("syllable-split-seed3-5s-")
    shuffled = random.Random(0).sample(chosen, len(chosen))
    free = [
        "runtime.threads=1", "tracker=wandb", "data.cache=elsewhere", "data.records=null", "train.log_every=1",
        "train.checkpoint_every=7", "train.steps=null",
    ]  # fmt: skip
    same = {name(*shuffled, *free), name(*chosen, "model=mini"), name(*chosen, "model.num_layers=4")}
    assert {other.rpartition("-")[2] for other in same} == {first.rpartition("-")[2]}
    other = ["seed=4", "train.budget=6s", "entities.mode=both", "model.hidden_dropout=0.2", "corpus.holdout=0.1"]
    digests = {name(*chosen, more).rpartition("-")[2] for more in other}
    assert len(digests | {first.rpartition("-")[2]}) == len(other) + 1
    (tmp_path / first).mkdir()  # however it is asked for: what is there is found
    assert name(*shuffled, "model=mini") == first


def digest_in(folder: str) -> str:
    return folder.rpartition("-")[2]


def test_a_path_is_one_however_it_is_written(conf: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of before stay: of plain texts the digest is that of the texts."""
    monkeypatch.chdir(tmp_path)
    place = f"run_dir={tmp_path}"
    texts = ("init=runs/x", "init=runs/x/", "init=./runs/x", f"init={tmp_path}/runs/x", f"init={tmp_path}/runs/x/")
    names = [name(text, place, door="finetune_korquad") for text in texts]
    assert len(set(map(digest_in, names))) == 1
    assert (
        len({digest_in(name(f"init={other}", place, door="finetune_korquad")) for other in ("runs/y", "/runs/x")}) == 2
    )

    def by_text(*overrides: str) -> str:
        config = compose("finetune_korquad", [*overrides, place], return_hydra_config=True)
        values = {key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
                  for key, node in config.items() if key not in ("hydra", *FREE)}  # fmt: skip
        for key in ("log_every", "checkpoint_every"):
            del values["train"][key]
        return digest(values)

    assert digest_in(names[0]) == by_text("init=runs/x")
    (tmp_path / f"made-before-{by_text(texts[-1])}").mkdir()
    assert name(texts[-1], place, door="finetune_korquad").startswith("made-before-")
    (tmp_path / names[0]).mkdir()
    assert name(texts[-1], place, door="finetune_korquad") == names[0]


def test_what_decides_nothing_in_a_stage_is_in_no_name(conf: None, tmp_path: Path) -> None:
    def made(*pretraining: str) -> str:
        return digest_in(name(f"pretraining={listed(*pretraining)}", f"run_dir={tmp_path}", door="pipeline"))

    plain = made("model=tiny", "train.steps=3")
    assert made("model=tiny", "train.log_every=1", "train.steps=3", "++train.checkpoint_every=2") == plain
    assert made("model=tiny", "train.steps=4") != plain
    assert decisive({"pretraining": ["model=tiny", "train.log_every=1"]}) == {"pretraining": ["model=tiny"]}


@pytest.mark.parametrize(
    ("made", "cost", "asked", "said"),
    [
        ({"precision": "fp32", "layout": "auto"}, {}, {"precision": "bf16"}, ["precision=fp32, not with bf16"]),
        ({"precision": "auto", "layout": "auto"}, {}, {"precision": "fp32", "layout": "padded"}, []),
        ({"precision": "auto", "layout": "auto"}, {"gpu_seconds": 1.0}, {"precision": "bf16", "layout": "packed"}, []),
        (
            {"precision": "auto", "layout": "auto"}, {"gpu_seconds": 1.0}, {"precision": "fp32", "layout": "padded"},
            ["precision=bf16, not with fp32", "layout=packed, not with padded"],
        ),
        ({"precision": "bf16", "layout": "packed"}, {}, {}, []),
        ({}, {}, {"precision": "bf16"}, []),  # of before this was kept
    ],
)  # fmt: skip
def test_a_finished_run_that_was_computed_in_another_way_is_not_taken_for_it_in_silence(
    caplog: pytest.LogCaptureFixture, made: Any, cost: Any, asked: Any, said: list[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        record = {"config": {"train": {}, "runtime": made}, "cost": cost}
        warn_of_another_runtime(Path("runs/x"), record, RuntimeConfig(**asked))
    assert [text in record.message for text, record in zip(said, caplog.records, strict=True)] == [True] * len(said)


def test_a_run_is_known_by_another_name_of_its_files(
    conf: None, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Finished, and with a name in which * stands for others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    shutil.copy(repository / "data" / "sample" / "KorQuAD_sample_dev.json", tmp_path / "root" / "dev.json")

    def run(test: str, *more: str) -> dict[str, Any]:
        given = [f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache", f"task.test='{test}'", *more]
        return lexical_baseline(compose_config("lexical_baseline", given))

    first = run("root/dev.json")
    assert run("./root/dev.json") == run(f"{tmp_path}/root/dev.json") == first
    assert "not with" not in caplog.text
    assert run("root/dev.json", "runtime.precision=bf16") == first
    assert "not with" not in caplog.text  # it computes with no model
    files = {"files": ["root/*.json"]}
    before = input_files(files, DataConfig(cache=str(tmp_path / "cache")))
    again = {"files": [f"{tmp_path}/root/*.json"]}
    assert changed_files(before, again, DataConfig(cache=str(tmp_path / "cache"))) == []
    (tmp_path / "root" / "new.json").write_text("{}", "utf-8")
    assert changed_files(before, again, DataConfig(cache=str(tmp_path / "cache"))) != []


@pytest.mark.parametrize(
    ("varied", "excluded"),
    [({}, "arm seed data.root"), (None, "arm seed data.root"), ({"arm": "a,b", "seed": "1,2"}, "data.root")],
)
def test_what_the_experiment_varies_is_in_the_names(tmp_path: Path, varied: Any, excluded: str) -> None:
    task = ["arm=none", "fold=0,1", "seed=1", f"data.root={tmp_path}"]
    hydra = {"sweep": {"dir": str(tmp_path)}, "overrides": {"task": task, "hydra": []}, "sweeper": {"params": varied}}
    config = OmegaConf.create({"hydra": hydra})
    SweepEnd().on_multirun_start(config)
    given = ",".join(f"'{key}'" for key in excluded.split())
    assert config.hydra.overrides.hydra == [f"hydra.job.config.override_dirname.exclude_keys=[{given}]"]


def test_names_can_be_read_and_written(conf: None) -> None:
    found = name(
        "init=runs/some/mini/", "task.train=['a b.json']", "task.fold=0", "run_dir=x", door="finetune_korquad"
    )  # fmt: skip
    assert found.rpartition("-")[0] == "mini-a-b.json-fold0"
    assert name("run_dir=x").startswith("run-")
    damaged = name("run=runs/study/both-seed1-0a/finetune", "damage.moved=0.3", "run_dir=x", door="predict_korquad")
    assert damaged.rpartition("-")[0] == "both-seed1-0a-moved0.3"  # the job, not its stage
    words = ("corpus.files=['{}']", "entities.annotator='{}'", "tokenizer.kind='{}'", "model.norm='{}'", "init='{}'")
    long = name(*(word.format("한글" * 40) for word in words), "run_dir=x")
    assert len(long.encode()) < 255
    assert "/" not in long


# ---- locks ----


HOLD = """
import sys, time
from pathlib import Path
from korbert.files import exclusive
with exclusive(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = tmp_path / "deep" / ".lock"
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        process.kill()

    timer = threading.Timer(0.5, kill)
    timer.start()
    with caplog.at_level(logging.INFO), exclusive(lock, "runs/x"):
        assert killed  # not before
        assert time.monotonic() >= killed[0]
    process.wait()
    assert "runs/x: another process is at work on it; waiting" in caplog.text
    with exclusive(lock), pytest.raises(KorbertError):  # free again after an error, in this process, too
        raise KorbertError("x")
    with exclusive(lock):
        pass
