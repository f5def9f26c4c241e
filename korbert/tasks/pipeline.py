"""From text to a score in one run: tokenizer → corpus → pretraining → fine-tuning, each made once for all that need it.

Tokenizers and token shards are shared through the cache, pretrainings through a folder named after everything that
decides them: a sweep over fine-tunings has one pretraining, and two jobs that need the same one do not make it twice.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from korbert.config import FinetuneConfig, PipelineConfig, PretrainConfig
from korbert.errors import ConfigError, DataError
from korbert.files import RECORD, read_json
from korbert.parallel import own_place
from korbert.tasks.finetune import finetune_korquad, korquad_data
from korbert.tasks.prepare import check_annotator, prepare_tokenizer
from korbert.tasks.pretrain import pretrain
from korbert.tasks.runs import by_ranks, finish_run, run_once, start_run, warn_of_another_runtime
from korbert.tasks.stages import shared_folder, stage
from korbert.tokenizers import load_tokenizer

log = logging.getLogger(__name__)
_FINETUNING = "finetune"


def stages(config: PipelineConfig) -> tuple[PretrainConfig, FinetuneConfig]:
    """The two trainings, all but where the pretrained model lies, which its tokenizer decides, too."""
    shared = {"data": config.data, "runtime": config.runtime, "tracker": config.tracker}
    parts = {"tokenizer": config.tokenizer, "entities": config.entities, "corpus": config.corpus}
    seed = config.seed if config.pretraining_seed is None else config.pretraining_seed
    fold = [] if config.fold is None else [f"task.fold={config.fold}"]
    run_dir = str(Path(config.run_dir) / _FINETUNING)
    return (
        stage("pretrain", config.pretraining, **shared, **parts, seed=seed, run_dir=""),
        stage("finetune_korquad", [*config.finetuning, *fold], **shared, seed=config.seed, init="", run_dir=run_dir),
    )


@by_ranks
def run_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Make, or find, every stage, and return the record: the scores, and what the pretraining came to.

    With until=pretraining, the pretraining alone and its record; under torchrun, the first rank's, {} elsewhere. The
    same command without it finds it finished. Raises ConfigError for several ranks that are to go on behind it.
    """
    if config.until is not None:
        return pretrain(located(config)[0])
    if own_place()[1] > 1:
        raise ConfigError(
            "torchrun starts several processes, which can pretrain together: give until=pretraining; then start the "
            "rest with python"
        )
    return _to_the_score(config)


def located(config: PipelineConfig) -> tuple[PretrainConfig, FinetuneConfig]:
    """The two trainings with the folder of the pretraining; makes the tokenizer where it is not in the cache."""
    pretraining, finetuning = stages(config)
    check_annotator(config.entities, config.corpus, config.data)
    tokenizer = load_tokenizer(prepare_tokenizer(config.tokenizer, config.corpus, config.data))
    pretraining.run_dir = finetuning.init = str(shared_folder(pretraining, tokenizer, Path(config.pretrained)))
    return pretraining, finetuning


@run_once
def _to_the_score(config: PipelineConfig) -> dict[str, Any]:
    korquad_data(stages(config)[1])  # what is wrong with the questions is said before days of pretraining
    pretraining, finetuning = located(config)
    pretrained, folder = Path(pretraining.run_dir), Path(config.run_dir)
    finetuning.tracker.name = finetuning.tracker.name or f"{folder.name}/{_FINETUNING}"

    start_run(config)
    made = pretrained / RECORD  # where it is, the folder's name says that it is the right one
    first = read_json(made) if made.exists() else pretrain(pretraining)
    if first.get("task") != "pretrain" or not isinstance(first.get("results"), dict):
        raise DataError(made, "task, results", "wanted those of a finished pretraining")
    log.info("pretraining: %s", pretrained)
    warn_of_another_runtime(pretrained, first, config.runtime)
    last = finetune_korquad(finetuning)
    results = {**last["results"], "pretraining": {"run": str(pretrained), **first["results"]}}
    inputs = first.get("inputs", {}) | last.get("inputs", {})  # older records have none
    return finish_run(
        folder, "pipeline", config, results, tokenizer=last["tokenizer"], inputs=inputs,
        refers_to=[f"{_FINETUNING}/{name}" for name in last["refers_to"]], stages=[str(pretrained), _FINETUNING],
    )  # fmt: skip
