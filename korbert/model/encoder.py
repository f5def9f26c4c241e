"""The BERT encoder with an entity embedding: as Devlin et al. 2019 made it, or with what has been learned since.

Shapes: B sequences, T tokens of the longest, H heads, K head width, D model width, V vocabulary; `...` is (B, T) in
the padded layout and (N,) in the packed one, see `layout.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.dropout import Dropout
from korbert.model.layout import Layout

_ROTARY_BASE = 10_000.0
_MATCHING_LAYERS = 2
_MATCHING_SCORE = 8.0  # of a token with itself, before the softmax


class Embeddings(nn.Module):
    """Sum the four input embeddings, then LayerNorm and dropout; rotary positions are not among the terms.

    Tables of another width than the layers' are brought to it last. A single segment type stands for every segment.

    Entity id 0 means "outside": its row is zero, gets no gradient, and so adds exactly nothing.
    Source: Devlin et al. 2019, section 3; the entity term is this project's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.token = nn.Embedding(config.vocab_size, width)
        self.segment = nn.Embedding(config.segment_types, width)
        self.position: nn.Embedding | None = None
        if config.positions == "learned":
            self.position = nn.Embedding(config.max_positions, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.project = nn.Linear(width, config.hidden_size) if config.embedding_size else None
        self.entity: nn.Embedding | None = None
        if config.entity_embedding:
            table = torch.zeros(config.entity_types + 1, width)  # drawn in `initialize`
            self.entity = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=0)

    def forward(self, token_ids: Tensor, segment_ids: Tensor, entity_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Embed (...) int64 ids as (..., D)."""
        if self.segment.num_embeddings == 1:
            segment_ids = torch.zeros_like(segment_ids)
        x = self.token(token_ids) + self.segment(segment_ids)
        if self.position is not None:
            x = x + self.position(position_ids)
        if self.entity is not None:
            x = x + self.entity(entity_ids)
        x = self.dropout(self.norm(x))
        return x if self.project is None else self.project(x)


class FusedLinear(nn.Linear):
    """Several projections of the same input as one; `parts` of equal size lie one after the other in the weight."""

    def __init__(self, inputs: int, outputs: int, parts: int) -> None:
        super().__init__(inputs, parts * outputs)
        self.parts = parts


class Rotary(nn.Module):
    """Angles of rotary position embeddings. Source: Su et al. 2021, RoFormer, section 3.2."""

    def __init__(self, head_size: int) -> None:
        super().__init__()
        exponents = torch.arange(0, head_size, 2, dtype=torch.float64) / head_size
        self.register_buffer("frequencies", (_ROTARY_BASE**-exponents).float(), persistent=False)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (..., 1, 1, K / 2) float32, to be broadcast over query/key and heads."""
        angles = (position_ids[..., None].float() * self.get_buffer("frequencies"))[..., None, None, :]
        return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + K / 2) of the last dimension of (..., 2, H, K) by its token's angle."""
    cos, sin = (angle.to(x.dtype) for angle in angles)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.max_positions = config.max_positions
        self.dropout = config.attention_dropout
        self.qkv = FusedLinear(config.hidden_size, config.hidden_size, 3)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    @torch.no_grad()
    def match_own_tokens(self, heads: int, rotary: Rotary | None) -> None:
        """Let the first `heads` heads begin with equal queries and keys: orthogonal rows, the same for both.

        A token then attends to those with the same vector as its own, which in the first layers are those of the same
        piece of text: what an answer has in common with its question. Rotary positions would undo it for tokens apart,
        so only pairs count that turn less than half a circle over all positions.
        """
        size = self.out.in_features // self.num_heads
        for head in range(heads):
            rows = nn.init.orthogonal_(self.qkv.weight.new_empty(size, self.out.in_features))
            used = rows.new_ones(size)
            if rotary is not None:
                is_slow = rotary.get_buffer("frequencies") < math.pi / self.max_positions
                used = torch.cat((is_slow, is_slow)).to(rows.dtype)
            # With LayerNorm before it a vector's square is D, so a projection's on one row is 1 on average.
            rows *= (used * (_MATCHING_SCORE * math.sqrt(size) / used.sum().clamp(min=1)).sqrt())[:, None]
            queries, keys, _ = self.qkv.weight.chunk(3)
            queries[head * size : (head + 1) * size] = rows
            keys[head * size : (head + 1) * size] = rows

    def forward(self, x: Tensor, layout: Layout, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(..., D) → (..., D); `angles` turns queries and keys (rotary positions)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (..., 3, H, K)
        if angles is None:
            q, k, v = qkv.unbind(-3)
        else:
            qk, v = qkv[..., :2, :, :], qkv[..., 2, :, :]
            q, k = rotate(qk, angles).unbind(-3)
        y = layout.attend(q, k, v, self.dropout if self.training else 0.0)  # (..., H, K)
        return self.out(y.flatten(-2))  # (..., D)


class Layer(nn.Module):
    """Attention and feed-forward, each with dropout and the residual sum; LayerNorm after the sum, or before the part.

    Source: Devlin et al. 2019 (post-norm, GELU); Xiong et al. 2020 (pre-norm); Shazeer 2020 (GeGLU).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.gated = config.feed_forward == "geglu"
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = FusedLinear(config.hidden_size, config.feed_forward_size, 2 if self.gated else 1)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, layout: Layout, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(..., D) → (..., D)."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), layout, angles))
            return x + self.dropout(self.feed_forward(self.output_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, layout, angles)))
        return self.output_norm(x + self.dropout(self.feed_forward(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        if not self.gated:
            return self.down(F.gelu(self.up(x)))
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate) * value)


class Encoder(nn.Module):
    """Embeddings and a stack of layers; with pre-norm layers, a last LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.rotary = Rotary(config.head_size) if config.positions == "rotary" else None
        layers = [Layer(config) for _ in range(config.num_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm: nn.LayerNorm | None = None
        if config.norm == "pre":
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        initialize(self, config.initializer_range)
        for layer in layers[:_MATCHING_LAYERS]:
            layer.attention.match_own_tokens(config.matching_heads, self.rotary)
        if config.norm == "pre":
            # The residual stream is a sum of 2 L parts: each one's last matrix is drawn smaller (Radford et al. 2019).
            with torch.no_grad():
                for name, weight in self.layers.named_parameters():
                    if name.endswith(("attention.out.weight", "down.weight")):
                        weight.div_(math.sqrt(2 * config.num_layers))

    def forward(
        self,
        token_ids: Tensor,
        segment_ids: Tensor,
        entity_ids: Tensor,
        layout: Layout,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode (...) int64 ids as (..., D).

        position_ids: see `position_ids`, unless given.
        """
        if position_ids is None:
            position_ids = self.position_ids(layout)
        x = self.embeddings(token_ids, segment_ids, entity_ids, position_ids)
        angles = None if self.rotary is None else self.rotary(position_ids)
        for layer in self.layers:
            x = layer(x, layout, angles)
        return x if self.norm is None else self.norm(x)

    def position_ids(self, layout: Layout) -> Tensor:
        """0 1 2 … in each sequence, (...) int64. Raises ValueError where one is longer than `max_positions`."""
        length, limit = layout.max_length, self.config.max_positions
        if length > limit:
            raise ValueError(f"{length} tokens in a sequence, but the model has positions for {limit}")
        return layout.position_ids()


class EncoderModel(nn.Module):
    """The encoder alone: what a checkpoint without heads gives."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)


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
