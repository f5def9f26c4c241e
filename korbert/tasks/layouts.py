"""Whether packed batches train as padded ones do, on the device at hand and in its precision."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from korbert.data.batching import collate_pretraining
from korbert.data.masking import MaskingConfig
from korbert.data.pretraining import Passages
from korbert.data.shards import ShardedCorpus
from korbert.encoding import EntityMode
from korbert.errors import KorbertError
from korbert.files import RECORD, write_json_atomically
from korbert.model import ModelConfig, PretrainingModel
from korbert.study.results import make_record
from korbert.tokenizers import load_tokenizer
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.settings import RuntimeConfig

log = logging.getLogger(__name__)
TASK = "check_layouts"
_SIZES: dict[str, Any] = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024}
_RECIPES: dict[str, dict[str, Any]] = {
    "bert": {},
    "modern": {"norm": "pre", "positions": "rotary", "feed_forward": "geglu"},
}


def check_layouts(tokenizer_folder: Path, shards: Path, runtime_config: RuntimeConfig, output: Path) -> None:
    """Compare loss and gradients of packed and of padded batches of text without entities, and write the record.

    Both are computed in the device's training precision, and padded in float32 beside it: packed must be as near to
    that as padded is. Raises KorbertError where it is not; there is no record then.
    """
    runtime = make_runtime(runtime_config)
    tokenizer = load_tokenizer(tokenizer_folder)
    corpus = ShardedCorpus(shards, tokenizer.fingerprint)
    data = Passages(corpus, tokenizer, EntityMode.NONE, max_length=128, masking=MaskingConfig(), seed=0)
    examples = data.examples(0, 32)
    seed_everything(0)
    exact = Runtime(runtime.device, bf16=False)
    results = {}
    for recipe, switches in _RECIPES.items():
        dropout: dict[str, Any] = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
        model = PretrainingModel(ModelConfig(len(tokenizer), **_SIZES, **switches, **dropout), ("mlm",))
        model.to(runtime.device)

        def gradients(where: Runtime, packed: bool, model: PretrainingModel = model) -> torch.Tensor:
            batch = collate_pretraining(examples, tokenizer.special.pad, packed).to(where.device)
            with where.autocast():
                loss = model(batch)["mlm"]
            loss.backward()
            found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()
            model.zero_grad(set_to_none=True)
            return torch.cat([loss.detach().double()[None], found])

        reference = gradients(exact, False)
        for name, packed in (("padded", False), ("packed", True)):
            difference = gradients(runtime, packed) - reference
            results[f"{recipe} {name}: loss, relative error"] = float(difference[0].abs() / reference[0])
            results[f"{recipe} {name}: gradient, relative error"] = float(difference[1:].norm() / reference[1:].norm())
    for key, error in results.items():
        if "packed" in key and error > 2 * results[key.replace("packed", "padded")] + 1e-4:
            raise KorbertError(f"{key}: {error:.2e}, padded {results[key.replace('packed', 'padded')]:.2e}")
    output.mkdir(parents=True, exist_ok=True)
    write_json_atomically(output / RECORD, make_record(TASK, {}, results))
    log.info("packed and padded agree: %s", results)
