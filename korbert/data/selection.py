"""Recurring-span selection: questions without labels, made of entities that a document names more than once.

The cloze form of Splinter's objective (Ram et al. 2021): a sentence asks, with its entity taken out, and the model
points at that entity in a passage of the same document. The sentence comes from elsewhere in the document; or, as an
"echo", from the passage itself with words left out, since questions repeat words of the sentence that answers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from korbert.data.masking import mask_tokens
from korbert.data.pretraining import (
    Passages,
    PlannedEpoch,
    PretrainingExample,
    Rows,
    join_segments,
    passage_rows,
    single_segment,
)
from korbert.data.shards import Sentence
from korbert.errors import ConfigError
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens

Mention = tuple[int, int]  # first and last token, exclusive, without its markers


@dataclass
class SelectionConfig:
    """share: of the sequences that ask, where a question can be made; echo: share of echoes among the questions.

    question_length: tokens at most. drop: largest share of the tokens that an echo leaves out, drawn for each.
    hint: share of the questions that show [MASK] where the entity was.
    """

    share: float = 0.0
    echo: float = 0.5
    question_length: int = 40
    drop: float = 0.5
    hint: float = 0.5

    def __post_init__(self) -> None:
        for key in ("share", "echo", "drop", "hint"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"task.selection.{key}: wanted a share between 0 and 1, got {getattr(self, key)}")
        if self.question_length < 4:
            raise ConfigError(f"task.selection.question_length: wanted 4 or more, got {self.question_length}")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its passage; places are the mentions of the answer in the passage."""

    tokens: Sentence
    places: list[Mention]


