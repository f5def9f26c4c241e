"""Named entities as tags of tokens: sentences → windows with a BIO tag for each token, and back to character spans.

A token that lies across the edge of an entity can be tagged in one way only, so tokens are cut where entities may
begin and end: at the morphemes of an analyser, or at every character.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from korbert.data.ner import spans_of
from korbert.data.windows import window_ranges
from korbert.encoding import Encoding, EntityMode, encode
from korbert.errors import ConfigError, check_known
from korbert.model.targets import IGNORE_INDEX
from korbert.morphology import ANALYSERS, Analyser, make_analyser
from korbert.text import AnnotatedText, IntArray, NormalizedText, Normalizer, Span, place_of, trim
from korbert.tokenizers import Tokenizer

CHARACTERS, NOWHERE = "characters", "none"
OUTSIDE = "O"
FloatArray = npt.NDArray[np.float32]


@dataclass
class TagsConfig:
    """What a tagger says, and what it sees.

    cut: where tokens are cut beside where the tokenizer does: at the morphemes of an analyser, by its name, at every
    character ("characters"), or nowhere ("none"). max_length: of a window, in tokens; a longer text is read in windows
    that share `stride`.
    """

    cut: str = "mecab"
    max_length: int = 256
    stride: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.stride < self.max_length - 2:
            raise ConfigError(
                f"task.tags: wanted 0 <= stride < max_length - 2, got stride={self.stride}, "
                f"max_length={self.max_length}"
            )


def bio_tags(types: Iterable[str]) -> tuple[str, ...]:
    """O, then B-TYPE and I-TYPE of each type in alphabetical order; a tag's place is its id."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(set(types)) for prefix in "BI"))


@dataclass(frozen=True, slots=True)
class TaggedWindow:
    """One model input: `[CLS] tokens [SEP]`.

    token_ids, segment_ids, entity_ids: (T,) int32. tags: (T,) int64, IGNORE_INDEX at special tokens, and everywhere
    where no gold is known. own: the places `[first, last)` of the tokens for which this window is the one to believe.
    """

    token_ids: IntArray
    segment_ids: IntArray
    entity_ids: IntArray
    tags: npt.NDArray[np.int64]
    own: tuple[int, int]

    def __len__(self) -> int:
        return len(self.token_ids)


