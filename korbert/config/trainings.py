"""Schemas of the doors that train a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from korbert.config.base import BaseConfig
from korbert.config.parts import CorpusConfig, EntitiesConfig, ModelSize, TokenizerConfig, check_given
from korbert.config.tasks import KorquadTask, PretrainingTask, TaggingTask
from korbert.errors import check_range


@dataclass
class PretrainConfig(BaseConfig):
    """`experiments/pretrain.py`. init: a pretraining run whose weights are the first ones; null: random weights."""

    init: str | None = None
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelSize = field(default_factory=ModelSize)
    task: PretrainingTask = field(default_factory=PretrainingTask)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given("init", self.init, "the folder of a pretraining run, or null")
        self.entities.refuse_store()


@dataclass
class FromPretrained(BaseConfig):
    """What begins with a pretrained model. init: its run, or "hf:" and what Hugging Face calls it, see
    `korbert.tasks.importing`; null starts from random weights of `model`.

    dropout: of hidden states; null leaves it as it was in pretraining.
    """

    init: str | None = None
    dropout: float | None = None
    tokenizer_path: str | None = None
    model: ModelSize | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given("init", self.init, "the folder of a pretraining run, hf:NAME, or null")
        check_given("tokenizer_path", self.tokenizer_path, "the folder of a tokenizer, or null")
        check_range("dropout", self.dropout, 0, 1, below=True)


@dataclass
class FinetuneConfig(FromPretrained):
    """`experiments/finetune_korquad.py`."""

    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    task: KorquadTask = field(default_factory=KorquadTask)


@dataclass
class TaggerConfig(FromPretrained):
    """`experiments/train_tagger.py`."""

    task: TaggingTask = field(default_factory=TaggingTask)
