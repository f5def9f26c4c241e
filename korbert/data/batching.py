"""Examples → tensors, padded or packed, and the order in which they come: shuffled, bucketed by length, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korbert.data.letters import gold_letters
from korbert.data.pretraining import PretrainingExample
from korbert.data.tagging import TaggedWindow
from korbert.data.windows import Window
from korbert.encoding import shared_positions
from korbert.model.layout import Layout, Packed, Padded
from korbert.model.targets import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
_POOL = 50  # batches whose examples are sorted by length together


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoder inputs: int64 ids, each (B, T) or, packed, (N,), and how they lie.

    position_ids: None for 0 1 2 … in each sequence.
    """

    token_ids: Tensor
    segment_ids: Tensor
    entity_ids: Tensor
    layout: Layout
    position_ids: Tensor | None = field(default=None, kw_only=True)

    def to(self, device: torch.device) -> Any:
        """Copy everything to `device`."""
        values = ((part.name, getattr(self, part.name)) for part in fields(self))
        return type(self)(**{k: v.to(device, non_blocking=True) if _movable(v) else v for k, v in values})

    def pin_memory(self) -> Any:
        """Copy everything to memory from which a GPU reads faster."""
        values = ((part.name, getattr(self, part.name)) for part in fields(self))
        return type(self)(**{k: v.pin_memory() if _movable(v) else v for k, v in values})

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return self.layout.tokens

    def target_counts(self) -> dict[str, int]:
        """Number of targets of each loss, the divisors of its sum."""
        raise NotImplementedError


def _movable(value: Any) -> bool:
    return isinstance(value, Tensor | Padded | Packed | Edges)


