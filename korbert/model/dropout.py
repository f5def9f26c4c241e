"""Dropout that costs little on a CPU, where torch draws one slow random number for every element."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements to zero with probability `p` and scale up the rest, so that the mean stays.

    On a CPU each 64-bit random number decides four elements, 16 bits each, and the probability is `p` rounded to a
    multiple of 1 / 65536; elsewhere it is torch's own.
    """
    if p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = round(p * _LEVELS)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    levels = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform from -32768 to 32767
    kept = levels >= dropped - _LEVELS // 2
    return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Module):
    """`dropout` in training mode, nothing in evaluation mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return dropout(x, self.p) if self.training else x
