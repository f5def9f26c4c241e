"""Pretraining examples: masked sentence pairs (Devlin et al. 2019, section 3.1 and appendix A) or masked passages.

Which examples an epoch has, and what is masked in each, are functions of (seed, epoch, index) alone: any example can
be made again, in any order, in any process, and a resumed run sees exactly what the uninterrupted one saw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.data.masking import MaskingConfig, mask_tokens
from korbert.data.shards import EOJEOL_UNITS, ShardedCorpus, Stretch
from korbert.data.units import with_mentions
from korbert.encoding import EntityInput, EntityMode, balanced, marker_mask, mention_count, mention_numbers, unmarked
from korbert.errors import ConfigError
from korbert.model.targets import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

RANDOM, NEXT = 0, 1  # nsp labels
Rows = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Joined(NamedTuple):
    """A sequence before it is masked: token, segment and entity ids and unit flags, each (T,) int32."""

    token_ids: IntArray
    segment_ids: IntArray
    entity_ids: IntArray
    units: IntArray


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a sequence: the token that asks, and its right answers, first and last token, inclusive."""

    query: int
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PretrainingExample:
    """One masked sequence.

    token_ids, segment_ids, entity_ids, mlm_labels: (T,) int32; nsp_label: 0 or 1, None where it is no sentence pair.
    allowed: (T,) bool, where answers may lie; None where nothing is asked.
    """

    token_ids: IntArray
    segment_ids: IntArray
    entity_ids: IntArray
    mlm_labels: IntArray
    nsp_label: int | None = None
    asked: tuple[Asked, ...] = ()
    allowed: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class PlannedEpoch:
    """What is to be made in one epoch: a row of numbers for each example."""

    number: int
    rows: Rows
    lengths: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def requests(self, indices: npt.NDArray[np.int64]) -> list[tuple[int, int, Rows]]:
        """Epoch, index and row of each."""
        return [(self.number, int(index), self.rows[index]) for index in indices]


