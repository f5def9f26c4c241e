"""What a model learns, and what it is scored on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields, replace
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korbert.config.parts import check_given
from korbert.data.decoding import DecodingConfig
from korbert.data.masking import MaskingConfig
from korbert.data.selection import SelectionConfig
from korbert.data.tagging import TagsConfig
from korbert.data.windows import WindowConfig
from korbert.errors import ConfigError, check_all_known, check_range

_MOST_LETTERS = 512  # longer than any token, and scores for so many still fit into memory


@dataclass
class CurriculumStage:
    """From share `start` of the run on, sequences have up to `max_length` tokens.

    selection: share of the sequences that ask, where it is another one than `task.selection.share`.
    """

    start: float = MISSING
    max_length: int = MISSING
    selection: float | None = None

    def __post_init__(self) -> None:
        check_range("task.curriculum: selection", self.selection, 0, 1)


@dataclass
class PretrainingTask:
    """What is predicted from what.

    max_length in tokens, with all of the markers that the corpus's shards hold: where `entities` shows fewer, in modes
    split and embedding or with max_entities, sequences have the same text and are shorter.

    nsp: sentence pairs and next sentence prediction, short_share of the pairs aiming at a random
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

    def __post_init__(self) -> None:
        check_range("task.short_share", self.short_share, 0, 1)
        check_range("task.validation_examples", self.validation_examples, 1)

    def stages(self) -> list[CurriculumStage]:
        """The parts of the run, one without a curriculum. Raises ConfigError for starts that do not rise from 0."""
        if not self.curriculum:
            return [CurriculumStage(0.0, self.max_length, self.selection.share)]
        starts = [stage.start for stage in self.curriculum]
        if starts[0] != 0 or not all(one < next_one for one, next_one in itertools.pairwise([*starts, 1])):
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
            from korbert.model import ReplacedTokenModel  # with torch

            return ReplacedTokenModel.objectives
        return ("mlm", *(["nsp"] if self.nsp else []), *(["selection"] if asks else []))


@dataclass
class KorquadTask:
    """Files of questions, `{root}` stands for data.root.

    fold=null: train on `train`, score on `test`. fold=k: `test` is split into the five folds of korquad-dev-5fold;
    trained on four of them plus `train`, scored on fold k. validation_share of the training articles choose the best
    weights; 0 keeps the last ones. letters: of a token that are looked at to find an answer's edge inside of it, see
    `korbert.model.letters`; 0: answers begin and end where tokens do.
    """

    train: list[str] = MISSING
    test: str = MISSING
    fold: int | None = None
    validation_share: float = 0.0
    letters: int = 0
    window: WindowConfig = field(default_factory=WindowConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        for name in self.train if isinstance(self.train, list) else []:  # MISSING is text
            check_given("task.train", name, "files of questions")
        check_given("task.test", self.test, "a file of questions")
        check_range("task.validation_share", self.validation_share, 0, 1, below=True)
        check_range("task.letters", self.letters, 0, _MOST_LETTERS)


@dataclass
class TaggingCorpus:
    """A file with gold entities, see `korbert.data.ner`.

    types: other names for types, null for one that is left out; repeat: how often an epoch has each sentence.
    """

    file: str = MISSING
    types: dict[str, str | None] = field(default_factory=dict)
    repeat: int = 1


def _tagging_corpus(name: str, value: Any) -> TaggingCorpus:
    """Raises ConfigError naming the key that is wrong."""
    if isinstance(value, TaggingCorpus):
        return value
    key = f"task.corpora.{name}"
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: wanted file, types and repeat, e.g. {key}.file={value or 'FILE'}")
    check_all_known(key, value, [one.name for one in fields(TaggingCorpus)])
    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TaggingCorpus), value))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}.{error.full_key or 'file'}: {(error.msg or str(error)).splitlines()[0]}") from None
    assert isinstance(made, TaggingCorpus)
    return made


@dataclass
class TaggingTask:
    """Corpora by name; the share `held_out` of each one's documents is not learned from but scored."""

    # Each a TaggingCorpus. Hydra cannot add one to a dictionary of dataclasses, as +task.corpora.mine.file=FILE does.
    corpora: dict[str, Any] = MISSING
    held_out: float = 0.2
    tags: TagsConfig = field(default_factory=TagsConfig)

    def __post_init__(self) -> None:
        if isinstance(self.corpora, dict):  # MISSING is text
            self.corpora = {name: _tagging_corpus(name, value) for name, value in self.corpora.items()}
