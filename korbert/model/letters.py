"""A head that says where inside its first and its last token an answer begins and ends.

Josa are glued to most of KorQuAD's answers, and large vocabularies have tokens with the josa in them: pointing at
tokens cannot say 서울 where the token is 서울에서. The head reads the token's letters beside its hidden state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# How many numbers each of a letter's four columns has: its initial, medial and final jamo (0: no Hangul; of finals,
# 1: none), and any other character.
LETTER_SIZES = (20, 22, 29, 257)
_WIDTH = 64


class LetterHead(nn.Module):
    """For one edge: a score for each number of letters by which the answer's edge lies inside of the token.

    Letters are read from the edge inwards, so that the head for ends sees a josa first, whatever stands before it.
    most: letters looked at, and possible places.
    """

    def __init__(self, hidden_size: int, most: int) -> None:
        super().__init__()
        self.most = most
        self.letters = nn.ModuleList(nn.Embedding(size, _WIDTH) for size in LETTER_SIZES)
        self.places = nn.Embedding(most, _WIDTH)
        self.near = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(2))
        self.token = nn.Linear(hidden_size, _WIDTH)
        self.out = nn.Linear(_WIDTH, 1)

    def forward(self, hidden: Tensor, letters: Tensor, lengths: Tensor) -> Tensor:
        """(N, D), (N, most, 4) int64, (N,) → log-probabilities (N, most) float32; place 0 is the token's own edge."""
        x = self.places.weight + torch.stack([e(letters[..., i]) for i, e in enumerate(self.letters)]).sum(0)
        for layer in self.near:
            x = x + F.gelu(layer(x.transpose(1, 2)).transpose(1, 2))
        scores = self.out(F.gelu(x + self.token(hidden)[:, None]))[..., 0].float()
        places = torch.arange(self.most, device=scores.device)
        # At least one letter stays.
        scores = scores.masked_fill(places >= lengths.clamp(min=1)[:, None], -torch.inf)
        return scores.log_softmax(-1)
