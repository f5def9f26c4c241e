"""From windows to answers: the model's logits in batches of like length, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from korbert.data.batching import SpanBatch
from korbert.data.decoding import Candidate, DecodingConfig, Logits, decode_answers
from korbert.data.letters import token_letters
from korbert.data.windows import Window
from korbert.model import SpanModel
from korbert.training.runtime import Runtime

_TOKENS = 2048  # that the letter head looks into at a time
Collate = Callable[[Sequence[Window]], SpanBatch]


def predict(
    model: SpanModel,
    windows: Sequence[Window],
    collate: Collate,
    decoding: DecodingConfig,
    runtime: Runtime,
    batch_size: int,
) -> dict[str, list[Candidate]]:
    """n-best answers of every question, best first. `model` must be in evaluation mode."""
    return decode_answers(windows, window_logits(model, windows, collate, runtime, batch_size), decoding)


def window_logits(
    model: SpanModel, windows: Sequence[Window], collate: Collate, runtime: Runtime, batch_size: int
) -> list[Logits]:
    """What the model says of each window, computed in batches of like length."""
    nothing = np.empty(0, dtype=np.float32)
    out = [Logits(nothing, nothing)] * len(windows)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            some = [windows[i] for i in chosen]
            batch = collate(some).to(runtime.device)
            with runtime.autocast():
                hidden = model.encode(batch)
                logits = model.span(hidden, batch.layout, batch.allowed)
                edges = [_edges(model, batch.layout.rectangle(hidden, 0), some, side) for side in (0, 1)]
            start, end = (part.float().cpu().numpy() for part in logits)
            for row, index in enumerate(chosen):
                length = len(windows[index])
                out[index] = Logits(start[row, :length], end[row, :length], edges[0][row], edges[1][row])
    return out


def _edges(model: SpanModel, hidden: Tensor, windows: Sequence[Window], side: int) -> list[np.ndarray | None]:
    """Of each window, where an answer's edge would lie in each of its context tokens, (C, M); None without letters."""
    if model.letters is None:
        return [None] * len(windows)
    most = model.config.letters
    found = [token_letters(w, np.arange(len(w.starts)), most, from_end=bool(side)) for w in windows]
    letters, lengths = (torch.from_numpy(np.concatenate(part).astype(np.int64)) for part in zip(*found, strict=True))
    at = torch.cat([hidden[row, w.context_start :][: len(w.starts)] for row, w in enumerate(windows)])
    # A block at a time: of each token the head has as many vectors as it looks at letters.
    blocks = zip(*(part.to(at.device).split(_TOKENS) for part in (at, letters, lengths)), strict=True)
    scores = torch.cat([model.edge_scores(a, b, c, side) for a, b, c in blocks]).cpu().numpy()
    return list(np.split(scores, np.cumsum([len(w.starts) for w in windows])[:-1]))


def best_answers(answers: Mapping[str, list[Candidate]]) -> dict[str, str]:
    """The first candidate's text of each question; "" where there is none."""
    return {key: candidates[0].text if candidates else "" for key, candidates in answers.items()}
