"""Questions and paragraphs → model windows.

The windows follow transformers' `run_qa` procedure: `[CLS] question [SEP] part of the context [SEP]`, neighbouring
parts sharing `doc_stride` tokens; a window without the whole answer is trained to point at [CLS].

Where the number of mentions is limited, room is kept for the markers of so many, and they count nowhere else: questions
and parts have the text that they have where nothing is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import Answer, KorquadDataset, Paragraph, Question
from korbert.encoding import (
    EVERYTHING,
    Encoding,
    EntityInput,
    EntityMode,
    balanced,
    encode,
    marker_mask,
    mention_count,
    mention_numbers,
)
from korbert.entities import EntityAnnotator
from korbert.errors import ConfigError, check_range
from korbert.text import AnnotatedText, IntArray, place_of, trim
from korbert.tokenizers import SpecialTokens, Tokenizer

_LONGEST = 1_000_000  # tokens of a window; no model reads as many


@dataclass
class WindowConfig:
    """Window sizes in tokens. `doc_stride` is what neighbouring windows share, as in transformers' `run_qa`."""

    max_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64

    def __post_init__(self) -> None:
        for key, least in (("max_length", 1), ("doc_stride", 0), ("max_question_length", 1)):
            check_range(f"task.window.{key}", getattr(self, key), least, _LONGEST)
        if self.room <= self.doc_stride:
            raise ConfigError(
                f"task.window: max_length={self.max_length} leaves {self.room} context tokens beside a question of "
                f"max_question_length={self.max_question_length}; that must be more than doc_stride={self.doc_stride}"
            )

    @property
    def room(self) -> int:
        """Context tokens beside the longest question."""
        return self.max_length - self.max_question_length - 3


@dataclass(frozen=True, slots=True)
class Window:
    """One model input of a question.

    token_ids, segment_ids, entity_ids: (T,) int32. context_start: index of the first context token; starts, ends:
    (C,) int32, the original characters of the C context tokens from there on, in `context`; is_marker: (C,). answer:
    first and last token, inclusive; (0, 0), which is [CLS], where this window does not hold it or none is known.
    beyond: characters of those two tokens before and behind the answer.
    """

    question_id: str
    context: str
    token_ids: IntArray
    segment_ids: IntArray
    entity_ids: IntArray
    context_start: int
    starts: IntArray
    ends: IntArray
    is_marker: npt.NDArray[np.bool_]
    answer: tuple[int, int]
    beyond: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Where a span may begin or end, (T,): [CLS] for "not here", and the context's own tokens but markers."""
        allowed = np.zeros(len(self.token_ids), dtype=np.bool_)
        allowed[0] = True
        allowed[self.context_start : self.context_start + len(self.starts)] = ~self.is_marker
        return allowed


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """What was made, and what training cannot use."""

    questions: int
    windows: int
    unanswerable: int  # questions whose known answer is whole in no window
    truncated_questions: int


class _Asked(NamedTuple):
    """A question's tokens, and how many of its text there are; of a limited number of mentions, all markers."""

    token_ids: IntArray
    entity_ids: IntArray
    length: int


