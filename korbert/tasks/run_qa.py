"""The question answering procedure of transformers' `run_qa` example, to measure against and to test against.

Written down from what it does, as it does it: examples and features are a `datasets.Dataset`, features come from the
fast tokenizer's overflowing tokens by `map`, answers from loops over rows and over the best starts and ends. Nothing
else in korbert uses this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from korbert.data.decoding import DecodingConfig
from korbert.data.korquad import KorquadDataset
from korbert.data.windows import WindowConfig
from korbert.errors import KorbertError

Columns = dict[str, list[Any]]
FloatArray = npt.NDArray[np.float32]


def as_examples(dataset: KorquadDataset) -> Any:
    """All questions as a `datasets.Dataset`, in memory. Raises KorbertError without the package."""
    try:
        import datasets
    except ImportError:
        raise KorbertError("the benchmark compares with run_qa: pip install -e '.[benchmark]'") from None
    datasets.disable_progress_bars()
    rows: Iterable[dict[str, Any]] = (
        {
            "id": question.id,
            "question": question.text,
            "context": paragraph.context,
            "answers": {
                "text": [answer.text for answer in question.answers],
                "answer_start": [answer.start for answer in question.answers],
            },
        }
        for _, paragraph, question in dataset.questions()
    )
    return datasets.Dataset.from_list(list(rows))


def training_features(tokenizer: Any, examples: Any, config: WindowConfig, pad: bool = True) -> Any:
    """Token ids, segment ids, attention mask, start and end positions of every window.

    pad: to max_length, which is the default there. Questions are never cut. Neither is it looked at whether an answer's
    ends are white space.
    """

    def prepare(batch: Columns) -> Any:
        made = _tokenized(tokenizer, batch, config, pad)
        samples, offsets = made.pop("overflow_to_sample_mapping"), made.pop("offset_mapping")
        made["start_positions"], made["end_positions"] = [], []
        for row, spans in enumerate(offsets):
            answers = batch["answers"][samples[row]]
            start = answers["answer_start"][0]
            found = _positions(
                made["input_ids"][row].index(tokenizer.cls_token_id), made.sequence_ids(row), spans, start,
                start + len(answers["text"][0]),
            )  # fmt: skip
            made["start_positions"].append(found[0])
            made["end_positions"].append(found[1])
        return made

    return examples.map(prepare, batched=True, remove_columns=examples.column_names)


def validation_features(tokenizer: Any, examples: Any, config: WindowConfig, pad: bool = True) -> Any:
    """Token ids and so on of every window, its question's id, and the context's characters that each token stands for.

    What a token stands for outside of the context is None.
    """

    def prepare(batch: Columns) -> Any:
        made = _tokenized(tokenizer, batch, config, pad)
        samples = made.pop("overflow_to_sample_mapping")
        made["example_id"] = [batch["id"][sample] for sample in samples]
        for row, spans in enumerate(made["offset_mapping"]):
            segments = made.sequence_ids(row)
            made["offset_mapping"][row] = [span if segments[place] == 1 else None for place, span in enumerate(spans)]
        return made

    return examples.map(prepare, batched=True, remove_columns=examples.column_names)


def _tokenized(tokenizer: Any, batch: Columns, config: WindowConfig, pad: bool) -> Any:
    return tokenizer(
        [question.lstrip() for question in batch["question"]],
        batch["context"],
        truncation="only_second",
        max_length=config.max_length,
        stride=config.doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length" if pad else False,
    )


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
    examples: Any, features: Any, starts: Sequence[FloatArray], ends: Sequence[FloatArray], config: DecodingConfig
) -> dict[str, list[dict[str, Any]]]:
    """The n-best answers of every question, best first, with text, score and probability, as they are written.

    starts, ends: logits of each window, (T,) or longer. Places outside of the context take part in the ranking of the
    best starts and ends and are left out behind it.
    """
    of_question: dict[str, list[int]] = defaultdict(list)
    for number, feature in enumerate(features):
        of_question[feature["example_id"]].append(number)
    answers = {}
    for example in examples:
        found: list[dict[str, Any]] = []
        for number in of_question[example["id"]]:
            spans = features[number]["offset_mapping"]
            # A column that run_qa does not make, but asks for: the row is read a second time.
            most_context = features[number].get("token_is_max_context", None)
            found += _candidates(starts[number], ends[number], spans, most_context, config)
        best = sorted(found, key=lambda candidate: candidate["score"], reverse=True)[: config.n_best]
        for candidate in best:
            start, end = candidate.pop("offsets")
            candidate["text"] = example["context"][start:end]
        if not best or (len(best) == 1 and best[0]["text"] == ""):
            best.insert(0, {"text": "empty", "score": 0.0})
        scores = np.array([candidate["score"] for candidate in best])
        weights = np.exp(scores - scores.max())
        for candidate, share in zip(best, weights / weights.sum(), strict=True):
            candidate["probability"] = share
        answers[example["id"]] = [
            {name: float(value) if isinstance(value, np.floating) else value for name, value in candidate.items()}
            for candidate in best
        ]
    return answers


def _candidates(
    start: FloatArray,
    end: FloatArray,
    spans: list[tuple[int, int] | None],
    most_context: dict[str, bool] | None,
    config: DecodingConfig,
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
            if most_context is not None and not most_context.get(str(first), False):
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
