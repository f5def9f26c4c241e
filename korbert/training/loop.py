"""The one training loop, for pretraining and fine-tuning alike."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from korbert.data.batching import Batch
from korbert.data.loading import BatchLoader
from korbert.errors import DataError, KorbertError
from korbert.training.distributed import Ranks
from korbert.training.interrupt import Interrupted, StopAtOnce, StopSignal
from korbert.training.optimizer import make_optimizers, schedule
from korbert.training.progress import Progress
from korbert.training.runtime import Runtime
from korbert.training.settings import CHECKPOINT, TrainConfig
from korbert.training.state import load_checkpoint, refuse_changes, said_beside, save_checkpoint, save_tensors
from korbert.training.tracking import Tracker

log = logging.getLogger(__name__)
E = TypeVar("E")
_STARVED = 0.1  # share of the time spent waiting for data from which on it is worth a word
_STATE = {"progress", "kept", "loader", "begun", "unlogged", "config"}  # what a checkpoint has beside tensors


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
    """Trains `model` on the batches of a loader, alone or with other ranks, and can be stopped and resumed anywhere.

    Every batch draws its random numbers (dropout) from `seed`, the step, and its number in it. The first rank evaluates
    and writes. Files in `folder`: `checkpoint.safetensors` (the last state), `metrics.jsonl`, and
    `model/model.safetensors` (the weights with the best `metric`; without one, those of the last evaluation, or of the
    end).
    """

    def __init__(
        self,
        model: nn.Module,
        loader: BatchLoader[E],
        config: TrainConfig,
        runtime: Runtime,
        folder: Path,
        tracker: Tracker,
        *,
        fixed_config: Mapping[str, Any],
        seed: int,
        ranks: Ranks | None = None,
        evaluate: Callable[[], dict[str, float]] | None = None,
        metric: Metric | None = None,
    ) -> None:
        """fixed_config: whatever changes results; a checkpoint of a run with another one is refused."""
        self.model = model.to(runtime.device)
        self.loader, self.config, self.runtime = loader, config, runtime
        self.seed, self.ranks = seed, ranks or Ranks()
        loader.deal(config.accumulation, self.ranks.rank, self.ranks.size)
        self.folder, self.tracker = folder, tracker
        self.fixed_config = json.loads(json.dumps(fixed_config))
        self.evaluate, self.metric = evaluate, metric
        if evaluate is None and config.evaluate_every and self.ranks.is_first:
            log.warning("train.evaluate_every=%d: not used, nothing is held out to evaluate on", config.evaluate_every)
        if self.ranks.is_first and config.accumulation % self.ranks.size:
            log.warning(
                "train.accumulation=%d: %d processes share the batches of a step, and not all have as many; wanted a "
                "multiple of %d", config.accumulation, self.ranks.size, self.ranks.size,
            )  # fmt: skip
        self.progress = Progress(config, config.total_steps(lambda: loader.stream.batches_per_epoch))
        self.optimizers = make_optimizers(self.model, config.optimizer)
        self.unlogged: dict[str, Any] = {}  # sums over the "steps" since the last line of metrics
        self.kept: dict[str, float] = {}  # evaluation of the weights that are kept, and "kept_step", whose they are
        self._begun: dict[str, Any] | None = None  # the step that was stopped between its batches, when resumed
        self._is_evaluation_due = False  # of a step whose evaluation was stopped
        self._agreed_to_stop = False
        self._device_seconds = 0.0  # waited for the device outside of a step, not yet on the clock

    @property
    def checkpoint(self) -> Path:
        """Where the last state lies."""
        return self.folder / CHECKPOINT

    @property
    def _weights(self) -> Path:
        return self.folder / "model" / "model.safetensors"

    def run(self) -> dict[str, float]:
        """Train to the end, from the checkpoint where there is one, and return the evaluation of the kept weights."""
        if any(self.ranks.exchange(self.checkpoint.exists())):
            self._resume()
        elif self.ranks.is_first:
            self.tracker.resume(0)  # a run that was killed before its first checkpoint begins anew
        bar = tqdm(
            total=100, initial=100 * self.progress.share, unit="%", dynamic_ncols=True, mininterval=0.5,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            disable=None if sys.stderr.isatty() and self.ranks.is_first else True,
        )  # fmt: skip
        with bar, self.loader.closing(), StopSignal() as stop:
            self.model.train()
            if self._is_evaluation_due:
                self._write_due(stop)
            while not self.progress.finished:
                self._train_step(stop)
                if self.ranks.is_first:
                    self._after_step(bar, stop)
                if self._stops(stop) and not self.progress.finished:
                    raise self._interrupted()
        if self.evaluate is None and self.ranks.is_first:
            self._keep_weights()
        return dict(self.kept)

    def _after_step(self, bar: Any, stop: StopSignal) -> None:
        """Write what is due: metrics, an evaluation, the checkpoint."""
        step, last = self.progress.step, self.progress.finished
        if last or step % self.config.log_every == 0:
            self._log(bar)
        bar.update(100 * self.progress.share - bar.n)
        self._is_evaluation_due = bool(self.evaluate) and (last or _due(step, self.config.evaluate_every))
        self._write_due(stop)

    def _write_due(self, stop: StopSignal) -> None:
        """Write the evaluation, if one is due, and the checkpoint; one that is stopped is done when the run goes on."""
        if self._is_evaluation_due and self.ranks.size > 1:  # which is not stopped, and may be killed before its end
            self._save()
        has_kept = self._is_evaluation_due and self._evaluate(stop)
        # What was chosen as the best is known together with its weights: the next evaluation could be another one.
        has_chosen = has_kept and self.metric is not None
        finished, step = self.progress.finished, self.progress.step
        if finished or self._stops(stop) or has_chosen or _due(step, self.config.checkpoint_every):
            self._save()
        if self._is_evaluation_due:
            raise self._interrupted()

    def _stops(self, stop: StopSignal) -> bool:
        """Whether to stop behind this step; several ranks stop together, behind the step after the request."""
        return stop.requested if self.ranks.size == 1 else self._agreed_to_stop

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"stopped at step {self.progress.describe()} of {self.folder}")

    def _train_step(self, stop: StopSignal) -> None:
        """One optimizer step over `accumulation` batches, equal to that of one large batch.

        A stop is honoured between two of them, of a rank that is alone; the checkpoint then has the gradients so far.
        """
        started, waited = self.progress.now(), self.loader.waited
        self.loader.advance(self.progress.share)
        place = self.loader.state()
        batches = self.loader.next_step()
        totals, tokens = self._totals([batch for _, batch in batches])
        rate = schedule(self.progress.middle, self.config.optimizer.warmup)
        begun, self._begun = self._begun or {"batches": 0, "seconds": 0.0, "losses": {}}, None
        losses = {name: torch.tensor(value, dtype=torch.float64) for name, value in begun["losses"].items()}
        for number, batch in batches:
            if number < begun["batches"]:
                continue
            if stop.requested and number > 0 and self.ranks.size == 1:
                seconds = begun["seconds"] + self.progress.now() - started
                so_far = {name: float(value) for name, value in losses.items()}
                self._save({"batches": number, "seconds": seconds, "losses": so_far, "loader": place})
                raise self._interrupted()
            torch.manual_seed(_batch_seed(self.seed, self.progress.step, number))
            for name, value in self._backward(batch, totals).items():
                losses[name] = value + losses[name].to(value.device) if name in losses else value
        losses = self.ranks.sum_gradients(self.model, losses, sorted(totals))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.max_gradient_norm)
        self._add({"loss": sum(losses.values()), **{f"{k}_loss": v for k, v in losses.items()}, "gradient_norm": norm})
        if self.runtime.device.type == "cpu":
            self._check()  # elsewhere only before something is written: looking at a number makes the device wait
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds = begun["seconds"] + self.progress.now() - started
        self._add({"tokens": tokens, "seconds": seconds, "waiting": self.loader.waited - waited, "steps": 1})
        # All ranks go by the clock of the first, or they would not end at the same step; one that stops stops all.
        clock = self.progress.seconds + seconds + self._device_seconds
        clocks, stops = zip(*self.ranks.exchange((clock, stop.requested)), strict=True)
        self._agreed_to_stop = any(stops)
        self.progress.step += 1
        self.progress.tokens += tokens
        self.progress.seconds, self._device_seconds = clocks[0], 0.0

    def _totals(self, batches: Sequence[Batch]) -> tuple[dict[str, int], int]:
        """Targets of each loss, and tokens, in the batches that all ranks have of a step."""
        counts = [*(batch.target_counts() for batch in batches), {"": sum(batch.tokens for batch in batches)}]
        totals: dict[str, int] = {}
        for count in itertools.chain.from_iterable(self.ranks.exchange(counts)):
            for name, value in count.items():
                totals[name] = totals.get(name, 0) + value
        tokens = totals.pop("")
        return totals, tokens

    def _backward(self, batch: Batch, totals: Mapping[str, int]) -> dict[str, Tensor]:
        """Add the gradients of one batch; its part of each loss."""
        with self.runtime.autocast():
            sums = self.model(batch.to(self.runtime.device))
        parts = {name: value / max(1, totals[name]) for name, value in sums.items()}
        torch.stack(list(parts.values())).sum().backward()
        return {name: value.detach().double() for name, value in parts.items()}

    def _add(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.unlogged[name] = self.unlogged.get(name, 0.0) + value

    def _check(self) -> None:
        """Raise KorbertError where a loss or gradient since the last line of metrics is not a finite number.

        A device that works on its own is waited for here: that time is the run's, too. It comes onto the clock with the
        next step, so that all ranks go on to have the same one, or at once where there is none.
        """
        started = self.progress.now()
        loss, norm = float(self.unlogged.get("loss", 0.0)), float(self.unlogged.get("gradient_norm", 0.0))
        if not math.isfinite(loss) or not math.isfinite(norm):
            # On a CPU the step is still to be made; another device is behind by up to what a line of metrics covers.
            step = self.progress.step
            place = f"step {step + 1}" if self.runtime.device.type == "cpu" else f"in the steps up to {step}"
            raise KorbertError(
                f"{place}: the loss or its gradient is not a finite number (loss {loss}, "
                f"gradient norm {norm}); a lower train.optimizer.learning_rate usually helps. The last checkpoint is "
                "kept"
            )
        if self.runtime.device.type != "cpu":
            waited = self.progress.now() - started
            self._add({"seconds": waited})
            if self.progress.finished:
                self.progress.seconds += waited
            else:
                self._device_seconds += waited

    def _check_weights(self) -> None:
        """Raise KorbertError where a weight is not finite; the loss, which comes before the step, may have been."""
        for name, weights in self.model.state_dict().items():
            if weights.is_floating_point() and not bool(torch.isfinite(weights).all()):
                raise KorbertError(
                    f"step {self.progress.step}: {name} is not all finite numbers any more; a lower "
                    "train.optimizer.learning_rate usually helps. What was written before is kept"
                )

    def _log(self, bar: Any) -> None:
        """Write the means since the last line, the speed, and the totals so far."""
        self._check()
        sums, self.unlogged = {name: float(value) for name, value in self.unlogged.items()}, {}
        steps, tokens, seconds, waiting = (sums.pop(key) for key in ("steps", "tokens", "seconds", "waiting"))
        metrics = {name: value / steps for name, value in sums.items()}
        metrics["learning_rate"] = self.optimizers[-1].param_groups[0]["lr"]
        metrics |= {"tokens_per_second": tokens / seconds, "waiting": waiting / seconds}
        done = self.progress
        elapsed = done.seconds + self._device_seconds
        totals = {"tokens": done.tokens, "seconds": round(elapsed, 3), "epoch": self.loader.epoch}
        self.tracker.log(done.step, {**metrics, **totals})
        speed = done.tokens / elapsed
        bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {speed:,.0f} tokens/s")
        if metrics["waiting"] > _STARVED:
            log.warning(
                "step %s  %.0f %% of the time went into waiting for data; more runtime.loader_workers may help",
                done.describe(), 100 * metrics["waiting"],
            )  # fmt: skip
        if bar.disable:
            log.info(
                "step %s  loss %.3f  %s tokens/s  %s left", done.describe(), metrics["loss"], f"{speed:,.0f}",
                datetime.timedelta(seconds=round(done.seconds_left)),
            )  # fmt: skip

    def _evaluate(self, stop: StopSignal) -> bool:
        """Score the model; whether its weights are kept now. One that is stopped stays due."""
        assert self.evaluate is not None
        self._check()
        self._check_weights()
        self.model.eval()
        try:
            # The other ranks would wait for ever.
            with torch.inference_mode(), stop.at_once() if self.ranks.size == 1 else contextlib.nullcontext():
                metrics = self.evaluate()
        except StopAtOnce:
            return False
        finally:
            self.model.train()
        self._is_evaluation_due = False
        done = self.progress
        self.tracker.log(
            done.step,
            {f"validation/{k}": v for k, v in metrics.items()}
            | {"tokens": done.tokens, "seconds": round(done.seconds, 3)},
        )
        log.info("step %d  validation %s", done.step, "  ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        if self.metric is not None and not self.metric.better(metrics, self.kept):
            return False
        self.kept = {**metrics, "kept_step": done.step}
        self._keep_weights()
        return True

    def _keep_weights(self) -> None:
        self._check_weights()
        save_tensors(self._weights, self.model.state_dict(), {"step": self.progress.step})

    def _forget_other_weights(self) -> None:
        """Choose anew where the weights are not those that the checkpoint has the score of.

        The run was killed between writing the one and the other, or they were copied at two times.
        """
        found, wanted = said_beside(self._weights).get("step"), self.kept.get("kept_step")
        if found != wanted:
            log.warning("%s is of step %s, the best that the checkpoint has of step %s: the best is chosen anew",
                        self._weights, found, wanted)  # fmt: skip
            self.kept = {}
            self._is_evaluation_due = self._is_evaluation_due or self.progress.finished

    def _save(self, begun: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint; `begun` describes a step of which some batches are done, whose gradients go with it."""
        self._check()
        self._check_weights()
        state = {
            "progress": self.progress.state(), "device_seconds": self._device_seconds, "kept": self.kept,
            "loader": self.loader.state(), "begun": begun,
            "evaluation_due": self._is_evaluation_due,
            "unlogged": {name: float(value) for name, value in self.unlogged.items()}, "config": self.fixed_config,
        }  # fmt: skip
        if begun is not None:
            state["loader"] = begun["loader"]
        save_checkpoint(self.checkpoint, self.model, self.optimizers, state, with_gradients=begun is not None)

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint, self.model, self.optimizers)
        if missing := _STATE - state.keys():
            raise DataError(self.checkpoint, "state", f"damaged: {', '.join(sorted(missing))} are missing")
        refuse_changes(self.checkpoint, state["config"], self.fixed_config)
        self.progress.restore(state["progress"])
        self.kept, self.unlogged, self._begun = state["kept"], state["unlogged"], state["begun"]
        self._is_evaluation_due = state.get("evaluation_due", False) and self.ranks.is_first
        self._device_seconds = state.get("device_seconds", 0.0)
        self.loader.restore(state["loader"])
        if not self.ranks.is_first:  # what was summed up so far is summed up once
            self.unlogged = {}
            self._begun = self._begun and {**self._begun, "losses": {}}
            for parameter in self.model.parameters():
                parameter.grad = None
            return
        if self.metric is not None and self.kept:
            self._forget_other_weights()
        self.tracker.resume(self.progress.step)
        log.info("resumed at step %s from %s", self.progress.describe(), self.checkpoint)


def _batch_seed(seed: int, step: int, number: int) -> int:
    """What the random numbers of a batch begin with, the same wherever and after whatever interruption it is made."""
    return int(np.random.SeedSequence([seed, step, number]).generate_state(1, np.uint64)[0]) >> 1  # as torch takes them


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