class WindowMaker:
    """Makes the windows of a data set; every paragraph and question is annotated and tokenized once."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        annotator: EntityAnnotator,
        entities: EntityInput | EntityMode,
        config: WindowConfig,
    ) -> None:
        self.tokenizer, self.annotator, self.config = tokenizer, annotator, config
        self.entities = EntityInput.of(entities)
        # In every mode that cuts, so that controls read the same text.
        limit = self.entities.max_entities if self.entities.mode.cuts else None
        if limit is not None and self.config.room - 2 * limit <= config.doc_stride:
            raise ConfigError(
                f"entities.max_entities={limit}: their markers leave {config.room - 2 * limit} of {config.room} "
                f"context tokens in a window; that must be more than doc_stride={config.doc_stride}"
            )
        self._cls, self._sep = (np.array([i], dtype=np.int32) for i in (tokenizer.special.cls, tokenizer.special.sep))
        self._shared = SharedColumns(config.max_length)

    def dataset(
        self, dataset: KorquadDataset, progress: Callable[[int], None] | None = None
    ) -> tuple[list[Window], WindowStatistics]:
        """All windows in question order; `progress` is called with the number of questions done."""
        windows: list[Window] = []
        questions = unanswerable = truncated = 0
        for article in dataset.articles:
            for paragraph in article.paragraphs:
                for question, (made, was_truncated) in zip(
                    paragraph.questions, self._paragraph(paragraph), strict=True
                ):
                    windows += made
                    questions += 1
                    unanswerable += bool(question.answers) and all(window.answer == (0, 0) for window in made)
                    truncated += was_truncated
                if progress:
                    progress(questions)
        return windows, WindowStatistics(questions, len(windows), unanswerable, truncated)

    def question(self, question: str, context: str) -> list[Window]:
        """The windows of a single question without a known answer."""
        ((windows, _),) = self._paragraph(Paragraph(context, (Question("", question, ()),)))
        return windows

    def _paragraph(self, paragraph: Paragraph) -> Iterator[tuple[list[Window], bool]]:
        """The windows of each question, and whether it was too long."""
        texts = [paragraph.context, *(question.text for question in paragraph.questions)]
        cuts = self.entities.mode.cuts
        annotated = self.annotator.annotate_all(texts) if cuts else [AnnotatedText(text) for text in texts]
        context = _Context(paragraph.context, self._encoded(annotated[0]), self.tokenizer.special)
        for question, text in zip(paragraph.questions, annotated[1:], strict=True):
            asked, is_cut = self._asked(text)
            yield self._windows(question, context, asked), is_cut

    def _asked(self, text: AnnotatedText) -> tuple[_Asked, bool]:
        """A question of at most `max_question_length` tokens, and whether it had more."""
        limit, special = self.config.max_question_length, self.tokenizer.special
        if not self.entities.mode.cuts:  # nothing asks where a question's tokens stand
            ids = self.tokenizer.encode_ids(text.text)
            length = min(limit, len(ids))
            return _Asked(ids[:limit], self._shared.zeros[:length], length), len(ids) > limit
        encoded = self._encoded(text)
        length, end = len(encoded), limit
        if self.entities.max_entities is not None:
            text_tokens, edges = _text_edges(encoded.token_ids, special)
            length, end = len(text_tokens), int(edges[min(limit, len(text_tokens))])
        short = encoded.window(0, end, special)
        return _Asked(short.token_ids, short.entity_ids, min(limit, length)), length > limit

    def _windows(self, question: Question, context: _Context, asked: _Asked) -> list[Window]:
        gold = context.cover(question.answers[0]) if question.answers else None
        edge = self._shared.zeros[:1]
        windows = []
        for head, head_entities, keep, part in self._sequences(asked, context.encoding):
            answer = beyond = (0, 0)
            if gold is not None and (found := _places(keep, gold.tokens)) is not None:
                answer, beyond = (len(head) + found[0], len(head) + found[1]), gold.beyond
            token_ids = np.concatenate((head, part.token_ids, self._sep))
            windows.append(
                Window(
                    question.id,
                    context.text,
                    token_ids,
                    self._shared.segments(len(head), len(token_ids)),
                    np.concatenate((head_entities, part.entity_ids, edge))
                    if self.entities.uses_embedding
                    else self._shared.zeros[: len(token_ids)],
                    len(head),
                    part.starts,
                    part.ends,
                    context.is_marker[keep],
                    answer,
                    beyond,
                )
            )
        return windows

    def _sequences(
        self, asked: _Asked, context: Encoding
    ) -> Iterator[tuple[IntArray, IntArray, slice | IntArray, Encoding]]:
        """Of each window the tokens up to the context and their entity ids, which of the context it has, and those."""
        special, stride = self.tokenizer.special, self.config.doc_stride
        if self.entities.max_entities is None:
            head = self._head(asked.token_ids, asked.entity_ids)
            for start, end in window_ranges(len(context), self.config.max_length - len(head[0]) - 1, stride):
                keep: slice | IntArray = slice(start, end)
                if self.entities.mode.has_markers:
                    keep = start + balanced(context.token_ids[start:end], special)
                yield *head, keep, context.take(keep)
            return
        room = self.config.max_length - asked.length - 3
        if self.entities.mode.cuts:
            room -= 2 * self.entities.max_entities
        text, edges = _text_edges(context.token_ids, special)
        mentions = mention_count(mention_numbers(asked.token_ids, asked.entity_ids, special))
        for start, end in window_ranges(len(text), room, stride):
            begin = int(edges[start - 1]) + 1 if start else 0
            whole = begin + balanced(context.token_ids[begin : int(edges[end])], special)
            part = context.take(whole)
            others = mention_count(mention_numbers(part.token_ids, part.entity_ids, special))
            own, of_part = self.entities.shares(mentions, others)
            few, head_entities = self.entities.fitting(asked.token_ids, asked.entity_ids, special, own)
            head = self._head(asked.token_ids[few], head_entities)
            few, entity_ids = self.entities.fitting(part.token_ids, part.entity_ids, special, of_part)
            yield *head, whole[few], replace(part.take(few), entity_ids=entity_ids)

    def _head(self, token_ids: IntArray, entity_ids: IntArray) -> tuple[IntArray, IntArray]:
        """[CLS] question [SEP], and its entity ids, where there are any."""
        edge = self._shared.zeros[:1]
        if self.entities.uses_embedding:
            entity_ids = np.concatenate((edge, entity_ids, edge))
        return np.concatenate((self._cls, token_ids, self._sep)), entity_ids

    def _encoded(self, text: AnnotatedText) -> Encoding:
        """As the entity input wants it; where mentions are limited with all of them, see `EntityInput.fitting`."""
        given = self.entities if self.entities.max_entities is None else EVERYTHING
        return encode(text, self.tokenizer, given)


class SharedColumns:
    """Columns that are alike in all windows of at most `max_length` tokens: each takes as much as it needs."""

    def __init__(self, max_length: int) -> None:
        self.zeros = np.zeros(max_length, dtype=np.int32)
        self._segments = np.repeat(np.array([0, 1], dtype=np.int32), max_length)
        self._first = max_length
        for column in (self.zeros, self._segments):
            column.flags.writeable = False

    def segments(self, context_start: int, length: int) -> IntArray:
        """0 up to the context, 1 from there on, (length,)."""
        begin = self._first - context_start
        return self._segments[begin : begin + length]


class _Cover(NamedTuple):
    """Tokens, first and last, that together cover an answer; their characters before and behind it."""

    tokens: tuple[int, int]
    beyond: tuple[int, int]


class _Context:
    """An encoded context, and where text is in it."""

    def __init__(self, text: str, encoding: Encoding, special: SpecialTokens) -> None:
        self.text, self.encoding = text, encoding
        self.is_marker = marker_mask(encoding.token_ids, special)
        # Markers have no characters, as some tokens of expanded characters.
        self._tokens = np.flatnonzero(encoding.ends > encoding.starts)
        self._starts, self._ends = encoding.starts[self._tokens], encoding.ends[self._tokens]

    def cover(self, answer: Answer) -> _Cover | None:
        """The fewest tokens that cover the answer; None where there is a character of it that no token has.

        White space at the answer's ends does not count: no token covers it.
        """
        start, end = trim(self.text, answer.start, answer.end)
        if start == end:
            return None
        first = place_of(self._ends, start, "right")
        last = place_of(self._starts, end, "left") - 1
        if first > last or self._starts[first] > start or self._ends[last] < end:
            return None
        tokens = int(self._tokens[first]), int(self._tokens[last])
        return _Cover(tokens, (start - int(self._starts[first]), int(self._ends[last]) - end))


def _places(keep: slice | IntArray, tokens: tuple[int, int]) -> tuple[int, int] | None:
    """Where two tokens are among those that a part has; None if it lacks one of them, or any between them."""
    first, last = tokens
    if isinstance(keep, slice):
        return (first - keep.start, last - keep.start) if keep.start <= first and last < keep.stop else None
    a, b = keep.searchsorted(tokens).tolist()
    return (a, b) if b < len(keep) and keep[a] == first and keep[b] == last else None


def _text_edges(token_ids: IntArray, special: SpecialTokens) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the tokens of text are, and where n of them end: where the next one is, so with the markers between."""
    text = np.flatnonzero(~marker_mask(token_ids, special))
    return text, np.append(text, len(token_ids))


def window_ranges(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Token ranges of at most `room` tokens that cover `length` tokens, each sharing `stride` with the one before."""
    ranges = [(0, min(room, length))]
    while ranges[-1][1] < length:
        start = ranges[-1][0] + room - stride
        ranges.append((start, min(start + room, length)))
    return ranges
