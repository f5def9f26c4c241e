"""Weights of transformers' BERT, RoBERTa and ELECTRA families as korbert's, and korbert's plain models as BERT's.

Names and layouts are those of transformers' modeling_bert.py, modeling_roberta.py and modeling_electra.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from korbert.model.config import ModelConfig

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
_DECODERS = ("cls.predictions.decoder", "lm_head.decoder")  # the same as embeddings and bias, where they are tied


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
    entity embedding is zero. Raises ValueError for another family, an option that korbert does not compute, or weights
    that are missing.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ValueError(f"model_type: {family!r} is unknown, wanted one of {', '.join(_FAMILIES)}")
    for key, wanted in (("hidden_act", ("gelu",)), ("position_embedding_type", ("absolute",))):
        if config.get(key, wanted[0]) not in wanted:
            raise ValueError(f"{key}: {config[key]!r} is not supported, wanted {' or '.join(wanted)}")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ValueError("is_decoder: a decoder is not an encoder")
    reader = _Reader(_modern_names(tensors), "electra" if family == "electra" else str(family).removeprefix("xlm-"))
    offset = _first_position(config)
    embedding_size = int(config.get("embedding_size") or config["hidden_size"])
    rows = max(vocab_size, int(config["vocab_size"]))
    sizes = ModelConfig(
        vocab_size=rows,
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        max_positions=config["max_position_embeddings"] - offset,
        segment_types=config.get("type_vocab_size", 2),
        hidden_dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        layer_norm_eps=config.get("layer_norm_eps", 1e-12),
        initializer_range=config.get("initializer_range", 0.02),
        embedding_size=0 if embedding_size == config["hidden_size"] else embedding_size,
    )
    weights = reader.encoder(sizes, offset)
    table = weights["encoder.embeddings.token.weight"]
    weights["encoder.embeddings.token.weight"] = _with_rows(table, rows)
    weights["encoder.embeddings.entity.weight"] = table.new_zeros(sizes.entity_types + 1, table.shape[1])
    heads = reader.heads(weights, bool(config.get("tie_word_embeddings", True)))
    if "mlm" in heads:
        bias = weights["mlm.bias"]
        weights["mlm.bias"] = torch.cat([bias, bias.new_zeros(rows - len(bias))])
    return Imported(sizes, weights, heads, tuple(reader.remarks))


def _first_position(config: Mapping[str, Any]) -> int:
    """The row of a text's first position in the table: RoBERTa's positions begin behind the id of its padding."""
    if "roberta" not in config["model_type"]:
        return 0
    pad_id = config.get("pad_token_id", 1)
    if not isinstance(pad_id, int) or pad_id < 0:
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

    def __call__(self, name: str) -> Tensor:
        for full in (f"{self.family}.{name}", name):
            if full in self.tensors:
                return self.tensors[full]
        raise ValueError(f"the checkpoint has no weight {self.family}.{name}")

    def encoder(self, sizes: ModelConfig, offset: int) -> Tensors:
        found = {
            "token.weight": self("embeddings.word_embeddings.weight"),
            "segment.weight": self("embeddings.token_type_embeddings.weight"),
            "position.weight": self("embeddings.position_embeddings.weight")[offset:],
            "norm.weight": self("embeddings.LayerNorm.weight"),
            "norm.bias": self("embeddings.LayerNorm.bias"),
        }
        if sizes.embedding_size:
            found |= {f"project.{kind}": self(f"embeddings_project.{kind}") for kind in ("weight", "bias")}
        weights = {f"encoder.embeddings.{name}": value for name, value in found.items()}
        for number in range(sizes.num_layers):
            ours, theirs = f"encoder.layers.{number}", f"encoder.layer.{number}"
            for kind in ("weight", "bias"):
                parts = [self(f"{theirs}.attention.self.{part}.{kind}") for part in ("query", "key", "value")]
                weights[f"{ours}.attention.qkv.{kind}"] = torch.cat(parts)
                weights |= {f"{ours}.{a}.{kind}": self(f"{theirs}.{b}.{kind}") for a, b in _LAYER.items()}
        return weights

    def heads(self, weights: Tensors, says_tied: bool) -> tuple[str, ...]:
        """Add the heads that are whole, and that korbert computes, to `weights`; their names.

        says_tied: whether, by its configuration, the checkpoint's masked-LM head ends in the word embeddings.
        """
        found: dict[str, Tensors] = {"mlm": {}, "nsp": {}, "span": {}}
        for ours, names in _HEADS.items():
            for name in names:
                for kind in ("weight", "bias"):
                    if f"{name}.{kind}" in self.tensors:
                        found[ours.split(".")[0]][f"{ours}.{kind}"] = self.tensors[f"{name}.{kind}"]
        for name in _BIAS:
            if name in self.tensors:
                found["mlm"]["mlm.bias"] = self.tensors[name]
        whole = tuple(head for head, count in (("mlm", 5), ("nsp", 4), ("span", 2)) if len(found[head]) == count)
        if "mlm" in whole and not self._is_tied(found["mlm"]["mlm.bias"], says_tied):
            whole = tuple(head for head in whole if head != "mlm")
            self.remarks.append(
                "the masked-LM head is left out: its output weights or their bias are its own "
                "(tie_word_embeddings=false), and korbert's output weights are always the token embeddings"
            )
        for head in whole:
            weights.update(found[head])
        if "nsp" in whole:  # theirs: 0 = next; ours: 1 = next
            for kind in ("weight", "bias"):
                weights[f"nsp.decision.{kind}"] = weights[f"nsp.decision.{kind}"].flip(0)
        return whole

    def _is_tied(self, bias: Tensor, says_tied: bool) -> bool:
        """Whether the masked-LM head ends in the word embeddings and `bias`: what is in the file decides, if it is."""
        shared = {"weight": self("embeddings.word_embeddings.weight"), "bias": bias}
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
