"""Questions and paragraphs → model windows.

The windows follow transformers' `run_qa` procedure: `[CLS] question [SEP] part of the context [SEP]`, neighbouring
parts sharing `doc_stride` tokens; a window without the whole answer is trained to point at [CLS].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import Answer, KorquadDataset, Paragraph, Question
from korbert.data.pretraining import join_segments
from korbert.data.shards import stretch
from korbert.encoding import Encoding, EntityInput, EntityMode, encode
from korbert.entities import EntityAnnotator
from korbert.errors import ConfigError
from korbert.text import AnnotatedText, IntArray, trim
from korbert.tokenizers import SpecialTokens, Tokenizer


@dataclass
class WindowConfig:
    """Window sizes in tokens. `doc_stride` is what neighbouring windows share, as in transformers' `run_qa`."""

    max_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64

    def __post_init__(self) -> None:
        if self.doc_stride < 0 or self.room <= self.doc_stride:
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
    unanswerable: int  # questions whose answer is whole in no window
    truncated_questions: int


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
        limit = self.entities.max_entities
        if limit is not None and self.config.room - 2 * limit <= config.doc_stride:
            raise ConfigError(
                f"entities.max_entities={limit}: their markers leave {config.room - 2 * limit} of {config.room} "
                f"context tokens in a window; that must be more than doc_stride={config.doc_stride}"
            )

    def dataset(
        self, dataset: KorquadDataset, progress: Callable[[int], None] | None = None
    ) -> tuple[list[Window], WindowStatistics]:
        """All windows in question order; `progress` is called with the number of questions done."""
        windows: list[Window] = []
        questions = unanswerable = truncated = 0
        for article in dataset.articles:
            for paragraph in article.paragraphs:
                context = self._encode(paragraph.context)
                for question in paragraph.questions:
                    made, was_truncated = self._question(question, paragraph, context)
                    windows += made
                    questions += 1
                    unanswerable += all(window.answer == (0, 0) for window in made)
                    truncated += was_truncated
                if progress:
                    progress(questions)
        return windows, WindowStatistics(questions, len(windows), unanswerable, truncated)

    def question(self, question: str, context: str) -> list[Window]:
        """The windows of a single question without a known answer."""
        paragraph = Paragraph(context, (Question("", question, ()),))
        return self._question(paragraph.questions[0], paragraph, self._encode(context))[0]

    def _encode(self, text: str) -> Encoding:
        annotated = self.annotator.annotate(text) if self.entities.mode.cuts else AnnotatedText(text)
        return encode(annotated, self.tokenizer, self.entities)

    def _question(self, question: Question, paragraph: Paragraph, context: Encoding) -> tuple[list[Window], bool]:
        encoded = self._limited(self._encode(question.text))
        limit = self.config.max_question_length
        short = encoded.window(0, limit, self.tokenizer.special)
        room = self.config.max_length - len(short) - 3
        windows = [self._window(question, paragraph, short, part) for part in self._parts(context, room)]
        return windows, len(encoded) > limit

    def _parts(self, context: Encoding, room: int) -> list[Encoding]:
        """The context in parts of at most `room` tokens.

        Where the number of mentions is limited, room is kept for so many markers: then the parts hold the same text
        whatever is marked in it, and no marker pushes an answer out.
        """
        special, stride = self.tokenizer.special, self.config.doc_stride
        if self.entities.max_entities is None:
            return [context.window(*ends, special) for ends in window_ranges(len(context), room, stride)]
        if self.entities.mode.has_markers:
            room -= 2 * self.entities.max_entities
        text = np.flatnonzero(~marker_mask(context.token_ids, special))
        edges = np.append(text, len(context))  # a part ends where the next one's text would begin, markers and all
        ranges = window_ranges(len(text), room, stride)
        return [
            self._limited(context.window(int(edges[start - 1]) + 1 if start else 0, int(edges[end]), special))
            for start, end in ranges
        ]

    def _limited(self, encoding: Encoding) -> Encoding:
        keep, entity_ids = self.entities.limited(encoding.token_ids, encoding.entity_ids, self.tokenizer.special)
        return replace(encoding.take(keep), entity_ids=entity_ids)

    def _window(self, question: Question, paragraph: Paragraph, short: Encoding, part: Encoding) -> Window:
        special = self.tokenizer.special
        token_ids, segment_ids, entity_ids, _ = join_segments(stretch(short), stretch(part), special)
        is_marker = marker_mask(part.token_ids, special)
        context_start = len(short) + 2
        answer = beyond = (0, 0)
        if question.answers:
            gold = question.answers[0]
            span = answer_tokens(gold, paragraph.context, part, is_marker)
            if span is not None:
                answer = (context_start + span[0], context_start + span[1])
                start, end = trim(paragraph.context, gold.start, gold.end)
                beyond = (start - int(part.starts[span[0]]), int(part.ends[span[1]]) - end)
        return Window(
            question.id,
            paragraph.context,
            token_ids,
            segment_ids,
            entity_ids,
            context_start,
            part.starts,
            part.ends,
            is_marker,
            answer,
            beyond,
        )


def marker_mask(token_ids: IntArray, special: SpecialTokens) -> npt.NDArray[np.bool_]:
    """Where [ENT] and [/ENT] stand, (T,)."""
    return (token_ids == special.ent) | (token_ids == special.ent_end)


def window_ranges(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Token ranges of at most `room` tokens that cover `length` tokens, each sharing `stride` with the one before."""
    ranges = [(0, min(room, length))]
    while ranges[-1][1] < length:
        start = ranges[-1][0] + room - stride
        ranges.append((start, min(start + room, length)))
    return ranges


def answer_tokens(
    answer: Answer, context: str, part: Encoding, is_marker: npt.NDArray[np.bool_]
) -> tuple[int, int] | None:
    """First and last context token (inclusive) that together cover the answer, None if it is not all here.

    White space at the answer's ends does not count: no token covers it.
    """
    start, end = trim(context, answer.start, answer.end)
    if start == end:
        return None
    text_tokens = np.flatnonzero(~is_marker & (part.ends > part.starts))
    starts, ends = part.starts[text_tokens], part.ends[text_tokens]
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(starts, end, side="left")) - 1
    if first > last or starts[first] > start or ends[last] < end:
        return None
    return int(text_tokens[first]), int(text_tokens[last])
