"""Metrics as JSON Lines, always; elsewhere as well where asked. A tracker that fails never stops training."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from korbert.errors import KorbertError, check_known
from korbert.files import METRICS, append_json, appended_json, read_text, write_text_atomically

log = logging.getLogger(__name__)


@dataclass
class TrackerConfig:
    """kind: jsonl, wandb or tensorboard. What follows is for wandb, which stays offline unless `mode=online`, so that
    no run needs a login.

    group, name: of the run, null for those of its sweep's and its own folder. artifacts: whether the model's folder is
    uploaded as well.
    """

    kind: str = "jsonl"
    project: str = "korbert"
    group: str | None = None
    name: str | None = None
    mode: str = "offline"
    artifacts: bool = False

    def __post_init__(self) -> None:
        check_known("tracker.kind", self.kind, ("jsonl", *_MIRRORS))
        check_known("tracker.mode", self.mode, ("offline", "online", "disabled"))


class Tracker:
    """Writes `metrics.jsonl` in the run folder, one object per call, and mirrors it where configured.

    As a context it closes the mirror as failed where an error leaves it.
    """

    def __init__(self, folder: Path, config: TrackerConfig, run_config: Mapping[str, Any]) -> None:
        self.path = folder / METRICS
        self.kind = config.kind
        self._mirror: _Mirror | None = None
        if self.kind in _MIRRORS:
            try:
                self._mirror = _MIRRORS[self.kind](folder, config, run_config)
            except KorbertError:
                raise
            except Exception as error:
                log.warning("%s could not start; metrics.jsonl alone is written (%s)", self.kind, error)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if kind is not None:
            self.finish({}, failed=True)

    def resume(self, step: int) -> None:
        """Drop what was logged after `step`: the resumed run will log it again."""
        kept: list[dict[str, Any]] = []
        if self.path.is_file():
            steps = ((line.get("step"), line) for line in appended_json(self.path))
            kept = [line for at, line in steps if isinstance(at, int) and at <= step]
            write_text_atomically(self.path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._tell(lambda mirror: mirror.resume(step, kept))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append `metrics` of optimizer step `step`."""
        append_json(self.path, {"step": step, **metrics})
        self._tell(lambda mirror: mirror.log(step, metrics))

    def finish(self, summary: Mapping[str, float], failed: bool = False) -> None:
        """Close the mirror, with final numbers, also after a failure; a second call does nothing."""
        self._tell(lambda mirror: mirror.finish(summary, failed))
        self._mirror = None

    def _tell(self, call: Callable[[_Mirror], None]) -> None:
        if self._mirror is None:
            return
        try:
            call(self._mirror)
        except Exception as error:  # whatever a tracker raises, training goes on
            log.warning("%s failed and is off for the rest of this run; metrics.jsonl goes on (%s)", self.kind, error)
            self._mirror = None


class _Mirror(Protocol):
    """Something else that is told the metrics. Each method may raise anything."""

    def resume(self, step: int, kept: Sequence[Mapping[str, Any]]) -> None:
        """A run goes on behind `step`, of which `kept` was logged before."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def finish(self, summary: Mapping[str, float], failed: bool) -> None: ...


class _Wandb:
    """A run of wandb for the run; one that is resumed has the same id."""

    def __init__(self, folder: Path, config: TrackerConfig, run_config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise KorbertError("tracker=wandb needs a package: pip install wandb") from error
        identity = folder / "wandb_id.txt"
        if not identity.exists():
            write_text_atomically(identity, secrets.token_hex(4))
        self._wandb, self._folder, self._artifacts = wandb, folder, config.artifacts
        self._is_offline = config.mode == "offline"
        self._run = wandb.init(
            project=config.project,
            group=config.group,
            name=config.name or folder.name,
            id=read_text(identity),
            dir=str(folder),
            config=dict(run_config),
            mode=config.mode,  # type: ignore[arg-type]
            resume="allow" if config.mode == "online" else None,
            reinit="create_new",
        )
        if config.mode == "offline":
            log.info("wandb is offline; upload later with: wandb sync %s", Path(self._run.dir).parent)

    def resume(self, step: int, kept: Sequence[Mapping[str, Any]]) -> None:
        """Offline each session has a folder of its own, and of those with the same id the last upload replaces all."""
        if self._is_offline:  # so that it has everything
            for line in kept:
                self.log(line["step"], {name: value for name, value in line.items() if name != "step"})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        try:
            # By names of their own: wandb's summary has the last value of what was logged under the plain ones.
            self._run.summary.update({f"final/{name}": value for name, value in summary.items()})
            if self._artifacts and not failed:
                name = re.sub(r"[^A-Za-z0-9._-]", "-", self._folder.name)  # all that wandb allows
                artifact = self._wandb.Artifact(f"{name}-model", type="model")
                artifact.add_dir(str(self._folder / "model"))
                self._run.log_artifact(artifact)
        finally:
            self._run.finish(exit_code=1 if failed else 0)


class _TensorBoard:
    """Event files in `tensorboard/` of the run's folder; `tensorboard --logdir SWEEP` shows its runs together."""

    def __init__(self, folder: Path, config: TrackerConfig, run_config: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise KorbertError("tracker=tensorboard needs a package: pip install -e '.[tensorboard]'") from error
        self._open, self._folder = SummaryWriter, str(folder / "tensorboard")
        self._writer = SummaryWriter(self._folder)
        self._writer.add_text("config", f"```\n{json.dumps(run_config, ensure_ascii=False, indent=2)}\n```")

    def resume(self, step: int, kept: Sequence[Mapping[str, Any]]) -> None:
        self._writer.close()
        self._writer = self._open(self._folder, purge_step=step + 1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, summary: Mapping[str, float], failed: bool) -> None:
        for name, value in summary.items():
            self._writer.add_scalar(f"final/{name}", value, 0)
        self._writer.close()


_MIRRORS: dict[str, Callable[[Path, TrackerConfig, Mapping[str, Any]], _Mirror]] = {
    "wandb": _Wandb,
    "tensorboard": _TensorBoard,
}