class SelectionPassages(Passages):
    """Passages that are asked about where a question can be made: [CLS] question [SEP] passage [SEP].

    Raises ConfigError for a corpus without entities.
    """

    def __init__(self, *args: Any, selection: SelectionConfig, **options: Any) -> None:
        super().__init__(*args, **options)
        self.selection = selection
        if self.corpus.manifest.annotator == "none":
            raise ConfigError("task.selection asks for entities: choose an annotator, e.g. entities=mecab")
        if self.max_length < selection.question_length + 16:
            raise ConfigError(
                f"task.selection.question_length={selection.question_length} leaves too little of "
                f"max_length={self.max_length} for the passage"
            )

    def epoch(self, number: int) -> PlannedEpoch:
        """Plan rows (document, first token, last token), short enough to be asked about."""
        limit = self.max_length - 3 - self.selection.question_length
        rng = np.random.default_rng([self.seed, number])
        rows = passage_rows(self.corpus, self.documents, limit, rng, spare=True)
        return PlannedEpoch(number, rows, rows[:, 2] - rows[:, 1])

    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample:
        document, first, last = (int(value) for value in row)
        question = self._ask(document, first, last, rng) if rng.random() < self.selection.share else None
        passage = self.corpus.tokens(document, first, last)
        if question is None:
            return self._masked(single_segment(self.as_mode_says(passage), self.special), rng)
        return self._asked(question, passage, rng)

    def _ask(self, document: int, first: int, last: int, rng: np.random.Generator) -> Question | None:
        """A question about tokens `[first, last)` of a document; None where nothing recurs."""
        ids, entities = self.corpus.tokens(document, 0, self.corpus.document_length(document))
        is_echo = rng.random() < self.selection.echo
        candidates = []
        for places in _named(mentions(ids, self.special), ids, self.special).values():
            inside = [(a, b) for a, b in places if first < a and b < last]  # with its markers
            asking = inside if is_echo else [place for place in places if place not in inside]
            if inside and asking:
                candidates.append((inside, asking))
        if not candidates:
            return None
        # Each recurring entity is as likely as another: the document's subject is not asked for all the time.
        inside, asking = candidates[rng.integers(len(candidates))]
        chosen = asking[rng.integers(len(asking))]
        kind = ids[chosen[0] : chosen[1]].tobytes()
        tokens = self._take_out(document, (ids, entities), chosen, kind, is_echo, rng)
        places = [(a - first, b - first) for a, b in inside]
        return None if tokens is None else Question(tokens, places)

    def _take_out(
        self, document: int, text: Sentence, mention: Mention, kind: bytes, is_echo: bool, rng: np.random.Generator
    ) -> Sentence | None:
        """The sentence around a mention without it, wherever it stands in it, and not longer than allowed."""
        ids, entities = text
        ends = np.cumsum(self.corpus.sentence_lengths(document))
        number = int(np.searchsorted(ends, mention[0], side="right"))
        start, end = int(ends[number - 1]) if number else 0, int(ends[number])
        keep = np.ones(end - start, dtype=np.bool_)
        shown = ids[start:end].copy()
        hint = rng.random() < self.selection.hint
        for a, b in mentions(shown, self.special):
            if shown[a:b].tobytes() == kind:
                keep[a - 1 : b + 1] = False  # its markers too
                if hint:
                    shown[a], keep[a] = self.special.mask, True
        if is_echo:
            # Other entities stay, they are what a question is about; so do their markers and the hint.
            dropped = rng.random(len(keep)) < rng.random() * self.selection.drop
            keep &= ~dropped | (entities[start:end] > 0) | np.isin(shown, self.special.ids)
        # Where the sentence is too long, what is near the mention stays.
        at = np.flatnonzero(keep)
        if len(at) < 3:
            return None
        near = int(np.searchsorted(at, mention[0] - start))
        limit = self.selection.question_length
        begin = int(np.clip(near - limit // 2, 0, max(0, len(at) - limit)))
        at = at[begin : begin + limit]
        entity_ids = np.where(shown[at] == self.special.mask, 0, entities[start:end][at])
        return self.as_mode_says((shown[at], entity_ids.astype(np.int32)))

    def _asked(self, question: Question, passage: Sentence, rng: np.random.Generator) -> PretrainingExample:
        """[CLS] question [SEP] passage [SEP], masked anywhere but in the answers."""
        kept = self.kept(passage[0])
        part = self.as_mode_says(passage)
        token_ids, segment_ids, entity_ids = join_segments(question.tokens, part, self.special)
        where = slice(len(question.tokens[0]) + 2, len(token_ids) - 1)
        starts, ends, answers, allowed = (np.zeros(len(token_ids), dtype=np.bool_) for _ in range(4))
        for marks, chosen in (
            (starts, [range(a, a + 1) for a, _ in question.places]),
            (ends, [range(b - 1, b) for _, b in question.places]),
            (answers, [range(a, b) for a, b in question.places]),
        ):
            marks[where] = np.isin(kept, [i for places in chosen for i in places])
        allowed[0] = True  # [CLS] says "not here", as in fine-tuning
        allowed[where] = ~np.isin(part[0], (self.special.ent, self.special.ent_end))
        masked, labels = mask_tokens(token_ids, rng, self.special, self.vocab_size, self.masking, answers)
        return PretrainingExample(masked, segment_ids, entity_ids, labels, starts=starts, ends=ends, allowed=allowed)


def mentions(ids: IntArray, special: SpecialTokens) -> list[Mention]:
    """The token ranges between markers, of well-formed input or a slice of it."""
    opening, closing = np.flatnonzero(ids == special.ent), np.flatnonzero(ids == special.ent_end)
    if len(closing) and (not len(opening) or closing[0] < opening[0]):
        closing = closing[1:]  # its partner was cut off
    return [(int(a) + 1, int(b)) for a, b in zip(opening, closing, strict=False) if b > a + 1]


def _named(found: list[Mention], ids: IntArray, special: SpecialTokens) -> dict[bytes, list[Mention]]:
    """Mentions by their tokens; those with an unknown token could be anything, and are left out."""
    named: dict[bytes, list[Mention]] = {}
    for a, b in found:
        if not (ids[a:b] == special.unk).any():
            named.setdefault(ids[a:b].tobytes(), []).append((a, b))
    return named
