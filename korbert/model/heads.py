"""The pretraining model and its heads: masked LM, next sentence.

Each model's `losses` returns sums, not means, with the number of targets known to the batch: so an accumulated step
equals the step of one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.encoder import Encoder, initialize
from korbert.model.loss import linear_cross_entropy
from korbert.model.span import SpanHead
from korbert.model.targets import Inputs, PretrainingTargets, chosen


class MaskedLMHead(nn.Module):
    """Dense, GELU, LayerNorm, then the token embeddings as output weights, with a bias of their own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.embedding_width)
        self.norm = nn.LayerNorm(config.embedding_width, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, token_embeddings: Tensor) -> Tensor:
        """(M, D) at the masked positions only → (M, V) logits."""
        return F.linear(self.features(hidden), token_embeddings, self.bias)

    def loss(self, hidden: Tensor, token_embeddings: Tensor, labels: Tensor) -> Tensor:
        """Summed cross-entropy of the logits, without keeping them."""
        return linear_cross_entropy(self.features(hidden), token_embeddings, self.bias, labels)

    def features(self, hidden: Tensor) -> Tensor:
        """(M, D) → (M, width of the embeddings), what the output weights see."""
        return self.norm(F.gelu(self.transform(hidden)))


class NextSentenceHead(nn.Module):
    """BERT's pooler (dense, tanh over [CLS]) and a two-way decision: 0 = random, 1 = true next."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.decision = nn.Linear(config.hidden_size, 2)

    def forward(self, first: Tensor) -> Tensor:
        """(B, D) at [CLS] → (B, 2)."""
        return self.decision(torch.tanh(self.pooler(first)))


class PretrainingModel(nn.Module):
    """Encoder with the heads of its objectives: "mlm" always; "nsp" (next sentence), "selection" where asked for."""

    def __init__(self, config: ModelConfig, objectives: Sequence[str] = ("mlm", "nsp")) -> None:
        super().__init__()
        self.config = config
        self.objectives = tuple(objectives)
        self.encoder = Encoder(config)
        self.mlm = MaskedLMHead(config)
        self.nsp = NextSentenceHead(config) if "nsp" in objectives else None
        self.span = SpanHead(config) if "selection" in objectives else None
        for head in (self.mlm, self.nsp, self.span):
            if head is not None:
                initialize(head, config.initializer_range)

    def encode(self, batch: Inputs) -> Tensor:
        """Hidden states, (..., D)."""
        return self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout, batch.position_ids)

    def mlm_logits(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Vocabulary logits (M, V) at `positions` (M,) of (..., D) laid out flat."""
        return self.mlm(chosen(hidden, positions), self.encoder.embeddings.token.weight)

    def masked_logits(self, batch: PretrainingTargets) -> Tensor:
        """Vocabulary logits (M, V) at masked tokens."""
        return self.mlm_logits(self.encode(batch), batch.mlm_positions)

    def losses(self, batch: PretrainingTargets) -> dict[str, Tensor]:
        """Summed cross-entropy: "mlm" over masked tokens, "nsp" over pairs. Source: Devlin et al. 2019, section 3.1."""
        hidden = self.encode(batch)
        at = chosen(hidden, batch.mlm_positions)
        losses = {"mlm": self.mlm.loss(at, self.encoder.embeddings.token.weight, batch.mlm_labels)}
        if self.nsp is not None and batch.nsp_labels is not None:
            decision = self.nsp(batch.layout.first(hidden)).float()
            losses["nsp"] = F.cross_entropy(decision, batch.nsp_labels, reduction="sum")
        if self.span is not None and batch.asked is not None:
            losses["selection"] = self._selection_loss(self.span, hidden, batch)
        return losses

    def _selection_loss(self, head: SpanHead, hidden: Tensor, batch: PretrainingTargets) -> Tensor:
        """Summed over questions: minus the log of the probability of all right starts, and of all right ends, halved.

        Source: Ram et al. 2021, section 3, with every occurrence of the answer right.
        """
        assert batch.asked is not None
        assert batch.starts is not None
        assert batch.ends is not None
        assert batch.allowed is not None
        loss = hidden.new_zeros((), dtype=torch.float32)
        logits = head(hidden, batch.layout, batch.allowed, batch.asked, batch.queries)
        for scores, right in zip(logits, (batch.starts, batch.ends), strict=True):
            wanted = scores.masked_fill(~right, -torch.inf)
            loss = loss + (scores.logsumexp(1) - wanted.logsumexp(1)).sum() / 2
        return loss

    forward = losses
