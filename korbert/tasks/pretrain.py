"""Pretraining: masked LM, with or without next sentence prediction, from text files to a model folder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from korbert.config import CurriculumStage, PretrainConfig
from korbert.data.batching import BatchStream, PretrainingBatch, collate_pretraining
from korbert.data.loading import BatchLoader
from korbert.data.masking import MaskingConfig
from korbert.data.pretraining import HeldOut, Passages, PretrainingData, PretrainingExample, SentencePairs
from korbert.data.selection import SelectionPassages
from korbert.data.shards import ShardedCorpus
from korbert.errors import ConfigError
from korbert.files import CONFIG, HUGGING_FACE, read_json
from korbert.model import ModelConfig, PretrainingModel, ReplacedTokenModel
from korbert.tasks.prepare import check_annotator, prepare_shards, prepare_tokenizer
from korbert.tasks.runs import by_ranks, described, finish_run, fixed_pretraining, run_once, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.bundle import Bundle, Description, begin_model, copy_shared, load_bundle, make_model
from korbert.training.distributed import Ranks, joined
from korbert.training.loop import Trainer
from korbert.training.runtime import Runtime, compile_layers, make_runtime, seed_everything
from korbert.training.tracking import Tracker, TrackerConfig

log = logging.getLogger(__name__)


@by_ranks
@run_once
def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run (or go on with) one pretraining and return its record; under torchrun, the first rank's, {} elsewhere."""
    runtime = make_runtime(config.runtime)
    _check_lengths(config)
    with joined(runtime.device) as ranks:
        return _pretrain(config, runtime, ranks)


def _pretrain(config: PretrainConfig, runtime: Runtime, ranks: Ranks) -> dict[str, Any]:
    entities = config.entities.entity_input()
    # What is wrong with it is said before a corpus is encoded.
    earlier = None if config.init is None else _earlier(config.init)
    ranks.agree("run_dir", config.run_dir)
    with ranks.in_turn():
        folder = start_run(config) if ranks.is_first else Path(config.run_dir)
        check_annotator(config.entities, config.corpus, config.data)
        tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
        tokenizer = load_tokenizer(tokenizer_folder)
        corpus = prepare_shards(
            tokenizer_folder, config.entities, config.corpus, config.data, config.runtime.workers,
            config.task.masking.flags,
        )  # fmt: skip
    training, held_out = split_documents(config, corpus)

    seed_everything(config.seed)
    sizes = config.model.model_config(len(tokenizer), entities.entity_types)
    objectives = config.task.objectives()
    description = Description(
        "pretraining", sizes, config.entities.annotator, entities, _longest(config), objectives,
        annotator_fingerprint=corpus.manifest.annotator if entities.mode.cuts else None,
    )  # fmt: skip
    model = make_model(description)
    assert isinstance(model, PretrainingModel | ReplacedTokenModel)
    if earlier is not None:
        _start_from(str(config.init), earlier, model, sizes, tokenizer)
        if ranks.is_first:
            _compare_held_out(config)
    compile_layers(model, runtime)
    log.info("model: %s parameters on %s", f"{sum(p.numel() for p in model.parameters()):,}", runtime.device)
    fixed = fixed_pretraining(config, tokenizer=tokenizer.fingerprint, annotator=corpus.manifest.annotator)
    if ranks.is_first:
        begin_model(folder, description, tokenizer_folder, fixed)
    collate = functools.partial(
        collate_pretraining, pad_id=tokenizer.special.pad, packed=runtime.packed,
        sharing=tokenizer.special if entities.shared_positions else None,
    )  # fmt: skip
    validation = Validation(config, corpus, tokenizer, held_out, collate, runtime) if ranks.is_first else None
    with Tracker(folder, config.tracker if ranks.is_first else TrackerConfig(), fixed) as tracker:
        trainer = Trainer(
            model,
            training_loader(config, corpus, tokenizer, training, collate, runtime),
            config.train,
            runtime,
            folder,
            tracker,
            fixed_config=fixed,
            seed=config.seed,
            ranks=ranks,
            evaluate=None if validation is None else functools.partial(validation, model),
        )
        scores = trainer.run()
        if not ranks.is_first:
            return {}
        tracker.finish(scores)
    done = trainer.progress
    results = {**scores, "steps": done.step, "tokens": done.tokens, "seconds": round(done.seconds, 1)}
    return finish_run(folder, "pretrain", config, results, tokenizer=described(tokenizer))


