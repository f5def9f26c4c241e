"""Pretraining examples: masked sentence pairs (Devlin et al. 2019, section 3.1 and appendix A) or masked passages.

Which examples an epoch has, and what is masked in each, are functions of (seed, epoch, index) alone: any example can
be made again, in any order, in any process, and a resumed run sees exactly what the uninterrupted one saw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.masking import MaskingConfig, mask_tokens
from korbert.data.shards import Sentence, ShardedCorpus
from korbert.encoding import EntityMode, balanced
from korbert.errors import ConfigError
from korbert.model.heads import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

RANDOM, NEXT = 0, 1  # nsp labels
Rows = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


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

    max_length: tokens in a sequence with [CLS] and [SEP]. Raises ConfigError where there are too few documents.
    """

    needs_documents = 1

    def __init__(
        self,
        corpus: ShardedCorpus,
        tokenizer: Tokenizer,
        mode: EntityMode,
        *,
        max_length: int,
        masking: MaskingConfig,
        seed: int,
        documents: Sequence[int] | npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.corpus, self.mode, self.seed = corpus, mode, seed
        self.max_length, self.masking = max_length, masking
        self.special, self.vocab_size = tokenizer.special, len(tokenizer)
        self.documents = np.arange(len(corpus)) if documents is None else np.asarray(documents)
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

    def as_mode_says(self, part: Sentence) -> Sentence:
        """Leave out markers that lost their partner, or all of them, and the entity ids, as the mode wants it."""
        ids, entities = part
        keep = self.kept(ids)
        return ids[keep], entities[keep] if self.mode.has_embedding else np.zeros(len(keep), dtype=np.int32)

    def kept(self, ids: IntArray) -> IntArray:
        """Indices of the tokens that `as_mode_says` keeps."""
        keep = balanced(ids, self.special)
        if not self.mode.has_markers:
            keep = keep[(ids[keep] != self.special.ent) & (ids[keep] != self.special.ent_end)]
        return keep

    def _masked(
        self, inputs: tuple[IntArray, IntArray, IntArray], rng: np.random.Generator, label: int | None = None
    ) -> PretrainingExample:
        token_ids, segment_ids, entity_ids = inputs
        masked, labels = mask_tokens(token_ids, rng, self.special, self.vocab_size, self.masking)
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
            can_be_next = last - first > 1 or lengths[first] > 1
            if rng.random() < 0.5 and can_be_next:
                rows.append((document, first, middle, last, -1, 0, 0))
            else:
                wanted = target - int(lengths[first:middle].sum())
                rows.append((document, first, middle, middle, *self._random_next(document, wanted, rng)))
                last = middle  # the sentences that were not used come again
            first = last
        return np.array(rows, dtype=np.int64).reshape(-1, 7)

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
            a, b = halves(self.corpus.sentences(document, first, last))
        a, b = truncate_pair(a, b, self.max_length - 3, rng)
        inputs = join_segments(self.as_mode_says(a), self.as_mode_says(b), self.special)
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
        passage = self.as_mode_says(self.corpus.tokens(document, first, last))
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
        ids, entities = self.as_mode_says(self.corpus.tokens(document, first, last))
        masked, labels = mask_tokens(ids, rng, self.special, self.vocab_size, self.masking)
        join = _join_halves if self.pairs else single_segment
        token_ids, segment_ids, entity_ids = join((masked, entities), self.special)
        at = np.isin(token_ids, (self.special.cls, self.special.sep), invert=True)
        spread = np.full(len(token_ids), IGNORE_INDEX, dtype=np.int32)
        spread[at] = labels
        return PretrainingExample(token_ids, segment_ids, entity_ids, spread, NEXT if self.pairs else None)


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


def halves(part: Sentence) -> tuple[Sentence, Sentence]:
    """A stretch of tokens in two."""
    ids, entities = part
    half = len(ids) // 2
    return (ids[:half], entities[:half]), (ids[half:], entities[half:])


def truncate_pair(a: Sentence, b: Sentence, limit: int, rng: np.random.Generator) -> tuple[Sentence, Sentence]:
    """Shorten two segments to `limit` tokens together, the longer one first, from a random end token by token."""
    lengths = [len(a[0]), len(b[0])]
    front = [0, 0]
    while sum(lengths) > limit:
        longer = 0 if lengths[0] > lengths[1] else 1
        lengths[longer] -= 1
        front[longer] += int(rng.random() < 0.5)
    (ids_a, entities_a), (ids_b, entities_b) = a, b
    keep_a, keep_b = slice(front[0], front[0] + lengths[0]), slice(front[1], front[1] + lengths[1])
    return (ids_a[keep_a], entities_a[keep_a]), (ids_b[keep_b], entities_b[keep_b])


def join_segments(a: Sentence, b: Sentence, special: SpecialTokens) -> tuple[IntArray, IntArray, IntArray]:
    """[CLS] a [SEP] b [SEP]: token, segment (0 up to the first [SEP], then 1) and entity ids, each (T,) int32."""
    cls, sep = [special.cls], [special.sep]
    token_ids = np.concatenate([cls, a[0], sep, b[0], sep]).astype(np.int32)
    entity_ids = np.concatenate([[0], a[1], [0], b[1], [0]]).astype(np.int32)
    segment_ids = np.repeat(np.array([0, 1], dtype=np.int32), [len(a[0]) + 2, len(b[0]) + 1])
    return token_ids, segment_ids, entity_ids


def single_segment(passage: Sentence, special: SpecialTokens) -> tuple[IntArray, IntArray, IntArray]:
    """[CLS] passage [SEP]: token, segment (all 0) and entity ids, each (T,) int32."""
    token_ids = np.concatenate([[special.cls], passage[0], [special.sep]]).astype(np.int32)
    entity_ids = np.concatenate([[0], passage[1], [0]]).astype(np.int32)
    return token_ids, np.zeros(len(token_ids), dtype=np.int32), entity_ids


def _join_halves(passage: Sentence, special: SpecialTokens) -> tuple[IntArray, IntArray, IntArray]:
    return join_segments(*halves(passage), special)
