"""Looking at prediction files: two of them against each other, and one of them question by question."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from korbert.comparison.ceiling import strip_josa
from korbert.config import ComparePredictionsConfig, ErrorsConfig, expand_root
from korbert.data.korquad import KorquadDataset, fold_split, read_korquad, read_predictions
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import NoEntities, make_annotator
from korbert.errors import ConfigError, DataError
from korbert.files import PREDICTIONS, RECORD, read_json, write_text_atomically
from korbert.metrics import score_per_question, score_predictions
from korbert.study.error_report import as_html, as_markdown
from korbert.study.errors import breakdown, cases, kinds
from korbert.study.significance import bootstrap_interval, paired_difference, within_percent
from korbert.tasks.evaluate import remarks, say
from korbert.tasks.finetune import folds_name
from korbert.tasks.inputs import changed_files, portable
from korbert.training.bundle import load_bundle

_MEASURES = ("exact_match", "f1")
_ROUNDING = 1e-6  # percent; sums of another order
log = logging.getLogger(__name__)


def compare_predictions(config: ComparePredictionsConfig) -> dict[str, Any]:
    """Show and return EM and F1 of two prediction files, their differences with 95 % intervals, and p-values.

    Of a single article neither is known. Remarks on what does not fit together go to standard error. Raises ConfigError
    where the two have no question of the data set in common.
    """
    dataset, predictions = _data(config)
    gold = dataset.gold()
    say(remarks(dataset, predictions))
    if not gold.keys() & predictions["a"].keys() & predictions["b"].keys():
        raise ConfigError(f"{config.a} and {config.b} have no question of {config.dataset} in common")
    scores = {name: list(score_per_question(gold, found).values()) for name, found in predictions.items()}
    articles = dataset.article_numbers()
    results: dict[str, Any] = {"a": config.a, "b": config.b, "questions": len(gold), "articles": len(set(articles))}
    for key in ("unanswered", "unknown"):
        results[key] = {name: getattr(score_predictions(gold, found), key) for name, found in predictions.items()}
    table = Table("", "a (%)", "b (%)", "b - a", "95 % interval", "p", title=f"{len(gold):,} questions")
    for measure in _MEASURES:
        a, b = ([100 * getattr(score, measure) for score in scores[name]] for name in "ab")
        means = {"a": sum(a) / len(a), "b": sum(b) / len(b)}
        chance = paired_difference(a, b, articles)
        if chance is not None:  # resamples are stretched where there are few articles
            low, high = within_percent(chance.low, chance.high)
            chance = replace(chance, low=low, high=high)
        said = {"low": None, "high": None, "p": None} if chance is None else asdict(chance)
        results[measure] = {**means, "difference": means["b"] - means["a"], **said}
        table.add_row(
            measure.replace("_", " "), f"{means['a']:.2f}", f"{means['b']:.2f}", f"{means['b'] - means['a']:+.2f}",
            *(("one article: unknown", "unknown") if chance is None
              else (f"{chance.low:+.2f} to {chance.high:+.2f}", f"{chance.p:.4f}")),
        )  # fmt: skip
    right = Counter(
        (int(a.exact_match), int(b.exact_match)) for a, b in zip(scores["a"], scores["b"], strict=True)
    )  # fmt: skip
    results["exact_in"] = {"both": right[1, 1], "a alone": right[1, 0], "b alone": right[0, 1], "neither": right[0, 0]}
    Console(stderr=True, markup=False).print(table)
    print(json.dumps(results, ensure_ascii=False))
    return results


def _data(config: ComparePredictionsConfig) -> tuple[KorquadDataset, dict[str, dict[str, str]]]:
    dataset = read_korquad(Path(config.dataset))
    if config.fold is not None:
        dataset = fold_split(dataset, config.fold)[1]
    return dataset, {name: read_predictions(Path(path)) for name, path in (("a", config.a), ("b", config.b))}


def report_errors(config: ErrorsConfig) -> dict[str, Any]:
    """Write `errors.md` and `errors.html`: scores by kinds of questions, and kinds of errors with examples."""
    dataset, predictions, windows = _of_run(config) if config.run is not None else _of_files(config)
    gold = dataset.gold()
    say(remarks(dataset, {"predictions": predictions}))
    annotator = make_annotator(expand_root(config.annotator, config.data), cache=config.data.cache)
    found = cases(dataset, predictions, annotator, windows)
    official = score_predictions(gold, predictions)
    if config.run is not None:
        _check_scores(_answering(Path(config.run)), asdict(official))
    stripped = score_predictions(
        {key: [strip_josa(text) for text in texts] for key, texts in gold.items()},
        {key: strip_josa(text) for key, text in predictions.items()},
    )
    articles = dataset.article_numbers()
    report: dict[str, Any] = {
        "title": config.run or config.predictions,
        "protocol": _protocol(config),
        "questions": official.total,
        "unanswered": official.unanswered,
        "unknown": official.unknown,
        "annotator": config.annotator,
        "official": {
            measure: {
                "mean": getattr(official, measure),
                "interval": bootstrap_interval([100 * getattr(c.score, measure) for c in found], articles),
            }
            for measure in _MEASURES
        },
        "kortok": {measure: getattr(stripped, measure) for measure in _MEASURES},
        "kinds": kinds(found),
        "breakdowns": {key: [asdict(part) for part in breakdown(found, key)] for key in found[0].groups},
    }
    folder = Path(config.folder or config.run or Path(str(config.predictions)).parent)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "errors.md", as_markdown(report, found))
    write_text_atomically(folder / "errors.html", as_html(report, found))
    log.info("%s, %s", folder / "errors.md", folder / "errors.html")
    return report


def _protocol(config: ErrorsConfig) -> str:
    """What the scores were measured on, to be said beside them."""
    if config.run is not None:
        return str(read_json(_answering(Path(config.run)) / RECORD)["results"]["protocol"])
    path = Path(str(config.dataset))
    return f"scored on {path.name}" if config.fold is None else f"{folds_name(path)}, fold {config.fold}"


def _answering(run: Path) -> Path:
    """The folder of the run that has answered questions: of a pipeline's job, that of its fine-tuning.

    Raises DataError for a run that is not finished, or has answered none.
    """
    record = read_json(run / RECORD)
    if record.get("task") == "pipeline":
        return _answering(run / record["stages"][-1])
    if record.get("task") not in ("finetune_korquad", "predict_korquad"):
        raise DataError(run / RECORD, "task", f"is {record.get('task')!r}: it has answered no questions")
    if not record.get("results", {}).get("scored", True):
        raise DataError(run / RECORD, "results.scored", "is false: there are no gold answers to look at its answers by")
    return run


def _check_scores(run: Path, found: dict[str, Any]) -> None:
    """Raises DataError where a run's answers do not have the scores that its record says."""
    noted = read_json(run / RECORD)["results"]
    differing = [key for key in _MEASURES if abs(noted.get(key, found[key]) - found[key]) > _ROUNDING]
    if differing:
        scores = ", ".join(f"{key} is {found[key]:.2f}, the record says {noted[key]:.2f}" for key in differing)
        raise DataError(run / PREDICTIONS, "content", f"{scores}: the answers have changed since the run was scored")


