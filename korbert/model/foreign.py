"""Weights of transformers' BERT, RoBERTa and ELECTRA families as korbert's, and korbert's plain models as BERT's.

Names and layouts are those of transformers' modeling_bert.py, modeling_roberta.py and modeling_electra.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from korbert.model.config import ModelConfig, check_number

Tensors = dict[str, Tensor]
_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")
# Our layer's parts → transformers'.
_LAYER = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
# Heads: our name → transformers' names, of which a checkpoint has one.
_HEADS = {
    "mlm.transform": ("cls.predictions.transform.dense", "lm_head.dense"),
    "mlm.norm": ("cls.predictions.transform.LayerNorm", "lm_head.layer_norm"),
    "nsp.pooler": ("bert.pooler.dense",),
    "nsp.decision": ("cls.seq_relationship",),
    "span.scores": ("qa_outputs",),
}
_BIAS = ("cls.predictions.bias", "lm_head.bias")
_KINDS = ("weight", "bias")
_DECODERS = ("cls.predictions.decoder", "lm_head.decoder")  # the same as embeddings and bias, where they are tied


class WeightError(ValueError):
    """A weight that is missing or cannot be used: its name in the checkpoint, and the problem."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint in korbert's terms: sizes, weights by korbert's names, and which heads are among them.

    remarks: what korbert does not compute, and therefore is not among them.
    """

    sizes: ModelConfig
    weights: Tensors
    heads: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def from_transformers(config: Mapping[str, Any], tensors: Mapping[str, Tensor], vocab_size: int) -> Imported:
    """Rename a checkpoint's weights.

    vocab_size: of the tokenizer with korbert's markers; rows that the checkpoint lacks are drawn, always the same. The
    entity embedding is zero. Raises ValueError naming the key for another family, a size that cannot be or an option
    that korbert does not compute, WeightError for a weight that is missing, of another shape than the configuration
    says, or not finite and floating point; nothing as large as a wrong size is made before.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ValueError(f"model_type: {family!r} is unknown, wanted one of {', '.join(_FAMILIES)}")
    for key, wanted in (("hidden_act", ("gelu",)), ("position_embedding_type", ("absolute",))):
        if config.get(key, wanted[0]) not in wanted:
            raise ValueError(f"{key}: {config[key]!r} is not supported, wanted {' or '.join(wanted)}")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ValueError("is_decoder: a decoder is not an encoder")
    offset = _first_position(config)
    rows = _number(config, "vocab_size", 1)
    hidden_size, heads = _number(config, "hidden_size", 1), _number(config, "num_attention_heads", 1)
    if hidden_size % heads:
        raise ValueError(f"num_attention_heads: {heads} is no divisor of hidden_size={hidden_size}")
    # The others read no such key; 128 is what transformers' ELECTRA has without it.
    embedding_size = _number(config, "embedding_size", 1, default=128) if family == "electra" else hidden_size
    share, small = {"whole": False, "below": True}, {"whole": False, "above": True}
    sizes = ModelConfig(
        vocab_size=max(vocab_size, rows),
        hidden_size=hidden_size,
        num_layers=_number(config, "num_hidden_layers", 1),
        num_heads=heads,
        intermediate_size=_number(config, "intermediate_size", 1),
        max_positions=_number(config, "max_position_embeddings", offset + 1) - offset,
        segment_types=_number(config, "type_vocab_size", 1, default=2),
        hidden_dropout=_number(config, "hidden_dropout_prob", 0, 1, default=0.1, **share),
        attention_dropout=_number(config, "attention_probs_dropout_prob", 0, 1, default=0.1, **share),
        layer_norm_eps=_number(config, "layer_norm_eps", 0, 1, default=1e-12, **small),
        initializer_range=_number(config, "initializer_range", 0, 1, default=0.02, **small),
        embedding_size=0 if embedding_size == hidden_size else embedding_size,
    )
    reader = _Reader(_modern_names(tensors), "electra" if family == "electra" else str(family).removeprefix("xlm-"))
    weights = reader.encoder(sizes, rows, offset)
    table = weights["encoder.embeddings.token.weight"]
    weights["encoder.embeddings.token.weight"] = _with_rows(table, sizes.vocab_size)
    weights["encoder.embeddings.entity.weight"] = table.new_zeros(sizes.entity_types + 1, table.shape[1])
    found = reader.heads(weights, sizes, rows, bool(config.get("tie_word_embeddings", True)))
    if "mlm" in found:
        bias = weights["mlm.bias"]
        weights["mlm.bias"] = torch.cat([bias, bias.new_zeros(sizes.vocab_size - rows)])
    return Imported(sizes, weights, found, tuple(reader.remarks))


