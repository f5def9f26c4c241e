"""What the benchmark counts, against torch's own counter of operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import CONFIG
from test_layout import examples
from torch.utils.flop_counter import FlopCounterMode

from korbert.data.batching import collate_pretraining
from korbert.model import PretrainingModel
from korbert.tasks.benchmark import useful_flops
from korbert.tasks.profile import part_of, step_profile

pytestmark = pytest.mark.usefixtures("one_thread")


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
    seconds, shares = step_profile(lambda: [a @ a for _ in range(5)], torch.device("cpu"))
    assert seconds > 0
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["matrix products"] > 0.8


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