def _of_files(config: ErrorsConfig) -> tuple[KorquadDataset, dict[str, str], None]:
    if config.predictions is None or config.dataset is None:
        raise ConfigError("give run=FOLDER of a fine-tuning, or predictions=FILE and dataset=FILE")
    dataset = read_korquad(Path(config.dataset))
    if config.fold is not None:
        dataset = fold_split(dataset, config.fold)[1]
    return dataset, read_predictions(Path(config.predictions)), None


def _of_run(config: ErrorsConfig) -> tuple[KorquadDataset, dict[str, str], dict[str, int]]:
    """What a fine-tuning was scored on, its answers, and how many windows each question took."""
    for key in ("predictions", "dataset", "fold"):
        if getattr(config, key) is not None:
            raise ConfigError(f"{key} is decided by run={config.run}: give one of the two")
    folder = _answering(Path(str(config.run)))
    record = read_json(folder / RECORD)
    used = record["config"]
    path = used["task"]["test"]
    if "{root}" in path:
        path = expand_root(path, config.data)
    name = portable(Path(path), config.data)
    noted = record.get("inputs", {}).get(name)
    if noted is not None and changed_files({name: noted}, {}, config.data):
        problem = f"not what {folder} was scored on, says its record: changed since then, or another file"
        raise DataError(
            path, "content", f"{problem}; predictions=FILE dataset=FILE scores any answers on any questions"
        )
    dataset = read_korquad(Path(path))
    if used["task"]["fold"] is not None:
        dataset = fold_split(dataset, used["task"]["fold"])[1]
    bundle = load_bundle(used.get("run") or folder, kind="span")  # the model of predict_korquad is another run's
    # Without entities: how long the text is, not how much is marked in it.
    window = bundle.description.window or WindowConfig()
    maker = WindowMaker(bundle.tokenizer, NoEntities(), EntityInput(EntityMode.NONE), window)
    windows = Counter(made.question_id for made in maker.dataset(dataset)[0])
    return dataset, read_predictions(folder / PREDICTIONS), dict(windows)
