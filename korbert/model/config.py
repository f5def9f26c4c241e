"""Sizes and switches of the encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

from korbert.errors import ConfigError, check_range

CHOICES = {
    "norm": ("post", "pre"),
    "positions": ("learned", "rotary"),
    "feed_forward": ("gelu", "geglu"),
}


def check_number(
    key: str,
    value: object,
    least: float,
    most: float = math.inf,
    *,
    whole: bool = True,
    above: bool = False,
    below: bool = False,
) -> None:
    """Raise ValueError naming `key` unless `value` is a number, whole or any, in a range; see `check_range`."""
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{key}: wanted a {'whole ' if whole else ''}number, got {value!r}")
    try:
        check_range(key, value, least, most, above=above, below=below)
    except ConfigError as error:
        raise ValueError(str(error)) from None


@dataclass
class ModelConfig:
    """Sizes of a BERT encoder; see `conf/model/` for tiny, narrow, mini, small and base.

    `entity_types` counts entity kinds beside "outside"; `entity_embedding=False` is BERT without the extra term.
    span_query: answers are scored against the question as [CLS] sums it up, too (Ram et al. 2021), not alone.
    norm: LayerNorm after each residual sum (BERT) or before each part (pre). positions: a learned table, or rotary
    (Su et al. 2021). feed_forward: GELU, or GeGLU (Shazeer 2020), whose width is two thirds of intermediate_size (in
    steps of 32), so that it has as many parameters. matching_heads: heads of the first two layers that begin by looking
    at tokens like their own (after Trockman & Kolter 2023, mimetic initialisation); only the first weights differ.
    letters: characters of a token that a span model looks at to find an answer's edge inside of it; 0: answers begin
    and end where tokens do. embedding_size: of the embedding tables, where it is another one than hidden_size (Clark et
    al. 2020, ELECTRA); 0: the same.
    """

    vocab_size: int
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    segment_types: int = 2
    entity_types: int = 1
    entity_embedding: bool = True
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    norm: str = "post"
    positions: str = "learned"
    feed_forward: str = "gelu"
    span_query: bool = False
    matching_heads: int = 0
    letters: int = 0
    embedding_size: int = 0

    def __post_init__(self) -> None:
        for key in (
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
            "max_positions",
            "segment_types",
            "entity_types",
        ):
            check_number(f"model.{key}", getattr(self, key), 1)
        for key in ("matching_heads", "letters", "embedding_size"):
            check_number(f"model.{key}", getattr(self, key), 0)
        for key in ("layer_norm_eps", "initializer_range"):
            check_number(f"model.{key}", getattr(self, key), 0, 1, whole=False, above=True)
        for key in ("hidden_dropout", "attention_dropout"):
            check_number(f"model.{key}", getattr(self, key), 0, 1, whole=False, below=True)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"model.hidden_size={self.hidden_size} is not a multiple of model.num_heads={self.num_heads}"
            )
        for key, wanted in CHOICES.items():
            if getattr(self, key) not in wanted:
                raise ValueError(f"model.{key}: {getattr(self, key)!r} is unknown, wanted {' or '.join(wanted)}")
        if self.matching_heads > self.num_heads:
            raise ValueError(
                f"model.matching_heads: wanted 0 to model.num_heads={self.num_heads}, got {self.matching_heads}"
            )
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError(f"model.positions=rotary needs an even width of heads, {self.head_size} is odd")

    @property
    def embedding_width(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_size or self.hidden_size

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def feed_forward_size(self) -> int:
        """Width inside the feed-forward part."""
        if self.feed_forward == "gelu":
            return self.intermediate_size
        return max(32, round(self.intermediate_size * 2 / 3 / 32) * 32)
