"""KorQuAD 1.0 fine-tuning and scoring, from question files to predictions and the official EM and F1."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from korbert.config import DataConfig, FinetuneConfig, KorquadTask, expand_root, expand_roots
from korbert.data.batching import BatchStream, FixedSource, Source, SpanBatch, collate_windows
from korbert.data.decoding import Candidate, scores_of
from korbert.data.korquad import KorquadDataset, fold_split, merge, read_korquad, write_predictions
from korbert.data.loading import BatchLoader
from korbert.data.mention_dropout import MentionDropout
from korbert.data.window_store import stored_windows
from korbert.data.windows import Window, WindowMaker
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import make_annotator, with_cache
from korbert.errors import ConfigError
from korbert.files import NBEST, PREDICTIONS, checksum, write_text_atomically
from korbert.lines import json_line
from korbert.metrics import score_per_question, score_predictions
from korbert.model import SpanModel
from korbert.prediction import best_answers, predict
from korbert.study import protocols
from korbert.study.calibration import calibration_error, confidences, fit_temperature
from korbert.study.significance import bootstrap_interval
from korbert.tasks.evaluate import other_version
from korbert.tasks.prepare import progress_bar
from korbert.tasks.runs import by_ranks, described, finish_run, fixed_config, run_once, start_run
from korbert.tasks.starting import model_sizes, starting_point, take_over
from korbert.tokenizers import load_tokenizer
from korbert.training.bundle import Bundle, Description, begin_model, warn_of_other_annotator, write_description
from korbert.training.distributed import Ranks, joined
from korbert.training.loop import Metric, Trainer
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.state import load_tensors, load_weights
from korbert.training.tracking import Tracker, TrackerConfig

log = logging.getLogger(__name__)
_SHOWN = 40  # characters of a context in a message
_MOST_SHARED = 0.01  # of the test's questions, trained on under other ids


@by_ranks
@run_once
def finetune_korquad(config: FinetuneConfig) -> dict[str, Any]:
    """Run (or go on with) one fine-tuning, score it, and return its record; under torchrun the first rank's."""
    runtime = make_runtime(config.runtime)
    with joined(runtime.device) as ranks:
        return _finetune(config, runtime, ranks)


@dataclass(frozen=True)
class _Reader:
    """A model, and the windows that it reads. windows: of the data sets by name."""

    model: SpanModel
    windows: Mapping[str, list[Window]]
    collate: Callable[[Sequence[Window]], SpanBatch]
    config: FinetuneConfig
    runtime: Runtime

    def answers(self, dataset: KorquadDataset, name: str) -> dict[str, list[Candidate]]:
        """The candidates of each question, best first."""
        windows, decoding = self.windows[name], self.config.task.decoding
        found = predict(self.model, windows, self.collate, decoding, self.runtime, self.config.train.batch_size)
        return {question.id: found[question.id] for _, _, question in dataset.questions()}

    def scores(self, dataset: KorquadDataset, name: str) -> dict[str, float]:
        """What training watches."""
        result = score_predictions(dataset.gold(), best_answers(self.answers(dataset, name)))
        return {"exact_match": result.exact_match, "f1": result.f1}


