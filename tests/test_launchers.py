"""Hydra's launchers and sweepers with the presets in conf/hydra: what is finished stays, scores come back."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import open_dict

import korbert.config  # registers the schemas
from korbert.config.searches import SearchCheck
from korbert.files import read_json

# See korbert.config.sweeping, whose filter pytest takes away.
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher")
TINY = (
    "model=tiny", "model.hidden_size=32", "model.num_layers=1", "train.batch_size=4", "train.steps=2",
    "tokenizer=syllable", "entities=none", "runtime.threads=1", "runtime.workers=1",
)  # fmt: skip


def search(repository: Path, folder: Path, *overrides: str) -> str:
    """A search for the learning rate, two trials at a time."""
    command = [
        sys.executable, "experiments/pretrain.py", "-m", *TINY, "hydra/sweeper=search", "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.direction=minimize", "train.optimizer.learning_rate=tag(log, interval(1e-4, 1e-1))",
        f"data.cache={folder}/cache", f"run_dir={folder}/runs", *overrides,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stderr
    return done.stdout + done.stderr


def best(folder: Path) -> dict[str, float]:
    found = yaml.safe_load((folder / "runs" / "optimization_results.yaml").read_text("utf-8"))
    return {"score": found["best_value"], "rate": found["best_params"]["train.optimizer.learning_rate"]}


def made(folder: Path) -> dict[Path, dict[str, float]]:
    records = {path: read_json(path) for path in folder.glob("runs/*/record.json")}
    return {
        path: {
            "score": record["results"]["mlm_loss_per_character"],
            "rate": record["config"]["train"]["optimizer"]["learning_rate"],
        }
        for path, record in records.items()
    }


@pytest.mark.slow
def test_search_through_joblib_goes_on_through_submitit(repository: Path, tmp_path: Path) -> None:
    """The sampler takes the same way again; what is finished is not redone, and its scores are known."""
    search(repository, tmp_path, "hydra/launcher=joblib", "hydra.sweeper.n_trials=2")
    first = made(tmp_path)
    assert len(first) == 2
    assert best(tmp_path) == min(first.values(), key=lambda run: run["score"])
    times = {path: path.stat().st_mtime_ns for path in first}
    assert len(list(tmp_path.glob("cache/tokenizers/*"))) == 1  # two processes wanted it at once

    search(repository, tmp_path, "hydra/launcher=submitit_local", "hydra.sweeper.n_trials=3")
    second = made(tmp_path)
    assert len(second) == 3
    assert {path: path.stat().st_mtime_ns for path in first} == times
    assert best(tmp_path) == min(second.values(), key=lambda run: run["score"])
    # Whatever process a launcher starts: how the run is made once more.
    commands = [read_json(path)["command"] for path in second]
    assert all(command.partition(" ")[2].startswith("experiments/pretrain.py -m model=tiny") for command in commands)
    logs = "".join(path.read_text("utf-8") for path in tmp_path.glob("runs/.submitit/*/*log.out"))
    assert logs.count("finished before, skipped") == 2
    assert all(path.with_name("sessions.jsonl").read_text("utf-8").count('"date"') == 1 for path in second)


def door(repository: Path, name: str, *overrides: str) -> str:
    command = [sys.executable, f"experiments/{name}.py", *overrides]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's corpus, built by one process, and its tokenizer."""
    folder = tmp_path_factory.mktemp("built")
    overrides = (*BUILD, f"data.cache={folder}/cache", f"output={folder}/corpus", f"run_dir={folder}/runs")
    door(repository, "build_corpus", *overrides)
    return folder


BUILD = ("tokenizer=syllable", "entities=none", "runtime.workers=1", "piece_characters=4000", "filters=none")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_corpus_array_and_pretraining_sweep(repository: Path, built: Path, tmp_path: Path, launcher: str) -> None:
    """Two jobs build one corpus, byte for byte the one of a single process; two jobs pretrain on it."""
    where = (f"hydra/launcher={launcher}", f"data.cache={tmp_path}/cache", f"data.records={tmp_path}/records.sqlite")
    parts = ("part=0,1", "parts=2", "wait=5", f"output={tmp_path}/corpus", f"run_dir={tmp_path}/build")
    door(repository, "build_corpus", "-m", *BUILD, *parts, *where)
    assert content(tmp_path / "corpus") == content(built / "corpus")
    shards = f"corpus.shards={tmp_path}/corpus"
    door(repository, "pretrain", "-m", *TINY, shards, "seed=1,2", f"run_dir={tmp_path}/pre", *where)
    records = [read_json(path) for path in tmp_path.glob("pre/*/record.json")]
    assert {record["config"]["seed"] for record in records} == {1, 2}
    assert len({record["results"]["mlm_loss"] for record in records}) == 2