def _number(
    config: Mapping[str, Any], key: str, least: float, most: float = math.inf, *, default: Any = None, **options: bool
) -> Any:
    """The number at `key`; default: where there is none. Raises ValueError, see `check_number`."""
    if key not in config and default is None:
        raise ValueError(f"{key}: missing")
    value = config.get(key, default)
    check_number(key, value, least, most, **options)
    return value


def _first_position(config: Mapping[str, Any]) -> int:
    """The row of a text's first position in the table: RoBERTa's positions begin behind the id of its padding."""
    if "roberta" not in config["model_type"]:
        return 0
    pad_id = config.get("pad_token_id", 1)
    if isinstance(pad_id, bool) or not isinstance(pad_id, int) or pad_id < 0:
        raise ValueError(f"pad_token_id: {pad_id!r} is not supported, wanted 0 or more: positions begin behind it")
    return pad_id + 1


def _modern_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Old checkpoints call LayerNorm's parameters gamma and beta."""
    return {name.replace(".gamma", ".weight").replace(".beta", ".bias"): value for name, value in tensors.items()}


def _with_rows(table: Tensor, rows: int) -> Tensor:
    """The table with rows for new tokens, drawn with the spread of those it has."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(rows - len(table), table.shape[1], generator=generator) * table.float().std()
    return torch.cat([table, drawn.to(table.dtype)])


class _Reader:
    """Finds weights by transformers' names, with or without the family's prefix."""

    def __init__(self, tensors: Tensors, family: str) -> None:
        self.tensors, self.family = tensors, family
        self.remarks: list[str] = []

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The weight of that name, with the family's prefix or without it; see `checked`."""
        for full in (f"{self.family}.{name}", name):
            if full in self.tensors:
                return self.checked(full, *shape)
        raise WeightError(f"{self.family}.{name}", "the checkpoint has no such weight")

    def checked(self, name: str, *shape: int) -> Tensor:
        """The weight of exactly that name, if it has the shape; a bias is as long as its weight has rows."""
        found, wanted = self.tensors[name], shape[:1] if name.endswith(".bias") else shape
        if found.shape != wanted:
            raise WeightError(name, f"shape {tuple(found.shape)}, wanted {wanted} by the sizes in config.json")
        if not found.is_floating_point():
            raise WeightError(name, f"wanted floating-point numbers, found {found.dtype}")
        if not found.float().isfinite().all():
            raise WeightError(name, "numbers that are not finite")
        return found

    def encoder(self, sizes: ModelConfig, rows: int, offset: int) -> Tensors:
        """rows: of the token table; offset: rows of the position table before the first position."""
        width, hidden, inner = sizes.embedding_width, sizes.hidden_size, sizes.intermediate_size
        tables = "embeddings.{}_embeddings.weight"
        found = {
            "token.weight": self(tables.format("word"), rows, width),
            "segment.weight": self(tables.format("token_type"), sizes.segment_types, width),
            "position.weight": self(tables.format("position"), sizes.max_positions + offset, width)[offset:],
            "norm.weight": self("embeddings.LayerNorm.weight", width),
            "norm.bias": self("embeddings.LayerNorm.bias", width),
        }
        if sizes.embedding_size:
            found |= {f"project.{kind}": self(f"embeddings_project.{kind}", hidden, width) for kind in _KINDS}
        weights = {f"encoder.embeddings.{name}": value for name, value in found.items()}
        shapes = {"attention.out": (hidden, hidden), "up": (inner, hidden), "down": (hidden, inner)}
        for number in range(sizes.num_layers):
            ours, theirs = f"encoder.layers.{number}", f"encoder.layer.{number}"
            for kind in _KINDS:
                parts = [f"{theirs}.attention.self.{part}.{kind}" for part in ("query", "key", "value")]
                weights[f"{ours}.attention.qkv.{kind}"] = torch.cat([self(part, hidden, hidden) for part in parts])
                for a, b in _LAYER.items():
                    weights[f"{ours}.{a}.{kind}"] = self(f"{theirs}.{b}.{kind}", *shapes.get(a, (hidden,)))
        return weights

    def heads(self, weights: Tensors, sizes: ModelConfig, rows: int, says_tied: bool) -> tuple[str, ...]:
        """Add the heads that are whole, and that korbert computes, to `weights`; their names.

        rows: of the token table. says_tied: whether, by its configuration, the checkpoint's masked-LM head ends in the
        word embeddings.
        """
        width, hidden = sizes.embedding_width, sizes.hidden_size
        shapes = {
            "mlm": (rows,), "mlm.transform": (width, hidden), "mlm.norm": (width,), "nsp.pooler": (hidden, hidden),
            "nsp.decision": (2, hidden), "span.scores": (2, hidden),
        }  # fmt: skip
        found: dict[str, dict[str, str]] = {"mlm": {}, "nsp": {}, "span": {}}  # our names → the checkpoint's
        for ours, names in _HEADS.items():
            for name in names:
                for kind in _KINDS:
                    if f"{name}.{kind}" in self.tensors:
                        found[ours.split(".")[0]][f"{ours}.{kind}"] = f"{name}.{kind}"
        for name in _BIAS:
            if name in self.tensors:
                found["mlm"]["mlm.bias"] = name
        whole = tuple(head for head, count in (("mlm", 5), ("nsp", 4), ("span", 2)) if len(found[head]) == count)
        heads = {
            head: {a: self.checked(b, *shapes[a.rpartition(".")[0]]) for a, b in found[head].items()} for head in whole
        }
        table = self("embeddings.word_embeddings.weight", rows, width)
        if "mlm" in whole and not self._is_tied(table, heads["mlm"]["mlm.bias"], says_tied):
            whole = tuple(head for head in whole if head != "mlm")
            self.remarks.append(
                "the masked-LM head is left out: its output weights or their bias are its own "
                "(tie_word_embeddings=false), and korbert's output weights are always the token embeddings"
            )
        for head in whole:
            weights.update(heads[head])
        if "nsp" in whole:  # theirs: 0 = next; ours: 1 = next
            for kind in _KINDS:
                weights[f"nsp.decision.{kind}"] = weights[f"nsp.decision.{kind}"].flip(0)
        return whole

    def _is_tied(self, table: Tensor, bias: Tensor, says_tied: bool) -> bool:
        """Whether the masked-LM head ends in the word embeddings and `bias`: what is in the file decides, if it is."""
        shared = {"weight": table, "bias": bias}
        own = {
            kind: self.tensors[f"{name}.{kind}"]
            for name in _DECODERS
            for kind in shared
            if f"{name}.{kind}" in self.tensors
        }
        return (says_tied or "weight" in own) and all(torch.equal(own[kind], shared[kind]) for kind in own)