def _earlier(run: str) -> Bundle:
    """The pretraining to go on from. Raises ConfigError for a model of Hugging Face's."""
    if run.startswith(HUGGING_FACE):
        raise ConfigError(
            f"init={run}: pretraining goes on from a pretraining of korbert's; finetune_korquad.py and train_tagger.py "
            "take hf:NAME"
        )
    return load_bundle(run, kind="pretraining")


def _start_from(run: str, earlier: Bundle, model: nn.Module, sizes: ModelConfig, tokenizer: Tokenizer) -> None:
    """Give `model` the weights of an earlier pretraining. Raises ConfigError where they do not fit."""
    if earlier.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ConfigError(
            f"init={run}: its tokenizer is {earlier.tokenizer.fingerprint}, that of this run {tokenizer.fingerprint}; "
            f"tokenizer.path={earlier.folder / 'tokenizer'} takes the same"
        )
    there, here = asdict(earlier.description.model), asdict(sizes)
    # Dropout may change and a head be added; the rest says what the weights mean.
    free = {"hidden_dropout", "attention_dropout", "span_query", "matching_heads"}
    for key in sorted(here.keys() - free):
        if there[key] != here[key]:
            raise ConfigError(f"init={run}: its model.{key} is {there[key]}, that of this run {here[key]}")
    if isinstance(earlier.model, ReplacedTokenModel) == isinstance(model, ReplacedTokenModel):
        copy_shared(earlier.model, model)
    else:  # of the one the masked-LM head reads a generator, of the other the encoder
        copy_shared(earlier.model, model, but="mlm.")
        log.warning("init=%s: only one of the two models replaces tokens; the masked-LM head begins anew", run)
    log.info("weights: from %s", run)


def _compare_held_out(config: PretrainConfig) -> None:
    """Warn where `init` was trained on documents that are held out here: the scores on them would be too good."""
    run = Path(str(config.init))
    path = (run.parent if run.name == "model" else run) / CONFIG
    before = read_json(path) if path.is_file() else {}
    here = {"seed": config.seed, **asdict(config.corpus)}
    there = {"seed": before.get("seed"), **before.get("corpus", {})}
    keys = ["seed", *(["max_documents"] if config.corpus.shards is None else [])]
    chosen = [key for key in keys if there.get(key) != here[key]]
    if not chosen and there.get("holdout", 1.0) < config.corpus.holdout:
        chosen = ["holdout"]
    if chosen and all(there.get(key) == here[key] for key in ("files", "shards")):
        log.warning(
            "init=%s: of this corpus it held out other documents (%s), so that some of those that are scored here were "
            "trained on there", config.init, ", ".join(f"{key}={there.get(key)}" for key in chosen),
        )  # fmt: skip


def _longest(config: PretrainConfig) -> int:
    """Tokens of the longest training sequence."""
    return max(stage.max_length for stage in config.task.stages())


def _check_lengths(config: PretrainConfig) -> None:
    """Stop at wrong sizes before the corpus is encoded, not after."""
    config.model.model_config(config.tokenizer.vocab_size)
    if "selection" in config.task.objectives():
        _check_selection(config)
    named = {"task.max_length": config.task.max_length, "task.validation_length": config.task.validation_length}
    named |= {key: stage.max_length for key, stage in _stages(config)}
    for name, length in named.items():
        if not 8 <= length <= config.model.max_positions:
            raise ConfigError(f"{name}={length}: wanted 8 to model.max_positions={config.model.max_positions}")


def _check_selection(config: PretrainConfig) -> None:
    selection = config.task.selection
    if selection.inside > 0 and not config.model.span_query:
        raise ConfigError("task.selection.inside: questions inside a passage need model.span_query=true")
    if config.corpus.shards is None:
        selection.check_annotator(config.entities.annotator)
    for key, stage in _stages(config):
        if stage.selection:
            selection.check_length(stage.max_length, key)


def _stages(config: PretrainConfig) -> list[tuple[str, CurriculumStage]]:
    """The parts of the run, each with the key that says how long its sequences are."""
    keys = [f"task.curriculum[{i}].max_length" for i in range(len(config.task.curriculum))] or ["task.max_length"]
    return list(zip(keys, config.task.stages(), strict=True))


