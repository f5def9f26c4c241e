"""Schemas of the doors that hold tokenizers, annotators or programs against each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from korbert.config.base import RunConfig, check_seed
from korbert.config.parts import CorpusConfig, TokenizerConfig
from korbert.errors import ConfigError, check_range
from korbert.training.settings import LENGTHS


@dataclass
class BenchmarkCase:
    """Sizes of the model (the feed-forward part is four times as wide) and of its batches; hidden dropout is 0.1."""

    num_layers: int = MISSING
    hidden_size: int = MISSING
    num_heads: int = MISSING
    length: int = MISSING
    batch_size: int = MISSING
    attention_dropout: float = 0.1

    @property
    def name(self) -> str:
        """Layers × width."""
        return f"{self.num_layers}×{self.hidden_size}"


@dataclass
class KorquadBenchmark:
    """What is measured on the questions of `file`.

    work: of features, postprocessing, training, inference, the last two in every case; a case's length is that of
    windows. doc_stride, max_question_length: see `korbert.data.windows.WindowConfig`. steps: batches in a round.
    """

    file: str = MISSING
    work: list[str] = field(default_factory=lambda: ["features", "postprocessing", "training", "inference"])
    doc_stride: int = 128
    max_question_length: int = 64
    steps: int = 1
    cases: list[BenchmarkCase] = MISSING


@dataclass
class BenchmarkConfig(RunConfig):
    """`experiments/benchmark.py`, in rounds in which contenders take turns.

    suite: pretraining (in every case, a sample of `paragraphs` that fills `steps` batches in each round), tokenizers
    (each of `tokenizers`, NAME@SIZE, encodes a part of the paragraphs in each round), or korquad (see
    `KorquadBenchmark`).
    """

    suite: str = "pretraining"
    rounds: int = 7
    steps: int = 3
    paragraphs: int = 20_000
    cases: list[BenchmarkCase] = MISSING
    tokenizers: list[str] = field(default_factory=list)
    korquad: KorquadBenchmark = field(default_factory=KorquadBenchmark)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("rounds", "steps", "paragraphs"):
            check_range(key, getattr(self, key), 1)


@dataclass
class DownstreamConfig:
    """A model for each tokenizer and seed: pretraining on `characters` of text, then KorQuAD fine-tuning.

    pretraining, finetuning: overrides for those commands, the same for all.
    """

    characters: int = 20_000_000
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    pretraining: list[str] = field(default_factory=list)
    finetuning: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_range("downstream.characters", self.characters, 1)
        for override in self.pretraining:
            key, _, value = override.lstrip("+").partition("=")
            if key in {f"train.{length}" for length in LENGTHS} and value != "null":
                raise ConfigError(f"downstream.pretraining: {override}: how long it is, downstream.characters says")
        for seed in self.seeds:
            check_seed("downstream.seeds", seed)


@dataclass
class CompareConfig(RunConfig):
    """`experiments/compare_tokenizers.py`.

    tokenizers: names of conf/tokenizer, each in all `vocab_sizes` or, as NAME@SIZE, in that one; or what was published,
    as a path to it. Each learns from `corpus`. measures: cost, ceiling, boundaries, names, consistency, speed, and
    downstream. korquad: the questions; ner: gold names (null: none); analyser: whose morphemes; annotator: whose
    entities the ceiling is measured at, too. words: of the most frequent eojeol, for the consistency. speed_seconds:
    for each speed. processes: numbers of them. examples: sentences to show. include: folders of other comparisons,
    or patterns such as runs/sizes/*, whose rows are shown as well.
    """

    tokenizers: list[str] = MISSING
    vocab_sizes: list[int] = MISSING
    measures: list[str] = MISSING
    korquad: str = MISSING
    ner: str | None = None
    analyser: str = "mecab"
    annotator: str = "mecab"
    words: int = 2000
    lengths: list[int] = field(default_factory=lambda: [128, 256, 384, 512])
    hidden_size: int = 768
    speed_seconds: float = 2.0
    processes: list[int] = field(default_factory=lambda: [1, 2])
    examples: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)
    downstream: DownstreamConfig = field(default_factory=DownstreamConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("measures", "processes"):
            if not getattr(self, key):
                raise ConfigError(f"{key}: wanted one or more, got []")
        if "downstream" in self.measures and not self.downstream.seeds:
            raise ConfigError("downstream.seeds: wanted one or more, got []")
        for key in ("vocab_sizes", "lengths", "processes"):
            for number in getattr(self, key):
                check_range(key, number, 1)
        check_range("words", self.words, 1)
        check_range("hidden_size", self.hidden_size, 1)
        check_range("speed_seconds", self.speed_seconds, 0, above=True)


@dataclass
class AnnotatorsConfig(RunConfig):
    """`experiments/evaluate_annotators.py`.

    annotators: see `korbert.entities.make_annotator`. corpora: name → file with gold entities, of whose documents the
    share `held_out` counts (a tagger may have learned from the others). korquad: the questions. tokenizers: NAME@SIZE,
    whose ceilings are measured when cut at each annotator's entities.
    """

    annotators: list[str] = MISSING
    corpora: dict[str, str] = MISSING
    korquad: str = MISSING
    held_out: float = 0.2
    tokenizers: list[str] = field(default_factory=list)
    speed_seconds: float = 5.0
    corpus: CorpusConfig = field(default_factory=CorpusConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("held_out", self.held_out, 0, above=True)
        check_range("speed_seconds", self.speed_seconds, 0, above=True)
