"""What the benchmark counts, against torch's own counter of operations; and what contenders read, which is the same."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CONFIG
from test_layout import examples
from torch.utils.flop_counter import FlopCounterMode

from korbert.config import BenchmarkCase, BenchmarkConfig
from korbert.data.batching import collate_pretraining
from korbert.errors import ConfigError
from korbert.model import IGNORE_INDEX, PretrainingModel
from korbert.tasks.benchmark import in_blocks, make_contenders, make_example, useful_flops
from korbert.tasks.contenders import batches_of, dealt, matmul_flops, sample, sizes_of
from korbert.tasks.profile import part_of, step_profile
from korbert.tokenizers import CharacterTokenizer, Tokenizer
from korbert.training.runtime import Runtime

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Runtime(torch.device("cpu"), bf16=False)


@pytest.mark.parametrize("lengths", [[20, 20, 20], [5, 38, 17, 17]])
def test_useful_operations_are_those_of_a_step_without_padding(lengths: list[int]) -> None:
    made = examples(lengths, pairs=True)
    batch = collate_pretraining(made, pad_id=0, packed=True)
    model = PretrainingModel(CONFIG)  # attention dropout on: written out, so that its products are counted
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(model(batch).values())).sum().backward()
    counted = counter.get_total_flops()
    # What torch counts beyond: the sum over the vocabulary that makes the bias's gradient.
    beyond = 2 * len(batch.mlm_labels) * CONFIG.vocab_size
    assert useful_flops(made, CONFIG) == pytest.approx(counted - beyond, rel=0.01)


def test_padding_counts_nothing() -> None:
    one, other = examples([9], pairs=True), examples([30], pairs=True)
    assert useful_flops([*one, *other], CONFIG) == useful_flops(one, CONFIG) + useful_flops(other, CONFIG)
    masked = [int((e.mlm_labels >= 0).sum()) for e in (*one, *other)]
    assert np.all(np.array(masked) > 0)


def test_profile_finds_the_products() -> None:
    a = torch.randn(700, 700)
    seconds, shares = step_profile(lambda: [a @ a for _ in range(5)], CPU)
    assert seconds > 0
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["matrix products"] > 0.8


def test_a_step_s_seconds_are_its_own() -> None:
    """Of a step that waits, only what it computes counts, as in the speed of a matrix product beside it."""
    a = torch.randn(700, 700)

    def work() -> None:
        time.sleep(0.5)
        a @ a

    seconds, shares = step_profile(work, CPU)
    assert 0 < seconds < 0.25
    assert shares["the rest, and Python"] > 0.5


@pytest.mark.parametrize("bf16", [False, True])
def test_the_ceiling_has_the_precision_of_training(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def product(a: torch.Tensor, b: torch.Tensor) -> None:
        seen.update((a.dtype, b.dtype))
        sum(range(100_000))  # or no time passes

    monkeypatch.setattr(torch, "mm", product)
    matmul_flops(replace(CPU, bf16=bf16))
    assert seen == {torch.bfloat16 if bf16 else torch.float32}


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=70)


@settings(max_examples=50)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 6))
def test_all_ways_to_make_batches_hold_the_same(lengths: list[int], size: int, count: int) -> None:
    """Each example of the sample once, in full batches; as many as are wanted, or as there are."""
    every = [[number] * length for number, length in enumerate(lengths)]
    if len(every) < size:
        with pytest.raises(ConfigError, match=rf"cases: batch_size={size} is more than the {len(every)} lists there"):
            sample(every, size, count, 1, "cases", "lists")
        return
    some = sample(every, size, count, 1, "cases", "lists")
    assert len(some) == size * min(count, len(every) // size)
    assert len({one[0] for one in some}) == len(some)
    mixed, alike = (batches_of(some, size, 1, bucketed) for bucketed in (False, True))
    for batches in (mixed, alike):
        assert {len(batch) for batch in batches} == {size}
        assert sorted(one for batch in batches for one in batch) == sorted(some)
    assert sum(len(max(batch, key=len)) for batch in alike) <= sum(len(max(batch, key=len)) for batch in mixed)


def test_batches_are_dealt_out_to_the_rounds() -> None:
    done: list[str] = []
    batches = [["a"], ["bb", "b"], ["ccc"], ["dddd"]]
    shares = dealt(done.append, ["1", "2", "3", "4"], batches, 3, lambda examples: 10.0 * len(examples))
    for share in shares:
        share.work()
        done.append("|")
    assert "".join(done) == "14|2|3|"
    assert [(share.amount, share.flops) for share in shares] == [(5, 20.0), (3, 20.0), (3, 10.0)]


def test_blocks_hold_the_text_of_the_lines(sample_tokenizer: Tokenizer) -> None:
    """The same tokens, hidden and asked for alike, but for those at the end that fill no block."""
    rng = np.random.default_rng(0)
    special = sample_tokenizer.special
    texts = [rng.integers(10, 90, size=n).astype(np.int32) for n in (3, 30, 14, 1, 22)]
    lines = [make_example(ids, sample_tokenizer, rng) for ids in texts]
    blocks = in_blocks(lines, 12)
    assert len(blocks) == sum(map(len, texts)) // 10
    for key in ("token_ids", "mlm_labels"):
        before, after = (np.concatenate([getattr(one, key)[1:-1] for one in some]) for some in (lines, blocks))
        assert np.array_equal(after, before[: 10 * len(blocks)])
    for block in blocks:
        assert (len(block), block.token_ids[0], block.token_ids[-1]) == (12, special.cls, special.sep)
        assert block.mlm_labels[[0, -1]].tolist() == [IGNORE_INDEX, IGNORE_INDEX]
    assert len(in_blocks(lines, sum(map(len, texts)) + 2)) == 1


def test_contenders_read_the_same_text(sample_tokenizer: Tokenizer) -> None:
    """Multisets of tokens, shown and asked for; of group_texts all but less than a block."""
    pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    texts = [rng.integers(10, 90, size=n).astype(np.int32) for n in rng.integers(1, 40, size=90)]
    case = BenchmarkCase(num_layers=1, hidden_size=8, num_heads=1, length=24, batch_size=4)
    config = BenchmarkConfig(rounds=3, steps=2, run_dir="")
    sizes = sizes_of(case, len(sample_tokenizer))
    contenders = make_contenders(case, sizes, texts, sample_tokenizer, config, CPU)
    assert len(contenders) == 4
    read = {
        one.name: Counter(
            pair
            for batch in one.batches
            for line in batch
            for pair in zip(line.token_ids[1:-1].tolist(), line.mlm_labels[1:-1].tolist(), strict=True)
        )
        for one in contenders
    }
    blocks = read.pop("Hugging Face, group_texts")
    assert read["Hugging Face, padded"] == read["Hugging Face, bucketed"] == read["korbert"]
    left = read["korbert"] - blocks
    assert not blocks - read["korbert"]
    assert left.total() < 22
    assert all(len(one.inputs) == len(one.batches) for one in contenders)


@pytest.fixture(scope="module")
def sample_tokenizer() -> Tokenizer:
    return CharacterTokenizer.train(["".join(map(chr, range(0xAC00, 0xAC00 + 90)))], 100)


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("aten::addmm_", "matrix products"),
        ("aten::add_", "sums and products by element"),
        ("aten::sum", "activations, softmax, LayerNorm"),
        ("aten::_fused_adamw_", "optimizer and clipping"),
        ("aten::gelu_backward", "activations, softmax, LayerNorm"),
        ("autograd::engine::evaluate_function: AddmmBackward0", None),
    ],
)
def test_operators_are_told_apart(operator: str, part: str | None) -> None:
    assert part_of(operator) == part