class PretrainingData(ABC):
    """All epochs of one corpus, or of those of its documents that are given.

    max_length: tokens in a sequence with [CLS] and [SEP]. entity_dropout: share of the mentions, drawn anew in every
    epoch, that are not marked. Raises ConfigError where there are too few documents, or where the shards lack what
    masking wants to know.
    """

    needs_documents = 1

    def __init__(
        self,
        corpus: ShardedCorpus,
        tokenizer: Tokenizer,
        entities: EntityInput | EntityMode,
        *,
        max_length: int,
        masking: MaskingConfig,
        seed: int,
        documents: Sequence[int] | npt.NDArray[np.int64] | None = None,
        entity_dropout: float = 0.0,
    ) -> None:
        self.corpus, self.entities, self.seed = corpus, EntityInput.of(entities), seed
        self.entity_dropout = entity_dropout
        self.max_length, self.masking = max_length, masking
        self.special, self.vocab_size = tokenizer.special, len(tokenizer)
        self.documents = np.arange(len(corpus)) if documents is None else np.asarray(documents)
        if masking.flags and not _has_flags(corpus.manifest.units, masking):
            raise ConfigError(
                f"task.masking.unit={masking.unit} needs shards with flags of {masking.flags}, these have "
                f"{corpus.manifest.units or 'none'}"
            )
        if len(self.documents) < self.needs_documents:
            raise ConfigError(
                f"next sentence prediction needs two documents or more, this part of the corpus has "
                f"{len(self.documents)}; in a .txt corpus, documents are separated by blank lines"
            )

    @abstractmethod
    def epoch(self, number: int) -> PlannedEpoch:
        """Plan the examples of epoch `number`."""

    def make(self, request: tuple[int, int, Rows]) -> PretrainingExample:
        """Make the example of a planned row."""
        epoch, index, row = request
        return self._make(row, np.random.default_rng([self.seed, epoch, index]))

    @abstractmethod
    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample: ...

    def examples(self, epoch: int, count: int) -> list[PretrainingExample]:
        """At most `count` examples of an epoch, evenly spread over it."""
        planned = self.epoch(epoch)
        indices = np.linspace(0, len(planned) - 1, min(count, len(planned))).round().astype(np.int64)
        return [self.make(request) for request in planned.requests(indices)]

    def shown(self, part: Stretch, rng: np.random.Generator) -> tuple[IntArray, Stretch]:
        """Indices of the tokens that stay, and those tokens as the entity input wants them, of a sequence's only part.

        Markers that a cut has parted from their partner go in every mode.
        """
        return self._fitting(*self._marked(part, rng), self.entities.max_entities)

    def shown_pair(self, a: Stretch, b: Stretch, rng: np.random.Generator) -> list[tuple[IntArray, Stretch]]:
        """The same of each of a sequence's two segments."""
        pair = [self._marked(part, rng) for part in (a, b)]
        allowed: tuple[int | None, int | None] = (None, None)
        if self.entities.max_entities is not None:
            first, second = (mention_count(mention_numbers(part.ids, part.entities, self.special)) for _, part in pair)
            allowed = self.entities.shares(first, second)
        return [self._fitting(*part, own) for part, own in zip(pair, allowed, strict=True)]

    def _marked(self, part: Stretch, rng: np.random.Generator) -> tuple[IntArray, Stretch]:
        """Tokens without lone markers, nor those of mentions that dropout leaves out."""
        keep = balanced(part.ids, self.special)
        part = part.take(keep)
        if self.masking.unit == "entity":
            part = part._replace(units=with_mentions(part.units, part.ids, part.entities, self.special))
        if self.entity_dropout > 0:
            numbers = mention_numbers(part.ids, part.entities, self.special)
            dropped = rng.random(mention_count(numbers)) < self.entity_dropout
            stay, entities = unmarked(part.ids, part.entities, numbers, dropped, self.special)
            keep, part = keep[stay], part.take(stay)._replace(entities=entities)
        return keep, part

    def _fitting(self, keep: IntArray, part: Stretch, allowed: int | None) -> tuple[IntArray, Stretch]:
        stay, entities = self.entities.fitting(part.ids, part.entities, self.special, allowed)
        return keep[stay], part.take(stay)._replace(entities=entities)

    def _masked(self, inputs: Joined, rng: np.random.Generator, label: int | None = None) -> PretrainingExample:
        ids, segment_ids, entity_ids, units = inputs
        masked, labels = mask_tokens(ids, rng, self.special, self.vocab_size, self.masking, units)
        return PretrainingExample(masked, segment_ids, entity_ids, labels, label)


