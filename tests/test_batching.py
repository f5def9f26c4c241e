"""Batches: padded right, every example once an epoch, in a shuffled order that can be taken up again."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from korbert.data.batching import (
    Batch,
    BatchStream,
    FixedSource,
    collate_pretraining,
    collate_windows,
    epoch_batches,
    pad,
)
from korbert.data.loading import BatchLoader
from korbert.data.pretraining import PretrainingExample
from korbert.data.windows import Window
from korbert.model import IGNORE_INDEX


@dataclass(frozen=True)
class Item:
    """An example with an identity and a length."""

    number: int
    length: int

    def __len__(self) -> int:
        return self.length


def items(count: int) -> list[Item]:
    return [Item(i, int(n)) for i, n in enumerate(np.random.default_rng(0).integers(1, 400, size=count))]


def example(length: int) -> PretrainingExample:
    ids = np.arange(7, 7 + length, dtype=np.int32)
    labels = np.where(ids % 3 == 0, ids, IGNORE_INDEX).astype(np.int32)
    return PretrainingExample(ids, (ids > 9).astype(np.int32), (ids % 2).astype(np.int32), labels, length % 2)


def test_pad() -> None:
    padded = pad([np.array([1, 2], np.int32), np.array([3], np.int32)], 9)
    assert padded.tolist() == [[1, 2], [3, 9]]
    assert padded.dtype == torch.int64
    assert pad([np.array([True]), np.array([True, False])], False).tolist() == [[True, False], [True, False]]


def test_collated_pairs_hold_the_examples_and_nothing_else() -> None:
    made = [example(5), example(9), example(1)]
    batch = collate_pretraining(made, pad_id=0)
    assert batch.token_ids.shape == (3, 9)
    mask = batch.layout.attention_mask
    assert mask.sum(1).tolist() == [5, 9, 1]
    assert batch.tokens == 15
    for row, e in enumerate(made):
        n = len(e)
        assert batch.token_ids[row].tolist() == e.token_ids.tolist() + [0] * (9 - n)
        assert batch.segment_ids[row].tolist() == e.segment_ids.tolist() + [0] * (9 - n)
        assert batch.entity_ids[row].tolist() == e.entity_ids.tolist() + [0] * (9 - n)
        assert mask[row].tolist() == [True] * n + [False] * (9 - n)
    expected = [(row, at, e.mlm_labels[at]) for row, e in enumerate(made) for at in np.flatnonzero(e.mlm_labels >= 0)]
    assert batch.mlm_positions.tolist() == [9 * row + at for row, at, _ in expected]
    assert batch.mlm_labels.tolist() == [label for _, _, label in expected]
    assert batch.nsp_labels.tolist() == [1, 1, 1]
    masked = sum(int((e.mlm_labels >= 0).sum()) for e in made)
    assert batch.target_counts() == {"mlm": masked, "nsp": 3, "detection": 15}


def test_collated_windows() -> None:
    def window(length: int, answer: tuple[int, int]) -> Window:
        ids = np.arange(length, dtype=np.int32)
        marker = np.zeros(length - 4, dtype=np.bool_)
        marker[1] = True
        return Window("q", "가" * length, ids, ids * 0, ids * 0, 3, ids[:-4], ids[:-4] + 1, marker, answer)

    batch = collate_windows([window(8, (3, 5)), window(10, (0, 0))], pad_id=0)
    assert batch.start_positions.tolist() == [3, 0]
    assert batch.end_positions.tolist() == [5, 0]
    assert batch.allowed.int().tolist() == [[1, 0, 0, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 1, 1, 1, 1, 0]]
    assert batch.target_counts() == {"span": 2}


@given(st.integers(1, 300), st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_every_example_once_an_epoch(count: int, size: int, bucketed: bool, seed: int) -> None:
    lengths = np.random.default_rng(1).integers(1, 50, size=count) if bucketed else None
    batches = epoch_batches(count, lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert len(batches) == -(-count // size)
    assert sorted(len(b) for b in batches)[1:] == [size] * (len(batches) - 1)


def test_buckets_save_padding_and_stay_shuffled() -> None:
    made = items(5000)
    stream = BatchStream(FixedSource(made), 16, seed=0)
    batches = [stream.next() for _ in range(stream.batches_per_epoch)]
    padded = sum(len(batch) * max(made[i].length for i in batch) for batch in batches)
    assert sum(map(len, made)) / padded > 0.95
    means = np.array([np.mean([made[i].length for i in batch]) for batch in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2  # long and short batches take turns by chance


def test_epochs_differ_and_seeds_differ() -> None:
    made = items(64)

    def order(seed: int, skip: int) -> list[int]:
        stream = BatchStream(FixedSource(made), 8, seed)
        taken = [number for _ in range(8 * (skip + 1)) for number in stream.next()]
        return taken[-64:]

    assert sorted(order(0, 0)) == sorted(order(0, 1)) == list(range(64))
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7, 12])
def test_goes_on_from_any_place(taken: int) -> None:
    """Four batches an epoch: in the middle, at the end, in a later epoch."""
    made = items(30)
    whole = BatchStream(FixedSource(made), 8, seed=5)
    for _ in range(taken):
        whole.next()
    again = BatchStream(FixedSource(made), 8, seed=5)
    again.restore(whole.state())
    assert [again.next() for _ in range(9)] == [whole.next() for _ in range(9)]


def test_endless_and_even() -> None:
    stream = BatchStream(FixedSource(items(10)), 4, seed=0)
    seen: Counter[int] = Counter()
    for _, batch in zip(range(9), stream, strict=False):
        seen.update(batch)
    assert seen == Counter(dict.fromkeys(range(10), 3))


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size: wanted 1 or more, got 0"):
        BatchStream(FixedSource(items(3)), 0, seed=0)


# ---- the loader ----


def loader(workers: int = 0, stages: tuple[float, ...] = (0.0, 0.5)) -> BatchLoader[PretrainingExample]:
    made = [example(n) for n in (5, 9, 1, 7, 3, 8, 2, 4)]
    streams = [BatchStream(FixedSource(made), 4 // (number + 1), seed=number) for number in range(len(stages))]
    return BatchLoader(
        list(zip(stages, streams, strict=True)), functools.partial(collate_pretraining, pad_id=0), workers
    )


def following(made: BatchLoader[PretrainingExample]) -> Batch:
    """The only batch of the next step."""
    ((number, batch),) = made.next_step()
    assert number == 0
    return batch


def ids(batches: Iterable[Batch]) -> list[list[list[int]]]:
    return [batch.token_ids.tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(workers: int) -> None:
    reference, made = loader(), loader(workers)
    assert ids(following(made) for _ in range(9)) == ids(following(reference) for _ in range(9))
    assert made.state() == reference.state() == {"stage": 0, "epoch": 4, "position": 1}
    assert made.waited > 0
    made.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 2, 3, 7])
def test_loader_goes_on_from_any_place(workers: int, taken: int) -> None:
    """What workers made ahead is not taken for what was used."""
    whole = loader(workers)
    for _ in range(taken):
        following(whole)
    again = loader(workers)
    again.restore(json.loads(json.dumps(whole.state())))
    assert ids(following(again) for _ in range(5)) == ids(following(whole) for _ in range(5))
    whole.close()
    again.close()


def test_stages_follow_the_progress() -> None:
    made = loader()
    made.advance(0.49)
    assert len(following(made).token_ids) == 4
    made.advance(0.5)
    assert made.state() == {"stage": 1, "epoch": 0, "position": 0}
    assert len(following(made).token_ids) == 2
    made.advance(0.9)
    assert made.state() == {"stage": 1, "epoch": 0, "position": 1}
    with pytest.raises(ValueError, match="rising shares from 0 to below 1"):
        loader(stages=(0.0, 0.5, 0.5))


def test_model_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = loader(workers=1)
    following(made)
    made.close()
    assert torch.equal(torch.get_rng_state(), before)
