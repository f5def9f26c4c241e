"""Typed schemas under the Hydra YAML in `conf/`: a typo in a key or a value of the wrong type fails at once."""

from korbert.config.base import BaseConfig, RunConfig
from korbert.config.commandline import start
from korbert.config.comparisons import AnnotatorsConfig, BenchmarkCase, BenchmarkConfig, CompareConfig, DownstreamConfig
from korbert.config.composition import compose_config, run_door, typed
from korbert.config.corpora import BuildCorpusConfig
from korbert.config.demo import DemoConfig, DemoLimits
from korbert.config.doors import (
    AnnotateConfig,
    BaselineConfig,
    ComparePredictionsConfig,
    DamageConfig,
    ErrorsConfig,
    EvaluateConfig,
    ExportConfig,
    GpuStudyConfig,
    PredictConfig,
    PrepareDataConfig,
    PublishConfig,
    QuickstartConfig,
    ReproduceConfig,
    TrainTokenizerConfig,
    WikiConfig,
)
from korbert.config.identity import decisive, is_free
from korbert.config.overrides import as_override, as_overrides, key_of
from korbert.config.parts import (
    CorpusConfig,
    DataConfig,
    EntitiesConfig,
    ModelSize,
    NormalizerConfig,
    TokenizerConfig,
    check_given,
    expand_root,
    expand_roots,
    path_in_settings,
)
from korbert.config.places import refuse_place_of_init
from korbert.config.plans import PlanConfig
from korbert.config.reports import REPORT_SECTIONS, ReportConfig
from korbert.config.sweeps import PipelineConfig, RunsConfig
from korbert.config.tasks import CurriculumStage, KorquadTask, PretrainingTask, TaggingCorpus, TaggingTask
from korbert.config.trainings import FinetuneConfig, FromPretrained, PretrainConfig, TaggerConfig

__all__ = [
    "REPORT_SECTIONS",
    "AnnotateConfig",
    "AnnotatorsConfig",
    "BaseConfig",
    "BaselineConfig",
    "BenchmarkCase",
    "BenchmarkConfig",
    "BuildCorpusConfig",
    "CompareConfig",
    "ComparePredictionsConfig",
    "CorpusConfig",
    "CurriculumStage",
    "DamageConfig",
    "DataConfig",
    "DemoConfig",
    "DemoLimits",
    "DownstreamConfig",
    "EntitiesConfig",
    "ErrorsConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FinetuneConfig",
    "FromPretrained",
    "GpuStudyConfig",
    "KorquadTask",
    "ModelSize",
    "NormalizerConfig",
    "PipelineConfig",
    "PlanConfig",
    "PredictConfig",
    "PrepareDataConfig",
    "PretrainConfig",
    "PretrainingTask",
    "PublishConfig",
    "QuickstartConfig",
    "ReportConfig",
    "ReproduceConfig",
    "RunConfig",
    "RunsConfig",
    "TaggerConfig",
    "TaggingCorpus",
    "TaggingTask",
    "TokenizerConfig",
    "TrainTokenizerConfig",
    "WikiConfig",
    "as_override",
    "as_overrides",
    "check_given",
    "compose_config",
    "decisive",
    "expand_root",
    "expand_roots",
    "is_free",
    "key_of",
    "path_in_settings",
    "refuse_place_of_init",
    "run_door",
    "start",
    "typed",
]