def split_documents(config: PretrainConfig, corpus: ShardedCorpus) -> tuple[np.ndarray, np.ndarray]:
    """Documents to train on and documents that are held out of it, each in corpus order.

    Raises ConfigError where there are not two of both.
    """
    order = np.random.default_rng(config.seed).permutation(len(corpus))
    held_out = max(2, round(config.corpus.holdout * len(corpus)))
    if len(corpus) < held_out + 2:
        shards = config.corpus.shards
        key, hint = f"corpus.shards={shards}", ""
        if shards is None:
            key, hint = "corpus.files", "; in a .txt corpus, documents are separated by blank lines"
        raise ConfigError(
            f"{key}: {len(corpus)} documents are too few: {held_out} are held out for validation and training needs "
            f"two more{hint}"
        )
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def training_loader(
    config: PretrainConfig,
    corpus: ShardedCorpus,
    tokenizer: Tokenizer,
    documents: np.ndarray,
    collate: Callable[[Sequence[PretrainingExample]], PretrainingBatch],
    runtime: Runtime,
) -> BatchLoader[PretrainingExample]:
    """The training batches; in a stage of other lengths a batch has other counts, so that it has as many tokens."""
    task = config.task
    stages = []
    for number, stage in enumerate(task.stages()):
        seed = config.seed + 1000 * number
        options: dict[str, Any] = {
            "max_length": stage.max_length, "masking": task.masking, "seed": seed, "documents": documents,
        }  # fmt: skip
        entities = config.entities.entity_input()
        options["entity_dropout"] = config.entities.dropout
        source: PretrainingData
        if task.nsp:
            source = SentencePairs(corpus, tokenizer, entities, short_share=task.short_share, **options)
        elif stage.selection:
            selection = replace(task.selection, share=stage.selection)
            source = SelectionPassages(corpus, tokenizer, entities, selection=selection, **options)
        else:
            source = Passages(corpus, tokenizer, entities, **options)
        batch_size = max(1, config.train.batch_size * task.max_length // stage.max_length)
        stages.append((stage.start, BatchStream(source, batch_size, seed)))
    return BatchLoader(stages, collate, runtime.loader_workers, pin=runtime.device.type == "cuda")


class Validation:
    """Scores a model on held-out documents.

    The same hidden tokens for every run of this seed, which chooses the documents, on this corpus with this tokenizer.
    `mlm_loss` is in nats a token, `mlm_loss_per_character` in nats a character of the text, which does not depend on
    how many tokens a tokenizer makes of it; accuracies are shares.
    """

    def __init__(
        self,
        config: PretrainConfig,
        corpus: ShardedCorpus,
        tokenizer: Tokenizer,
        documents: np.ndarray,
        collate: Callable[[Sequence[PretrainingExample]], PretrainingBatch],
        runtime: Runtime,
    ) -> None:
        task, entities = config.task, config.entities.entity_input()
        options: dict[str, Any] = {
            "max_length": task.validation_length, "masking": MaskingConfig(), "seed": 0, "documents": documents,
        }  # fmt: skip
        count = task.validation_examples
        self.passages = HeldOut(corpus, tokenizer, entities, pairs=task.nsp, **options).examples(0, count)
        self.pairs = SentencePairs(corpus, tokenizer, entities, **options).examples(0, count) if task.nsp else []
        self.tokens_per_character = corpus.tokens_per_character(tokenizer.special)
        self.collate, self.runtime, self.batch_size = collate, runtime, config.train.batch_size

    def __call__(self, model: PretrainingModel | ReplacedTokenModel) -> dict[str, float]:
        """Score `model`, which must be in evaluation mode."""
        loss = correct = tokens = 0.0
        for batch in self._batches(self.passages):
            with self.runtime.autocast():
                logits = model.masked_logits(batch).float()
            loss += float(F.cross_entropy(logits, batch.mlm_labels, reduction="sum"))
            correct += float(torch.sum(logits.argmax(-1) == batch.mlm_labels))
            tokens += len(batch.mlm_labels)
        scores = {
            "mlm_loss": loss / tokens,
            "mlm_loss_per_character": loss / tokens * self.tokens_per_character,
            "mlm_accuracy": correct / tokens,
        }
        if isinstance(model, PretrainingModel) and model.nsp is not None:
            right = 0.0
            for batch in self._batches(self.pairs):
                with self.runtime.autocast():
                    decision = model.nsp(batch.layout.first(model.encode(batch)))
                right += float((decision.argmax(-1) == batch.nsp_labels).sum())
            scores["nsp_accuracy"] = right / len(self.pairs)
        return scores

    def _batches(self, examples: list[PretrainingExample]) -> Any:
        for first in range(0, len(examples), self.batch_size):
            yield self.collate(examples[first : first + self.batch_size]).to(self.runtime.device)
