"""Small models and batches that several test modules share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from korbert.data.batching import PretrainingBatch, SpanBatch
from korbert.encoding import EntityInput, EntityMode
from korbert.model import IGNORE_INDEX, ModelConfig, Padded
from korbert.tokenizers import load_tokenizer
from korbert.training.bundle import Description, make_model, write_description
from korbert.training.state import save_tensors

VOCABULARY = 97
CONFIG = ModelConfig(VOCABULARY, 48, 3, 4, 80, max_positions=40)
MODERN = dataclasses.replace(CONFIG, norm="pre", positions="rotary", feed_forward="geglu")


def shaken(model: nn.Module, seed: int = 0, std: float = 0.3) -> Any:
    """Weights far from their initial values, so that no term is near zero; row 0 of the entity table stays zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
            if name.endswith("entity.weight"):
                parameter[0].zero_()
    return model.eval()


def random_ids(batch: int = 5, length: int = 23, seed: int = 1) -> dict[str, Any]:
    """Ids, and a mask with holes anywhere but at [CLS]: not only padding at the right."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, length, generator=g) < 0.8
    mask[:, 0] = True
    return {
        "token_ids": torch.randint(7, VOCABULARY, (batch, length), generator=g),
        "segment_ids": torch.randint(0, 2, (batch, length), generator=g),
        "entity_ids": torch.randint(0, 2, (batch, length), generator=g),
        "layout": Padded(mask),
    }


def pretraining_batch(seed: int = 1, **sizes: int) -> PretrainingBatch:
    inputs = random_ids(seed=seed, **sizes)
    g = torch.Generator().manual_seed(seed)
    chosen = inputs["layout"].attention_mask & (torch.rand(inputs["token_ids"].shape, generator=g) < 0.3)
    positions = torch.nonzero(chosen.flatten()).flatten()
    labels = inputs["token_ids"].flatten()[positions]
    return PretrainingBatch(
        **inputs, mlm_positions=positions, mlm_labels=labels, nsp_labels=torch.arange(len(chosen)) % 2
    )


def full_labels(batch: PretrainingBatch) -> Tensor:
    """The labels as transformers wants them, (B, T) with IGNORE_INDEX."""
    labels = torch.full_like(batch.token_ids, IGNORE_INDEX)
    labels.view(-1)[batch.mlm_positions] = batch.mlm_labels
    return labels


def span_batch(seed: int = 1) -> SpanBatch:
    inputs = random_ids(seed=seed)
    allowed = inputs["layout"].attention_mask & (torch.arange(23) > 6)
    allowed[:, 0] = True
    positions = [int(torch.nonzero(row)[-2]) for row in allowed]
    starts, ends = (
        torch.tensor([0, *positions[1:]]),
        torch.tensor([0, *(int(torch.nonzero(r)[-1]) for r in allowed[1:])]),
    )
    return SpanBatch(**inputs, allowed=allowed, start_positions=starts, end_positions=ends)


def row(batch: Any, number: int) -> Any:
    """A batch of one of its sequences."""
    width = batch.layout.max_length
    values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    keep = {k: v[number : number + 1] for k, v in values.items() if isinstance(v, Tensor)}
    keep["layout"] = Padded(batch.layout.attention_mask[number : number + 1])
    if "mlm_positions" in keep:
        mine = batch.mlm_positions // width == number
        keep |= {"mlm_positions": batch.mlm_positions[mine] % width, "mlm_labels": batch.mlm_labels[mine]}
    return type(batch)(**keep)


def write_run(folder: Path, kind: str, tokenizer: Path, mode: EntityMode, seed: int = 0, **more: Any) -> None:
    """A run's folder with a small model whose weights are random: "span" or "pretraining"."""
    sizes = dataclasses.replace(CONFIG, vocab_size=len(load_tokenizer(tokenizer)), max_positions=384)
    more = {"annotator": "mecab" if mode.cuts else "none", **more}
    description = Description(kind, sizes, entities=EntityInput(mode), max_length=384, **more)
    write_description(folder / "model", description, tokenizer)
    torch.manual_seed(seed)
    weights = shaken(make_model(description), seed).state_dict()
    save_tensors(folder / "model" / "model.safetensors", weights, {})
