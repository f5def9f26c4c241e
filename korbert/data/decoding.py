"""Window logits → answers that are slices of the original text, for all questions at once.

The n-best procedure is that of transformers' `run_qa`: of each window the best starts and the best ends, of their
pairs the best that can be an answer.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import gc
import itertools
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.data.windows import Window
from korbert.errors import ConfigError, check_known, check_range
from korbert.morphology import PARTICLE_TAG, Analyser, make_analyser
from korbert.text import blank_mask, trim

FloatArray = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_BLOCK, _PAIRS = 1024, 4_000_000  # windows, and pairs of a start and an end in them, at a time
_MOST = 1_000_000  # answers, and tokens of one; no text has as many
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


class Candidate(NamedTuple):
    """A possible answer: characters `[start, end)` of the context, their text, and start + end logit.

    With a letter head the score also has the log-probability of the two edges within their tokens.
    """

    text: str
    start: int
    end: int
    score: float


_CANDIDATE = functools.partial(tuple.__new__, Candidate)  # of a tuple's fields; without Python's own calls in between


@dataclass
class DecodingConfig:
    """How answers are read off the logits; lengths in tokens, as in `run_qa`.

    max_context: an answer counts only in the window in which its first token has most text on both sides (Devlin et al.
    2019's code); `run_qa` lets it count in all of them. trim_josa: an analyser; the particles that it finds at the end
    of an answer are left out of it. temperature: divides the scores before their softmax says how sure the model is.
    """

    n_best: int = 20
    max_answer_length: int = 30
    max_context: bool = False
    trim_josa: str | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for key in ("n_best", "max_answer_length"):
            check_range(f"task.decoding.{key}", getattr(self, key), 1, _MOST)
        check_range("task.decoding.temperature", self.temperature, 0, above=True)
        if self.trim_josa is not None:  # an unknown one is refused now, not after training; none is started
            make_analyser(self.trim_josa, "task.decoding.trim_josa")

    def changed(self, values: Mapping[str, Any]) -> DecodingConfig:
        """With these values in the place of its own. Raises ConfigError naming the key for one that cannot be."""
        kinds = typing.get_type_hints(DecodingConfig)
        for key, value in values.items():
            check_known("decoding", key, kinds)
            kind = kinds[key]
            fits = isinstance(value, float | int if kind is float else kind)
            if not fits or (isinstance(value, bool) and kind is not bool):  # to Python a bool is an int
                raise ConfigError(f"decoding.{key}: wanted {_KINDS.get(kind, 'a name or null')}, got {value!r}")
        try:
            return replace(self, **values)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("task.")) from None


class Logits(NamedTuple):
    """What a model says of one window.

    start, end: (T,) or longer (padding is ignored). skip, trim: (C, M) float32 log-probabilities, that the answer
    begins m characters behind the start of a context token, or ends m before its end; None without a letter head.
    """

    start: FloatArray
    end: FloatArray
    skip: FloatArray | None = None
    trim: FloatArray | None = None


class _Found(NamedTuple):
    """Candidates, each (N,): number of the question, characters, score."""

    question: Indices
    start: Indices
    end: Indices
    score: npt.NDArray[np.float64]


@contextlib.contextmanager
def _many_objects() -> Iterator[None]:
    """Leave out garbage collection, which would go through all there is again and again, and find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_many_objects()
def decode_answers(
    windows: Sequence[Window], logits: Iterable[Logits], config: DecodingConfig
) -> dict[str, list[Candidate]]:
    """The n-best answers of every question, best first, over all of its windows, in the order of the windows.

    Every answer is a slice of its context, without white space at its ends; the same characters found twice count
    once, with their best score. A question without a possible answer has an empty list.
    """
    if not windows:
        return {}
    numbers: dict[str, int] = {}
    contexts: list[str] = []
    for window in windows:
        if window.question_id not in numbers:
            numbers[window.question_id] = len(contexts)
            contexts.append(window.context)
    questions = np.array([numbers[window.question_id] for window in windows], dtype=np.int64)
    best_places = _with_most_context(windows, questions) if config.max_context else None
    parts = []
    given = list(logits)
    tried = min(config.n_best, max(len(window.starts) for window in windows))
    size = max(1, min(_BLOCK, _PAIRS // max(1, tried) ** 2))
    for first in range(0, len(windows), size):
        block = slice(first, first + size)
        allowed = None if best_places is None else best_places[block]
        parts.append(_decode(windows[block], questions[block], given[block], config, allowed))
    found = _Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    if config.trim_josa is not None:
        found = found._replace(end=_without_josa(found, contexts, _josa_analyser(config.trim_josa)))
    best = _n_best(found, config.n_best)
    edges = np.searchsorted(best.question, np.arange(len(contexts) + 1)).tolist()
    starts, ends, scores = (column.tolist() for column in best[1:])
    texts = [contexts[i][a:b] for i, a, b in zip(best.question.tolist(), starts, ends, strict=True)]
    candidates = list(map(_CANDIDATE, zip(texts, starts, ends, scores, strict=True)))
    return {key: candidates[a:b] for key, (a, b) in zip(numbers, itertools.pairwise(edges), strict=True)}


@_many_objects()
def scores_of(answers: Mapping[str, Sequence[Candidate]]) -> list[list[float]]:
    """The scores of each question's candidates, for its confidence."""
    return [[candidate.score for candidate in candidates] for candidates in answers.values()]


def _decode(
    windows: Sequence[Window],
    questions: Indices,
    logits: Sequence[Logits],
    config: DecodingConfig,
    allowed: Sequence[npt.NDArray[np.bool_]] | None,
) -> _Found:
    """The n-best spans of each window."""
    counts = np.array([len(window.starts) for window in windows])
    start, end = _context_logits(windows, logits, counts, allowed)
    firsts, lasts = _top(start, config.n_best), _top(end, config.n_best)  # (W, n)
    rows = np.arange(len(windows))[:, None]
    is_marker = np.concatenate([window.is_marker for window in windows])
    begins = (np.cumsum(counts) - counts)[:, None]
    texts = np.cumsum(~is_marker) if is_marker.any() else None  # an answer is as long as it is without its markers

    def places(tokens: Indices) -> npt.NDArray[np.uint32]:
        """As unsigned numbers, in which an end before its start is very far behind it."""
        counted = tokens if texts is None else texts[np.minimum(begins + tokens, len(texts) - 1)]
        return counted.astype(np.uint32)

    later = places(lasts)[:, None, :] - places(firsts)[:, :, None]  # (W, n, n)
    scores = start[rows, firsts][:, :, None] + end[rows, lasts][:, None, :]
    np.copyto(scores, -np.inf, where=later >= config.max_answer_length)
    flat = scores.reshape(len(windows), -1)
    best = _top(flat, config.n_best)
    keep = np.isfinite(flat[rows, best])
    row = np.broadcast_to(rows, best.shape)[keep]
    pair = best[keep]
    first, last = firsts[row, pair // lasts.shape[1]], lasts[row, pair % lasts.shape[1]]
    score = flat[row, pair].astype(np.float64)
    offsets = np.cumsum(counts) - counts
    begin = np.concatenate([window.starts for window in windows])[offsets[row] + first].astype(np.int64)
    stop = np.concatenate([window.ends for window in windows])[offsets[row] + last].astype(np.int64)
    if logits and logits[0].skip is not None:
        skip, trim, certainty = _edges(logits, row, first, last, stop - begin)
        begin, stop, score = begin + skip, stop - trim, score + certainty
    begin, stop = _without_blanks(windows, row, begin, stop)
    some = begin < stop
    return _Found(questions[row][some], begin[some], stop[some], score[some])


def _context_logits(
    windows: Sequence[Window],
    logits: Sequence[Logits],
    counts: Indices,
    allowed: Sequence[npt.NDArray[np.bool_]] | None,
) -> tuple[FloatArray, FloatArray]:
    """Start and end logits of the context's tokens, (W, longest), minus infinity where no answer can begin or end."""
    start, end = np.full((2, len(windows), max(1, int(counts.max()))), -np.inf, dtype=np.float32)
    for window, said, count, starts, ends in zip(windows, logits, counts.tolist(), start, end, strict=True):
        part = slice(window.context_start, window.context_start + count)
        starts[:count] = said.start[part]
        ends[:count] = said.end[part]
    barred = np.concatenate([window.is_marker for window in windows])
    cannot_begin = barred if allowed is None else barred | ~np.concatenate(allowed)
    if cannot_begin.any():
        inside = np.arange(start.shape[1]) < counts[:, None]  # in the order of what lies end to end
        start[inside] = np.where(cannot_begin, -np.inf, start[inside])
        end[inside] = np.where(barred, -np.inf, end[inside])
    return start, end


def _top(values: FloatArray, count: int) -> Indices:
    """Places of the largest values of each row, largest first; ties go to the lower place, (rows, count at most)."""
    count = min(count, values.shape[1])
    if values.shape[1] > 4 * count:
        # The few first, then their order.
        edge = np.partition(values, values.shape[1] - count, axis=1)[:, -count, None]
        is_top = values >= edge
        tied = np.flatnonzero(np.count_nonzero(is_top, axis=1) > count)
        if len(tied):  # of equal values at the edge the lower places
            above, equal = values[tied] > edge[tied], values[tied] == edge[tied]
            left = count - np.count_nonzero(above, axis=1)
            is_top[tied] = above | (equal & (equal.cumsum(axis=1) <= left[:, None]))
        places = (np.flatnonzero(is_top) % values.shape[1]).reshape(len(values), count)
    else:
        places = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order = np.argsort(-np.take_along_axis(values, places, 1), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(places, order, 1)


def _edges(
    logits: Sequence[Logits], row: Indices, first: Indices, last: Indices, length: Indices
) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    """The best edges within the first and the last token of each candidate, and how sure the model is of them."""
    skips = np.stack([_given(logits[r].skip)[i] for r, i in zip(row.tolist(), first.tolist(), strict=True)])  # (N, M)
    trims = np.stack([_given(logits[r].trim)[i] for r, i in zip(row.tolist(), last.tolist(), strict=True)])
    skip, trim = skips.argmax(1), trims.argmax(1)
    for index in np.flatnonzero((first == last) & (skip + trim >= length)):  # nothing would be left of the token
        pairs = skips[index][:, None] + trims[index][None, :]
        size = np.add.outer(np.arange(len(skips[index])), np.arange(len(trims[index])))
        pairs = np.where(size < max(1, length[index]), pairs, -np.inf)
        skip[index], trim[index] = np.unravel_index(pairs.argmax(), pairs.shape)
    at = np.arange(len(row))
    return skip, trim, (skips[at, skip] + trims[at, trim]).astype(np.float64)


def _given(values: FloatArray | None) -> FloatArray:
    assert values is not None
    return values


def _without_blanks(windows: Sequence[Window], row: Indices, begin: Indices, stop: Indices) -> tuple[Indices, Indices]:
    """Shrink the spans past white space and invisible characters at both ends."""
    where: dict[str, int] = {}  # each context's place in all of them, end to end with one character between
    size = 0
    for window in windows:
        if window.context not in where:
            where[window.context] = size
            size += len(window.context) + 1
    visible = ~blank_mask(".".join([*where, ""]))
    places = np.arange(size)
    # For each place, where the next visible character begins, and where the last one before it ends.
    following = np.minimum.accumulate(np.where(visible, places, size)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(np.append(True, visible[:-1]), places, 0))
    offset = np.array([where[window.context] for window in windows], dtype=np.int64)[row]
    return following[offset + begin] - offset, preceding[offset + stop] - offset


def _without_josa(found: _Found, contexts: Sequence[str], analyser: Analyser) -> Indices:
    """Ends of the candidates before the particles there; something else is always left.

    One that stops before the candidate does is not at its end: some analysers leave out forms that the text lacks.
    """
    ends = found.end.copy()
    order = np.argsort(found.question, kind="stable")
    analysed: dict[str, tuple[list[int], list[int], list[bool]]] = {}
    for index in order.tolist():
        context = contexts[found.question[index]]
        if context not in analysed:
            analysed[context] = _morphemes(context, analyser)
        starts, stops, is_particle = analysed[context]
        last = bisect.bisect_left(starts, int(ends[index])) - 1
        while last > 0 and is_particle[last] and starts[last] > found.start[index] and stops[last] >= ends[index]:
            ends[index] = trim(context, int(found.start[index]), starts[last])[1]
            last -= 1
    return ends


def _morphemes(context: str, analyser: Analyser) -> tuple[list[int], list[int], list[bool]]:
    """Where each morpheme starts and stops, and whether it is a particle."""
    found = analyser.analyse_in_nfc(context)
    are_particles = [morpheme.tag.startswith(PARTICLE_TAG) for morpheme in found]
    return [morpheme.start for morpheme in found], [morpheme.end for morpheme in found], are_particles


@functools.lru_cache(maxsize=2)
def _josa_analyser(name: str) -> Analyser:
    """Started once: some take seconds to start."""
    return make_analyser(name, "trim_josa")


def _with_most_context(windows: Sequence[Window], questions: Indices) -> list[npt.NDArray[np.bool_]]:
    """Of each window, (C,): whether a token has most text on its scarcer side here, of its question's windows."""
    counts = np.array([len(window.starts) for window in windows])
    within = np.concatenate([np.arange(count) for count in counts])
    total = np.repeat(counts, counts)
    room = np.minimum(within, total - 1 - within) + 0.01 * total
    starts = np.concatenate([window.starts for window in windows])
    ends = np.concatenate([window.ends for window in windows])  # several tokens of one character begin where it does
    ids = np.concatenate([w.token_ids[w.context_start : w.context_start + len(w.starts)] for w in windows])
    number = _numbers(np.stack([np.repeat(np.arange(len(counts)), counts), starts, ends, ids]))
    order = np.lexsort((-room, number, ids, ends, starts, np.repeat(questions, counts)))
    keys = np.stack([np.repeat(questions, counts), starts, ends, ids, number])[:, order]
    is_first = np.append(np.ones(min(1, len(order)), dtype=np.bool_), (keys[:, 1:] != keys[:, :-1]).any(0))
    best = np.zeros(len(within), dtype=np.bool_)
    best[order[is_first]] = True
    return np.split(best, np.cumsum(counts)[:-1])


def _numbers(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each column, how many equal ones stand before it: a character's bytes may be the same, and have its span."""
    place = np.arange(keys.shape[1])
    order = np.lexsort((place, *keys))
    same = np.append(np.zeros(min(1, len(order)), dtype=np.bool_), (keys[:, order[1:]] == keys[:, order[:-1]]).all(0))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = place - np.maximum.accumulate(np.where(same, 0, place))
    return found


def _n_best(found: _Found, count: int) -> _Found:
    """Each question's best candidates, question by question, best first, no characters twice."""
    # A number for each span of each question: far below 2 ** 63 for any texts that fit into memory.
    width = int(found.end.max(initial=0)) + 1
    spans = (found.question * width + found.start) * width + found.end
    order = np.argsort(spans, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(spans[order]) > 0)[: len(order)])
    score = np.maximum.reduceat(found.score[order], first) if len(order) else found.score
    question, start, end = (column[order[first]] for column in found[:3])
    order = np.lexsort((-score, question))  # of equal scores the span that begins, then ends, first
    question = question[order]
    is_best = np.arange(len(order)) - np.searchsorted(question, question, side="left") < count
    order = order[is_best]
    return _Found(question[is_best], start[order], end[order], score[order])
