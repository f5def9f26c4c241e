"""Cross-entropy over a large vocabulary without keeping the logits: they are the largest tensor of a training step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 23  # of logits at a time


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, chunk by chunk, where the softmax is still at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        with torch.autocast(device, enabled=False):
            return _forward(ctx, hidden, weight, bias, labels, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*(d.mul_(gradients[0]) for d in ctx.saved_tensors), None)


def _forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrix products in `dtype`, softmax and sums in float32 or better."""
    needs_gradient = any(ctx.needs_input_grad)
    w, b = weight.to(dtype), bias.to(dtype)
    d_hidden = torch.empty_like(hidden)
    d_weight, d_bias = (torch.zeros_like(x) if needs_gradient else x for x in (weight, bias))
    exact = torch.promote_types(dtype, torch.float32)
    loss = hidden.new_zeros((), dtype=exact)
    size = max(1, min(len(hidden), _CHUNK_ELEMENTS // len(weight)))
    buffer = w.new_empty((size, len(weight)))
    for first in range(0, len(hidden), size):
        x, y = hidden[first : first + size].to(dtype), labels[first : first + size, None]
        scores = torch.addmm(b, x, w.T, out=buffer[: len(x)]).to(exact)  # (m, V), made into exponentials in place
        right, largest = scores.gather(1, y), scores.amax(1, keepdim=True)
        exponentials = scores.sub_(largest).exp_()
        total = exponentials.sum(1, keepdim=True)
        loss += (total.log() + largest - right).sum()
        if needs_gradient:
            # The gradient of the logits is exponentials / total, less 1 at the label; neither is written out.
            e = exponentials.to(dtype)
            d_hidden[first : first + size] = (e @ w) / total - w[y[:, 0]]
            scaled = (x / total).to(dtype)
            if dtype == d_weight.dtype:
                d_weight.addmm_(e.T, scaled)
            else:
                d_weight += e.T @ scaled
            d_weight.index_add_(0, y[:, 0], x.to(d_weight.dtype), alpha=-1)
            d_bias += total.reciprocal()[:, 0] @ exponentials
            d_bias.index_add_(0, y[:, 0], d_bias.new_full((len(y),), -1.0))
    if needs_gradient:
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
    return loss


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of `hidden @ weight.T + bias`, in float32 or better.

    hidden: (M, D); weight: (V, D); bias: (V,); labels: (M,) int64. The same as `F.cross_entropy(F.linear(hidden,
    weight, bias), labels, reduction="sum")`, with the memory of a chunk of logits instead of three times all of them.
    """
    return _LinearCrossEntropy.apply(hidden, weight, bias, labels)
