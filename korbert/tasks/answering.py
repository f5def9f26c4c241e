"""Answering a question file with a model that is already fine-tuned, as it was decoded then or in another way."""

from __future__ import annotations

import functools
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from korbert.config import DamageConfig, DataConfig, KorquadTask, PredictConfig, expand_root, path_in_settings
from korbert.data.batching import collate_windows
from korbert.data.decoding import DecodingConfig
from korbert.data.korquad import KorquadDataset, fold_split, read_korquad
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.entities import DamagedAnnotator, EntityAnnotator, make_annotator, with_cache
from korbert.errors import ConfigError
from korbert.files import checksum
from korbert.model import SpanModel
from korbert.prediction import predict
from korbert.tasks.finetune import make_windows, read_test, score_results, write_answers
from korbert.tasks.runs import finish_run, run_once, start_run
from korbert.training.bundle import Bundle, Description, load_bundle, task_of, warn_of_other_annotator
from korbert.training.runtime import make_runtime

_OWN = "own"  # conf/task/own.yaml
log = logging.getLogger(__name__)


@run_once
def predict_korquad(config: PredictConfig) -> dict[str, Any]:
    """Answer all questions, score them where there are gold answers, write everything, and return the record.

    Raises ConfigError for questions that the model was trained on, DataError for a run without a fine-tuned model.
    """
    bundle = load_bundle(config.run, kind="span")
    used = task_of(bundle.folder)
    _settle_questions(config, used)
    model, description = bundle.model, bundle.description
    assert isinstance(model, SpanModel)
    dataset = read_test(config.task, config.data, answered=False)
    if config.task.fold is not None:
        dataset = fold_split(dataset, config.task.fold)[1]
    _refuse_known(config, used, dataset)
    _settle_model_s(config.task, description, used)
    runtime = make_runtime(config.runtime)
    decoding = config.task.decoding = config.task.decoding.changed(config.decoding)
    annotator = annotator_of(config, bundle)
    folder = start_run(config)
    model.to(runtime.device)
    maker = WindowMaker(bundle.tokenizer, annotator, description.entities, config.task.window)
    windows = make_windows(maker, dataset, "test", Path(config.data.cache))
    special = bundle.tokenizer.special
    collate = functools.partial(
        collate_windows, pad_id=special.pad, packed=runtime.packed,
        sharing=special if description.entities.shared_positions else None,
    )  # fmt: skip
    found = predict(model, windows, collate, decoding, runtime, config.batch_size)
    answers = {question.id: found[question.id] for _, _, question in dataset.questions()}
    best = write_answers(folder, answers, decoding.temperature)
    results = _results(config, dataset, best)
    if isinstance(annotator, DamagedAnnotator):
        results["damage"] = annotator.counts(list(dataset.texts()))._asdict()
    return finish_run(folder, "predict_korquad", config, results)


def _results(config: PredictConfig, dataset: KorquadDataset, best: dict[str, str]) -> dict[str, Any]:
    """The scores, as a record has them; of questions without gold answers how many there are."""
    if not dataset.has_answers:
        log.info("%d questions are answered, and not scored: %s has no gold answers", len(best), dataset.path)
        return {"protocol": f"not scored: {dataset.path.name} has no gold answers", "scored": False, "total": len(best)}
    results = score_results(dataset, best, config.task, trained=False)
    log.info("EM %(exact_match).2f  F1 %(f1).2f  on %(total)d questions (%(protocol)s)", results)
    return results


def annotator_of(config: PredictConfig, bundle: Bundle) -> EntityAnnotator:
    """The model's annotator, or a store's, damaged where that is asked for.

    Raises ConfigError for shares that cannot be, and for a model that reads no entities.
    """
    description = bundle.description
    annotator = make_annotator(expand_root(description.annotator, config.data), config.store, config.data.cache)
    if config.store is None:
        annotator = with_cache(annotator, config.data.cache)
    warn_of_other_annotator(bundle, annotator)
    if config.damage == DamageConfig():
        return annotator
    if not description.entities.mode.cuts:
        raise ConfigError(f"damage: the model of run={config.run} reads no entities")
    return DamagedAnnotator(annotator, **asdict(config.damage), seed=config.seed)


def _settle_questions(config: PredictConfig, used: dict[str, Any]) -> None:
    """Fill in the run's own questions, of its settings `used`, where they are asked for.

    Raises ConfigError where the run does not say them, and for folds that a model has seen: one that was
    cross-validated on a file has seen all of it but its own fold.
    """
    task = config.task
    if task.test == _OWN:
        if "test" not in used:
            raise ConfigError(f"task={_OWN}: run={config.run} does not say what it was scored on: give task=…")
        task.test = used["test"]
        if task.fold is None:  # another one is refused with its reason
            task.fold = used["fold"]
    if not used:
        return
    same_file = used["test"] == task.test or _is_same_file(used["test"], task.test, config.data)
    if used["fold"] is not None and same_file and task.fold != used["fold"]:
        raise ConfigError(
            f"task.fold={task.fold}: run={config.run} was trained on all folds but {used['fold']}; a score on "
            f"the others means nothing; give task.fold={used['fold']}"
        )


def _is_same_file(one: str, other: str, data: DataConfig) -> bool:
    """By their content where both are here, else by their name: folders have other names elsewhere."""
    paths = [path_in_settings(name, data) for name in (one, other)]
    if all(path.is_file() for path in paths):
        return checksum(paths[0]) == checksum(paths[1])
    return paths[0].name == paths[1].name


def _settle_model_s(task: KorquadTask, description: Description, used: dict[str, Any]) -> None:
    """Fill in what the model decides, so that the record says what was used. Raises ConfigError for another value."""
    plain = KorquadTask(train=[], test=task.test)
    of_model = {
        "window": description.window or WindowConfig(),
        "decoding": description.decoding or DecodingConfig(),
        "letters": description.model.letters,
    }
    for key, own in of_model.items():
        if getattr(task, key) not in (getattr(plain, key), own):
            instead = "; give decoding='{KEY: VALUE}' for another one" if key == "decoding" else ""
            raise ConfigError(f"task.{key}: is the model's own ({own}), this has no effect{instead}")
        setattr(task, key, own)
    task.train = list(used.get("train", []))


def _refuse_known(config: PredictConfig, used: dict[str, Any], dataset: KorquadDataset) -> None:
    """Raise ConfigError for questions that the model was trained on, as far as the files of these are here."""
    learned_from = [(name, None) for name in used.get("train", ())]
    if used.get("fold") is not None:
        learned_from.append((used["test"], used["fold"]))
    for name, fold in learned_from:
        path = path_in_settings(name, config.data)
        if not path.is_file():
            continue
        learned = read_korquad(path) if fold is None else fold_split(read_korquad(path), fold)[0]
        if shared := learned.gold().keys() & dataset.gold().keys():
            raise ConfigError(
                f"task.test={config.task.test}: run={config.run} was trained on {len(shared)} of its questions "
                f"(in {path}), e.g. {min(shared)!r}; a score on them means nothing"
            )
