"""The one training loop, for pretraining and fine-tuning alike."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from korbert.data.batching import Batch, BatchStream
from korbert.errors import ConfigError, KorbertError
from korbert.training.optimizer import OptimizerConfig, learning_rate_at, make_optimizer
from korbert.training.runtime import Runtime
from korbert.training.state import load_checkpoint, save_checkpoint, save_tensors
from korbert.training.tracking import Tracker

log = logging.getLogger(__name__)
E = TypeVar("E")


@dataclass
class TrainConfig:
    """How long, in batches of what size, and what is written when; intervals in optimizer steps, 0 = only at the end.

    Give `steps` or `epochs`. An optimizer step takes `accumulation` batches of `batch_size` examples.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 32
    accumulation: int = 1
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    log_every: int = 20
    evaluate_every: int = 0
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("train: give train.steps or train.epochs, one of them (the other one null)")
        for key in ("batch_size", "accumulation", "log_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"train.{key}: wanted 1 or more, got {getattr(self, key)}")
        for key in ("steps", "epochs"):
            if getattr(self, key) is not None and not getattr(self, key) > 0:
                raise ConfigError(f"train.{key}: wanted more than 0, got {getattr(self, key)}")

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, math.ceil(self.epochs * batches_per_epoch / self.accumulation))


class Interrupted(KorbertError):
    """The run was asked to stop, and stopped at a step's end with its state saved."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Which evaluation number chooses the weights that are kept, and in which direction it is better."""

    name: str
    larger_is_better: bool

    def better(self, new: Mapping[str, float], kept: Mapping[str, float]) -> bool:
        """Whether `new` is strictly better than `kept`; anything is better than nothing."""
        if not kept:
            return True
        value, best = new[self.name], kept[self.name]
        return value > best if self.larger_is_better else value < best