class SentencePairs(PretrainingData):
    """[CLS] A [SEP] B [SEP]: half of the time B follows A in its document, else it comes from another one.

    short_share of the pairs aim at a random shorter length.
    """

    needs_documents = 2

    def __init__(self, *args: Any, short_share: float = 0.1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.short_share = short_share

    def epoch(self, number: int) -> PlannedEpoch:
        """Plan the pairs of epoch `number`; their lengths are nearly all equal, and not told."""
        rng = np.random.default_rng([self.seed, number])
        plan = [self._plan_document(int(document), rng) for document in self.documents]
        return PlannedEpoch(number, np.concatenate(plan))

    def _plan_document(self, document: int, rng: np.random.Generator) -> Rows:
        """Rows (document, first, middle, last, other document, other first, other last) in sentences.

        Segment A is `[first, middle)`; B is `[middle, last)` where the other document is -1, else the other's
        sentences. A "next" pair of a single sentence has middle = last: it is halved when it is made.
        """
        lengths = self.corpus.sentence_lengths(document)
        rows = []
        first = 0
        while first < len(lengths):
            target = self.max_length - 3
            if rng.random() < self.short_share:
                target = int(rng.integers(2, target + 1))
            last, total = first, 0
            while last < len(lengths) and total < target:
                total += int(lengths[last])
                last += 1
            middle = int(rng.integers(first + 1, last)) if last - first > 1 else last
            can_be_next = last - first > 1 or self._can_be_halved(document, first, int(lengths[first]))
            if rng.random() < 0.5 and can_be_next:
                rows.append((document, first, middle, last, -1, 0, 0))
            else:
                wanted = target - int(lengths[first:middle].sum())
                rows.append((document, first, middle, middle, *self._random_next(document, wanted, rng)))
                last = middle  # the sentences that were not used come again
            first = last
        return np.array(rows, dtype=np.int64).reshape(-1, 7)

    def _can_be_halved(self, document: int, sentence: int, length: int) -> bool:
        """Whether it has two tokens of text."""
        if length > 3:  # one with its markers is no longer
            return True
        return len(_text_places(self.corpus.sentences(document, sentence, sentence + 1).ids, self.special)) > 1

    def _random_next(self, document: int, wanted: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """A stretch of about `wanted` tokens from any document but this one."""
        other = document
        while other == document:
            other = int(self.documents[rng.integers(len(self.documents))])
        lengths = self.corpus.sentence_lengths(other)
        start = end = int(rng.integers(len(lengths)))
        total = 0
        while end < len(lengths) and (end == start or total < wanted):
            total += int(lengths[end])
            end += 1
        return other, start, end

    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample:
        document, first, middle, last, other, other_first, other_last = (int(value) for value in row)
        if other >= 0:
            a = self.corpus.sentences(document, first, middle)
            b = self.corpus.sentences(other, other_first, other_last)
        elif middle < last:
            a, b = self.corpus.sentences(document, first, middle), self.corpus.sentences(document, middle, last)
        else:
            a, b = halves(self.corpus.sentences(document, first, last), self.special)
        a, b = truncate_pair(a, b, self.max_length - 3, rng)
        (_, a), (_, b) = self.shown_pair(a, b, rng)
        inputs = join_segments(a, b, self.special)
        return self._masked(inputs, rng, RANDOM if other >= 0 else NEXT)


class Passages(PretrainingData):
    """[CLS] passage [SEP]: every document in few passages of about equal length, cut anew in each epoch."""

    def epoch(self, number: int) -> PlannedEpoch:
        """Plan rows (document, first token, last token) of epoch `number`."""
        rng = np.random.default_rng([self.seed, number])
        rows = passage_rows(self.corpus, self.documents, self.max_length - 2, rng, spare=True)
        return PlannedEpoch(number, rows, rows[:, 2] - rows[:, 1] + 2)

    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample:
        document, first, last = (int(value) for value in row)
        passage = self.shown(self.corpus.tokens(document, first, last), rng)[1]
        return self._masked(single_segment(passage, self.special), rng)


class HeldOut(PretrainingData):
    """Passages for scoring, with the same tokens masked whether the model was trained on pairs or on passages.

    pairs: show a passage as [CLS] first half [SEP] second half [SEP], else as [CLS] passage [SEP]; either way the
    same tokens are hidden, chosen on the passage itself.
    """

    def __init__(self, *args: Any, pairs: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pairs = pairs

    def epoch(self, number: int) -> PlannedEpoch:
        """Plan rows (document, first token, last token), short enough for either form."""
        rows = passage_rows(
            self.corpus, self.documents, self.max_length - 3, np.random.default_rng([self.seed, number])
        )
        return PlannedEpoch(number, rows)

    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample:
        document, first, last = (int(value) for value in row)
        passage = self.shown(self.corpus.tokens(document, first, last), rng)[1]
        masked, labels = mask_tokens(passage.ids, rng, self.special, self.vocab_size, self.masking, passage.units)
        join = _join_halves if self.pairs else single_segment
        token_ids, segment_ids, entity_ids, _ = join(passage._replace(ids=masked), self.special)
        at = (token_ids != self.special.cls) & (token_ids != self.special.sep)
        spread = np.full(len(token_ids), IGNORE_INDEX, dtype=np.int32)
        spread[at] = labels
        return PretrainingExample(token_ids, segment_ids, entity_ids, spread, NEXT if self.pairs else None)


def _has_flags(found: str, masking: MaskingConfig) -> bool:
    """Whether they are those of the unit; "mecab" are also python-mecab-ko's where only mecab-ko is installed."""
    return bool(found) if masking.flags == EOJEOL_UNITS else found in (masking.flags, masking.analyser)


def passage_rows(
    corpus: ShardedCorpus, documents: npt.NDArray[np.int64], limit: int, rng: np.random.Generator, spare: bool = False
) -> Rows:
    """Rows (document, first token, last token): each document in the fewest parts of at most `limit` tokens.

    The parts are about equal; where they leave room, the cuts between them are moved at random. spare: half of the
    documents that need several parts get one more, so that there is room.
    """
    totals = corpus.document_lengths()[documents]
    counts = -(-totals // limit)
    if spare:
        counts += (counts > 1) & (rng.random(len(counts)) < 0.5)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of the part in its document
    total, count = np.repeat(totals, counts), np.repeat(counts, counts)
    room = limit - -(-total // count)
    start = number * total // count + rng.integers(0, room // 2 + 1) * (number > 0)
    # A part's end is the next one's start: both move by at most half of the room, so no part exceeds the limit.
    is_last = number == count - 1
    end = np.where(is_last, total, np.append(start[1:], 0))
    return np.stack([np.repeat(documents, counts), start, end], axis=1)


def halves(part: Stretch, special: SpecialTokens, whole: bool = False) -> tuple[Stretch, Stretch]:
    """A stretch in two, each with half of the tokens that are no markers; a mention that is cut has one in each.

    whole: no mention is cut that has both of its markers; the nearer of its edges is taken.
    """
    texts = _text_places(part.ids, special)
    half = int(texts[len(texts) // 2]) if len(texts) else len(part.ids) // 2
    while half > 0 and part.ids[half - 1] == special.ent:
        half -= 1
    if whole:
        half = _edge_of_mention(part.ids, half, special)
    return part.take(slice(0, half)), part.take(slice(half, None))


def _edge_of_mention(ids: IntArray, place: int, special: SpecialTokens) -> int:
    """`place`, or the nearer edge of the mention between whose markers it is; the one inside of `ids` if it can be."""
    opened, closed = (np.flatnonzero(ids[:place] == marker) for marker in (special.ent, special.ent_end))
    if len(opened) <= len(closed):
        return place
    edges = int(opened[-1]), place + int(np.argmax(ids[place:] == special.ent_end)) + 1
    return min(edges, key=lambda edge: (edge in (0, len(ids)), abs(edge - place)))


def _text_places(ids: IntArray, special: SpecialTokens) -> npt.NDArray[np.int64]:
    return np.flatnonzero(~marker_mask(ids, special))


def truncate_pair(a: Stretch, b: Stretch, limit: int, rng: np.random.Generator) -> tuple[Stretch, Stretch]:
    """Shorten two segments to `limit` tokens together, the longer one first, from a random end token by token."""
    lengths = [len(a.ids), len(b.ids)]
    front = [0, 0]
    while sum(lengths) > limit:
        longer = 0 if lengths[0] > lengths[1] else 1
        lengths[longer] -= 1
        front[longer] += int(rng.random() < 0.5)
    return a.take(slice(front[0], front[0] + lengths[0])), b.take(slice(front[1], front[1] + lengths[1]))


def join_segments(a: Stretch, b: Stretch, special: SpecialTokens) -> Joined:
    """[CLS] a [SEP] b [SEP]; segment 0 up to the first [SEP], then 1."""
    cls, sep = [special.cls], [special.sep]
    token_ids = np.concatenate([cls, a.ids, sep, b.ids, sep]).astype(np.int32)
    segment_ids = np.repeat(np.array([0, 1], dtype=np.int32), [len(a.ids) + 2, len(b.ids) + 1])
    entities, units = (
        np.concatenate([[0], x, [0], y, [0]]).astype(np.int32)
        for x, y in ((a.entities, b.entities), (a.units, b.units))
    )
    return Joined(token_ids, segment_ids, entities, units)


def single_segment(passage: Stretch, special: SpecialTokens) -> Joined:
    """[CLS] passage [SEP]; segment 0."""
    token_ids = np.concatenate([[special.cls], passage.ids, [special.sep]]).astype(np.int32)
    entities, units = (np.pad(values, 1).astype(np.int32) for values in (passage.entities, passage.units))
    return Joined(token_ids, np.zeros(len(token_ids), dtype=np.int32), entities, units)


def _join_halves(passage: Stretch, special: SpecialTokens) -> Joined:
    return join_segments(*halves(passage, special, whole=True), special)