def _finetune(config: FinetuneConfig, runtime: Runtime, ranks: Ranks) -> dict[str, Any]:
    ranks.agree("run_dir", config.run_dir)
    train, validation, test = korquad_data(config)
    pretrained, tokenizer_folder = starting_point(config)
    tokenizer = load_tokenizer(tokenizer_folder)
    annotator_name, entities = _entities(config, pretrained)
    with ranks.in_turn():
        folder = start_run(config) if ranks.is_first else Path(config.run_dir)

    seed_everything(config.seed)
    sizes = model_sizes(config, pretrained, len(tokenizer), entities.entity_types)
    model = SpanModel(replace(sizes, letters=config.task.letters))
    take_over(model, pretrained, runtime, "task.window.max_length", config.task.window.max_length)
    annotator = make_annotator(expand_root(annotator_name, config.data), config.entities.store, config.data.cache)
    if config.entities.store is None:
        annotator = with_cache(annotator, config.data.cache)
    if pretrained is not None and annotator_name == pretrained.description.annotator:
        warn_of_other_annotator(pretrained, annotator)
    maker = WindowMaker(tokenizer, annotator, entities, config.task.window)
    with ranks.in_turn():
        windows = {
            name: make_windows(maker, dataset, name, Path(config.data.cache))
            for name, dataset in (("train", train), ("validation", validation), ("test", test))
            if dataset is not None and (ranks.is_first or name == "train")
        }
    description = Description(
        "span", model.config, annotator_name, entities, config.task.window.max_length,
        window=config.task.window, decoding=config.task.decoding,
        annotator_fingerprint=annotator.fingerprint if entities.mode.cuts else None,
    )  # fmt: skip
    identities = {"tokenizer": tokenizer.fingerprint, "annotator": annotator.fingerprint, "mode": entities.mode.value}
    fixed = fixed_config(config, **identities)
    if ranks.is_first:
        begin_model(folder, description, tokenizer_folder, fixed)
    collate = functools.partial(
        collate_windows, pad_id=tokenizer.special.pad, packed=runtime.packed,
        sharing=tokenizer.special if entities.shared_positions else None, letters=model.config.letters,
    )  # fmt: skip
    reader = _Reader(model, windows, collate, config, runtime)
    source: Source[Window] = FixedSource(windows["train"])
    if config.entities.dropout:
        source = MentionDropout(windows["train"], config.entities.dropout, tokenizer.special, config.seed)

    with Tracker(folder, config.tracker if ranks.is_first else TrackerConfig(), fixed) as tracker:
        trainer = Trainer(
            model,
            BatchLoader(
                [(0.0, BatchStream(source, config.train.batch_size, config.seed))],
                collate,
                runtime.loader_workers,
                pin=runtime.device.type == "cuda",
            ),
            config.train,
            runtime,
            folder,
            tracker,
            fixed_config=fixed,
            seed=config.seed,
            ranks=ranks,
            evaluate=None if validation is None else functools.partial(reader.scores, validation, "validation"),
            metric=None if validation is None else Metric("f1", larger_is_better=True),
        )
        kept = trainer.run()
        if not ranks.is_first:
            return {}
        tensors, _ = load_tensors(folder / "model" / "model.safetensors")
        load_weights(model, tensors, folder / "model" / "model.safetensors")
        model.eval()
        temperature = None
        if validation is not None:
            held_out = reader.answers(validation, "validation")
            temperature = fit_temperature(scores_of(held_out), _right(validation, held_out))
            decoding = replace(config.task.decoding, temperature=temperature)
            write_description(folder / "model", replace(description, decoding=decoding), tokenizer_folder)
        scores = _score_test(reader, test, temperature, folder)
        tracker.finish({key: scores[key] for key in ("exact_match", "f1")})
    log.info("EM %(exact_match).2f  F1 %(f1).2f  on %(total)d questions (%(protocol)s)", scores)
    results = {
        **scores,
        **({} if validation is None else {"validation": {key: kept[key] for key in ("exact_match", "f1")}}),
        "steps": trainer.progress.step,
        "tokens": trainer.progress.tokens,
        "seconds": round(trainer.progress.seconds, 1),
        "train_questions": len(train),
    }
    return finish_run(folder, "finetune_korquad", config, results, tokenizer=described(tokenizer))


def _score_test(reader: _Reader, test: KorquadDataset, temperature: float | None, folder: Path) -> dict[str, Any]:
    """Answer the test questions, write the answers, and return their scores. temperature: if one was fitted."""
    answers = reader.answers(test, "test")
    used = reader.config.task.decoding.temperature if temperature is None else temperature
    best = write_answers(folder, answers, used)
    return {**score_results(test, best, reader.config.task), "calibration": _calibration(test, answers, temperature)}


def score_results(
    dataset: KorquadDataset, predictions: Mapping[str, str], task: KorquadTask, trained: bool = True
) -> dict[str, Any]:
    """EM and F1 with 95 % intervals (articles drawn with replacement; none of a single one), as a record has them.

    trained: see `protocol`.
    """
    score = score_predictions(dataset.gold(), predictions)
    single = score_per_question(dataset.gold(), predictions).values()
    articles = dataset.article_numbers()
    intervals = {
        name: bootstrap_interval([100 * getattr(s, name) for s in single], articles) for name in ("exact_match", "f1")
    }
    return {
        "protocol": protocol(task, dataset.path, trained), "exact_match": score.exact_match, "f1": score.f1,
        "exact_match_interval": intervals["exact_match"], "f1_interval": intervals["f1"], "total": score.total,
        "unanswered": score.unanswered, "unknown": score.unknown,
    }  # fmt: skip


