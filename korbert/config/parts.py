"""What several doors share: where data lies, the tokenizer, the entities, the corpus, the sizes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from omegaconf import MISSING

from korbert.encoding import EntityInput, EntityMode
from korbert.errors import ConfigError, check_range
from korbert.model.config import ModelConfig

NO_STORE = ("null", "")  # in the place of the name of a file, as an environment variable may have it


@dataclass
class DataConfig:
    """root: folder of real data, for `{root}` in file names. cache: where tokenizers and shards are kept and reused.

    records: the store that every finished run is added to, see `korbert.study.records`; null: none. KORBERT_RECORDS
    is text, so that "null", or nothing, is none, too.
    """

    root: str | None = None
    cache: str = "data/cache"
    records: str | None = None

    def __post_init__(self) -> None:
        if self.records in NO_STORE:
            self.records = None


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

    def __post_init__(self) -> None:
        check_range("tokenizer.character_coverage", self.character_coverage, 0, 1, above=True)
        check_range("tokenizer.train_characters", self.train_characters, 1)
        check_range("tokenizer.vocab_size", self.vocab_size, 1)


@dataclass
class EntitiesConfig:
    """annotator: see `korbert.entities.make_annotator`, or "inherit" (from the pretrained model); mode: `EntityMode`.

    typed, embed_markers, shared_positions, max_entities: see `EntityInput`; null: as the pretrained model has it, or
    none of it. dropout: share of the mentions that are not marked in training. store: a file of annotations made
    beforehand, for machines without the analyser.
    """

    annotator: str = MISSING
    mode: str = MISSING
    typed: bool | None = None
    embed_markers: bool | None = None
    shared_positions: bool | None = None
    max_entities: int | None = None
    dropout: float = 0.0
    store: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout <= 1.0:
            raise ConfigError(f"entities.dropout: wanted a share between 0 and 1, got {self.dropout}")

    def entity_input(self) -> EntityInput:
        """How entities enter the input. Raises ConfigError for what does not go together."""
        mode = self._entity_mode()
        if self.dropout and not mode.has_markers and not mode.has_embedding:
            raise ConfigError(f"entities.dropout={self.dropout}: mode {mode.value} marks no mention")
        flags = {key: bool(getattr(self, key)) for key in ("typed", "embed_markers", "shared_positions")}
        try:
            return EntityInput(mode, max_entities=self.max_entities, **flags)
        except ValueError as error:
            raise ConfigError(f"entities.{error}") from None

    def refuse_store(self) -> None:
        """Raise ConfigError for a store where it would not be read."""
        if self.store is not None:
            raise ConfigError(
                f"entities.store={self.store}: it is for fine-tuning; text for pretraining is annotated when its token "
                "shards are made: make them where the analyser is (experiments/build_corpus.py), and give corpus.shards"
            )

    def _entity_mode(self) -> EntityMode:
        try:
            mode = EntityMode(self.mode)
        except ValueError as error:
            raise ConfigError(f"entities.{error}") from None
        if self.annotator == "none" and mode is not EntityMode.NONE:
            raise ConfigError(f"entities.mode={self.mode} needs an annotator, but entities.annotator is none")
        return mode


@dataclass
class CorpusConfig:
    """files: names or patterns, `{root}` stands for data.root; holdout: share of documents kept for validation.

    shards: a folder of token shards made beforehand, read instead of the files. max_documents: the first ones of all
    files together, for the tokenizer too; null: all.
    """

    files: list[str] = MISSING
    shards: str | None = None
    max_documents: int | None = None
    holdout: float = 0.01

    def __post_init__(self) -> None:
        for name in self.files if isinstance(self.files, list) else []:  # MISSING is text
            check_given("corpus.files", name, "files of text")
        check_given("corpus.shards", self.shards, "a folder of token shards, or null")
        check_range("corpus.max_documents", self.max_documents, 1)
        check_range("corpus.holdout", self.holdout, 0, 1, below=True)


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

    def model_config(self, vocab_size: int, entity_types: int = 1) -> ModelConfig:
        """Complete the sizes. Raises ConfigError where they do not fit together."""
        try:
            return ModelConfig(vocab_size=vocab_size, entity_types=entity_types, **asdict(self))
        except ValueError as error:
            raise ConfigError(str(error)) from None


def check_given(key: str, path: str | None, wanted: str) -> None:
    """Raise ConfigError naming `key` for a path that is empty, which would be the working directory."""
    if path is not None and not path.strip():
        raise ConfigError(f"{key}: wanted {wanted}, got an empty name")


def expand_root(pattern: str, data: DataConfig) -> str:
    """Replace `{root}` by data.root. Raises ConfigError where it is needed and not set."""
    if "{root}" not in pattern:
        return pattern
    if not data.root:
        raise ConfigError(f"{pattern} needs data.root: give data.root=FOLDER or set KORBERT_DATA (see data/README.md)")
    return pattern.replace("{root}", str(Path(data.root)))


def path_in_settings(name: str, data: DataConfig) -> Path:
    """A file that the settings of an earlier run name; where data.root is not known, by its name alone."""
    return Path(expand_root(name, data) if data.root else name)


def expand_roots(patterns: Sequence[str], data: DataConfig) -> list[str]:
    """`expand_root` for each of several patterns."""
    return [expand_root(pattern, data) for pattern in patterns]
