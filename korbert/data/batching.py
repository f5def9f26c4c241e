"""Examples → padded tensors, and the order in which they come: shuffled, bucketed by length, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korbert.data.pretraining import PretrainingExample
from korbert.data.windows import Window
from korbert.model.heads import IGNORE_INDEX

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
_POOL = 50  # batches whose examples are sorted by length together


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoder inputs, each (B, T): int64 ids, and attention_mask bool with True = attend."""

    token_ids: Tensor
    segment_ids: Tensor
    entity_ids: Tensor
    attention_mask: Tensor

    def to(self, device: torch.device) -> Any:
        """Copy all tensors to `device`."""
        return type(self)(
            **{field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        )

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.attention_mask.sum())

    def target_counts(self) -> dict[str, int]:
        """Number of targets of each loss, the divisors of its sum."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PretrainingBatch(Batch):
    """mlm_labels: (B, T) int64 with IGNORE_INDEX; nsp_labels: (B,) int64."""

    mlm_labels: Tensor
    nsp_labels: Tensor

    def target_counts(self) -> dict[str, int]:
        """Masked tokens, and pairs."""
        return {"mlm": int((self.mlm_labels != IGNORE_INDEX).sum()), "nsp": len(self.nsp_labels)}


@dataclass(frozen=True, slots=True)
class SpanBatch(Batch):
    """start_positions, end_positions: (B,) int64 tokens, inclusive; allowed: (B, T) bool."""

    start_positions: Tensor
    end_positions: Tensor
    allowed: Tensor

    def target_counts(self) -> dict[str, int]:
        """Windows."""
        return {"span": len(self.start_positions)}


def pad(rows: Sequence[npt.NDArray[Any]], value: float) -> Tensor:
    """Stack rows of different length into (B, longest), filled up with `value`; bool stays bool, the rest int64."""
    out = np.full((len(rows), max(map(len, rows))), value, dtype=bool if rows[0].dtype == bool else np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(out)


def _inputs(examples: Sequence[PretrainingExample] | Sequence[Window], pad_id: int) -> dict[str, Tensor]:
    return {
        "token_ids": pad([e.token_ids for e in examples], pad_id),
        "segment_ids": pad([e.segment_ids for e in examples], 0),
        "entity_ids": pad([e.entity_ids for e in examples], 0),
        "attention_mask": pad([np.ones(len(e), dtype=np.bool_) for e in examples], False),
    }


def collate_pretraining(examples: Sequence[PretrainingExample], pad_id: int) -> PretrainingBatch:
    """Pad masked pairs into one batch."""
    return PretrainingBatch(
        **_inputs(examples, pad_id),
        mlm_labels=pad([e.mlm_labels for e in examples], IGNORE_INDEX),
        nsp_labels=torch.tensor([e.nsp_label for e in examples]),
    )


def collate_windows(windows: Sequence[Window], pad_id: int) -> SpanBatch:
    """Pad question windows into one batch."""
    return SpanBatch(
        **_inputs(windows, pad_id),
        start_positions=torch.tensor([w.answer[0] for w in windows]),
        end_positions=torch.tensor([w.answer[1] for w in windows]),
        allowed=pad([w.allowed for w in windows], False),
    )


class Epoch(Protocol[E_co]):
    """The examples of one epoch. `lengths` in tokens, where they are known beforehand, turn bucketing on."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> E_co: ...
    @property
    def lengths(self) -> npt.NDArray[np.int64] | None: ...


class Source(Protocol[E_co]):
    """Gives the examples of any epoch by its number, always the same ones."""

    def epoch(self, number: int) -> Epoch[E_co]: ...


@dataclass(frozen=True)
class FixedSource(Generic[E]):
    """The same examples in every epoch."""

    examples: Sequence[E]

    def epoch(self, number: int) -> FixedSource[E]:
        """Itself."""
        return self

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> E:
        return self.examples[index]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each example."""
        return np.array([len(example) for example in self.examples], dtype=np.int64)  # type: ignore[arg-type]


class BatchStream(Generic[E]):
    """Endless batches of examples, epoch after epoch; the position can be saved and set.

    Every epoch is shuffled by (seed, epoch). Where lengths are known, pools of shuffled examples are sorted by length
    so that a batch holds sequences of like length, and the order of the batches is shuffled again.
    """

    def __init__(self, source: Source[E], batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: wanted 1 or more, got {batch_size}")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.epoch_number = 0
        self.position = 0
        self._open()

    def _open(self) -> None:
        self._epoch = self.source.epoch(self.epoch_number)
        rng = np.random.default_rng([self.seed, self.epoch_number, 1])
        self._batches = epoch_batches(len(self._epoch), self._epoch.lengths, self.batch_size, rng)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in the current epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[E]]:
        while True:
            yield self.next()

    def next(self) -> list[E]:
        """The next batch's examples; the last one of an epoch may be smaller."""
        if self.position == len(self._batches):
            self.epoch_number, self.position = self.epoch_number + 1, 0
            self._open()
        batch = [self._epoch[int(index)] for index in self._batches[self.position]]
        self.position += 1
        return batch

    def state(self) -> dict[str, int]:
        """Epoch and batches of it that were taken."""
        return {"epoch": self.epoch_number, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        """Go to where `state` was taken."""
        self.epoch_number, self.position = state["epoch"], state["position"]
        self._open()


def epoch_batches(
    count: int, lengths: npt.NDArray[np.int64] | None, batch_size: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Indices of each batch of an epoch of `count` examples; every example once."""
    order = rng.permutation(count)
    if lengths is not None:
        pools = [order[i : i + _POOL * batch_size] for i in range(0, count, _POOL * batch_size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = [order[i : i + batch_size] for i in range(0, count, batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))] if lengths is not None else batches
