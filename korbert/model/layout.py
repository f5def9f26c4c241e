"""How the tokens of a batch lie in memory: padded to a rectangle, or packed end to end without any padding.

Everything but attention works on tokens one by one and does not care. Shapes: B sequences, T tokens of the longest,
N tokens of all, H heads, K head width; `...` is (B, T) in the padded layout and (N,) in the packed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from korbert.model.dropout import dropout

# From torch 2.10 on. Imported where it is used: torch's compiler comes with it, which takes longer than all else here.
_HAS_VARLEN = find_spec("torch.nn.attention.varlen") is not None


class Layout(Protocol):
    """What the model needs to know about a batch's shape."""

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""

    def position_ids(self) -> Tensor:
        """Place of each token in its sequence, from 0; (1, T) or (N,) int64."""

    def is_token(self) -> Tensor:
        """False at padding, (...) bool."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        """Attention of each sequence to itself, with dropout `p`; q, k, v and the result are (..., H, K)."""

    def first(self, values: Tensor) -> Tensor:
        """The values at each sequence's first token: (..., D) → (B, D)."""

    def rectangle(self, values: Tensor, fill: float) -> Tensor:
        """Values as (B, T, *), with `fill` in places that this layout does not have."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Layout:
        """Copy to `device`."""


@dataclass(frozen=True, slots=True)
class Padded:
    """Sequences as rows of a rectangle.

    attention_mask: (B, T) bool, True = attend; every row must have a True. full: whether the mask is True everywhere,
    so that attention needs none. Raises TypeError for another dtype.
    """

    attention_mask: Tensor
    full: bool = False

    def __post_init__(self) -> None:
        if self.attention_mask.dtype != torch.bool:
            raise TypeError(f"attention_mask: wanted bool with True = attend, got {self.attention_mask.dtype}")

    @property
    def max_length(self) -> int:
        """Width of the rectangle."""
        return self.attention_mask.shape[1]

    @property
    def tokens(self) -> int:
        """Trues of the mask."""
        return self.attention_mask.numel() if self.full else int(self.attention_mask.sum())

    def is_token(self) -> Tensor:
        """The mask."""
        return self.attention_mask

    def position_ids(self) -> Tensor:
        """(1, T)."""
        return torch.arange(self.max_length, device=self.attention_mask.device)[None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        """(B, T, H, K); padding is not attended to."""
        mask = None if self.full else self.attention_mask[:, None, None, :]  # (B, 1, 1, T)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, K)
        return _attention(q, k, v, mask, p).transpose(1, 2)

    def first(self, values: Tensor) -> Tensor:
        """The first column."""
        return values[:, 0]

    def rectangle(self, values: Tensor, fill: float) -> Tensor:
        """The values as they are: they have a place for padding."""
        return values

    def to(self, device: torch.device, non_blocking: bool = False) -> Padded:
        """Copy to `device`."""
        return replace(self, attention_mask=self.attention_mask.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Padded:
        """Copy to memory from which a GPU reads faster."""
        return replace(self, attention_mask=self.attention_mask.pin_memory())


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences end to end: sequence b is `[offsets[b], offsets[b + 1])` of N tokens.

    offsets: (B + 1,) int32, from 0 to N, beside the data; max_length and tokens (N) are known without asking the
    device. On a GPU attention is torch's variable-length kernel, with dropout or in float32 that of its nested tensors;
    elsewhere sequences of equal length share one call.
    """

    offsets: Tensor
    max_length: int
    tokens: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Packed:
        """Pack sequences of these lengths. Raises ValueError for an empty one."""
        if not lengths or min(lengths) < 1:
            raise ValueError(f"lengths: wanted sequences of 1 token or more, got {lengths}")
        return cls(torch.tensor([0, *lengths]).cumsum(0).to(torch.int32), max(lengths), sum(lengths))

    def is_token(self) -> Tensor:
        """True everywhere, (N,)."""
        return torch.ones(self.tokens, dtype=torch.bool, device=self.offsets.device)

    def position_ids(self) -> Tensor:
        """(N,)."""
        return torch.arange(self.tokens, device=self.offsets.device) - self._spread(self.offsets[:-1].long())

    def _spread(self, values: Tensor) -> Tensor:
        """A value of each sequence at each of its tokens: (B,) → (N,)."""
        return values.repeat_interleave(self.offsets.diff().long(), output_size=self.tokens)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        """(N, H, K)."""
        if not q.is_cuda:
            return _attend_by_length(q, k, v, self.offsets, p)
        if p == 0.0 and q.dtype != torch.float32 and _HAS_VARLEN:
            from torch.nn.attention.varlen import varlen_attn

            out: Any = varlen_attn(q, k, v, self.offsets, self.offsets, self.max_length, self.max_length)
            return out
        return _attend_nested(q, k, v, self, p)

    def first(self, values: Tensor) -> Tensor:
        """The rows at the offsets."""
        return values[self.offsets[:-1].long()]

    def rectangle(self, values: Tensor, fill: float) -> Tensor:
        """Spread over (B, T, *)."""
        batch = len(self.offsets) - 1
        out = values.new_full((batch, self.max_length, *values.shape[1:]), fill)
        rows = self._spread(torch.arange(batch, device=values.device))
        return out.index_put((rows, self.position_ids()), values)

    def to(self, device: torch.device, non_blocking: bool = False) -> Packed:
        """Copy to `device`."""
        return replace(self, offsets=self.offsets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Packed:
        """Copy to memory from which a GPU reads faster."""
        return replace(self, offsets=self.offsets.pin_memory())


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Scaled dot-product attention of (B, H, T, K) with dropout of probability `p` on its weights."""
    if p == 0.0 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
    # With dropout torch has no fused kernel for a CPU either; written out, it can use the faster dropout.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return dropout(scores.softmax(-1), p) @ v


def _attend_nested(q: Tensor, k: Tensor, v: Tensor, layout: Packed, p: float) -> Tensor:
    """Attention of packed sequences through torch's nested tensors, whose fused kernels know dropout and float32."""
    offsets = layout.offsets.long()

    def nested(x: Tensor) -> Tensor:
        jagged = torch.nested.nested_tensor_from_jagged(
            x.contiguous(), offsets, min_seqlen=1, max_seqlen=layout.max_length
        )
        return jagged.transpose(1, 2)  # (B, H, j, K)

    out = F.scaled_dot_product_attention(nested(q), nested(k), nested(v), dropout_p=p)
    return out.transpose(1, 2).values()


def _attend_by_length(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, p: float) -> Tensor:
    """Attention of packed sequences, those of one length at a time: no padding, and no kernel of its own."""
    by_length: dict[int, list[int]] = {}
    for first, length in zip(offsets.tolist(), offsets.diff().tolist(), strict=False):
        by_length.setdefault(length, []).append(first)
    out = torch.empty_like(q)
    for length, firsts in by_length.items():
        index = (torch.tensor(firsts)[:, None] + torch.arange(length)).flatten().to(q.device)
        a, b, c = (x[index].unflatten(0, (len(firsts), length)).transpose(1, 2) for x in (q, k, v))  # (b, H, t, K)
        y = _attention(a, b, c, None, p).transpose(1, 2)  # (b, t, H, K)
        out = out.index_copy(0, index, y.flatten(0, 1))
    return out
