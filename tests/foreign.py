"""Models of transformers' and of korbert's for the tests of what comes in and goes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from models import shaken
from torch import Tensor

from korbert.data.batching import Batch
from korbert.encoding import EntityInput, EntityMode
from korbert.model import ModelConfig, Padded, ReplacedTokenModel
from korbert.tokenizers import Tokenizer
from korbert.training.bundle import Description, make_model, write_description
from korbert.training.state import save_tensors

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 130,
}  # fmt: skip
PLAIN = EntityInput(EntityMode.NONE)
AWARE = EntityInput(EntityMode.BOTH, typed=True)
MODERN = {"norm": "pre", "positions": "rotary", "feed_forward": "geglu"}


def theirs(family: str, head: str, rows: int, **more: Any) -> Any:
    """A model of the family with weights far from zero."""
    torch.manual_seed(3)
    name = {"bert": "Bert", "roberta": "Roberta", "xlm": "XLMRoberta", "electra": "Electra"}[family.split("-")[0]]
    options: dict[str, Any] = {"vocab_size": rows, "pad_token_id": 0, **SMALL, **more}
    if "roberta" in family:
        pad_id = int(family.partition("-pad")[2] or 1)
        options |= {"type_vocab_size": 1, "max_position_embeddings": 131 + pad_id, "pad_token_id": pad_id}
    if family == "electra-small":
        options["embedding_size"] = 24
    if family == "electra":
        options["embedding_size"] = 48
    model = getattr(transformers, f"{name}For{head}")(getattr(transformers, f"{name}Config")(**options))
    return shaken(model, 5, 0.05)


def saved(model: Any, family: str, vocabulary: list[str], folder: Path) -> Path:
    folder.mkdir()
    if family == "bert-old":  # as before safetensors, with LayerNorm's old names
        old = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for k, v in model.state_dict().items()
        }
        torch.save(old, folder / "pytorch_model.bin")
        model.config.save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), "utf-8")
    return folder


def inputs(rows: int, segments: int = 2) -> tuple[dict[str, Tensor], Batch]:
    g = torch.Generator().manual_seed(1)
    lengths = torch.tensor([37, 20, 5])
    mask = torch.arange(37) < lengths[:, None]
    ids = torch.randint(5, rows, (3, 37), generator=g)
    types = torch.randint(0, segments, (3, 37), generator=g)
    batch = Batch(ids, types, torch.zeros_like(ids), Padded(mask))
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask.long()}, batch


def a_run(
    folder: Path,
    tokenizer: Tokenizer,
    kind: str,
    entities: EntityInput,
    objectives: tuple[str, ...] = (),
    **options: Any,
) -> tuple[Any, ModelConfig]:
    """A model folder with weights far from zero. objectives: of a pretraining, else the usual ones."""
    sizes = ModelConfig(
        len(tokenizer), 48, 3, 4, 96, max_positions=64, entity_types=entities.entity_types, **options
    )  # fmt: skip
    usual = {"pretraining": ("mlm", "nsp"), "detection": ReplacedTokenModel.objectives}
    tokenizer.save(folder / "tok")
    description = Description(
        "pretraining" if kind == "detection" else kind, sizes,
        "none" if entities.mode is EntityMode.NONE else "mecab", entities, 64, objectives or usual.get(kind, ()),
        tags=("O", "B-X", "I-X") if kind == "tagger" else (),
    )  # fmt: skip
    torch.manual_seed(1)
    model = shaken(make_model(description), 2, 0.05)
    write_description(folder / "model", description, folder / "tok")
    save_tensors(folder / "model" / "model.safetensors", model.state_dict(), {"step": 1})
    return model, sizes


def as_its_readme_says(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of an export, loaded by the very lines of its README."""
    (lines,) = re.findall("```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"folder": folder}
    exec(lines, names)
    return names["model"].eval(), names["tokenizer"]
