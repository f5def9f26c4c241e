"""Typed schemas under the Hydra YAML in `conf/`: a typo in a key or a value of the wrong type fails at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korbert.data.masking import MaskingConfig
from korbert.data.selection import SelectionConfig
from korbert.data.windows import DecodingConfig, WindowConfig
from korbert.encoding import EntityMode
from korbert.errors import ConfigError, KorbertError
from korbert.model.config import ModelConfig
from korbert.model.electra import ReplacedTokenModel
from korbert.training.progress import LENGTHS, TrainConfig
from korbert.training.runtime import RuntimeConfig
from korbert.training.tracking import TrackerConfig

log = logging.getLogger(__name__)


@dataclass
class DataConfig:
    """root: folder of real data, for `{root}` in file names. cache: where tokenizers and shards are kept and reused."""

    root: str | None = None
    cache: str = "data/cache"


@dataclass
class NormalizerConfig:
    """See `korbert.text.Normalizer`."""

    form: str = "NFKC"
    lowercase: bool = False


@dataclass
class TokenizerConfig:
    """path: a trained tokenizer's folder; else one is trained on the first `train_characters` of the corpus, once.

    split, tags, symbols: see `korbert.tokenizers.Pretokenizer`. model_type: unigram or bpe, byte_fallback: an unknown
    character as its bytes; both of SentencePiece. character_coverage: of the symbols that the subwords are made of.
    """

    kind: str = MISSING
    path: str | None = None
    vocab_size: int = 8000
    split: str = "none"
    tags: bool = False
    symbols: str = "text"
    model_type: str | None = None
    byte_fallback: bool = False
    character_coverage: float = 0.9995
    train_characters: int = 20_000_000
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)


@dataclass
class EntitiesConfig:
    """annotator: see `korbert.entities.make_annotator`, or "inherit" (from the pretrained model); mode: `EntityMode`.

    store: a file of annotations made beforehand, for machines without the analyser.
    """

    annotator: str = MISSING
    mode: str = MISSING
    store: str | None = None

    def entity_mode(self) -> EntityMode:
        """The mode. Raises ConfigError for an unknown one, or one that the annotator cannot serve."""
        try:
            mode = EntityMode(self.mode)
        except ValueError:
            wanted = ", ".join(m.value for m in EntityMode)
            raise ConfigError(f"entities.mode: {self.mode!r} is unknown, wanted one of {wanted}") from None
        if self.annotator == "none" and mode is not EntityMode.NONE:
            raise ConfigError(f"entities.mode={self.mode} needs an annotator, but entities.annotator is none")
        return mode


@dataclass
class CorpusConfig:
    """files: names or patterns, `{root}` stands for data.root; holdout: share of documents kept for validation.

    shards: a folder of token shards made beforehand, read instead of the files.
    """

    files: list[str] = MISSING
    shards: str | None = None
    max_documents: int | None = None
    holdout: float = 0.01


@dataclass
class ModelSize:
    """See `korbert.model.ModelConfig`; the vocabulary's size is the tokenizer's."""

    hidden_size: int = MISSING
    num_layers: int = MISSING
    num_heads: int = MISSING
    intermediate_size: int = MISSING
    max_positions: int = 512
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    norm: str = "post"
    positions: str = "learned"
    feed_forward: str = "gelu"
    span_query: bool = False
    matching_heads: int = 0

    def model_config(self, vocab_size: int) -> ModelConfig:
        """Complete the sizes. Raises ConfigError where they do not fit together."""
        try:
            return ModelConfig(vocab_size=vocab_size, **asdict(self))
        except ValueError as error:
            raise ConfigError(str(error)) from None


@dataclass
class CurriculumStage:
    """From share `start` of the run on, sequences have up to `max_length` tokens.

    selection: share of the sequences that ask, where it is another one than `task.selection.share`.
    """

    start: float = MISSING
    max_length: int = MISSING
    selection: float | None = None


@dataclass
class PretrainingTask:
    """What is predicted from what.

    max_length in tokens. nsp: sentence pairs and next sentence prediction, short_share of the pairs aiming at a random
    shorter length; without it, passages and masked LM alone. curriculum: lengths other than max_length in parts of the
    run, with as many tokens in a batch. replaced_tokens: the masked LM is a small generator, whose guesses the model
    learns to detect. Held-out documents are scored on `validation_examples` sequences of
    `validation_length` tokens, always with 15 % of the tokens masked.
    """

    max_length: int = 128
    nsp: bool = True
    replaced_tokens: bool = False
    short_share: float = 0.1
    validation_examples: int = 1000
    validation_length: int = 128
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    curriculum: list[CurriculumStage] = field(default_factory=list)

    def stages(self) -> list[CurriculumStage]:
        """The parts of the run, one without a curriculum. Raises ConfigError for starts that do not rise from 0."""
        if not self.curriculum:
            return [CurriculumStage(0.0, self.max_length, self.selection.share)]
        starts = [stage.start for stage in self.curriculum]
        if starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1:
            raise ConfigError(f"task.curriculum: wanted starts that rise from 0 to below 1, got {starts}")
        share = self.selection.share
        return [replace(s, selection=share if s.selection is None else s.selection) for s in self.curriculum]

    def objectives(self) -> tuple[str, ...]:
        """Names of the losses."""
        asks = any(stage.selection for stage in self.stages())
        chosen = {"nsp": self.nsp, "selection.share": asks, "replaced_tokens": self.replaced_tokens}
        if sum(chosen.values()) > 1:
            named = " and ".join(f"task.{key}" for key, on in chosen.items() if on)
            raise ConfigError(f"{named}: choose one of these objectives beside masked LM")
        if self.replaced_tokens:
            return ReplacedTokenModel.objectives
        return ("mlm", *(["nsp"] if self.nsp else []), *(["selection"] if asks else []))


@dataclass
class KorquadTask:
    """Files of questions, `{root}` stands for data.root.

    fold=null: train on `train`, score on `test`. fold=k: `test` is split into the five folds of korquad-dev-5fold;
    trained on four of them plus `train`, scored on fold k. validation_share of the training articles choose the best
    weights; 0 keeps the last ones.
    """

    train: list[str] = MISSING
    test: str = MISSING
    fold: int | None = None
    validation_share: float = 0.0
    window: WindowConfig = field(default_factory=WindowConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


@dataclass
class RunConfig:
    """What every run that leaves a record has. run_dir: its folder."""

    run_dir: str = MISSING
    seed: int = 42
    data: DataConfig = field(default_factory=DataConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


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


@dataclass
class FinetuneConfig(BaseConfig):
    """`experiments/finetune_korquad.py`. init: a pretraining run; null starts from random weights of `model`.

    dropout: of hidden states; null leaves it as it was in pretraining.
    """

    init: str | None = None
    dropout: float | None = None
    tokenizer_path: str | None = None
    model: ModelSize | None = None
    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    task: KorquadTask = field(default_factory=KorquadTask)


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
class BenchmarkConfig(RunConfig):
    """`experiments/benchmark.py`. Medians of the rounds count.

    suite: pretraining (each round makes `steps` steps of every contender, in every case), or tokenizers (each of
    `tokenizers`, NAME@SIZE, encodes a part of the paragraphs in each round).
    """

    suite: str = "pretraining"
    rounds: int = 7
    steps: int = 3
    paragraphs: int = 20_000
    cases: list[BenchmarkCase] = MISSING
    tokenizers: list[str] = field(default_factory=list)
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


@dataclass
class CompareConfig(RunConfig):
    """`experiments/compare_tokenizers.py`.

    tokenizers: names of conf/tokenizer, each in all `vocab_sizes` or, as NAME@SIZE, in that one; or what was published,
    as a path to it. Each learns from `corpus`. measures: cost, ceiling, boundaries, names, consistency, speed, and
    downstream. korquad: the questions; ner: gold names (null: none); analyser: whose morphemes; annotator: whose
    entities the ceiling is measured at, too. words: of the most frequent eojeol, for the consistency. speed_seconds:
    for each speed. processes: numbers of them. examples: sentences to show. include: folders of other comparisons,
    whose rows are shown as well.
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


