"""Heads and the two models they make: pretraining (masked LM + next sentence) and span extraction.

Each model's `losses` returns sums, not means, with the number of targets known to the batch: so an accumulated step
equals the step of one large batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.encoder import Encoder, initialize

IGNORE_INDEX = -100

if TYPE_CHECKING:
    from typing import Protocol

    class Inputs(Protocol):
        """What every batch gives the encoder, each (B, T)."""

        @property
        def token_ids(self) -> Tensor: ...
        @property
        def segment_ids(self) -> Tensor: ...
        @property
        def entity_ids(self) -> Tensor: ...
        @property
        def attention_mask(self) -> Tensor: ...

    class PretrainingTargets(Inputs, Protocol):
        """mlm_labels: (B, T), IGNORE_INDEX where nothing is predicted; nsp_labels: (B,), 1 = true next."""

        @property
        def mlm_labels(self) -> Tensor: ...
        @property
        def nsp_labels(self) -> Tensor: ...

    class SpanTargets(Inputs, Protocol):
        """start_positions, end_positions: (B,) tokens, inclusive; allowed: (B, T) bool, where a span may lie."""

        @property
        def start_positions(self) -> Tensor: ...
        @property
        def end_positions(self) -> Tensor: ...
        @property
        def allowed(self) -> Tensor: ...


class MaskedLMHead(nn.Module):
    """Dense, GELU, LayerNorm, then the token embeddings as output weights, with a bias of their own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, token_embeddings: Tensor) -> Tensor:
        """(N, D) at the masked positions only → (N, V) logits."""
        return F.linear(self.norm(F.gelu(self.transform(hidden))), token_embeddings, self.bias)


class NextSentenceHead(nn.Module):
    """BERT's pooler (dense, tanh over [CLS]) and a two-way decision: 0 = random, 1 = true next."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.decision = nn.Linear(config.hidden_size, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) → (B, 2)."""
        return self.decision(torch.tanh(self.pooler(hidden[:, 0])))


class PretrainingModel(nn.Module):
    """Encoder with masked-LM and next-sentence heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.mlm = MaskedLMHead(config)
        self.nsp = NextSentenceHead(config)
        initialize(self.mlm, config.initializer_range)
        initialize(self.nsp, config.initializer_range)

    def encode(self, batch: Inputs) -> Tensor:
        """Hidden states, (B, T, D)."""
        return self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.attention_mask)

    def mlm_logits(self, hidden: Tensor, at: Tensor) -> Tensor:
        """Vocabulary logits (N, V) at the positions where `at` (B, T) bool is True, in row-major order."""
        return self.mlm(hidden[at], self.encoder.embeddings.token.weight)

    def losses(self, batch: PretrainingTargets) -> dict[str, Tensor]:
        """Summed cross-entropy: "mlm" over masked tokens, "nsp" over pairs. Source: Devlin et al. 2019, section 3.1."""
        hidden = self.encode(batch)
        at = batch.mlm_labels != IGNORE_INDEX
        return {
            "mlm": F.cross_entropy(self.mlm_logits(hidden, at).float(), batch.mlm_labels[at], reduction="sum"),
            "nsp": F.cross_entropy(self.nsp(hidden).float(), batch.nsp_labels, reduction="sum"),
        }

    forward = losses


class SpanModel(nn.Module):
    """Encoder with a start and an end logit for every token. Source: Devlin et al. 2019, section 4.2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.span = nn.Linear(config.hidden_size, 2)
        initialize(self.span, config.initializer_range)

    def logits(self, batch: SpanTargets) -> tuple[Tensor, Tensor]:
        """Start and end logits, each (B, T) float32, minus infinity where `allowed` is False."""
        hidden = self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.attention_mask)
        start, end = self.span(hidden).float().masked_fill(~batch.allowed[:, :, None], -torch.inf).unbind(-1)
        return start, end

    def losses(self, batch: SpanTargets) -> dict[str, Tensor]:
        """Summed "span" loss: the mean of the start and end cross-entropies of each window."""
        start, end = self.logits(batch)
        loss = F.cross_entropy(start, batch.start_positions, reduction="sum")
        return {"span": (loss + F.cross_entropy(end, batch.end_positions, reduction="sum")) / 2}

    forward = losses
