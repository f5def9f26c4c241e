"""Recurring-span selection: questions without labels, made of entities that a document names more than once.

After Splinter (Ram et al. 2021), in two forms. Inside a passage, an entity that recurs is hidden in all places but
one, and each of those asks for the one that is left. As a cloze, a sentence asks, with its entity taken out, and the
model points at that entity in a passage of the same document. The sentence comes from elsewhere in the document; or,
as an "echo", from the passage itself with words left out, since questions repeat words of the sentence that answers
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.masking import mask_tokens
from korbert.data.nouns import NounFinder
from korbert.data.pretraining import (
    Asked,
    Joined,
    Passages,
    PlannedEpoch,
    PretrainingExample,
    Rows,
    join_segments,
    passage_rows,
    single_segment,
)
from korbert.data.shards import Stretch
from korbert.encoding import marker_mask
from korbert.errors import ConfigError
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

RULES = 2  # raise the number when the code below, or that which finds nouns, asks for other places
_REACH = 20_000  # tokens before and behind a passage in which its entities are looked for again
Mention = tuple[int, int]  # first and last token, exclusive, without its markers


@dataclass
class SelectionConfig:
    """share: of the sequences that ask, where a question can be made; inside: share of those that ask inside.

    echo: share of echoes among the clozes. words: share of echoes that ask for a word before a josa, not for an entity;
    a tokenizer that keeps josa and noun in one token asks for any word.
    question_length: tokens at most. drop: largest share of the tokens that an echo leaves out, drawn for each. hint:
    share of the clozes that show [MASK] where the entity was. masking_rate: of sequences that ask; null: as elsewhere.
    """

    share: float = 0.0
    inside: float = 0.0
    echo: float = 0.5
    words: float = 0.0
    question_length: int = 40
    drop: float = 0.5
    hint: float = 0.5
    masking_rate: float | None = None

    def __post_init__(self) -> None:
        for key in ("share", "inside", "echo", "words", "drop", "hint"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"task.selection.{key}: wanted a share between 0 and 1, got {getattr(self, key)}")
        if self.masking_rate is not None and not 0.0 < self.masking_rate < 1.0:
            raise ConfigError(f"task.selection.masking_rate: wanted a share between 0 and 1, got {self.masking_rate}")
        if self.question_length < 4:
            raise ConfigError(f"task.selection.question_length: wanted 4 or more, got {self.question_length}")

    @property
    def needs_entities(self) -> bool:
        """Whether anything but words is asked for."""
        return self.inside > 0 or self.echo < 1 or self.words < 1

    def check_annotator(self, name: str) -> None:
        """Raise ConfigError where entities are asked for that an annotator of this name does not find."""
        if name == "none" and self.needs_entities:
            raise ConfigError(
                "task.selection asks for entities: choose an annotator, e.g. entities=mecab, or ask for words alone, "
                "task.selection.echo=1 task.selection.words=1"
            )

    def check_length(self, max_length: int, key: str = "max_length") -> None:
        """Raise ConfigError, naming `key`, for sequences that hold a question and next to nothing of a passage."""
        if max_length < self.question_length + 16:
            raise ConfigError(
                f"task.selection.question_length={self.question_length} leaves too little of {key}={max_length} for "
                f"the passage, wanted {self.question_length + 16} or more"
            )


@dataclass(frozen=True, slots=True)
class Cloze:
    """A question, before it is shown, and its passage; places are the mentions of the answer in the passage."""

    tokens: Stretch
    places: list[Mention]


class SelectionPassages(Passages):
    """Passages that are asked about where a question can be made: [CLS] question [SEP] passage [SEP].

    Raises ConfigError for a corpus without entities, where they are asked for.
    """

    def __init__(self, *args: Any, selection: SelectionConfig, **options: Any) -> None:
        super().__init__(*args, **options)
        self.selection = selection
        rate = selection.masking_rate
        self._asked_masking = self.masking if rate is None else replace(self.masking, rate=rate)
        self._tokenizer: Tokenizer = args[1]
        self._begins_word = self._tokenizer.begins_word
        selection.check_annotator(self.corpus.manifest.annotator)
        selection.check_length(self.max_length)
        if selection.words > 0 and not self._begins_word.any():
            raise ConfigError("task.selection.words: no token of this tokenizer is one for the start of a word")

    @cached_property
    def _nouns(self) -> NounFinder:
        return NounFinder(self._tokenizer)

    def epoch(self, number: int) -> PlannedEpoch:
        """Plan rows (document, first token, last token), short enough to be asked about."""
        limit = self.max_length - 3 - self.selection.question_length
        rng = np.random.default_rng([self.seed, number])
        rows = passage_rows(self.corpus, self.documents, limit, rng, spare=True)
        return PlannedEpoch(number, rows, rows[:, 2] - rows[:, 1])

    def _make(self, row: Rows, rng: np.random.Generator) -> PretrainingExample:
        document, first, last = (int(value) for value in row)
        passage = self.corpus.tokens(document, first, last)
        question = example = None
        if rng.random() < self.selection.share:
            if rng.random() < self.selection.inside:
                example = self._ask_inside(passage, rng)
            else:
                question = self._ask(document, first, last, rng)
        if example is not None:
            return example
        if question is None:
            return self._masked(single_segment(self.shown(passage, rng)[1], self.special), rng)
        return self._asked(question, passage, rng)

    def _ask(self, document: int, first: int, last: int, rng: np.random.Generator) -> Cloze | None:
        """A cloze about tokens `[first, last)` of a document; None where there is nothing to ask for."""
        is_echo = rng.random() < self.selection.echo
        asks_word = is_echo and rng.random() < self.selection.words
        edges = np.concatenate(([0], np.cumsum(self.corpus.sentence_lengths(document))))
        reach = 0 if is_echo else _REACH
        begin = int(edges[np.searchsorted(edges, max(0, first - reach), side="right") - 1])
        end = int(edges[np.searchsorted(edges, min(int(edges[-1]), last + reach))])
        text = self.corpus.tokens(document, begin, end)
        ids, first, last, edges = text.ids, first - begin, last - begin, edges - begin
        found = self._words(ids, first, last) if asks_word else mentions(ids, self.special)
        candidates = []
        for places in _named(found, ids, self.special).values():
            inside = [(a, b) for a, b in places if first < a and b < last]  # with a mention's markers
            asking = inside if is_echo else [place for place in places if place not in inside]
            if inside and asking:
                candidates.append((inside, asking, places))
        if not candidates:
            return None
        # Each recurring entity is as likely as another: the document's subject is not asked for all the time.
        inside, asking, same = candidates[rng.integers(len(candidates))]
        a, b = asking[rng.integers(len(asking))]
        sentence = np.searchsorted(edges, a, side="right")
        start, end = int(edges[sentence - 1]), int(edges[sentence])
        # Of a question about an entity the other entities stay, they are what it is about. A question about a word must
        # not depend on them: arms without entities ask it, too.
        part = text.take(slice(start, end))
        stay = np.zeros(end - start, dtype=np.bool_) if asks_word else part.entities > 0
        taken = self._take_out(
            part, (a - start, b - start), [place - start for place, _ in same], stay if is_echo else None, rng
        )
        places = [(a - first, b - first) for a, b in inside]
        return None if taken is None else Cloze(taken, places)

    def _words(self, ids: IntArray, first: int, last: int) -> list[Mention]:
        """The words of tokens `[first, last)`, the same wherever markers stand: every arm of a study asks for them."""
        seen = np.flatnonzero(~marker_mask(ids[first:last], self.special)) + first
        return [(int(seen[a]), int(seen[b - 1]) + 1) for a, b in self._nouns(ids[seen])]

    def _take_out(
        self,
        sentence: Stretch,
        place: Mention,
        same: list[int],
        stay: npt.NDArray[np.bool_] | None,
        rng: np.random.Generator,
    ) -> Stretch | None:
        """A sentence without a place of it, nor the same tokens elsewhere in it, and not longer than allowed.

        same: where in the sentence what is asked for is known to stand. stay: the tokens that an echo does not leave
        out by chance, (T,); None where none is left out.
        """
        ids, entities, units = sentence
        shown, keep = ids.copy(), np.ones(len(ids), dtype=np.bool_)
        hint = rng.random() < self.selection.hint
        for where in self._again(ids, place, same):
            keep[where] = False
            if hint:
                shown[where[0]], keep[where[0]] = self.special.mask, True
        if stay is not None:
            dropped = rng.random(len(keep)) < rng.random() * self.selection.drop
            keep &= ~dropped | stay | self.special.among(shown)
        self._without_bare_markers(shown, keep)
        # Where the sentence is too long, what is near the place stays.
        at = np.flatnonzero(keep)
        if len(at) < 3:
            return None
        near = int(np.searchsorted(at, place[0]))
        limit = self.selection.question_length
        begin = int(np.clip(near - limit // 2, 0, max(0, len(at) - limit)))
        at = at[begin : begin + limit]
        entity_ids = np.where(shown[at] == self.special.mask, 0, entities[at]).astype(np.int32)
        return Stretch(shown[at], entity_ids, units[at])

    def _again(self, ids: IntArray, place: Mention, same: list[int]) -> list[npt.NDArray[np.intp]]:
        """The tokens, each time, of what stands at `place` wherever a sentence has them, in other words, too.

        A single token that begins no word is in words that have nothing to do with it: it counts where it is known.
        """
        seen = np.flatnonzero(~marker_mask(ids, self.special))
        name = ids[seen[(seen >= place[0]) & (seen < place[1])]]
        if len(seen) < len(name):
            return []
        is_same = (np.lib.stride_tricks.sliding_window_view(ids[seen], len(name)) == name).all(axis=1)
        if len(name) == 1 and not self._begins_word[name[0]]:
            is_same &= np.isin(seen, same)
        return [seen[at : at + len(name)] for at in np.flatnonzero(is_same).tolist()]

    def _without_bare_markers(self, shown: IntArray, keep: npt.NDArray[np.bool_]) -> None:
        """Leave out, in `keep`, the markers between which nothing is left but a hint."""
        is_text = keep & ~marker_mask(shown, self.special) & (shown != self.special.mask)
        before = np.concatenate(([0], np.cumsum(is_text)))
        for a, b in mentions(shown, self.special):
            if before[a] == before[b]:
                keep[[a - 1, b]] = False

    def _asked(self, question: Cloze, passage: Stretch, rng: np.random.Generator) -> PretrainingExample:
        """[CLS] question [SEP] passage [SEP]; [CLS] asks."""
        (_, asking), (kept, shown) = self.shown_pair(question.tokens, passage, rng)
        inputs = join_segments(asking, shown, self.special)
        begin = len(asking.ids) + 2
        answers = [_moved(place, kept, begin) for place in question.places]
        return self._finish(inputs, begin, [Asked(0, tuple(answers))], rng)

    def _ask_inside(self, passage: Stretch, rng: np.random.Generator) -> PretrainingExample | None:
        """[CLS] passage [SEP]; every hidden place asks for the one that is left. None where nothing recurs."""
        ids, entities = passage.ids.copy(), passage.entities.copy()
        keep = np.ones(len(ids), dtype=np.bool_)
        asking: list[tuple[int, Mention]] = []  # where the [MASK] stands, and what it asks for
        for places in _named(mentions(ids, self.special), ids, self.special).values():
            if len(places) > 1:
                left = places.pop(int(rng.integers(len(places))))
                for a, b in places:
                    keep[a - 1 : b + 1] = False  # with its markers
                    ids[a], entities[a], keep[a] = self.special.mask, 0, True
                    asking.append((a, left))
        if not asking:
            return None
        where = np.flatnonzero(keep)
        stay, shown = self.shown(Stretch(ids[where], entities[where], passage.units[where]), rng)
        kept = where[stay].astype(np.int32)
        inputs = single_segment(shown, self.special)
        asked = [Asked(1 + int(np.searchsorted(kept, at)), (_moved(answer, kept, 1),)) for at, answer in asking]
        return self._finish(inputs, 1, asked, rng)

    def _finish(self, inputs: Joined, begin: int, asked: list[Asked], rng: np.random.Generator) -> PretrainingExample:
        """Mask, anywhere: sparing the answers would give them away. They may lie from `begin` on, or at [CLS]."""
        token_ids, segment_ids, entity_ids, units = inputs
        allowed = np.zeros(len(token_ids), dtype=np.bool_)
        allowed[begin:-1] = ~marker_mask(token_ids[begin:-1], self.special)
        allowed[0] = True  # as in fine-tuning, where it says "not here"
        masked, labels = mask_tokens(token_ids, rng, self.special, self.vocab_size, self._asked_masking, units)
        return PretrainingExample(masked, segment_ids, entity_ids, labels, asked=tuple(asked), allowed=allowed)


def _moved(mention: Mention, kept: IntArray, begin: int) -> tuple[int, int]:
    """First and last token, inclusive, of a mention whose first and last are among `kept`, which begin at `begin`."""
    first, last = np.searchsorted(kept, (mention[0], mention[1] - 1)).tolist()
    return begin + first, begin + last


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
            named.setdefault(_name((a, b), ids, special), []).append((a, b))
    return named


def _name(mention: Mention, ids: IntArray, special: SpecialTokens) -> bytes:
    """Its tokens but for the markers among them, which a word has that begins or ends within an entity."""
    tokens = ids[slice(*mention)]
    return tokens[~marker_mask(tokens, special)].tobytes()