def protocol(task: KorquadTask, test: Path, trained: bool = True) -> str:
    """What the score was measured on, to be said beside it.

    test: the file that `task.test` names. trained: whether what is scored was trained on `task.train`.
    """
    if task.fold is not None:
        return f"{folds_name(test)}, fold {task.fold}"
    scored = f"scored on {Path(task.test).name}"
    return f"trained on {', '.join(Path(p).name for p in task.train)}, {scored}" if trained else scored


def folds_name(path: Path) -> str:
    """What the five folds of a file are called, see `korbert.study.protocols.folds_of`."""
    return protocols.folds_of(path.name, checksum(path))


def korquad_data(
    config: FinetuneConfig,
) -> tuple[KorquadDataset, KorquadDataset | None, KorquadDataset]:
    """Training, validation (None without a validation share) and test questions, no article in two of them.

    Articles that share a context are on one side of the validation; a context of the test that is trained on is warned
    of. Raises ConfigError for a question id of both, or where more than a hundredth of the test's questions is in both.
    """
    task = config.task
    parts = [read_korquad(Path(path)) for path in expand_roots(task.train, config.data)]
    test = read_test(task, config.data)
    if task.fold is not None:
        rest, test = fold_split(test, task.fold)
        parts.insert(0, rest)
    if not parts:
        raise ConfigError("task.train: no file to train on, and task.fold is not set")
    train = merge(*parts)
    shared = train.gold().keys() & test.gold().keys()
    if shared:
        raise ConfigError(
            f"task.train and task.test share {len(shared)} question ids, e.g. {min(shared)!r}: a score on questions "
            "that were trained on means nothing; for cross-validation on one file set task.fold"
        )
    asked = _asked(train) & _asked(test)
    if len(asked) > _MOST_SHARED * len(test):
        context, question = min(asked)
        raise ConfigError(
            f"task.train and task.test share {len(asked)} questions on the same contexts, under other ids, e.g. "
            f"{question!r} on {context[:_SHOWN]!r}…: a score on questions that were trained on means nothing"
        )
    known = set().union(*_contexts(train)) & set().union(*_contexts(test))
    if known:
        log.warning(
            "task.train: %d contexts of task.test are trained on, and %d of the questions on them; a score on them "
            "says less", len(known), len(asked),
        )  # fmt: skip
    validation = None
    if task.validation_share > 0:
        held_out = _held_out(train, task.validation_share, config.seed)
        if len(held_out) == len(train.articles):
            raise ConfigError(f"task.validation_share={task.validation_share} leaves no article to train on")
        validation = train.subset(sorted(held_out))
        train = train.subset([i for i in range(len(train.articles)) if i not in held_out])
    for key, part in (("task.train", train), ("task.validation_share", validation), ("task.test", test)):
        if part is not None and not len(part):
            raise ConfigError(f"{key}: there is no question in the {len(part.articles)} articles of this part")
    return train, validation, test


def _asked(dataset: KorquadDataset) -> set[tuple[str, str]]:
    """Contexts with what is asked of them."""
    return {(paragraph.context, question.text) for _, paragraph, question in dataset.questions()}


def _contexts(dataset: KorquadDataset) -> list[set[str]]:
    """The contexts of each article."""
    return [{paragraph.context for paragraph in article.paragraphs} for article in dataset.articles]


def _held_out(dataset: KorquadDataset, share: float, seed: int) -> set[int]:
    """A share of the articles by their number, drawn by the seed, and those that have a context of theirs, too."""
    contexts = _contexts(dataset)
    order = np.random.default_rng(seed).permutation(len(contexts)).tolist()
    chosen = set(order[: max(1, round(share * len(order)))])
    more = chosen
    while more:
        known = set().union(*(contexts[i] for i in more))
        more = {i for i, own in enumerate(contexts) if i not in chosen and own & known}
        chosen |= more
    return chosen


