"""The BERT encoder (Devlin et al. 2019: post-LayerNorm, GELU, learned positions) with an entity embedding.

Shapes: B batch, T tokens, H heads, K head width, D model width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig


class Embeddings(nn.Module):
    """Sum the four input embeddings, then LayerNorm and dropout.

    Entity id 0 means "outside": its row is zero, gets no gradient, and so adds exactly nothing.
    Source: Devlin et al. 2019, section 3; the entity term is this project's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segment = nn.Embedding(config.segment_types, config.hidden_size)
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.entity: nn.Embedding | None = None
        if config.entity_embedding:
            table = torch.zeros(config.entity_types + 1, config.hidden_size)  # drawn in `initialize`
            self.entity = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=0)

    def forward(
        self, token_ids: Tensor, segment_ids: Tensor, entity_ids: Tensor, position_ids: Tensor | None = None
    ) -> Tensor:
        """Embed (B, T) int64 ids as (B, T, D).

        Raises ValueError if T exceeds the position table.
        """
        length, limit = token_ids.shape[1], self.position.num_embeddings
        if position_ids is None:
            if length > limit:
                raise ValueError(f"{length} tokens in a sequence, but the model has positions for {limit}")
            position_ids = torch.arange(length, device=token_ids.device)[None]
        x = self.token(token_ids) + self.segment(segment_ids) + self.position(position_ids)
        if self.entity is not None:
            x = x + self.entity(entity_ids)
        return self.dropout(self.norm(x))


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """x: (B, T, D); attention_mask: (B, 1, 1, T) bool, True = attend."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, K)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, dropout_p=dropout)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))  # (B, T, D)


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, attention_mask)))
        return self.output_norm(x + self.dropout(self.down(F.gelu(self.up(x)))))


class Encoder(nn.Module):
    """Embeddings and a stack of layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        initialize(self, config.initializer_range)

    def forward(
        self,
        token_ids: Tensor,
        segment_ids: Tensor,
        entity_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode (B, T) int64 ids as (B, T, D).

        attention_mask: (B, T) bool, True = attend; every row must have a True. Raises TypeError for another dtype.
        """
        if attention_mask.dtype != torch.bool:
            raise TypeError(f"attention_mask: wanted bool with True = attend, got {attention_mask.dtype}")
        x = self.embeddings(token_ids, segment_ids, entity_ids, position_ids)
        mask = attention_mask[:, None, None, :]  # (B, 1, 1, T)
        for layer in self.layers:
            x = layer(x, mask)
        return x


def initialize(module: nn.Module, std: float) -> None:
    """Initialise as BERT does: truncated normal weights (cut at two deviations), zero biases, unit LayerNorm.

    Row 0 of an embedding with `padding_idx=0` becomes exactly zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            # The random state is put back, so that a model with an entity table draws the same other weights as
            # one without.
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
                part.weight[part.padding_idx].zero_()
        elif isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
