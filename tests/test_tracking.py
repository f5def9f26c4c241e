"""Metrics are always written; wandb or TensorBoard mirrors them and can fail in any way without touching the run."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import struct
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.errors import ConfigError, KorbertError
from korbert.files import read_json
from korbert.tasks.pretrain import pretrain
from korbert.training.tracking import Tracker, TrackerConfig


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


class FakeRun:
    """Records what wandb is told; fails at the call named `failing`."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.calls = failing, list[tuple[Any, ...]]()
        self.summary = self
        self.dir = "wandb/offline-run-1/files"

    def _call(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name == self.failing:
            raise RuntimeError("the server is on fire")

    def log(self, metrics: dict[str, float], step: int) -> None:
        self._call("log", step, metrics)

    def update(self, summary: dict[str, float]) -> None:
        self._call("update", summary)

    def finish(self, exit_code: int) -> None:
        self._call("finish", exit_code)


def fake_wandb(monkeypatch: pytest.MonkeyPatch, run: FakeRun | None) -> dict[str, Any]:
    """Install a wandb whose init gives `run`, or fails; returns what init was called with."""
    options: dict[str, Any] = {}

    def init(**given: Any) -> FakeRun:
        options.update(given)
        if run is None:
            raise OSError("no network")
        return run

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return options


def test_metrics_are_written_as_they_come(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, TrackerConfig(), {})
    tracker.log(1, {"loss": 2.5})
    assert lines(tmp_path) == [{"step": 1, "loss": 2.5}]  # not only at the end
    tracker.log(2, {"loss": 1.5, "validation/f1": 30.0})
    tracker.finish({"f1": 30.0})
    assert lines(tmp_path)[1] == {"step": 2, "loss": 1.5, "validation/f1": 30.0}


def test_resume_drops_later_and_broken_lines(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, TrackerConfig(), {})
    for step in range(1, 6):
        tracker.log(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "lo')
    tracker.resume(3)
    tracker.log(4, {"loss": 40.0})
    assert [(row["step"], row["loss"]) for row in lines(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_wandb_is_told_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = FakeRun()
    options = fake_wandb(monkeypatch, run)
    tracker = Tracker(tmp_path / "..", TrackerConfig(kind="wandb", group="sweep"), {"seed": 3})
    tracker.log(7, {"loss": 1.0})
    tracker.finish({"f1": 2.0})
    assert run.calls == [("log", 7, {"loss": 1.0}), ("update", {"final/f1": 2.0}), ("finish", 0)]
    assert options["mode"] == "offline"
    assert options["group"] == "sweep"
    assert options["config"] == {"seed": 3}


def test_wandb_is_closed_as_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = FakeRun()
    fake_wandb(monkeypatch, run)

    def train() -> None:
        with Tracker(tmp_path, TrackerConfig(kind="wandb"), {}) as tracker:
            tracker.log(1, {"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert run.calls[-1] == ("finish", 1)
    with Tracker(tmp_path, TrackerConfig(kind="wandb"), {}) as tracker:
        tracker.finish({})
    assert run.calls[-1] == ("finish", 0)
    assert [call[0] for call in run.calls].count("finish") == 2  # once each


@pytest.mark.parametrize("failed", [False, True])
def test_the_model_goes_to_wandb_where_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failed: bool) -> None:
    run, given = FakeRun(), list[Any]()

    class Artifact:
        def __init__(self, name: str, type: str) -> None:
            given.append((name, type))

        def add_dir(self, folder: str) -> None:
            given.append(folder)

    fake_wandb(monkeypatch, run)
    sys.modules["wandb"].Artifact = Artifact  # type: ignore[attr-defined]
    run.log_artifact = given.append  # type: ignore[attr-defined]
    (tmp_path / "실행 1").mkdir()
    Tracker(tmp_path / "실행 1", TrackerConfig(kind="wandb", artifacts=True), {}).finish({}, failed)
    if failed:
        assert given == []
    else:
        assert given[0] == ("---1-model", "model")
        assert given[1] == str(tmp_path / "실행 1" / "model")
        assert isinstance(given[2], Artifact)
    assert run.calls[-1] == ("finish", int(failed))


def test_a_resumed_run_keeps_its_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = fake_wandb(monkeypatch, FakeRun())
    found = []
    for folder in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
        folder.mkdir(exist_ok=True)
        Tracker(folder, TrackerConfig(kind="wandb"), {})
        found.append(options["id"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_last_session_of_a_resumed_run_has_everything(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of folders with one id, what is uploaded last replaces what was before; a server goes on from what it has."""
    sessions = [FakeRun(), FakeRun()]
    for at, run in zip((0, 2), sessions, strict=True):
        fake_wandb(monkeypatch, run)
        tracker = Tracker(tmp_path, TrackerConfig(kind="wandb", mode=mode), {})
        tracker.resume(at)
        for step in range(at + 1, at + 4):
            tracker.log(step, {"loss": 1.0 / step})
    first, second = ([call[1:] for call in run.calls] for run in sessions)
    assert first == [(step, {"loss": 1.0 / step}) for step in (1, 2, 3)]
    assert second == [(step, {"loss": 1.0 / step}) for step in ((1, 2, 3, 4, 5) if mode == "offline" else (3, 4, 5))]


@pytest.mark.parametrize("failing", ["init", "log", "update", "finish"])
def test_wandb_that_fails_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    run = None if failing == "init" else FakeRun(failing)
    fake_wandb(monkeypatch, run)
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(tmp_path, TrackerConfig(kind="wandb"), {})
        for step in (1, 2):
            tracker.log(step, {"loss": 1.0})
        tracker.finish({"f1": 1.0})
    assert [row["step"] for row in lines(tmp_path)] == [1, 2]
    assert len([r for r in caplog.records if "wandb" in r.message]) == 1  # said once
    if failing == "log":
        assert run is not None
        assert [call[0] for call in run.calls] == ["log"]  # off after the first failure
    if failing == "update":
        assert run is not None
        assert run.calls[-1] == ("finish", 0)  # closed all the same


def test_missing_wandb_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(KorbertError, match="pip install wandb"):
        Tracker(tmp_path, TrackerConfig(kind="wandb"), {})


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"tracker\.kind: 'wanb' is unknown, wanted jsonl, wandb or tensorboard"):
        TrackerConfig(kind="wanb")
    with pytest.raises(ConfigError, match=r"tracker\.mode: 'offlin' is unknown"):
        TrackerConfig(mode="offlin")


TINY = (
    "model=tiny", "model.hidden_size=32", "model.num_layers=1", "train.batch_size=4", "train.steps=3",
    "train.log_every=1", "tokenizer=syllable", "entities=none", "runtime.threads=1", "runtime.workers=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["init", "log", "update", "finish", "resume"])
def test_a_broken_tracker_leaves_the_weights_as_they_are(
    monkeypatch: pytest.MonkeyPatch, repository: Path, tmp_path: Path, one_thread: None, failing: str
) -> None:
    monkeypatch.chdir(repository)
    fake_wandb(monkeypatch, None if failing == "init" else FakeRun(failing))
    if failing == "resume":
        monkeypatch.setattr("korbert.training.tracking._Wandb.resume", None)
    weights = []
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        for kind in ("jsonl", "wandb"):
            made = [*TINY, f"tracker={kind}", f"data.cache={tmp_path}/cache", f"run_dir={tmp_path / kind}"]
            pretrain(compose_config("pretrain", made))
            weights.append((tmp_path / kind / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert len(lines(tmp_path / "jsonl")) == len(lines(tmp_path / "wandb")) == 4


# ---- what wandb keeps offline, read back from its files ----


def offline_records(path: Path) -> Iterator[Any]:
    """Records of a .wandb file: 7 bytes, then blocks as in LevelDB's log, of protocol buffers in parts.

    Source: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, place, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a full one, or the last part
            record = internal.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def items(found: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in found}


@pytest.mark.slow
def test_wandb_runs_of_a_sweep_are_separate_grouped_and_complete(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    sweep = tmp_path / "mysweep"
    command = [
        sys.executable, "experiments/pretrain.py", "-m", *TINY, "tracker=wandb", "seed=1,2", "model.num_heads=2,3",
        f"data.cache={tmp_path}/cache", f"run_dir={sweep}",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1  # two of the jobs cannot be
    files = sorted(sweep.glob("*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    (hint,) = re.findall(r"upload with: (find .*) -print0 \| sort -z \| xargs -0 wandb sync", done.stderr)
    found = subprocess.run(shlex.split(hint), capture_output=True, text=True, check=True).stdout.split()
    assert sorted(found) == [str(path.parent) for path in files]
    identities = set()
    for path in files:
        folder = path.parents[2]
        record, metrics = read_json(folder / "record.json"), lines(folder)
        kept = list(offline_records(path))
        (run,) = [entry.run for entry in kept if entry.HasField("run")]
        identities.add(run.run_id)
        assert run.run_group == "mysweep"
        assert run.display_name == folder.name
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["seed"] == record["seed"]
        assert config["train"]["steps"] == 3
        logged = [items(entry.history.item) for entry in kept if entry.HasField("history")]
        losses = [row["loss"] for row in logged if "loss" in row]
        assert losses == pytest.approx([row["loss"] for row in metrics if "loss" in row])
        summary: dict[str, Any] = {}
        for entry in kept:
            if entry.HasField("summary"):
                summary |= items(entry.summary.update)
        for key in ("mlm_loss", "mlm_loss_per_character", "nsp_accuracy"):
            assert summary[f"final/{key}"] == pytest.approx(record["results"][key])
        assert [entry.exit.exit_code for entry in kept if entry.HasField("exit")] == [0]
    assert len(identities) == 2


# ---- TensorBoard ----


def test_tensorboard_has_the_metrics_once_also_after_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrackerConfig(kind="tensorboard")
    first = Tracker(tmp_path, config, {"seed": 3})
    first.resume(0)
    for step in range(1, 6):
        first.log(step, {"loss": float(step)})
    first._mirror._writer.close()  # type: ignore[union-attr]  # killed, but for what is on disk
    again = Tracker(tmp_path, config, {"seed": 3})
    again.resume(3)
    for step in range(4, 7):
        again.log(step, {"loss": 10.0 * step})
    again.finish({"f1": 12.5})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60)]
    assert found == [(row["step"], row["loss"]) for row in lines(tmp_path)]
    assert events.Scalars("final/f1")[0].value == 12.5
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"seed": 3' in text


def test_missing_tensorboard_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(KorbertError, match=r"'\.\[tensorboard\]'"):
        Tracker(tmp_path, TrackerConfig(kind="tensorboard"), {})