def content(folder: Path) -> dict[str, bytes]:
    """The finished corpus's files; what the jobs kept on the way is not among them."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


@pytest.fixture
def conf(repository: Path) -> Iterator[Path]:
    assert "PipelineConfig" in korbert.config.__all__
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield repository / "conf" / "hydra"


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray"])
@pytest.mark.parametrize("door", ["pipeline", "finetune_korquad"])
def test_launchers_compose(conf: Path, launcher: str, door: str) -> None:
    """Where the plugin is installed its schema is applied: a key that it does not have fails here."""
    made = compose(door, [f"hydra/launcher={launcher}", "run_dir=x"], return_hydra_config=True).hydra.launcher
    preset = yaml.safe_load((conf / "launcher" / f"{launcher}.yaml").read_text("utf-8"))
    assert made._target_ == preset["_target_"]
    assert set(preset) <= set(made)
    assert get_class(made._target_).__module__.startswith("hydra_plugins")


def test_every_preset_is_tested(conf: Path) -> None:
    assert {path.stem for path in conf.glob("launcher/*")} == {"joblib", "submitit_local", "submitit_slurm", "ray"}
    assert {path.stem for path in conf.glob("sweeper/*")} == {"search"}


def test_search_composes(conf: Path) -> None:
    made = compose("pretrain", ["hydra/sweeper=search", "run_dir=x"], return_hydra_config=True).hydra.sweeper
    assert made.sampler.seed == 1  # without it a search started again would go another way
    assert made.max_failure_rate == 1.0


@pytest.mark.parametrize(
    ("door", "overrides", "code", "said"),
    [
        ("pretrain", [], 1, "hydra.sweeper.direction=maximize: a job of pretrain returns the held-out loss"),
        ("pretrain", ["hydra.sweeper.direction=minimize"], 0, ""),
        ("pipeline", ["until=pretraining"], 1, "the held-out loss, of which less is better"),
        ("pipeline", ["hydra.sweeper.direction=minimize"], 1, "returns a score, of which more is better"),
        ("pipeline", [], 0, "on the test questions, .* add 'task.validation_share=0.1' to finetuning"),
        ("pipeline", ["finetuning=['task.validation_share=0.1']"], 0, ""),
        ("finetune_korquad", [], 0, "on the test questions, .*: give task.validation_share=0.1"),
        ("finetune_korquad", ["task.validation_share=0.1"], 0, ""),
        ("finetune_korquad", ["task.validation_share=0.0"], 0, "on the test questions"),
        ("pipeline", ["finetuning=['task.validation_share=0']"], 0, "on the test questions"),
        ("finetune_korquad", ["hydra.sweeper.direction=[minimize,maximize]"], 0, ""),  # whoever asks for two knows
        ("predict_korquad", [], 0, "on the test questions, .* no test of the settings any more$"),
        ("train_tagger", [], 0, ""),
    ],
)
def test_a_search_for_the_worst_is_refused(
    conf: None, capsys: pytest.CaptureFixture[str], door: str, overrides: list[str], code: int, said: str
) -> None:
    made = compose(door, ["hydra/sweeper=search", "run_dir=x", *overrides], return_hydra_config=True)
    with open_dict(made):
        made.hydra.job.name = door  # as Hydra's own main has it
    found = 0
    try:
        SearchCheck().on_multirun_start(made)
    except SystemExit as error:
        found = error.code
    heard = capsys.readouterr().err
    assert found == code
    assert re.search(said, heard.strip()) if said else not heard


def test_a_sweep_that_is_no_search_has_nothing_to_be_checked(conf: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor one that varies how many validation questions there are, on its command line or in its experiment."""
    SearchCheck().on_multirun_start(compose("finetune_korquad", ["run_dir=x"], return_hydra_config=True))
    made = compose("finetune_korquad", ["hydra/sweeper=search", "run_dir=x"], return_hydra_config=True)
    shares = "['task.validation_share=0.1'],['task.validation_share=0.2']"
    for door, task, params in (
        ("finetune_korquad", ["task.validation_share=0.1,0.2"], None),
        ("finetune_korquad", [], {"task.validation_share": "0.1,0.2"}),
        ("pipeline", [f"finetuning={shares}"], None),
        ("pipeline", [], {"finetuning": shares}),
    ):
        with open_dict(made):
            made.hydra.job.name, made.hydra.overrides.task, made.hydra.sweeper.params = door, task, params
        SearchCheck().on_multirun_start(made)
    assert not capsys.readouterr().err


def test_a_search_is_checked_before_its_first_job(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "experiments/pretrain.py", "-m", *TINY, "hydra/sweeper=search", "train.steps=1,2"]
    done = subprocess.run(
        [*command, f"run_dir={tmp_path}/runs"], cwd=repository, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: hydra.sweeper.direction=maximize: a job of pretrain")
    assert not [*tmp_path.rglob("config.json")]