def is_plain(sizes: ModelConfig) -> bool:
    """Whether transformers' BERT computes the same, entities aside."""
    switches = (sizes.norm == "post", sizes.positions == "learned", sizes.feed_forward == "gelu")
    return all(switches) and not (sizes.span_query or sizes.letters or sizes.embedding_size)


def to_bert(sizes: ModelConfig, weights: Mapping[str, Tensor], pad_id: int) -> tuple[dict[str, Any], Tensors]:
    """A plain model's configuration and weights as transformers' BERT has them; the entity table is left out.

    A model with one type of segment gets it twice: tokenizers say 1 for a second text. Raises ValueError for a model
    that is not plain.
    """
    if not is_plain(sizes):
        raise ValueError("transformers' BERT does not compute this model")
    config = {
        "model_type": "bert", "vocab_size": sizes.vocab_size, "hidden_size": sizes.hidden_size,
        "num_hidden_layers": sizes.num_layers, "num_attention_heads": sizes.num_heads,
        "intermediate_size": sizes.intermediate_size, "hidden_act": "gelu",
        "max_position_embeddings": sizes.max_positions, "type_vocab_size": max(2, sizes.segment_types),
        "hidden_dropout_prob": sizes.hidden_dropout, "attention_probs_dropout_prob": sizes.attention_dropout,
        "layer_norm_eps": sizes.layer_norm_eps, "initializer_range": sizes.initializer_range, "pad_token_id": pad_id,
    }  # fmt: skip
    names = {
        "token": "word_embeddings", "segment": "token_type_embeddings", "position": "position_embeddings",
        "norm": "LayerNorm",
    }  # fmt: skip
    out: Tensors = {}
    for name, value in weights.items():
        head, _, rest = name.partition(".")
        if name == "mlm.bias":
            out["cls.predictions.bias"] = out["cls.predictions.decoder.bias"] = value
        elif head != "encoder":
            part, _, kind = name.rpartition(".")
            out[f"{_HEADS[part][0]}.{kind}"] = value.flip(0) if part == "nsp.decision" else value
        elif rest.startswith("embeddings."):
            part, kind = rest.split(".")[1:]
            if part == "segment" and len(value) == 1:
                value = value.expand(2, -1)
            if part != "entity":
                out[f"bert.embeddings.{names[part]}.{kind}"] = value
        else:
            _, number, *parts, kind = rest.split(".")
            at = f"bert.encoder.layer.{number}"
            part = ".".join(parts)
            if part == "attention.qkv":
                for theirs, chunk in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    out[f"{at}.attention.self.{theirs}.{kind}"] = chunk
            else:
                out[f"{at}.{_LAYER[part]}.{kind}"] = value
    if "cls.predictions.bias" in out:
        out["cls.predictions.decoder.weight"] = out["bert.embeddings.word_embeddings.weight"]
    return config, {name: value.contiguous().clone() for name, value in out.items()}
