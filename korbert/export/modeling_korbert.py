"""A korbert model for transformers: load with `AutoModel….from_pretrained(folder, trust_remote_code=True)`.

It computes what korbert computes, on padded batches. `entity_ids` (batch, length) say which tokens belong to an entity:
0 for none, 1 for any (or, where the model tells types apart, the type). Without them the model reads plain text.
`position_ids` are 0 1 2 … unless given; of a model whose markers share positions, those that it was trained with.
All of them are (batch, length) int64. Labels give the losses that transformers' BERT has. What a model cannot give is
refused: an argument that it does not know with TypeError, the rest with ValueError.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    TokenClassifierOutput,
)


class KorbertConfig(PretrainedConfig):
    """Sizes and switches, named as in korbert's ModelConfig, and as transformers names the common ones."""

    model_type = "korbert"
    attribute_map: ClassVar[dict[str, str]] = {
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "segment_types",
        "hidden_dropout_prob": "hidden_dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    }

    def __init__(
        self,
        vocab_size: int = 8000,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        intermediate_size: int = 1024,
        feed_forward_size: int = 1024,
        max_positions: int = 512,
        segment_types: int = 2,
        entity_types: int = 1,
        embedding_size: int = 0,
        hidden_dropout: float = 0.1,
        attention_dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        norm: str = "post",
        positions: str = "learned",
        feed_forward: str = "gelu",
        span_query: bool = False,
        marker_ids: list[int] | None = None,
        **others: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.num_layers, self.num_heads = (
            vocab_size, hidden_size, num_layers, num_heads,
        )  # fmt: skip
        self.intermediate_size, self.feed_forward_size = intermediate_size, feed_forward_size
        self.max_positions, self.segment_types, self.entity_types = max_positions, segment_types, entity_types
        self.embedding_size = embedding_size
        self.hidden_dropout, self.attention_dropout = hidden_dropout, attention_dropout
        self.layer_norm_eps, self.initializer_range = layer_norm_eps, initializer_range
        self.norm, self.positions, self.feed_forward, self.span_query = norm, positions, feed_forward, span_query
        self.marker_ids = marker_ids
        super().__init__(**others)


class Embeddings(nn.Module):
    """Tokens, segments, positions and entities, summed."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        width = config.embedding_size or config.hidden_size
        self.token = nn.Embedding(config.vocab_size, width)
        self.segment = nn.Embedding(config.segment_types, width)
        self.position = nn.Embedding(config.max_positions, width) if config.positions == "learned" else None
        self.entity = nn.Embedding(config.entity_types + 1, width, padding_idx=0)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.project = nn.Linear(width, config.hidden_size) if config.embedding_size else None

    def forward(self, tokens: Tensor, segments: Tensor, entities: Tensor, positions: Tensor) -> Tensor:
        if self.segment.num_embeddings == 1:
            segments = torch.zeros_like(segments)
        x = self.token(tokens) + self.segment(segments)
        if self.position is not None:
            x = x + self.position(positions)
        x = self.dropout(self.norm(x + self.entity(entities)))
        return x if self.project is None else self.project(x)


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.num_heads, config.attention_dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if angles is not None:
            q, k = (rotate(part, angles) for part in (q, k))
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )  # fmt: skip
        return self.out(y.transpose(1, 2).flatten(-2))


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): (B, H, T, K) turned by (B, 1, T, K / 2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Layer(nn.Module):
    """Attention and feed-forward, LayerNorm before each or after each sum."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        self.is_pre, self.is_gated = config.norm == "pre", config.feed_forward == "geglu"
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size * (2 if self.is_gated else 1))
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor | None) -> Tensor:
        if self.is_pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, angles))
            return x + self.dropout(self.feed_forward(self.output_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, angles)))
        return self.output_norm(x + self.dropout(self.feed_forward(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        if not self.is_gated:
            return self.down(F.gelu(self.up(x)))
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate) * value)


class Encoder(nn.Module):
    """Embeddings and layers."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm == "pre" else None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        entity_ids: Tensor | None,
        keeps_all: bool,
    ) -> tuple[Tensor, ...]:
        """The last hidden state (B, T, D) or, in front of it, those that the layers began with, too."""
        nothing = torch.zeros_like(input_ids)
        if position_ids is None and self.config.marker_ids is not None:
            position_ids = shared_positions(input_ids, *self.config.marker_ids)
        elif position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        length, limit = input_ids.shape[1], self.config.max_positions
        # Markers may share positions, so that more tokens fit; asked only then, for a GPU has to be waited for.
        if length > limit and int(position_ids.max()) >= limit:
            raise ValueError(f"input_ids: {length} tokens in a sequence, but the model has positions for {limit}")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if mask.dim() != 2:
            raise ValueError(f"attention_mask: wanted (batch, length), got {tuple(mask.shape)}")
        segments = nothing if token_type_ids is None else token_type_ids
        x = self.embeddings(input_ids, segments, nothing if entity_ids is None else entity_ids, position_ids)
        angles = None
        if self.config.positions == "rotary":
            size = self.config.hidden_size // self.config.num_heads
            powers = torch.arange(0, size, 2, dtype=torch.float64, device=x.device) / size
            angles = (position_ids[..., None].float() * (10_000.0**-powers).float())[:, None]
        seen = mask.bool()[:, None, None, :]
        before: list[Tensor] = []
        for layer in self.layers:
            if keeps_all:
                before.append(x)
            x = layer(x, seen, angles)
        return (*before, x if self.norm is None else self.norm(x))


def shared_positions(input_ids: Tensor, opening: int, closing: int) -> Tensor:
    """Positions (B, T) as without markers: an opening one has that of the token behind it, a closing one before it."""
    is_close = input_ids == closing
    is_text = ~is_close & (input_ids != opening)
    before = is_text.cumsum(-1) - is_text.long()
    return (before - is_close.long()).clamp(min=0)


class KorbertPreTrainedModel(PreTrainedModel):
    """Loading and saving, and what every model does with its arguments."""

    config_class = KorbertConfig
    base_model_prefix = "korbert"
    _supports_sdpa = True  # it computes with nothing else

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embeddings.token

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.encoder.embeddings.token = value

    def _hidden_states(
        self, *inputs: Tensor | None, output_attentions: bool | None, output_hidden_states: bool | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The last hidden state and, if asked for, those of the embeddings and of every layer, the last one included.

        inputs: input_ids, attention_mask, token_type_ids, position_ids, entity_ids.
        """
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError("output_attentions: not supported; torch's scaled_dot_product_attention keeps no weights")
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states = self.encoder(*inputs, keeps_all=bool(wanted))
        return states[-1], states if wanted else None

    def _answer(self, output: Any, return_dict: bool | None) -> Any:
        """The output, or what is in it as a tuple where no dict is wanted."""
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()


class KorbertModel(KorbertPreTrainedModel):
    """Hidden states."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        entity_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple[Any, ...]:
        hidden, states = self._hidden_states(
            input_ids, attention_mask, token_type_ids, position_ids, entity_ids,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return self._answer(BaseModelOutput(last_hidden_state=hidden, hidden_states=states), return_dict)


class SpanHead(nn.Module):
    """Two scores for each token; with a query, of its fit to what [CLS] says of the question, too."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        self.scores = nn.Linear(config.hidden_size, 2)
        self.query = nn.Linear(config.hidden_size, 2 * config.hidden_size) if config.span_query else None

    def forward(self, hidden: Tensor) -> Tensor:
        scores = self.scores(hidden)
        if self.query is None:
            return scores
        asks = self.query(hidden[:, 0]).unflatten(-1, (2, -1))
        return scores + hidden @ asks.mT / hidden.shape[-1] ** 0.5


class MaskedLMHead(nn.Module):
    """Vocabulary logits, with the token embeddings as output weights."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__()
        width = config.embedding_size or config.hidden_size
        self.transform = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.transform(hidden))), embeddings, self.bias)


def label_loss(logits: Tensor, labels: Tensor | None) -> Tensor | None:
    """Mean cross-entropy over the tokens whose label is not -100; None without labels (B, T)."""
    return None if labels is None else F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def edge_loss(logits: Tensor, places: Tensor) -> Tensor:
    """Mean cross-entropy of places (B,) or (B, 1) among tokens (B, T); those behind the last token do not count."""
    length = logits.shape[1]
    return F.cross_entropy(logits, places.flatten().clamp(0, length), ignore_index=length)


class KorbertForQuestionAnswering(KorbertPreTrainedModel):
    """Start and end logits of every token; with start_positions and end_positions (batch), their loss."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.span = SpanHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        entity_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        if (start_positions is None) != (end_positions is None):
            raise ValueError("start_positions, end_positions: wanted both or neither")
        hidden, states = self._hidden_states(
            input_ids, attention_mask, token_type_ids, position_ids, entity_ids,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        start, end = self.span(hidden).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (edge_loss(start, start_positions) + edge_loss(end, end_positions)) / 2
        output = QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end, hidden_states=states)
        return self._answer(output, return_dict)


class KorbertForMaskedLM(KorbertPreTrainedModel):
    """Vocabulary logits of every token; with labels (batch, length), -100 where none counts, their loss."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.mlm = MaskedLMHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        entity_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        hidden, states = self._hidden_states(
            input_ids, attention_mask, token_type_ids, position_ids, entity_ids,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        logits = self.mlm(hidden, self.encoder.embeddings.token.weight)
        output = MaskedLMOutput(loss=label_loss(logits, labels), logits=logits, hidden_states=states)
        return self._answer(output, return_dict)

    def resize_token_embeddings(self, *sizes: Any, **options: Any) -> nn.Embedding:
        embeddings = super().resize_token_embeddings(*sizes, **options)
        bias, rows = self.mlm.bias, len(embeddings.weight)
        if len(bias) != rows:  # one for each row of the embeddings, which are the output weights
            new = bias.new_zeros(rows)
            new[: len(bias)] = bias.detach()[:rows]
            self.mlm.bias = nn.Parameter(new, requires_grad=bias.requires_grad)
        return embeddings


class KorbertForTokenClassification(KorbertPreTrainedModel):
    """Tag logits of every token; with labels (batch, length), -100 where none counts, their loss."""

    def __init__(self, config: KorbertConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.tags = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        entity_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        hidden, states = self._hidden_states(
            input_ids, attention_mask, token_type_ids, position_ids, entity_ids,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        logits = self.tags(self.dropout(hidden))
        output = TokenClassifierOutput(loss=label_loss(logits, labels), logits=logits, hidden_states=states)
        return self._answer(output, return_dict)
