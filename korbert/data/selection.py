"""Recurring-span selection: questions without labels, made of entities that a document names more than once.

After Splinter (Ram et al. 2021), in two forms. Inside a passage, an entity that recurs is hidden in all places but
one, and each of those asks for the one that is left. As a cloze, a sentence asks, with its entity taken out, and the
model points at that entity in a passage of the same document. The sentence comes from elsewhere in the document; or,
as an "echo", from the passage itself with words left out, since questions repeat words of the sentence that answers
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.masking import mask_tokens
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

# Particles that follow nouns, as tokens; those that also end verbs are left out.
_JOSA = frozenset((
    "은", "는", "이", "가", "을", "를", "의", "에", "에서", "에게", "에는", "에도", "에서는", "으로", "로", "으로는",
    "와", "과", "도", "부터", "까지", "이다", "이며", "이라는", "으로서", "로서", "들은", "들이", "들을", "보다",
))  # fmt: skip
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
        if self.corpus.manifest.annotator == "none" and selection.needs_entities:
            raise ConfigError(
                "task.selection asks for entities: choose an annotator, e.g. entities=mecab, or ask for words alone, "
                "task.selection.echo=1 task.selection.words=1"
            )
        if selection.words > 0 and not self._begins_word.any():
            raise ConfigError("task.selection.words: no token of this tokenizer is one for the start of a word")
        if self.max_length < selection.question_length + 16:
            raise ConfigError(
                f"task.selection.question_length={selection.question_length} leaves too little of "
                f"max_length={self.max_length} for the passage"
            )

    @cached_property
    def _endings(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Entries that are a josa, and those that say nothing, as a part of speech does, inside words, (V,) each."""
        texts = [self._tokenizer.decode([i]).removeprefix("##") for i in range(len(self._tokenizer))]
        return (
            np.array([text in _JOSA for text in texts]) & ~self._begins_word,
            np.array([not text for text in texts]) & ~self._begins_word,
        )

    @cached_property
    def _josa_runs(self) -> frozenset[tuple[int, ...]]:
        """What a tokenizer writes josa with that has no token for one: the tokens behind a noun, as those of jamo."""
        noun = "나무"
        runs = set()
        for josa in _JOSA:
            tokens = self._tokenizer.encode(noun + josa)
            first = int(np.searchsorted(tokens.ends, len(noun), side="right"))  # jamo behind a first one have no width
            run = tokens.ids[first:]
            if len(run) and tokens.starts[first] == len(noun) and self.special.unk not in run:
                runs.add(tuple(run.tolist()))
        return frozenset(runs)

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
        text = self.corpus.tokens(document, 0, self.corpus.document_length(document))
        ids = text.ids
        is_echo = rng.random() < self.selection.echo
        if is_echo and rng.random() < self.selection.words:
            found = [(a + first, b + first) for a, b in self._words(ids[first:last])]
        else:
            found = mentions(ids, self.special)
        candidates = []
        for places in _named(found, ids, self.special).values():
            inside = [(a, b) for a, b in places if first < a and b < last]  # with a mention's markers
            asking = inside if is_echo else [place for place in places if place not in inside]
            if inside and asking:
                candidates.append((inside, asking))
        if not candidates:
            return None
        # Each recurring entity is as likely as another: the document's subject is not asked for all the time.
        inside, asking = candidates[rng.integers(len(candidates))]
        chosen = asking[rng.integers(len(asking))]
        same = [place for place in found if ids[slice(*place)].tobytes() == ids[slice(*chosen)].tobytes()]
        tokens = self._take_out(document, text, chosen, same, is_echo, rng)
        places = [(a - first, b - first) for a, b in inside]
        return None if tokens is None else Cloze(tokens, places)

    def _words(self, ids: IntArray) -> list[Mention]:
        """Runs of tokens from the beginning of a word to its josa: nouns, nearly always."""
        is_special = self.special.among(ids)
        edges = np.flatnonzero(self._begins_word[ids] | is_special | np.roll(is_special, 1))
        before, keeps_josa = self._ending
        words = []
        for a, b in itertools.pairwise([*edges.tolist(), len(ids)]):  # where no word begins there is none
            end = before(ids, a, b)
            if a < end and (end < b or keeps_josa) and self._begins_word[ids[a]]:
                words.append((a, end))
        return words

    @cached_property
    def _ending(self) -> tuple[Callable[[IntArray, int, int], int], bool]:
        """What finds the josa of a word, and whether the tokenizer keeps it in a token with its noun."""
        if self._endings[0].any():
            return self._before_josa, False
        return self._before_run, not self._josa_runs

    def _before_josa(self, ids: IntArray, first: int, last: int) -> int:
        """Where the josa begins that end the word `[first, last)`, each a token; `last` where there is none."""
        is_josa, is_silent = self._endings
        end = place = last
        while place > first and (is_josa[ids[place - 1]] or is_silent[ids[place - 1]]):
            place -= 1
            end = place if is_josa[ids[place]] else end
        return end

    def _before_run(self, ids: IntArray, first: int, last: int) -> int:
        """The same for a josa of several tokens, the longest that it can be."""
        word = tuple(ids[first:last].tolist())
        return next((first + i for i in range(1, len(word)) if word[i:] in self._josa_runs), last)

    def _take_out(
        self,
        document: int,
        text: Stretch,
        mention: Mention,
        same: list[Mention],
        is_echo: bool,
        rng: np.random.Generator,
    ) -> Stretch | None:
        """The sentence around a mention without it and what is the `same`, and not longer than allowed."""
        ends = np.cumsum(self.corpus.sentence_lengths(document))
        number = int(np.searchsorted(ends, mention[0], side="right"))
        start, end = int(ends[number - 1]) if number else 0, int(ends[number])
        keep = np.ones(end - start, dtype=np.bool_)
        ids, entities, units = text.take(slice(start, end))
        shown = ids.copy()
        hint = rng.random() < self.selection.hint
        for a, b in same:
            if start <= a and b <= end:
                a, b = a - start, b - start
                is_marked = (
                    a > 0 and b < len(shown) and shown[a - 1] == self.special.ent and shown[b] == self.special.ent_end
                )
                keep[a - is_marked : b + is_marked] = False  # its markers too
                if hint:
                    shown[a], keep[a] = self.special.mask, True
        if is_echo:
            # Other entities stay, they are what a question is about; so do their markers and the hint.
            dropped = rng.random(len(keep)) < rng.random() * self.selection.drop
            keep &= ~dropped | (entities > 0) | self.special.among(shown)
        # Where the sentence is too long, what is near the mention stays.
        at = np.flatnonzero(keep)
        if len(at) < 3:
            return None
        near = int(np.searchsorted(at, mention[0] - start))
        limit = self.selection.question_length
        begin = int(np.clip(near - limit // 2, 0, max(0, len(at) - limit)))
        at = at[begin : begin + limit]
        entity_ids = np.where(shown[at] == self.special.mask, 0, entities[at]).astype(np.int32)
        return Stretch(shown[at], entity_ids, units[at])

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
    """First and last token, inclusive, of a mention whose tokens are all among `kept`, which begin at `begin`."""
    first = begin + int(np.searchsorted(kept, mention[0]))
    return first, first + mention[1] - mention[0] - 1


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