@dataclass(frozen=True, slots=True)
class PretrainingBatch(Batch):
    """mlm_positions: (M,) places in the ids laid out flat; mlm_labels: (M,); nsp_labels: (B,), None without pairs.

    asked, queries: (Q,), the sequence that each question is about, and the place of the token that asks, laid out
    flat; starts, ends: (Q, T) bool, where its answers begin and end; allowed: bool, shaped as the ids, where they may
    lie; all of them None where nothing is asked.
    """

    mlm_positions: Tensor
    mlm_labels: Tensor
    nsp_labels: Tensor | None = None
    asked: Tensor | None = None
    queries: Tensor | None = None
    starts: Tensor | None = None
    ends: Tensor | None = None
    allowed: Tensor | None = None

    def target_counts(self) -> dict[str, int]:
        """Masked tokens, all tokens ("detection") and, where there are any, pairs and questions."""
        others = {"nsp": self.nsp_labels, "selection": self.asked}
        return {
            "mlm": len(self.mlm_labels),
            "detection": self.tokens,
            **{k: len(v) for k, v in others.items() if v is not None},
        }


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the edges of answers lie in their first and last tokens, of the A windows that hold one.

    at: (2, A), the tokens' places in the ids laid out flat; letters: (2, A, M, 4), see `korbert.data.letters`; lengths:
    (2, A), the tokens' characters; right: (2, A), those outside of the answer, IGNORE_INDEX where they are M or more.
    """

    at: Tensor
    letters: Tensor
    lengths: Tensor
    right: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Edges:
        """Copy everything to `device`."""
        parts = (self.at, self.letters, self.lengths, self.right)
        return Edges(*(part.to(device, non_blocking=non_blocking) for part in parts))

    def pin_memory(self) -> Edges:
        """Copy everything to memory from which a GPU reads faster."""
        return Edges(*(part.pin_memory() for part in (self.at, self.letters, self.lengths, self.right)))


@dataclass(frozen=True, slots=True)
class SpanBatch(Batch):
    """start_positions, end_positions: (B,) int64 tokens, inclusive; allowed: bool, shaped as the ids."""

    start_positions: Tensor
    end_positions: Tensor
    allowed: Tensor
    edges: Edges | None = None

    def target_counts(self) -> dict[str, int]:
        """Windows and, with edges, those that hold an answer ("letters")."""
        return {"span": len(self.start_positions), **({} if self.edges is None else {"letters": len(self.edges.at[0])})}


@dataclass(frozen=True, slots=True)
class TagBatch(Batch):
    """tags: int64, shaped as the ids."""

    tags: Tensor

    def target_counts(self) -> dict[str, int]:
        """Tokens that have a tag."""
        return {"tagging": int((self.tags != IGNORE_INDEX).sum())}


def pad(rows: Sequence[npt.NDArray[Any]], value: float) -> Tensor:
    """Stack rows of different length into (B, longest), filled up with `value`; bool stays bool, the rest int64."""
    out = np.full((len(rows), max(map(len, rows))), value, dtype=bool if rows[0].dtype == bool else np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(out)


def pack(rows: Sequence[npt.NDArray[Any]]) -> Tensor:
    """Lay rows end to end, (N,); bool stays bool, the rest int64."""
    flat = np.concatenate(rows)
    return torch.from_numpy(flat if flat.dtype == bool else flat.astype(np.int64))


class Example(Protocol):
    """What an encoder reads of a sequence of T tokens: ids, each (T,)."""

    @property
    def token_ids(self) -> IntArray: ...
    @property
    def segment_ids(self) -> IntArray: ...
    @property
    def entity_ids(self) -> IntArray: ...


def encoder_inputs(
    examples: Sequence[Example], pad_id: int, packed: bool = False, sharing: SpecialTokens | None = None
) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """The encoder's inputs, and where each example begins in them laid out flat, (B,).

    sharing: the special tokens, where markers share the positions of the tokens beside them.
    """
    lengths = [len(e.token_ids) for e in examples]
    rows = {name: [getattr(e, name) for e in examples] for name in ("token_ids", "segment_ids", "entity_ids")}
    if sharing is not None:
        rows["position_ids"] = [shared_positions(e.token_ids, sharing) for e in examples]
    if packed:
        first = np.cumsum([0, *lengths[:-1]])
        return {"layout": Packed.of(lengths), **{name: pack(values) for name, values in rows.items()}}, first
    first = np.arange(len(lengths)) * max(lengths)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    layout = Padded(torch.from_numpy(mask), full=min(lengths) == max(lengths))
    return {
        "layout": layout,
        **{name: pad(values, pad_id if name == "token_ids" else 0) for name, values in rows.items()},
    }, first


def collate_pretraining(
    examples: Sequence[PretrainingExample], pad_id: int, packed: bool = False, sharing: SpecialTokens | None = None
) -> PretrainingBatch:
    """Bring masked examples into one batch; all or none of them are sentence pairs."""
    inputs, first = encoder_inputs(examples, pad_id, packed, sharing)
    places = [np.flatnonzero(e.mlm_labels != IGNORE_INDEX) for e in examples]
    labels = [e.mlm_labels[at] for e, at in zip(examples, places, strict=True)]
    nsp = [e.nsp_label for e in examples if e.nsp_label is not None]
    return PretrainingBatch(
        **inputs,
        mlm_positions=pack([at + start for at, start in zip(places, first, strict=True)]),
        mlm_labels=pack(labels),
        nsp_labels=torch.tensor(nsp) if nsp else None,
        **_questions(examples, first, packed),
    )


def _questions(examples: Sequence[PretrainingExample], first: npt.NDArray[np.int64], packed: bool) -> dict[str, Any]:
    asked = [(row, question) for row, example in enumerate(examples) for question in example.asked]
    if not asked:
        return {}
    starts, ends = torch.zeros(2, len(asked), max(map(len, examples)), dtype=torch.bool)
    for number, (_, question) in enumerate(asked):
        for start, end in question.answers:
            starts[number, start] = ends[number, end] = True
    allowed = [np.zeros(len(e), np.bool_) if e.allowed is None else e.allowed for e in examples]
    return {
        "asked": torch.tensor([row for row, _ in asked]),
        "queries": torch.tensor([first[row] + question.query for row, question in asked]),
        "starts": starts,
        "ends": ends,
        "allowed": pack(allowed) if packed else pad(allowed, False),
    }


def collate_windows(
    windows: Sequence[Window],
    pad_id: int,
    packed: bool = False,
    sharing: SpecialTokens | None = None,
    letters: int = 0,
) -> SpanBatch:
    """Bring question windows into one batch; letters: how many of a token are looked at to find an answer's edge."""
    allowed = [w.allowed for w in windows]
    inputs, first = encoder_inputs(windows, pad_id, packed, sharing)
    return SpanBatch(
        **inputs,
        start_positions=torch.tensor([w.answer[0] for w in windows]),
        end_positions=torch.tensor([w.answer[1] for w in windows]),
        allowed=pack(allowed) if packed else pad(allowed, False),
        edges=_edges(windows, first, letters) if letters else None,
    )


