"""Heads and the two models they make: pretraining (masked LM, next sentence) and span extraction.

Each model's `losses` returns sums, not means, with the number of targets known to the batch: so an accumulated step
equals the step of one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.encoder import Encoder, initialize
from korbert.model.layout import Layout
from korbert.model.loss import linear_cross_entropy

IGNORE_INDEX = -100

if TYPE_CHECKING:
    from typing import Protocol

    class Inputs(Protocol):
        """What every batch gives the encoder: ids, each (...), and how they lie; position_ids may be None."""

        @property
        def token_ids(self) -> Tensor: ...
        @property
        def segment_ids(self) -> Tensor: ...
        @property
        def entity_ids(self) -> Tensor: ...
        @property
        def layout(self) -> Layout: ...
        @property
        def position_ids(self) -> Tensor | None: ...

    class PretrainingTargets(Inputs, Protocol):
        """mlm_positions: (M,), where a token is predicted, in (...) laid out flat; mlm_labels: (M,), which.

        nsp_labels: (B,), 1 = true next; None without pairs. asked, queries: (Q,) the sequence of each question and the
        token that asks; starts, ends: (Q, T) bool, where answers begin and end; allowed: (...) bool, where they may
        lie; all of them None without questions.
        """

        @property
        def mlm_positions(self) -> Tensor: ...
        @property
        def mlm_labels(self) -> Tensor: ...
        @property
        def nsp_labels(self) -> Tensor | None: ...
        @property
        def asked(self) -> Tensor | None: ...
        @property
        def queries(self) -> Tensor | None: ...
        @property
        def starts(self) -> Tensor | None: ...
        @property
        def ends(self) -> Tensor | None: ...
        @property
        def allowed(self) -> Tensor | None: ...

    class SpanTargets(Inputs, Protocol):
        """start_positions, end_positions: (B,) tokens, inclusive; allowed: (...) bool, where a span may lie."""

        @property
        def start_positions(self) -> Tensor: ...
        @property
        def end_positions(self) -> Tensor: ...
        @property
        def allowed(self) -> Tensor: ...

    class TagTargets(Inputs, Protocol):
        """tags: (...) int64, IGNORE_INDEX where nothing is asked."""

        @property
        def tags(self) -> Tensor: ...


class MaskedLMHead(nn.Module):
    """Dense, GELU, LayerNorm, then the token embeddings as output weights, with a bias of their own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, token_embeddings: Tensor) -> Tensor:
        """(M, D) at the masked positions only → (M, V) logits."""
        return F.linear(self.features(hidden), token_embeddings, self.bias)

    def loss(self, hidden: Tensor, token_embeddings: Tensor, labels: Tensor) -> Tensor:
        """Summed cross-entropy of the logits, without keeping them."""
        return linear_cross_entropy(self.features(hidden), token_embeddings, self.bias, labels)

    def features(self, hidden: Tensor) -> Tensor:
        """(M, D) → (M, D), what the output weights see."""
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


class SpanHead(nn.Module):
    """A start and an end logit for every token, of itself and, with a query, of its fit to the question.

    Source: Devlin et al. 2019, section 4.2; the query after Ram et al. 2021, section 4, with [CLS] as its token.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scores = nn.Linear(config.hidden_size, 2)
        self.query = nn.Linear(config.hidden_size, 2 * config.hidden_size) if config.span_query else None

    def forward(
        self,
        hidden: Tensor,
        layout: Layout,
        allowed: Tensor,
        rows: Tensor | None = None,
        queries: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(..., D) → start and end logits, each (Q, T) float32, minus infinity where `allowed` (...) is False.

        rows, queries: (Q,) the sequence that each question is about and the token that asks, in (...) laid out flat;
        without them one question for each sequence, asked by its first token.
        """
        parts = [self.scores(hidden).float(), allowed]
        if self.query is not None:
            parts.append(hidden)
        scores, allowed, *keys = (layout.rectangle(part, 0) for part in parts)  # (B, T, …)
        if rows is not None:
            scores, allowed, *keys = (part.index_select(0, rows) for part in (scores, allowed, *keys))  # (Q, T, …)
        if self.query is not None:
            at = layout.first(hidden) if queries is None else chosen(hidden, queries)
            asks = self.query(at).unflatten(-1, (2, -1))  # (Q, 2, D)
            scores = scores + (keys[0] @ asks.mT).float() / hidden.shape[-1] ** 0.5
        start, end = scores.masked_fill(~allowed[..., None], -torch.inf).unbind(-1)
        return start, end


def span_loss(start: Tensor, end: Tensor, batch: SpanTargets) -> Tensor:
    """Sum over the batch of the mean of start and end cross-entropies."""
    loss = F.cross_entropy(start, batch.start_positions, reduction="sum")
    return (loss + F.cross_entropy(end, batch.end_positions, reduction="sum")) / 2


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


def chosen(hidden: Tensor, positions: Tensor) -> Tensor:
    """Rows (M, D) of (..., D) laid out flat."""
    return hidden.flatten(0, -2).index_select(0, positions)


class SpanModel(nn.Module):
    """Encoder with a span head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.span = SpanHead(config)
        initialize(self.span, config.initializer_range)

    def logits(self, batch: SpanTargets) -> tuple[Tensor, Tensor]:
        """Start and end logits, each (B, T) float32, minus infinity where `allowed` is False."""
        hidden = self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout, batch.position_ids)
        return self.span(hidden, batch.layout, batch.allowed)

    def losses(self, batch: SpanTargets) -> dict[str, Tensor]:
        """Summed "span" loss: the mean of the start and end cross-entropies of each window."""
        return {"span": span_loss(*self.logits(batch), batch)}

    forward = losses
