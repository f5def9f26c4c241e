"""How long a run is, how far it has come, and what rate that means."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from korbert.errors import ConfigError, check_range
from korbert.training.optimizer import OptimizerConfig

# Far above any run, so that what is refused are slips, which would end in an overflow or for want of memory.
_MOST_EXAMPLES = 1_000_000  # of a batch, and batches of a step
_MOST_STEPS, _MOST_EPOCHS, _MOST_TOKENS = 10**12, 10**6, 10**15


@dataclass
class TrainConfig:
    """How long, in batches of what size, and what is written when; intervals in optimizer steps, 0 = only at the end.

    Give one of steps, epochs, tokens (a number of them, padding not counted) or budget (training time: 90s, 20m, 1.5h;
    evaluation is not counted). The schedule ends where the run ends. clock: what a budget counts, "wall", or "cpu":
    the process's CPU time divided by its threads, which does not run while other programs have the processor.
    An optimizer step takes `accumulation` batches of `batch_size` examples.
    """

    steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    budget: str | None = None
    clock: str = "wall"
    batch_size: int = 32
    accumulation: int = 1
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    log_every: int = 20
    evaluate_every: int = 0
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        given = [key for key in LENGTHS if getattr(self, key) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"train: give one of {', '.join(f'train.{key}' for key in LENGTHS)} (the others null), "
                f"got {', '.join(given) or 'none'}"
            )
        for key in ("batch_size", "accumulation"):
            check_range(f"train.{key}", getattr(self, key), 1, _MOST_EXAMPLES)
        for key, least in (("log_every", 1), ("evaluate_every", 0), ("checkpoint_every", 0)):
            check_range(f"train.{key}", getattr(self, key), least, _MOST_STEPS)
        for key, most in (("steps", _MOST_STEPS), ("epochs", _MOST_EPOCHS), ("tokens", _MOST_TOKENS)):
            check_range(f"train.{key}", getattr(self, key), 0, most, above=True)
        if self.clock not in ("wall", "cpu"):
            raise ConfigError(f"train.clock: {self.clock!r} is unknown, wanted wall or cpu")
        _ = self.budget_seconds  # one that cannot be read is refused here

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds. Raises ConfigError where it is not a number with s, m or h behind it."""
        if self.budget is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", self.budget.strip())
        seconds = 0.0 if match is None else float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
        if not 0 < seconds < math.inf:
            raise ConfigError(f"train.budget: wanted a time such as 90s, 20m or 1.5h, got {self.budget!r}")
        return seconds

    def total_steps(self, batches_per_epoch: Callable[[], int]) -> int | None:
        """Optimizer steps of the whole run, where they are known beforehand."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * batches_per_epoch() / self.accumulation))
        return self.steps


LENGTHS = ("steps", "epochs", "tokens", "budget")


class Progress:
    """Counts what was done of what a run is long; steps is the number of them where `train.epochs` asks for it."""

    def __init__(self, config: TrainConfig, steps: int | None) -> None:
        self.config, self.goal_steps = config, steps
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0

    def now(self) -> float:
        """Seconds on the clock that a budget counts."""
        if self.config.clock == "cpu":
            return time.process_time() / torch.get_num_threads()
        return time.perf_counter()

    def _amounts(self) -> tuple[float, float]:
        """What was done, and what is to be done in all."""
        if self.goal_steps is not None:
            return self.step, self.goal_steps
        if self.config.tokens is not None:
            return self.tokens, self.config.tokens
        assert self.config.budget_seconds is not None
        return self.seconds, self.config.budget_seconds

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 to 1."""
        done, goal = self._amounts()
        return min(1.0, done / goal)

    @property
    def mean_step(self) -> float:
        """Share of the run that a step has taken so far; 0 before the first one of a run whose steps are not known."""
        if self.goal_steps is not None:
            return 1 / self.goal_steps
        return self.share / self.step if self.step else 0.0

    @property
    def finished(self) -> bool:
        """Whether another step would end farther from the goal than this place is."""
        return self.share + self.mean_step / 2 >= 1

    @property
    def middle(self) -> float:
        """Share of the run at the middle of the coming step, which decides its rate."""
        return min(1.0, self.share + self.mean_step / 2)

    @property
    def seconds_left(self) -> float:
        """Estimate for the rest of the run."""
        return self.seconds / self.share * (1 - self.share) if self.share else 0.0

    def describe(self) -> str:
        """The place in words: steps of how many, or steps and the percentage that is done."""
        return f"{self.step}/{self.goal_steps}" if self.goal_steps else f"{self.step} ({self.share:.1%})"

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from `state`."""
        self.step, self.tokens, self.seconds = int(state["step"]), int(state["tokens"]), float(state["seconds"])