def _edges(windows: Sequence[Window], first: npt.NDArray[np.int64], most: int) -> Edges:
    answered = [row for row, window in enumerate(windows) if window.answer != (0, 0)]
    some = [windows[row] for row in answered]
    at = np.array([first[row] + np.array(windows[row].answer) for row in answered], dtype=np.int64).reshape(-1, 2).T
    right = np.array([window.beyond for window in some], dtype=np.int64).reshape(-1, 2).T
    letters, lengths = zip(*(gold_letters(some, most, from_end) for from_end in (False, True)), strict=True)
    return Edges(
        torch.from_numpy(np.ascontiguousarray(at)),
        torch.from_numpy(np.stack(letters).astype(np.int64)),
        torch.from_numpy(np.stack(lengths)),
        torch.from_numpy(np.where(right < most, right, IGNORE_INDEX)),
    )


def collate_tagged(windows: Sequence[TaggedWindow], pad_id: int, packed: bool = False) -> TagBatch:
    """Bring windows into one batch."""
    tags = [window.tags for window in windows]
    return TagBatch(
        **encoder_inputs(windows, pad_id, packed)[0], tags=pack(tags) if packed else pad(tags, IGNORE_INDEX)
    )


class Epoch(Protocol):
    """What is to be made in one epoch. `lengths` in tokens, where they are known beforehand, turn bucketing on."""

    def __len__(self) -> int: ...
    def requests(self, indices: npt.NDArray[np.int64]) -> list[Any]:
        """What `Source.make` needs to make these examples; can be pickled."""

    @property
    def lengths(self) -> npt.NDArray[np.int64] | None: ...


class Source(Protocol[E_co]):
    """Plans any epoch by its number, always alike, and makes its examples, in any order and any process."""

    def epoch(self, number: int) -> Epoch: ...
    def make(self, request: Any) -> E_co: ...


@dataclass(frozen=True)
class FixedSource(Generic[E]):
    """The same examples in every epoch."""

    examples: Sequence[E]

    def epoch(self, number: int) -> FixedSource[E]:
        """Itself."""
        return self

    def __len__(self) -> int:
        return len(self.examples)

    def requests(self, indices: npt.NDArray[np.int64]) -> list[int]:
        """The indices."""
        return indices.tolist()

    def make(self, request: int) -> E:
        """The example of that index."""
        return self.examples[request]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each example."""
        return np.array([len(example) for example in self.examples], dtype=np.int64)  # type: ignore[arg-type]


class BatchStream(Generic[E]):
    """The endless order of batches, epoch after epoch, as requests to `source`; the position can be saved and set.

    Every epoch is shuffled by (seed, epoch). Where lengths are known, pools of shuffled examples are sorted by length
    so that a batch holds sequences of like length, and the order of the batches is shuffled again.
    """

    def __init__(self, source: Source[E], batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: wanted 1 or more, got {batch_size}")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.epoch_number = 0
        self.position = 0
        self._planned: int | None = None

    def _plan(self) -> None:
        if self._planned == self.epoch_number:
            return
        self._epoch = self.source.epoch(self.epoch_number)
        rng = np.random.default_rng([self.seed, self.epoch_number, 1])
        self._batches = epoch_batches(len(self._epoch), self._epoch.lengths, self.batch_size, rng)
        self._planned = self.epoch_number

    @property
    def batches_per_epoch(self) -> int:
        """Batches in the current epoch."""
        self._plan()
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Any]]:
        while True:
            yield self.next()

    def next(self) -> list[Any]:
        """The next batch's requests; the last one of an epoch may be smaller."""
        self._plan()
        if self.position == len(self._batches):
            self.epoch_number, self.position = self.epoch_number + 1, 0
            self._plan()
        requests = self._epoch.requests(self._batches[self.position])
        self.position += 1
        return requests

    def state(self) -> dict[str, int]:
        """Epoch and batches of it that were taken."""
        return {"epoch": self.epoch_number, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        """Go to where `state` was taken."""
        self.epoch_number, self.position = state["epoch"], state["position"]


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
