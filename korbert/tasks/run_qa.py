"""The question answering procedure of transformers' `run_qa` example, to measure against and to test against.

Written down from what it does, step by step and question by question in Python as there: features by the fast
tokenizer's overflowing tokens, answers by loops over the best starts and ends. Nothing else in korbert uses this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.decoding import DecodingConfig
from korbert.data.korquad import Paragraph, Question
from korbert.data.windows import WindowConfig

Asked = tuple[Paragraph, Question]
Columns = dict[str, list[Any]]
FloatArray = npt.NDArray[np.float32]
_BATCH = 1000  # questions, as `datasets.map` takes them


def training_features(tokenizer: Any, asked: Sequence[Asked], config: WindowConfig, pad: bool = True) -> Columns:
    """Token ids, segment ids, attention mask, start and end positions of every window.

    pad: to max_length, which is the default there. Questions are never cut. Neither is it looked at whether an answer's
    ends are white space.
    """
    columns: Columns = {
        "input_ids": [], "token_type_ids": [], "attention_mask": [], "start_positions": [], "end_positions": [],
    }  # fmt: skip
    for first in range(0, len(asked), _BATCH):
        some = asked[first : first + _BATCH]
        made, samples, offsets = _tokenized(tokenizer, some, config, pad)
        for name in ("input_ids", "token_type_ids", "attention_mask"):
            columns[name] += made[name]
        for row, spans in enumerate(offsets):
            answer = some[samples[row]][1].answers[0]
            start, end = _positions(
                made["input_ids"][row].index(tokenizer.cls_token_id), made.sequence_ids(row), spans, answer.start,
                answer.end,
            )  # fmt: skip
            columns["start_positions"].append(start)
            columns["end_positions"].append(end)
    return columns


def validation_features(tokenizer: Any, asked: Sequence[Asked], config: WindowConfig, pad: bool = True) -> Columns:
    """Token ids of every window, its question's id, and the context's characters that each token stands for, or None.

    Contexts are whole: what a token stands for outside of the context is None.
    """
    columns: Columns = {"input_ids": [], "example_id": [], "offset_mapping": []}
    for first in range(0, len(asked), _BATCH):
        some = asked[first : first + _BATCH]
        made, samples, offsets = _tokenized(tokenizer, some, config, pad)
        columns["input_ids"] += made["input_ids"]
        for row, spans in enumerate(offsets):
            columns["example_id"].append(some[samples[row]][1].id)
            segments = made.sequence_ids(row)
            columns["offset_mapping"].append(
                [span if segments[place] == 1 else None for place, span in enumerate(spans)]
            )
    return columns


def _tokenized(
    tokenizer: Any, asked: Sequence[Asked], config: WindowConfig, pad: bool
) -> tuple[Any, list[int], list[list[tuple[int, int]]]]:
    """What the tokenizer makes of some questions, which of them each window is of, and the tokens' characters."""
    made = tokenizer(
        [question.text.lstrip() for _, question in asked],
        [paragraph.context for paragraph, _ in asked],
        truncation="only_second",
        max_length=config.max_length,
        stride=config.doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length" if pad else False,
    )
    return made, made.pop("overflow_to_sample_mapping"), made.pop("offset_mapping")


def _positions(
    cls: int, segments: list[int | None], spans: list[tuple[int, int]], start: int, end: int
) -> tuple[int, int]:
    """First and last token of the answer, [CLS] twice where the window does not have all of it."""
    first = 0
    while segments[first] != 1:
        first += 1
    last = len(segments) - 1
    while segments[last] != 1:
        last -= 1
    if spans[first][0] > start or spans[last][1] < end:
        return cls, cls
    while first < len(spans) and spans[first][0] <= start:
        first += 1
    while spans[last][1] >= end:
        last -= 1
    return first - 1, last + 1


def postprocessed(
    asked: Sequence[Asked],
    features: Columns,
    starts: Sequence[FloatArray],
    ends: Sequence[FloatArray],
    config: DecodingConfig,
) -> dict[str, list[dict[str, Any]]]:
    """The n-best answers of every question, best first, with text, score and probability.

    starts, ends: logits of each window, (T,) or longer. Places outside of the context take part in the ranking of the
    best starts and ends and are left out behind it.
    """
    of_question: dict[str, list[int]] = {}
    for number, key in enumerate(features["example_id"]):
        of_question.setdefault(key, []).append(number)
    answers = {}
    for paragraph, question in asked:
        found: list[dict[str, Any]] = []
        for number in of_question[question.id]:
            found += _candidates(starts[number], ends[number], features["offset_mapping"][number], config)
        best = sorted(found, key=lambda candidate: candidate["score"], reverse=True)[: config.n_best]
        for candidate in best:
            start, end = candidate.pop("offsets")
            candidate["text"] = paragraph.context[start:end]
        if not best or (len(best) == 1 and best[0]["text"] == ""):
            best.insert(0, {"text": "empty", "score": 0.0})
        scores = np.array([candidate["score"] for candidate in best])
        weights = np.exp(scores - scores.max())
        for candidate, share in zip(best, weights / weights.sum(), strict=True):
            candidate["probability"] = float(share)
        answers[question.id] = best
    return answers


def _candidates(
    start: FloatArray, end: FloatArray, spans: list[tuple[int, int] | None], config: DecodingConfig
) -> list[dict[str, Any]]:
    found = []
    firsts = np.argsort(start)[-1 : -config.n_best - 1 : -1].tolist()
    lasts = np.argsort(end)[-1 : -config.n_best - 1 : -1].tolist()
    for first in firsts:
        for last in lasts:
            if first >= len(spans) or last >= len(spans):
                continue
            begin, stop = spans[first], spans[last]
            if begin is None or stop is None:
                continue
            if last < first or last - first + 1 > config.max_answer_length:
                continue
            found.append(
                {
                    "offsets": (begin[0], stop[1]),
                    "score": start[first] + end[last],
                    "start_logit": start[first],
                    "end_logit": end[last],
                }
            )
    return found