class TagMaker:
    """Text → windows, and tag scores → spans. Raises KorbertError where the analyser of `config.cut` is missing.

    trained: whether the configuration is that of a tagger there is, which cuts with the very analyser it learned with.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Sequence[str], config: TagsConfig, trained: bool = False) -> None:
        self.tokenizer, self.tags, self.config = tokenizer, tuple(tags), config
        self._ids = {tag: number for number, tag in enumerate(tags)}
        self._analyser: Analyser | None = None
        if config.cut not in (CHARACTERS, NOWHERE):
            check_known("task.tags.cut", config.cut, (CHARACTERS, NOWHERE, *ANALYSERS))
            self._analyser = make_analyser(config.cut, "task.tags.cut", exact=trained)
            self.config = replace(config, cut=self._analyser.name)
        self._follows = _possible(self.tags)
        self._normalizer = Normalizer("NFC")

    @property
    def fingerprint(self) -> str:
        """Where tokens are cut, and the version of the analyser that says so, if one does."""
        return self.config.cut if self._analyser is None else f"{self.config.cut}-{self._analyser.version}"

    def encode(self, text: str) -> Encoding:
        """The tokens of `text` in NFC, with the characters of `text` itself."""
        normal = self._normalizer(text)
        boundaries: Iterable[int] = ()
        if self.config.cut == CHARACTERS:
            boundaries = range(len(normal.text) + 1)
        elif self._analyser is not None:
            boundaries = sorted(self._analyser.edges(normal.text))
        encoding = encode(AnnotatedText(normal.text), self.tokenizer, EntityMode.NONE, boundaries)
        return encoding if normal.text == text else _mapped_back(normal, encoding)

    def windows(self, encoding: Encoding, entities: Sequence[Span] | None = None) -> list[TaggedWindow]:
        """The windows of a text; none for a text without tokens. entities: gold, None where it is not known."""
        if not len(encoding):
            return []
        special = self.tokenizer.special
        room = self.config.max_length - 2
        tags = np.full(len(encoding), IGNORE_INDEX, dtype=np.int64)
        if entities is not None:
            tags = self.gold(encoding, entities)
        ranges = window_ranges(len(encoding), room, self.config.stride)
        # Two windows share tokens: the first half of them belongs to the former.
        middles = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(ranges)]
        firsts, lasts = [0, *middles], [*middles, len(encoding)]
        return [
            TaggedWindow(
                token_ids=np.concatenate([[special.cls], encoding.token_ids[a:b], [special.sep]]).astype(np.int32),
                segment_ids=np.zeros(b - a + 2, dtype=np.int32),
                entity_ids=np.zeros(b - a + 2, dtype=np.int32),
                tags=np.concatenate([[IGNORE_INDEX], tags[a:b], [IGNORE_INDEX]]),
                own=(1 + first - a, 1 + last - a),
            )
            for (a, b), first, last in zip(ranges, firsts, lasts, strict=True)
        ]

    def gold(self, encoding: Encoding, entities: Sequence[Span]) -> npt.NDArray[np.int64]:
        """The tag of each token, (T,); a token that several entities touch belongs to the first of them.

        Raises ValueError for an entity whose type has no tag.
        """
        tags = np.zeros(len(encoding), dtype=np.int64)
        taken = 0
        for entity in entities:
            if f"B-{entity.label}" not in self._ids:
                raise ValueError(f"the entity type {entity.label!r} has no tag among {', '.join(self.tags)}")
            first = max(place_of(encoding.ends, entity.start, "right"), taken)
            last = place_of(encoding.starts, entity.end, "left")
            while 0 < last < len(encoding) and encoding.starts[last] == encoding.ends[last] == encoding.ends[last - 1]:
                last += 1  # the rest of the last character
            if first < last:
                tags[first:last] = self._ids[f"I-{entity.label}"]
                tags[first] = self._ids[f"B-{entity.label}"]
                taken = last
        return tags

    def spans(self, text: str, encoding: Encoding, scores: FloatArray) -> tuple[Span, ...]:
        """The entities of the most probable possible tags of `text`, given log-probabilities (T, tags)."""
        path = best_path(scores, self._follows)
        tokens = spans_of(self.tags[tag] for tag in path.tolist())
        # A token may have no characters: the sign of a word's start alone, the rest of an expanded character.
        found = ((*trim(text, int(encoding.starts[s.start]), int(encoding.ends[s.end - 1])), s.label) for s in tokens)
        return tuple(Span(start, end, label) for start, end, label in found if start < end)


def _mapped_back(normal: NormalizedText, encoding: Encoding) -> Encoding:
    """The tokens of normalised text with characters of the original one; the rest of an expanded one has none."""
    ends = np.append(np.int32(0), normal.ends)[encoding.ends]
    starts = np.append(normal.starts, np.int32(len(normal.original)))[encoding.starts]
    starts = np.maximum(np.minimum(starts, ends), np.append(np.int32(0), ends[:-1]))
    return Encoding(encoding.token_ids, encoding.entity_ids, starts, ends)


def _possible(tags: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(before + 1, after): whether a tag may follow; the last row is for the beginning. I only after its own B or I."""

    def may(before: str, after: str) -> bool:
        return after[0] != "I" or (before != OUTSIDE and before[2:] == after[2:])

    return np.array([[may(before, after) for after in tags] for before in (*tags, OUTSIDE)])


def best_path(scores: FloatArray, follows: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The possible sequence of tags with the largest sum of scores (T, tags), (T,). Source: Viterbi 1967."""
    length = len(scores)
    if not length:
        return np.zeros(0, dtype=np.int64)
    barrier = np.where(follows, 0.0, -np.inf)
    reached = scores[0] + barrier[-1]
    came = np.zeros(scores.shape, dtype=np.int64)
    for place in range(1, length):
        options = reached[:, None] + barrier[:-1]
        came[place] = options.argmax(0)
        reached = options[came[place], np.arange(options.shape[1])] + scores[place]
    path = np.zeros(length, dtype=np.int64)
    path[-1] = reached.argmax()
    for place in range(length - 1, 0, -1):
        path[place - 1] = came[place, path[place]]
    return path


def own_scores(windows: Sequence[TaggedWindow], scores: Iterable[FloatArray]) -> FloatArray:
    """Scores (tokens of the text, tags) out of those of its windows, each (T, tags)."""
    return np.concatenate([score[slice(*window.own)] for window, score in zip(windows, scores, strict=True)])


def mapped(sentences: Iterable[AnnotatedText], types: dict[str, str | None]) -> Iterator[AnnotatedText]:
    """Sentences with their entities' types renamed, those named None left out; types not in `types` stay."""
    for sentence in sentences:
        renamed = ((entity, types.get(entity.label, entity.label)) for entity in sentence.entities)
        kept = tuple(Span(entity.start, entity.end, label) for entity, label in renamed if label is not None)
        yield AnnotatedText(sentence.text, kept)
