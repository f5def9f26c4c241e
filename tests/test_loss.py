"""The vocabulary loss against torch's own, and dropout as a law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from korbert.model import loss as loss_module
from korbert.model.dropout import Dropout, dropout
from korbert.model.loss import linear_cross_entropy

pytestmark = pytest.mark.usefixtures("one_thread")


def both(rows: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[list[torch.Tensor]]:
    """Loss and gradients, ours and torch's; the loss is scaled as the training loop does."""
    results = []
    for ours in (True, False):
        g = torch.Generator().manual_seed(seed)
        shapes = ((rows, 12), (31, 12), (31,))
        hidden, weight, bias = (torch.randn(shape, generator=g, dtype=torch.float64) * scale for shape in shapes)
        labels = torch.randint(0, 31, (rows,), generator=g)
        inputs = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias)]
        if ours:
            value = linear_cross_entropy(*inputs, labels)
        else:
            value = F.cross_entropy(F.linear(*inputs), labels, reduction="sum")
        (value / 7).backward()
        results.append([value.detach(), *(x.grad for x in inputs)])  # type: ignore[misc]
    return results


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(1, 200), st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 99))
def test_loss_and_gradients_are_torch_s(rows: int, chunk: int, scale: float, seed: int) -> None:
    """Whatever the size of the chunks, with logits in the thousands too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "_CHUNK_ELEMENTS", chunk)
        ours, theirs = both(rows, seed, scale)
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-6)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_without_gradients_and_in_float32() -> None:
    with torch.no_grad():
        hidden, weight, bias = torch.randn(5, 4), torch.randn(9, 4), torch.randn(9)
        labels = torch.tensor([0, 8, 3, 3, 1])
        expected = F.cross_entropy(F.linear(hidden, weight, bias), labels, reduction="sum")
        assert float(linear_cross_entropy(hidden, weight, bias, labels)) == pytest.approx(float(expected), rel=1e-6)
    ours, theirs = both(9, 1, dtype=torch.float32)
    assert ours[1].dtype == torch.float32
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-4, atol=1e-5)


def test_bf16_is_as_near_to_float64_as_torch_s() -> None:
    """Under autocast the products are in bf16, sums and softmax are not."""
    exact = both(50, 3)[1]
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = both(50, 3, dtype=torch.float32)
    for a, b, true in zip(ours, theirs, exact, strict=True):
        error, reference = ((x.double() - true).norm() / true.norm() for x in (a, b))
        assert error < 0.02
        assert error < 1.5 * reference + 1e-3


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_dropout_keeps_the_mean(p: float) -> None:
    """Zero with probability p, independently of the neighbours, the rest scaled up."""
    torch.manual_seed(0)
    n = 400_000
    x = torch.ones(n + 3)[3:].requires_grad_()
    y = dropout(x, p)
    dropped = (y == 0).double()
    assert float(dropped.mean()) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1e-5)
    kept = y[y != 0]
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert float(kept[0].detach()) == pytest.approx(1 / (1 - p), rel=1e-4)
    for lag in (1, 2, 3, 4, 8):
        together = float((dropped[:-lag] * dropped[lag:]).mean())
        assert together == pytest.approx(p * p, abs=5 * np.sqrt(p * p / n))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # type: ignore[arg-type]


def test_dropout_follows_the_seed_and_is_off_in_evaluation() -> None:
    layer, x = Dropout(0.3), torch.randn(3, 5, 7)
    torch.manual_seed(4)
    first = layer(x)
    torch.manual_seed(4)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)
    assert dropout(x, 0.0) is x
