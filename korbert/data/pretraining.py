"""Pretraining examples: sentence pairs, masked (Devlin et al. 2019, section 3.1 and appendix A).

Which pairs an epoch has, and what is masked in each, are functions of (seed, epoch, index) alone: any example can be
made again, in any order, on any number of workers, and a resumed run sees exactly what the uninterrupted one saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.data.shards import Sentence, ShardedCorpus
from korbert.encoding import EntityMode, balanced
from korbert.errors import ConfigError
from korbert.model.heads import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

RANDOM, NEXT = 0, 1  # nsp labels


@dataclass
class MaskingConfig:
    """Share of tokens to predict, and what is shown in their place; the rest of them stay as they are."""

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise ConfigError(f"task.masking.rate: wanted a share between 0 and 1, got {self.rate}")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise ConfigError(
                "task.masking: mask_share and random_share must not be negative and sum to at most 1, got "
                f"{self.mask_share} and {self.random_share}"
            )


@dataclass(frozen=True, slots=True)
class PretrainingExample:
    """One masked sentence pair. token_ids, segment_ids, entity_ids, mlm_labels: (T,) int32; nsp_label: 0 or 1."""

    token_ids: IntArray
    segment_ids: IntArray
    entity_ids: IntArray
    mlm_labels: IntArray
    nsp_label: int

    def __len__(self) -> int:
        return len(self.token_ids)


def mask_tokens(
    token_ids: IntArray,
    rng: np.random.Generator,
    special: SpecialTokens,
    vocab_size: int,
    config: MaskingConfig,
) -> tuple[IntArray, IntArray]:
    """Choose `rate` of the ordinary tokens, exactly (rounded, at least one), and hide them 80/10/10.

    Special tokens and markers are never chosen and never put in as random tokens. Returns the new token ids and the
    labels (IGNORE_INDEX where nothing is predicted), each (T,) int32. Source: Devlin et al. 2019, section 3.1.
    """
    labels = np.full(len(token_ids), IGNORE_INDEX, dtype=np.int32)
    candidates = np.flatnonzero(~np.isin(token_ids, special.ids))
    if not len(candidates):
        return token_ids, labels
    budget = max(1, round(config.rate * len(candidates)))
    chosen = rng.choice(candidates, size=budget, replace=False)
    labels[chosen] = token_ids[chosen]
    masked = token_ids.copy()
    fate = rng.random(budget)
    masked[chosen[fate < config.mask_share]] = special.mask
    replaced = chosen[(fate >= config.mask_share) & (fate < config.mask_share + config.random_share)]
    masked[replaced] = _random_tokens(len(replaced), rng, special, vocab_size)
    return masked, labels


def _random_tokens(
    count: int, rng: np.random.Generator, special: SpecialTokens, vocab_size: int
) -> npt.NDArray[np.int64]:
    drawn = rng.integers(vocab_size - len(special.ids), size=count)
    for forbidden in np.sort(special.ids):  # step over the special ids, wherever they lie
        drawn += drawn >= forbidden
    return drawn


class PretrainingData:
    """All epochs of one corpus, or of those of its documents that are given.

    max_length: tokens in a sequence with [CLS] and both [SEP]; short_share of the pairs aim at a random shorter
    length. Raises ConfigError with fewer than two documents: a random next sentence must come from another one.
    """

    def __init__(
        self,
        corpus: ShardedCorpus,
        tokenizer: Tokenizer,
        mode: EntityMode,
        *,
        max_length: int,
        masking: MaskingConfig,
        seed: int,
        short_share: float = 0.1,
        documents: Sequence[int] | npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.corpus, self.mode, self.seed = corpus, mode, seed
        self.max_length, self.masking, self.short_share = max_length, masking, short_share
        self.special, self.vocab_size = tokenizer.special, len(tokenizer)
        self.documents = np.arange(len(corpus)) if documents is None else np.asarray(documents)
        if len(self.documents) < 2:
            raise ConfigError(
                f"next sentence prediction needs two documents or more, this part of the corpus has "
                f"{len(self.documents)}; in a .txt corpus, documents are separated by blank lines"
            )

    def epoch(self, number: int) -> PretrainingEpoch:
        """Plan the pairs of epoch `number`; the examples themselves are made when asked for."""
        rng = np.random.default_rng([self.seed, number])
        plan = np.concatenate([self._plan_document(int(document), rng) for document in self.documents])
        return PretrainingEpoch(self, number, plan)

    def _plan_document(self, document: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
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
            other = int(rng.choice(self.documents))
        lengths = self.corpus.sentence_lengths(other)
        start = end = int(rng.integers(len(lengths)))
        total = 0
        while end < len(lengths) and (end == start or total < wanted):
            total += int(lengths[end])
            end += 1
        return other, start, end

    def make(self, epoch: int, index: int, row: npt.NDArray[np.int64]) -> PretrainingExample:
        """Make example `index` of `epoch` from its row of the plan."""
        rng = np.random.default_rng([self.seed, epoch, index])
        document, first, middle, last, other, other_first, other_last = (int(value) for value in row)
        if other >= 0:
            a = self.corpus.tokens(document, first, middle)
            b = self.corpus.tokens(other, other_first, other_last)
        elif middle < last:
            a, b = self.corpus.tokens(document, first, middle), self.corpus.tokens(document, middle, last)
        else:
            ids, entities = self.corpus.tokens(document, first, last)
            half = len(ids) // 2
            a, b = (ids[:half], entities[:half]), (ids[half:], entities[half:])
        a, b = truncate_pair(a, b, self.max_length - 3, rng)
        return self._assemble(self._as_mode_says(a), self._as_mode_says(b), RANDOM if other >= 0 else NEXT, rng)

    def _as_mode_says(self, part: Sentence) -> Sentence:
        ids, entities = part
        keep = balanced(ids, self.special)
        if not self.mode.has_markers:
            keep = keep[(ids[keep] != self.special.ent) & (ids[keep] != self.special.ent_end)]
        return ids[keep], entities[keep] if self.mode.has_embedding else np.zeros(len(keep), dtype=np.int32)

    def _assemble(self, a: Sentence, b: Sentence, label: int, rng: np.random.Generator) -> PretrainingExample:
        token_ids, segment_ids, entity_ids = join_segments(a, b, self.special)
        masked, labels = mask_tokens(token_ids, rng, self.special, self.vocab_size, self.masking)
        return PretrainingExample(masked, segment_ids, entity_ids, labels, label)


@dataclass(frozen=True, slots=True)
class PretrainingEpoch:
    """The examples of one epoch, made on demand."""

    data: PretrainingData
    number: int
    plan: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> PretrainingExample:
        return self.data.make(self.number, index, self.plan[index])

    @property
    def lengths(self) -> None:
        """Unknown before the examples are made, and nearly all equal: no bucketing."""
        return None


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
