"""Span extraction: a start and an end for every answer, at tokens or inside of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.encoder import Encoder, initialize
from korbert.model.layout import Layout
from korbert.model.letters import LetterHead
from korbert.model.targets import IGNORE_INDEX, EdgeTargets, Inputs, SpanTargets, chosen


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


class SpanModel(nn.Module):
    """Encoder with a span head and, where the sizes ask for one, a letter head for each edge."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.span = SpanHead(config)
        initialize(self.span, config.initializer_range)
        self.letters: nn.ModuleList | None = None  # for starts, for ends
        if config.letters:
            self.letters = nn.ModuleList(LetterHead(config.hidden_size, config.letters) for _ in range(2))

    def encode(self, batch: Inputs) -> Tensor:
        """Hidden states, (..., D)."""
        return self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout, batch.position_ids)

    def logits(self, batch: SpanTargets) -> tuple[Tensor, Tensor]:
        """Start and end logits, each (B, T) float32, minus infinity where `allowed` is False."""
        return self.span(self.encode(batch), batch.layout, batch.allowed)

    def edge_scores(self, hidden: Tensor, letters: Tensor, lengths: Tensor, side: int) -> Tensor:
        """Log-probabilities (N, most) of where an answer's start (side 0) or end (1) lies in tokens (N, D)."""
        assert self.letters is not None
        return self.letters[side](hidden, letters, lengths)

    def losses(self, batch: SpanTargets) -> dict[str, Tensor]:
        """Summed: "span", the mean of the start and end cross-entropies of each window; "letters", of the edges'."""
        hidden = self.encode(batch)
        start, end = self.span(hidden, batch.layout, batch.allowed)
        losses = {"span": span_loss(start, end, batch)}
        if self.letters is not None and batch.edges is not None:
            losses["letters"] = (self._edge_loss(hidden, batch.edges, 0) + self._edge_loss(hidden, batch.edges, 1)) / 2
        return losses

    def _edge_loss(self, hidden: Tensor, edges: EdgeTargets, side: int) -> Tensor:
        scores = self.edge_scores(chosen(hidden, edges.at[side]), edges.letters[side], edges.lengths[side], side)
        return F.nll_loss(scores, edges.right[side], ignore_index=IGNORE_INDEX, reduction="sum")

    forward = losses
