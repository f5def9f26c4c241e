"""One schema for each door of `experiments/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from korbert.config.demo import DemoConfig
from korbert.config.parts import CorpusConfig, DataConfig, EntitiesConfig, ModelSize, TokenizerConfig, check_given
from korbert.config.reports import ReportConfig
from korbert.config.tasks import KorquadTask, PretrainingTask, TaggingTask
from korbert.data.decoding import DecodingConfig
from korbert.errors import ConfigError, check_range
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


@dataclass
class ExportConfig:
    """`experiments/export_model.py`. run: a run's folder; folder: what is written, for transformers."""

    run: str = MISSING
    folder: str = MISSING


@dataclass
class ReproduceConfig:
    """`experiments/reproduce.py`. run_dir: the folder of all runs; the same again goes on.

    recipes: names of conf/experiment, each with an entry in published, empty where no score is known. overrides: for
    every run.
    """

    run_dir: str = MISSING
    recipes: list[str] = MISSING
    seeds: list[int] = MISSING
    published: dict[str, dict[str, float]] = MISSING
    overrides: list[str] = field(default_factory=list)
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed("seeds", seed)


@dataclass
class BaselineConfig(RunConfig):
    """`experiments/lexical_baseline.py`. Of the task, only `test` and `fold` are used."""

    analyser: str = "mecab"
    task: KorquadTask = field(default_factory=KorquadTask)


@dataclass
class TrainTokenizerConfig:
    """`experiments/train_tokenizer.py`. output: the folder to write; null keeps it in the cache only."""

    output: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)


@dataclass
class PrepareDataConfig:
    """`experiments/prepare_data.py`. data.root: check the files there; without it KorQuAD goes to `folder`."""

    folder: str = "data"
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class EvaluateConfig:
    """`experiments/evaluate_korquad.py`. fold: score that fold of korquad-dev-5fold of the data set alone."""

    dataset: str = MISSING
    predictions: str = MISSING
    fold: int | None = None


@dataclass
class ComparePredictionsConfig:
    """`experiments/compare_predictions.py`. a, b: prediction files; fold: of korquad-dev-5fold, on which both are."""

    a: str = MISSING
    b: str = MISSING
    dataset: str = MISSING
    fold: int | None = None


@dataclass
class DamageConfig:
    """Entities worse than the model has learned with: shares that are left out, and moved to where no entity is.

    What came of it is in the record: `DamageCounts`.
    """

    dropped: float = 0.0
    moved: float = 0.0


@dataclass
class PredictConfig(RunConfig):
    """`experiments/predict_korquad.py`. run: a fine-tuning. Of the task, only `test` and `fold` are used; test=own:
    those that the run was scored on.

    decoding: values of `korbert.data.decoding.DecodingConfig` that are other than in fine-tuning. damage: see
    `DamageConfig`. store: annotations made beforehand, for machines without the analyser.
    """

    run: str = MISSING
    decoding: dict[str, Any] = field(default_factory=dict)
    damage: DamageConfig = field(default_factory=DamageConfig)
    store: str | None = None
    batch_size: int = 32
    task: KorquadTask = field(default_factory=KorquadTask)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given("run", self.run, "the folder of a fine-tuning")
        check_range("batch_size", self.batch_size, 1, 1_000_000)
        DecodingConfig().changed(self.decoding)


@dataclass
class ErrorsConfig:
    """`experiments/report_errors.py`. run: a fine-tuning's folder; or predictions and dataset (and fold) by themselves.

    annotator: says which answers are entities, and of what type. folder: where the report goes, null: beside the
    predictions. root: stands for `{root}` in the run's file names.
    """

    run: str | None = None
    predictions: str | None = None
    dataset: str | None = None
    fold: int | None = None
    annotator: str = "expressions-mecab+mecab"
    folder: str | None = None
    root: str | None = None


@dataclass
class QuickstartConfig:
    """`experiments/quickstart.py`."""

    folder: str = "runs/quickstart"


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
    """What is measured on the questions of `file`, each in every round.

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
    """`experiments/benchmark.py`. Medians of the rounds count.

    suite: pretraining (each round makes `steps` steps of every contender, in every case), tokenizers (each of
    `tokenizers`, NAME@SIZE, encodes a part of the paragraphs in each round), or korquad (see `KorquadBenchmark`).
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
        for key in ("vocab_sizes", "lengths", "processes"):
            for number in getattr(self, key):
                check_range(key, number, 1)
        check_range("words", self.words, 1)
        check_range("hidden_size", self.hidden_size, 1)
        check_range("speed_seconds", self.speed_seconds, 0, above=True)


@dataclass
class AnnotateConfig(RunConfig):
    """`experiments/annotate_corpus.py`. annotator: see `korbert.entities.make_annotator`.

    output: whether the entities are written to a file in the run's folder, beside the cache.
    """

    annotator: str = MISSING
    output: bool = False
    corpus: CorpusConfig = field(default_factory=CorpusConfig)


@dataclass
class WikiConfig(RunConfig):
    """`experiments/extract_wiki.py`. dump: a MediaWiki XML file, as it is or with .bz2, .gz or .xz behind it."""

    dump: str = MISSING
    articles_per_file: int = 5000


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


@dataclass
class GpuStudyConfig:
    """`experiments/gpu_study.py`. stage: prepare or run.

    folder: what `prepare` makes and `run` needs; output: where runs, records and the table go. annotator: whose
    entities. arms: kinds of entity input; pretraining, finetuning, benchmark: overrides for those commands. Another
    job is begun only if it should end within `minutes`.
    """

    stage: str = MISSING
    folder: str = MISSING
    output: str = MISSING
    minutes: float = 9.0
    annotator: str = "mecab"
    arms: list[str] = MISSING
    seeds: list[int] = MISSING
    folds: list[int] = MISSING
    test_file: str = MISSING
    train_files: list[str] = MISSING
    pretraining: list[str] = MISSING
    finetuning: list[str] = MISSING
    benchmark: list[str] = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check_range("minutes", self.minutes, 0)
        for seed in self.seeds:
            check_seed("seeds", seed)


@dataclass
class PublishConfig:
    """`experiments/publish_results.py`. runs: finished runs' folders to add; page: file name below `folder`.

    root: stands for `{root}` in the names of the question files that runs answered; null: as in the run.
    """

    page: str = MISSING
    runs: list[str] = field(default_factory=list)
    folder: str = "experiments/results"
    root: str | None = None


SCHEMAS: dict[str, type] = {
    "pretrain_schema": PretrainConfig,
    "finetune_schema": FinetuneConfig,
    "train_tokenizer_schema": TrainTokenizerConfig,
    "prepare_data_schema": PrepareDataConfig,
    "evaluate_schema": EvaluateConfig,
    "compare_predictions_schema": ComparePredictionsConfig,
    "predict_schema": PredictConfig,
    "errors_schema": ErrorsConfig,
    "quickstart_schema": QuickstartConfig,
    "demo_schema": DemoConfig,
    "tagger_schema": TaggerConfig,
    "reproduce_schema": ReproduceConfig,
    "export_schema": ExportConfig,
    "baseline_schema": BaselineConfig,
    "benchmark_schema": BenchmarkConfig,
    "compare_schema": CompareConfig,
    "wiki_schema": WikiConfig,
    "annotate_schema": AnnotateConfig,
    "annotators_schema": AnnotatorsConfig,
    "gpu_study_schema": GpuStudyConfig,
    "publish_schema": PublishConfig,
    "report_schema": ReportConfig,
}
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=_name, node=_schema)
