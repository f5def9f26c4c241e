"""Fine-tuning windows of which some mentions, others in every epoch, are not marked.

A model that has learned with and without marks can read text that no annotator has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from korbert.data.windows import Window
from korbert.encoding import mention_count, mention_numbers, unmarked
from korbert.tokenizers import SpecialTokens


@dataclass(frozen=True)
class _Epoch:
    number: int
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def requests(self, indices: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        return [(self.number, index) for index in indices.tolist()]


@dataclass(frozen=True)
class MentionDropout:
    """The same windows in every epoch, without the marks of about `share` of their mentions, drawn by (seed, epoch)."""

    windows: Sequence[Window]
    share: float
    special: SpecialTokens
    seed: int

    def epoch(self, number: int) -> _Epoch:
        """All windows; lengths before anything is left out."""
        return _Epoch(number, np.array([len(window) for window in self.windows], dtype=np.int64))

    def make(self, request: tuple[int, int]) -> Window:
        """The window of that epoch and index."""
        rng = np.random.default_rng([self.seed, *request])
        return without_marks(self.windows[request[1]], self.share, self.special, rng)


def without_marks(window: Window, share: float, special: SpecialTokens, rng: np.random.Generator) -> Window:
    """The window with each mention left as plain text with probability `share`; the answer is at the same text."""
    mentions = mention_numbers(window.token_ids, window.entity_ids, special)
    dropped = rng.random(mention_count(mentions)) < share
    keep, entity_ids = unmarked(window.token_ids, window.entity_ids, mentions, dropped, special)
    inside = keep[(keep >= window.context_start) & (keep < window.context_start + len(window.starts))]
    context = inside - window.context_start
    first, last = np.searchsorted(keep, window.answer).tolist()
    return replace(
        window,
        token_ids=window.token_ids[keep],
        segment_ids=window.segment_ids[keep],
        entity_ids=entity_ids,
        context_start=int(np.searchsorted(keep, window.context_start)),
        starts=window.starts[context],
        ends=window.ends[context],
        is_marker=window.is_marker[context],
        answer=(first, last),
    )