class Trainer(Generic[E]):
    """Trains `model` on a stream of examples, and can be stopped and resumed at any optimizer step.

    Files in `folder`: `checkpoint.safetensors` (the last state), `metrics.jsonl`, and `model/model.safetensors` (the
    weights with the best `metric`, or the last ones where nothing is evaluated).
    """

    def __init__(
        self,
        model: nn.Module,
        stream: BatchStream[E],
        collate: Callable[[Sequence[E]], Batch],
        config: TrainConfig,
        runtime: Runtime,
        folder: Path,
        tracker: Tracker,
        *,
        fixed_config: Mapping[str, Any],
        evaluate: Callable[[], dict[str, float]] | None = None,
        metric: Metric | None = None,
    ) -> None:
        """fixed_config: whatever changes results; a checkpoint of a run with another one is refused."""
        self.model = model.to(runtime.device)
        self.stream, self.collate, self.config, self.runtime = stream, collate, config, runtime
        self.folder, self.tracker = folder, tracker
        self.fixed_config = json.loads(json.dumps(fixed_config))
        self.evaluate, self.metric = evaluate, metric
        self.steps = config.total_steps(stream.batches_per_epoch)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.unlogged: dict[str, float] = {}  # sums over the "steps" since the last line of metrics
        self.kept: dict[str, float] = {}  # evaluation of the weights that are kept, and "kept_step", whose they are

    @property
    def checkpoint(self) -> Path:
        """Where the last state lies."""
        return self.folder / "checkpoint.safetensors"

    def run(self) -> dict[str, float]:
        """Train to the end, from the checkpoint where there is one, and return the evaluation of the kept weights."""
        if self.checkpoint.exists():
            self._resume()
        else:
            self.tracker.resume(0)  # a run that was killed before its first checkpoint begins anew
        bar = tqdm(
            total=self.steps, initial=self.step, unit="step", dynamic_ncols=True, mininterval=0.5,
            disable=None if sys.stderr.isatty() else True,
        )  # fmt: skip
        with bar, _StopSignal() as stop:
            self.model.train()
            while self.step < self.steps:
                for name, value in {**self._train_step(), "steps": 1}.items():
                    self.unlogged[name] = self.unlogged.get(name, 0.0) + value
                self.step += 1
                last = self.step == self.steps
                if last or self.step % self.config.log_every == 0:
                    self._log(bar)
                bar.update()
                if self.evaluate and (last or _due(self.step, self.config.evaluate_every)):
                    self._evaluate()
                if last or stop.requested or _due(self.step, self.config.checkpoint_every):
                    self._save()
                if stop.requested and not last:
                    raise Interrupted(
                        f"stopped at step {self.step} of {self.steps}; "
                        f"the same command with run_dir={self.folder} goes on"
                    )
        if self.metric is None:
            self._keep_weights()
        return dict(self.kept)

    def _train_step(self) -> dict[str, float]:
        """One optimizer step over `accumulation` batches, equal to that of one large batch; what it measured."""
        started = time.perf_counter()
        batches = [self.collate(self.stream.next()) for _ in range(self.config.accumulation)]
        totals: dict[str, int] = {}
        for batch in batches:
            for name, count in batch.target_counts().items():
                totals[name] = totals.get(name, 0) + count
        rate = learning_rate_at(self.step, self.steps, self.config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = dict.fromkeys(totals, 0.0)
        for batch in batches:
            with self.runtime.autocast():
                sums = self.model(batch.to(self.runtime.device))
            loss = torch.stack([value / max(1, totals[name]) for name, value in sums.items()]).sum()
            loss.backward()
            for name, value in sums.items():
                losses[name] += float(value.detach()) / max(1, totals[name])
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.max_gradient_norm)
        loss_value = sum(losses.values())
        if not math.isfinite(loss_value) or not math.isfinite(float(norm)):
            raise KorbertError(
                f"step {self.step + 1}: the loss or its gradient is not a finite number (loss {loss_value}, gradient "
                f"norm {float(norm)}); a lower train.optimizer.learning_rate usually helps. The last checkpoint is kept"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        step_tokens = sum(batch.tokens for batch in batches)
        elapsed = time.perf_counter() - started
        self.tokens += step_tokens
        self.seconds += elapsed
        named = {f"{name}_loss": value for name, value in losses.items()}
        return {
            "loss": loss_value, **named, "gradient_norm": float(norm), "tokens": step_tokens, "seconds": elapsed,
        }  # fmt: skip

    def _log(self, bar: Any) -> None:
        """Write the means since the last line, the speed, and the totals so far."""
        sums, self.unlogged = self.unlogged, {}
        steps, tokens, seconds = (sums.pop(key) for key in ("steps", "tokens", "seconds"))
        metrics = {name: value / steps for name, value in sums.items()}
        metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        totals = {"tokens": self.tokens, "seconds": round(self.seconds, 3), "epoch": self.stream.epoch_number}
        self.tracker.log(self.step, {**metrics, "tokens_per_second": tokens / seconds, **totals})
        speed = self.tokens / self.seconds
        bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {speed:,.0f} tokens/s")
        if bar.disable:
            left = self.seconds / self.step * (self.steps - self.step)
            log.info(
                "step %d/%d  loss %.3f  %s tokens/s  %s left",
                self.step, self.steps, metrics["loss"], f"{speed:,.0f}", time.strftime("%H:%M:%S", time.gmtime(left)),
            )  # fmt: skip

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        self.model.eval()
        with torch.inference_mode():
            metrics = self.evaluate()
        self.model.train()
        self.tracker.log(self.step, {f"validation/{name}": value for name, value in metrics.items()})
        log.info("step %d  validation %s", self.step, "  ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        if self.metric is not None and self.metric.better(metrics, self.kept):
            self.kept = {**metrics, "kept_step": self.step}
            self._keep_weights()

    def _keep_weights(self) -> None:
        save_tensors(self.folder / "model" / "model.safetensors", self.model.state_dict(), {"step": self.step})

    def _save(self) -> None:
        state = {
            "step": self.step, "steps": self.steps, "tokens": self.tokens, "seconds": self.seconds, "kept": self.kept,
            "unlogged": self.unlogged, "stream": self.stream.state(), "config": self.fixed_config,
        }  # fmt: skip
        save_checkpoint(self.checkpoint, self.model, self.optimizer, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint, self.model, self.optimizer)
        changed = _differences(state["config"], self.fixed_config)
        if changed:
            raise ConfigError(
                f"{self.checkpoint} was made with another configuration and cannot go on with this one: "
                + "; ".join(changed)
            )
        self.step, self.tokens = state["step"], state["tokens"]
        self.seconds, self.kept, self.unlogged = state["seconds"], state["kept"], state["unlogged"]
        self.stream.restore(state["stream"])
        self.tracker.resume(self.step)
        log.info("resumed at step %d of %d from %s", self.step, self.steps, self.checkpoint)


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Dotted keys in which two configurations differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted(old.keys() | new.keys()):
            found += _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if old == new else [f"{key} was {old!r}, is {new!r}"]


class _StopSignal:
    """Turns the first SIGINT or SIGTERM into a request that the loop honours at the end of its step."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not the main thread: signals are somebody else's
                break
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()  # a second signal acts at once

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