@dataclass
class PublishConfig:
    """`experiments/publish_results.py`. runs: finished runs' folders to add; page: file name below `folder`."""

    page: str = MISSING
    runs: list[str] = field(default_factory=list)
    folder: str = "experiments/results"


SCHEMAS: dict[str, type] = {
    "pretrain_schema": PretrainConfig,
    "finetune_schema": FinetuneConfig,
    "train_tokenizer_schema": TrainTokenizerConfig,
    "prepare_data_schema": PrepareDataConfig,
    "evaluate_schema": EvaluateConfig,
    "quickstart_schema": QuickstartConfig,
    "baseline_schema": BaselineConfig,
    "benchmark_schema": BenchmarkConfig,
    "compare_schema": CompareConfig,
    "annotators_schema": AnnotatorsConfig,
    "gpu_study_schema": GpuStudyConfig,
    "publish_schema": PublishConfig,
}
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=_name, node=_schema)

C = TypeVar("C")


def run_door(task: Callable[[Any], object], config: DictConfig) -> None:
    """Run a task with its typed configuration; an error meant for the user prints its message alone, exit status 1."""
    try:
        if HydraConfig.initialized() and "run_dir" in config:
            config.run_dir = _relative(HydraConfig.get().runtime.output_dir)
            _let_named_length_win(config, HydraConfig.get().overrides.task)
        task(typed(config))
    except KorbertError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # outside the training loop, which stops at a step's end
        print("interrupted; the same command begins this part anew", file=sys.stderr)
        sys.exit(130)


def compose_config(name: str, overrides: Sequence[str]) -> Any:
    """The typed configuration of the door `name` with `overrides`, inside another door.

    Raises ConfigError for overrides that do not fit it.
    """
    try:
        config = compose(config_name=name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{name}: {error}") from error
    _let_named_length_win(config, overrides)
    return typed(config)


def _let_named_length_win(config: DictConfig, overrides: Sequence[str]) -> None:
    """`train.budget=20m` on the command line is enough: a length from the configuration files then does not count."""
    keys = {override.lstrip("+").partition("=")[0] for override in overrides}
    named = [key for key in LENGTHS if f"train.{key}" in keys and config.get("train", {}).get(key) is not None]
    for key in LENGTHS:
        if named and f"train.{key}" not in keys:
            config.train[key] = None


def _relative(folder: str) -> str:
    """A folder below the working directory by its relative name, which means the same on another machine."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its dataclasses. Raises ConfigError naming a key without a value."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"no value for: {', '.join(missing)}")
    try:
        return OmegaConf.to_object(config)
    except KorbertError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, KorbertError):
            raise error.__cause__ from None
        raise


def expand_root(pattern: str, data: DataConfig) -> str:
    """Replace `{root}` by data.root. Raises ConfigError where it is needed and not set."""
    if "{root}" not in pattern:
        return pattern
    if not data.root:
        raise ConfigError(f"{pattern} needs data.root: give data.root=FOLDER or set KORBERT_DATA (see data/README.md)")
    return pattern.replace("{root}", str(Path(data.root)))


def expand_roots(patterns: Sequence[str], data: DataConfig) -> list[str]:
    """`expand_root` for each of several patterns."""
    return [expand_root(pattern, data) for pattern in patterns]
