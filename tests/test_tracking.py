"""Metrics are always written; wandb mirrors them and can fail in any way without touching the run."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from korbert.errors import ConfigError, KorbertError
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
    assert run.calls == [("log", 7, {"loss": 1.0}), ("update", {"f1": 2.0}), ("finish", 0)]
    assert options["mode"] == "offline"
    assert options["group"] == "sweep"
    assert options["config"] == {"seed": 3}


def test_wandb_is_closed_as_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = FakeRun()
    fake_wandb(monkeypatch, run)
    Tracker(tmp_path, TrackerConfig(kind="wandb"), {}).finish({}, failed=True)
    assert run.calls[-1] == ("finish", 1)


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


def test_missing_wandb_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(KorbertError, match="pip install wandb"):
        Tracker(tmp_path, TrackerConfig(kind="wandb"), {})


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"tracker\.kind: 'wanb' is unknown"):
        TrackerConfig(kind="wanb")
    with pytest.raises(ConfigError, match=r"tracker\.mode: 'offlin' is unknown"):
        TrackerConfig(mode="offlin")
