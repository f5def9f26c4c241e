"""The schema of `experiments/demo.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from korbert.config.parts import CorpusConfig, DataConfig


@dataclass
class DemoLimits:
    """See `korbert.demo.Limits`."""

    text: int = 10_000
    question: int = 500
    cut: int = 1_000


@dataclass
class DemoConfig:
    """`experiments/demo.py`.

    runs: fine-tuned models, shown beside each other; pretrain: a pretraining run for masked words, null: none.
    tokenizers: others to cut with, NAME@SIZE of conf/tokenizer, which learn from `corpus`, or paths. annotator: whose
    entities are shown. examples: question files to pick from; masked_examples: texts with [MASK]. host: 127.0.0.1 is
    this machine alone; port: 0 takes any that is free. limits: in characters.
    """

    runs: list[str] = MISSING
    pretrain: str | None = None
    tokenizers: list[str] = field(default_factory=list)
    annotator: str = "mecab"
    examples: list[str] = field(default_factory=list)
    masked_examples: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "cpu"
    limits: DemoLimits = field(default_factory=DemoLimits)
    data: DataConfig = field(default_factory=DataConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
