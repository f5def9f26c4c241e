"""Pretraining: masked LM and next sentence prediction on a corpus, from text files to a model folder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from korbert.config import PretrainConfig
from korbert.data.batching import BatchStream, collate_pretraining
from korbert.data.pretraining import PretrainingData, PretrainingExample
from korbert.data.shards import ShardedCorpus
from korbert.errors import ConfigError
from korbert.model import IGNORE_INDEX, PretrainingModel
from korbert.tasks.prepare import prepare_shards, prepare_tokenizer
from korbert.tasks.runs import finish_run, fixed_config, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.bundle import Description, write_description
from korbert.training.loop import Metric, Trainer
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.tracking import Tracker

log = logging.getLogger(__name__)


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run (or go on with) one pretraining and return its record."""
    mode = config.entities.entity_mode()
    runtime = make_runtime(config.runtime)
    config.model.model_config(config.tokenizer.vocab_size)  # wrong sizes stop here, not after the corpus is encoded
    if config.task.max_length > config.model.max_positions:
        raise ConfigError(
            f"task.max_length={config.task.max_length} is more than model.max_positions={config.model.max_positions}"
        )
    folder = start_run(config)
    tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    tokenizer = load_tokenizer(tokenizer_folder)
    corpus = prepare_shards(tokenizer_folder, config.entities, config.corpus, config.data, config.runtime.workers)
    training, validation = pretraining_data(config, corpus, tokenizer)

    seed_everything(config.seed)
    model = PretrainingModel(config.model.model_config(len(tokenizer)))
    log.info("model: %s parameters on %s", f"{sum(p.numel() for p in model.parameters()):,}", runtime.device)
    write_description(
        folder / "model",
        Description("pretraining", model.config, config.entities.annotator, mode, max_length=config.task.max_length),
        tokenizer_folder,
    )
    collate = functools.partial(collate_pretraining, pad_id=tokenizer.special.pad)
    fixed = fixed_config(config, tokenizer=tokenizer.fingerprint, annotator=corpus.manifest.annotator)
    tracker = Tracker(folder, config.tracker, fixed)
    trainer = Trainer(
        model,
        BatchStream(training, config.train.batch_size, config.seed),
        collate,
        config.train,
        runtime,
        folder,
        tracker,
        fixed_config=fixed,
        evaluate=lambda: evaluate_pretraining(model, validation, collate, config.train.batch_size, runtime),
        metric=Metric("mlm_loss", larger_is_better=False),
    )
    try:
        scores = trainer.run()
    except BaseException:
        tracker.finish({}, failed=True)
        raise
    tracker.finish(scores)
    results = {
        **scores,
        "steps": trainer.steps,
        "tokens": trainer.tokens,
        "seconds": round(trainer.seconds, 1),
    }
    return finish_run(folder, "pretrain", config, results)


def pretraining_data(
    config: PretrainConfig, corpus: ShardedCorpus, tokenizer: Tokenizer
) -> tuple[PretrainingData, list[PretrainingExample]]:
    """Training data, and fixed validation examples from documents that are held out of it."""
    order = np.random.default_rng(config.seed).permutation(len(corpus))
    held_out = max(2, round(config.corpus.holdout * len(corpus)))
    if len(corpus) < held_out + 2:
        raise ConfigError(
            f"corpus.files: {len(corpus)} documents are too few: {held_out} are held out for validation "
            "and training needs two more; in a .txt corpus, documents are separated by blank lines"
        )

    def make(documents: np.ndarray, seed: int) -> PretrainingData:
        return PretrainingData(
            corpus,
            tokenizer,
            config.entities.entity_mode(),
            max_length=config.task.max_length,
            masking=config.task.masking,
            seed=seed,
            short_share=config.task.short_share,
            documents=np.sort(documents),
        )

    # Validation does not depend on the run's seed beyond which documents it holds: the same pairs, masked alike.
    pairs = make(order[:held_out], 0).epoch(0)
    return make(order[held_out:], config.seed), [pairs[i] for i in range(min(len(pairs), config.task.validation_pairs))]


def evaluate_pretraining(
    model: PretrainingModel,
    examples: Sequence[PretrainingExample],
    collate: Any,
    batch_size: int,
    runtime: Runtime,
) -> dict[str, float]:
    """Mean masked-LM loss (nats a token), masked-LM accuracy and next-sentence accuracy (shares) on `examples`."""
    loss = correct = tokens = pairs = 0.0
    for first in range(0, len(examples), batch_size):
        batch = collate(examples[first : first + batch_size]).to(runtime.device)
        with runtime.autocast():
            hidden = model.encode(batch)
            at = batch.mlm_labels != IGNORE_INDEX
            logits, labels = model.mlm_logits(hidden, at).float(), batch.mlm_labels[at]
            pairs += float((model.nsp(hidden).argmax(-1) == batch.nsp_labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += float(torch.sum(logits.argmax(-1) == labels))
        tokens += len(labels)
    return {
        "mlm_loss": loss / tokens,
        "mlm_accuracy": correct / tokens,
        "nsp_accuracy": pairs / len(examples),
    }
