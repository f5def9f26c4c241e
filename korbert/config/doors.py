"""Schemas of the other doors of `experiments/`, and the names of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from korbert.config.base import RunConfig, check_seed
from korbert.config.comparisons import (
    AnnotatorsConfig,
    BenchmarkConfig,
    CompareConfig,
)
from korbert.config.demo import DemoConfig
from korbert.config.parts import CorpusConfig, DataConfig, TokenizerConfig, check_given
from korbert.config.reports import ReportConfig
from korbert.config.tasks import KorquadTask
from korbert.config.trainings import FinetuneConfig, PretrainConfig, TaggerConfig
from korbert.data.decoding import DecodingConfig
from korbert.errors import ConfigError, check_range
from korbert.training.settings import RuntimeConfig


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
    predictions. data.root: stands for `{root}` in the run's file names.
    """

    run: str | None = None
    predictions: str | None = None
    dataset: str | None = None
    fold: int | None = None
    annotator: str = "expressions-mecab+mecab"
    folder: str | None = None
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class QuickstartConfig:
    """`experiments/quickstart.py`."""

    folder: str = "runs/quickstart"


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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("articles_per_file", self.articles_per_file, 1)


@dataclass
class GpuStudyConfig:
    """`experiments/gpu_study.py`. stage: prepare or run.

    folder: what `prepare` makes and `run` needs; output: where runs, records and the table go. prepared_arms, arms:
    files of conf/arm that `prepare` packs the annotations of, and that are run. pretraining, finetuning, benchmark:
    overrides for those commands. side_by_side: processes at a time, which are told to stop, and can go on, after
    `minutes`. unit: the one thing that this process is to do.
    """

    stage: str = MISSING
    folder: str = MISSING
    output: str = MISSING
    minutes: float = 9.0
    side_by_side: int = 12
    unit: str | None = None
    prepared_arms: list[str] = MISSING
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
        check_range("side_by_side", self.side_by_side, 1)
        for key in ("prepared_arms", "arms", "seeds", "folds"):
            if not getattr(self, key):
                raise ConfigError(f"{key}: wanted one or more")
        for seed in self.seeds:
            check_seed("seeds", seed)


@dataclass
class PublishConfig:
    """`experiments/publish_results.py`. runs: finished runs' folders to add; page: file name below `folder`.

    replace: also runs of the page that have the same name and other settings.
    data.root: stands for `{root}` in the names of the question files that runs answered; null: as in the run.
    """

    page: str = MISSING
    runs: list[str] = field(default_factory=list)
    folder: str = "experiments/results"
    replace: bool = False
    data: DataConfig = field(default_factory=DataConfig)


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
