"""How long a run is, how far it has come, and what rate that means."""

from __future__ import annotations

import time

import torch

from korbert.training.settings import TrainConfig


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
