"""What the schemas of all runs, and of all trainings, have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from korbert.config.parts import DataConfig
from korbert.errors import check_range
from korbert.training.settings import RuntimeConfig, TrainConfig
from korbert.training.tracking import TrackerConfig

_SEEDS = 2**32  # as many as numpy's and Python's generators all take


def check_seed(key: str, seed: int | None) -> None:
    """Raise ConfigError naming `key` for a number that is no seed."""
    check_range(key, seed, 0, _SEEDS, below=True)


@dataclass
class RunConfig:
    """What every run that leaves a record has. run_dir: its folder."""

    run_dir: str = MISSING
    seed: int = 42
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)


@dataclass
class BaseConfig(RunConfig):
    """What every training run has; the same folder again goes on with the run."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1))
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
