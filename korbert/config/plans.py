"""Schema of the door that plans a pretraining."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore

from korbert.config.doors import SCHEMAS
from korbert.config.trainings import PretrainConfig
from korbert.errors import ConfigError, check_range

_MOST_DEVICES = 1_000_000


@dataclass
class PlanConfig(PretrainConfig):
    """`experiments/plan_run.py`: a pretraining, and what it is planned from.

    measured: folders of finished pretrainings, of which the most similar one counts. devices: how many of the measured
    kind; scaling: what each beyond the first adds, as a share of one. characters, tokens_per_character: of the corpus,
    where there are no shards to count in yet. bf16: whether activations take two bytes a number. against: a finished
    run of the planned kind, whose own figures are shown beside the plan's; it takes no part in planning.

    For a device that nobody has measured, both of these, and the plan says that its speed is assumed: peak_teraflops of
    its maker, in the precision of the run; peak_share: of them that a training step is taken to reach.
    """

    measured: list[str] = field(default_factory=list)
    peak_teraflops: float | None = None
    peak_share: float | None = None
    devices: int = 1
    scaling: float = 0.9
    characters: float | None = None
    tokens_per_character: float | None = None
    shard_tokens: int = 1 << 24
    bf16: bool = False
    against: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("devices", self.devices, 1, _MOST_DEVICES)
        check_range("scaling", self.scaling, 0, 1)
        check_range("shard_tokens", self.shard_tokens, 1)
        for key in ("characters", "tokens_per_character"):
            check_range(key, getattr(self, key), 0, above=True)
        if (self.peak_teraflops is None) != (self.peak_share is None):
            raise ConfigError(
                "peak_teraflops, peak_share: wanted both or neither: the peak of a device, and the share of it that is "
                f"assumed to be reached, got {self.peak_teraflops} and {self.peak_share}"
            )
        check_range("peak_teraflops", self.peak_teraflops, 0, above=True)
        if self.peak_share is not None and not 0 < self.peak_share <= 1:
            raise ConfigError(f"peak_share: wanted a share above 0, at most 1, got {self.peak_share}")


SCHEMAS["plan_schema"] = PlanConfig
ConfigStore.instance().store(name="plan_schema", node=PlanConfig)
