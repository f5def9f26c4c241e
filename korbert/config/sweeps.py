"""Schemas of the doors that sweeps are made with and looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from korbert.config.base import RunConfig, check_seed
from korbert.config.parts import NO_STORE, CorpusConfig, EntitiesConfig, TokenizerConfig
from korbert.errors import ConfigError
from korbert.training.tracking import TrackerConfig


@dataclass
class PipelineConfig(RunConfig):
    """`experiments/pipeline.py`. pretraining, finetuning: overrides for those commands.

    pretraining_seed: null for `seed`, which fine-tuning has; with another one, fine-tunings over seeds share one
    pretraining. pretrained: the folder of pretrainings, one for each that is needed, whichever sweep asks for it.
    fold: of korquad-dev-5fold, for fine-tuning; null: what its overrides say. until: "pretraining" ends there, and
    torchrun's processes may do it together; null: to the score.
    """

    pretraining: list[str] = field(default_factory=list)
    finetuning: list[str] = field(default_factory=list)
    pretraining_seed: int | None = None
    pretrained: str = "runs/pretrained"
    fold: int | None = None
    until: str | None = None
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed("pretraining_seed", self.pretraining_seed)
        self.entities.refuse_store()
        if self.until not in (None, "pretraining"):
            raise ConfigError(f"until: {self.until!r} is unknown, wanted pretraining or null")


@dataclass
class RunsConfig:
    """`experiments/runs.py`. action: list, compare, export or scan. records: the store.

    where: conditions, see `korbert.study.query`. runs: to compare, by folder or the beginning of an id; for scan,
    folders to look in. columns: keys to show, empty: the usual ones. sort: by this key. output: file to export to,
    .csv or .parquet.
    """

    action: str = ""
    records: str = MISSING
    where: str = ""
    runs: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    sort: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if self.records in NO_STORE:
            raise ConfigError("records: wanted the file of a store; KORBERT_RECORDS says that there is none")


for _name, _schema in {"pipeline_schema": PipelineConfig, "runs_schema": RunsConfig}.items():
    ConfigStore.instance().store(name=_name, node=_schema)
