"""What a user says about training: how long, at what rates, where computed. Known without importing torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from korbert.errors import ConfigError, check_known, check_range
from korbert.files import plain_paths

CHECKPOINT = "checkpoint.safetensors"  # what a training goes on from, in its run's folder
_HIGHEST = 100  # of rates and decay, far above what any model learns with
# Far above any run, so that what is refused are slips, which would end in an overflow or for want of memory.
_MOST_EXAMPLES = 1_000_000  # of a batch, and batches of a step
_MOST_STEPS, _MOST_EPOCHS, _MOST_TOKENS = 10**12, 10**6, 10**15
_MOST_PROCESSES = 4096  # and threads; more than a machine has cores


@dataclass
class OptimizerConfig:
    """kind: "adamw", or "muon" for the matrices of the layers with AdamW for everything else.

    learning_rate is AdamW's peak, matrix_learning_rate Muon's. `warmup` is a share of the run. Weight decay is
    decoupled and leaves biases and LayerNorm alone.
    """

    kind: str = "adamw"
    learning_rate: float = 1e-4
    matrix_learning_rate: float = 0.02
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    momentum: float = 0.95
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        check_known("train.optimizer.kind", self.kind, ("adamw", "muon"))
        for key in ("learning_rate", "matrix_learning_rate"):
            check_range(f"train.optimizer.{key}", getattr(self, key), 0, _HIGHEST, above=True)
        check_range("train.optimizer.max_gradient_norm", self.max_gradient_norm, 0, above=True)
        check_range("train.optimizer.weight_decay", self.weight_decay, 0, _HIGHEST)
        # With 0, rows of embeddings that have no gradient become 0 / 0.
        check_range("train.optimizer.epsilon", self.epsilon, 0, 1, above=True)
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"train.optimizer.warmup: wanted a share of the run, 0 to 1, got {self.warmup}")
        for key in ("beta1", "beta2", "momentum"):
            check_range(f"train.optimizer.{key}", getattr(self, key), 0, 1, below=True)


@dataclass
class TrainConfig:
    """How long, in batches of what size, and what is written when.

    Intervals are in optimizer steps; of evaluations and checkpoints 0 is: only at the end.

    Weights that are chosen for being the best so far are written with a checkpoint, whatever its interval.

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
        check_known("train.clock", self.clock, ("wall", "cpu"))
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


@dataclass
class RuntimeConfig:
    """How to compute.

    device: auto, cpu, cuda. precision: auto (bf16 on a GPU, else fp32), fp32, bf16. layout: auto (packed on a GPU, else
    padded), packed (no padding at all), padded. compile: torch.compile for the layers, worth its minute on a GPU.
    workers: processes that prepare the corpus; loader_workers: processes that make batches ahead of the device (null:
    `workers` on a GPU, none on a CPU, which they would share).
    """

    device: str = "auto"
    precision: str = "auto"
    layout: str = "auto"
    compile: bool = False
    workers: int = 2
    loader_workers: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for key, least in (("workers", 0), ("loader_workers", 0), ("threads", 1)):
            check_range(f"runtime.{key}", getattr(self, key), least, _MOST_PROCESSES)


def differences(old: Any, new: Any, key: str = "", shared: bool = False) -> list[str]:
    """Dotted keys in which two configurations differ, with both values; shared: of the keys that both have alone.

    Paths that mean the same do not differ, see `plain_paths`.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted(old.keys() & new.keys() if shared else old.keys() | new.keys()):
            found += differences(old.get(name), new.get(name), f"{key}.{name}" if key else name, shared)
        return found
    return [] if plain_paths(old) == plain_paths(new) else [f"{key} was {old!r}, is {new!r}"]
