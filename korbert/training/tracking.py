"""Metrics as JSON Lines, always; to wandb as well where asked. A tracker that fails never stops training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korbert.errors import ConfigError, KorbertError
from korbert.files import write_text_atomically

log = logging.getLogger(__name__)


@dataclass
class TrackerConfig:
    """kind: "jsonl" or "wandb". wandb stays offline unless `mode=online`, so that no run needs a login."""

    kind: str = "jsonl"
    project: str = "korbert"
    group: str | None = None
    mode: str = "offline"

    def __post_init__(self) -> None:
        if self.kind not in ("jsonl", "wandb"):
            raise ConfigError(f"tracker.kind: {self.kind!r} is unknown, wanted jsonl or wandb")
        if self.mode not in ("offline", "online", "disabled"):
            raise ConfigError(f"tracker.mode: {self.mode!r} is unknown, wanted offline, online or disabled")


class Tracker:
    """Writes `metrics.jsonl` in the run folder, one object per call, and mirrors it to wandb where configured."""

    def __init__(self, folder: Path, config: TrackerConfig, run_config: Mapping[str, Any]) -> None:
        self.path = folder / "metrics.jsonl"
        self._wandb = _start_wandb(folder, config, run_config) if config.kind == "wandb" else None

    def resume(self, step: int) -> None:
        """Drop what was logged after `step`: the resumed run will log it again."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError):
                continue  # a line that the crash cut off
        write_text_atomically(self.path, "".join(f"{line}\n" for line in kept))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append `metrics` of optimizer step `step`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self._wandb is not None:
            self._guarded(lambda run: run.log(dict(metrics), step=step))

    def finish(self, summary: Mapping[str, float], failed: bool = False) -> None:
        """Close the wandb run, with final numbers, also after a failure."""
        if self._wandb is not None:
            self._guarded(lambda run: run.summary.update(dict(summary)))
            self._guarded(lambda run: run.finish(exit_code=1 if failed else 0))

    def _guarded(self, call: Any) -> None:
        if self._wandb is None:
            return
        try:
            call(self._wandb)
        except Exception as error:  # whatever a tracker raises, training goes on
            log.warning("wandb failed and is off for the rest of this run; metrics.jsonl goes on (%s)", error)
            self._wandb = None


def _start_wandb(folder: Path, config: TrackerConfig, run_config: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise KorbertError("tracker=wandb needs a package: pip install wandb") from error
    try:
        run = wandb.init(
            project=config.project,
            group=config.group,
            name=folder.name,
            dir=str(folder),
            config=dict(run_config),
            mode=config.mode,  # type: ignore[arg-type]
            reinit="create_new",
        )
    except Exception as error:
        log.warning("wandb could not start; metrics.jsonl alone is written (%s)", error)
        return None
    if config.mode == "offline":
        log.info("wandb is offline; upload later with: wandb sync %s", Path(run.dir).parent)
    return run
