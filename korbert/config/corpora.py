"""Schemas of the doors that build corpora."""

from __future__ import annotations

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from korbert.config.base import RunConfig
from korbert.config.doors import SCHEMAS
from korbert.config.parts import CorpusConfig, EntitiesConfig, TokenizerConfig
from korbert.data.filters import Filters
from korbert.errors import check_range


@dataclass
class BuildCorpusConfig(RunConfig):
    """`experiments/build_corpus.py`. output: the folder of the shards, the same for all parts and for going on.

    stage: all; sign, encode or merge alone; or check, which compares every file of `output` with its checksum. part: of
    `parts` jobs that share the work. wait: minutes for what other parts still have to do. units: what is flagged for
    masking: "", eojeol, or an analyser, for its morphemes as well. piece_characters: of a shard, about. annotations:
    whether what annotators find is kept in the cache, too.
    """

    output: str = MISSING
    stage: str = "all"
    part: int = 0
    parts: int = 1
    wait: float = 0.0
    units: str = ""
    piece_characters: int = 4_000_000
    annotations: bool = False
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    filters: Filters = field(default_factory=Filters)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("piece_characters", self.piece_characters, 1)
        check_range("parts", self.parts, 1)
        check_range("part", self.part, 0, self.parts, below=True)
        check_range("wait", self.wait, 0)
        self.entities.refuse_store()


SCHEMAS["build_corpus_schema"] = BuildCorpusConfig
ConfigStore.instance().store(name="build_corpus_schema", node=BuildCorpusConfig)