def read_test(task: KorquadTask, data: DataConfig, answered: bool = True) -> KorquadDataset:
    """The whole file that `task.test` names, with a word where it is not KorQuAD 1.0.

    answered: whether its questions must have gold answers.
    """
    dataset = read_korquad(Path(expand_root(task.test, data)), answered)
    if not dataset.is_korquad_1 and dataset.has_answers:
        log.warning("%s", other_version(dataset))
    return dataset


def _entities(config: FinetuneConfig, pretrained: Bundle | None) -> tuple[str, EntityInput]:
    """Annotator and entity input: what the configuration leaves open is as in pretraining, as far as the mode can."""
    chosen = config.entities
    for key in ("annotator", "mode"):
        if getattr(chosen, key) == "inherit" and pretrained is None:
            raise ConfigError(f"entities.{key}=inherit needs init=RUN; without it choose e.g. entities=mecab")
    if pretrained is not None:
        before = pretrained.description.entities
        if chosen.annotator == "inherit":
            chosen.annotator = pretrained.description.annotator
        if chosen.mode == "inherit":
            chosen.mode = before.mode.value
        has_markers = chosen.mode in (EntityMode.MARKERS.value, EntityMode.BOTH.value)
        for key in ("embed_markers", "shared_positions"):
            if getattr(chosen, key) is None:
                setattr(chosen, key, getattr(before, key) and has_markers)
        if chosen.typed is None:
            uses_embedding = chosen.mode in (EntityMode.EMBEDDING.value, EntityMode.BOTH.value) or chosen.embed_markers
            chosen.typed = before.typed and bool(uses_embedding)
        if chosen.max_entities is None:
            chosen.max_entities = before.max_entities
    return chosen.annotator, chosen.entity_input()


def make_windows(maker: WindowMaker, dataset: KorquadDataset, name: str, cache: Path) -> list[Window]:
    """All windows of a data set, made or from the cache, with a word on what training cannot use."""
    with progress_bar(total=len(dataset), unit=" questions", desc=f"{name} windows") as bar:
        windows, made = stored_windows(maker, dataset, cache, lambda done: bar.update(done - bar.n))
    log.info("%s: %d questions in %d windows", name, made.questions, made.windows)
    shows = maker.entities.mode.has_markers or maker.entities.uses_embedding
    if shows and not any(window.entity_ids.any() or window.is_marker.any() for window in windows):
        log.warning("%s: entities.mode=%s, and no window has an entity", name, maker.entities.mode.value)
    if made.unanswerable:
        log.info("%s: the answer of %d questions is whole in no window", name, made.unanswerable)
    if made.truncated_questions:
        log.info("%s: %d questions were cut to task.window.max_question_length", name, made.truncated_questions)
    return windows


def _right(dataset: KorquadDataset, answers: Mapping[str, list[Candidate]]) -> list[bool]:
    """Whether each question's best answer is exactly right."""
    scores = score_per_question(dataset.gold(), best_answers(answers))
    return [scores[key].exact_match == 1 for key in answers]


def _calibration(
    dataset: KorquadDataset, answers: Mapping[str, list[Candidate]], temperature: float | None
) -> dict[str, float]:
    """Expected calibration error on the test questions, as it is and with the temperature, where one was fitted."""
    right, scores = _right(dataset, answers), scores_of(answers)
    found = {}
    for name, value in (("error", 1.0), ("error_with_temperature", temperature)):
        if value is not None:
            found[name] = calibration_error(confidences(scores, value).tolist(), right)
    return found | ({} if temperature is None else {"temperature": temperature})


def write_answers(folder: Path, answers: Mapping[str, list[Candidate]], temperature: float) -> dict[str, str]:
    """Write every question's best answer, and its candidates, best first, with the best one's confidence.

    Returns the best answers.
    """
    best = best_answers(answers)
    write_predictions(folder / PREDICTIONS, best)
    sure = confidences(scores_of(answers), temperature).tolist()
    listed = {
        key: {
            "confidence": round(how_sure, 4),
            "answers": [
                {"text": text, "start": start, "end": end, "score": round(score, 4)}
                for text, start, end, score in candidates
            ],
        }
        for (key, candidates), how_sure in zip(answers.items(), sure, strict=True)
    }
    write_text_atomically(folder / NBEST, json_line(listed))
    log.info("predictions: %s", folder / PREDICTIONS)
    return best
