"""Score a prediction file with the official KorQuAD 1.0 metric."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from korbert.config import EvaluateConfig
from korbert.data.korquad import VERSION, KorquadDataset, fold_split, read_korquad, read_predictions
from korbert.metrics import score_predictions

_SHOWN_IDS = 3


def evaluate_korquad(config: EvaluateConfig) -> None:
    """Print one JSON line: EM, F1 (percent), and how many questions there are, are unanswered, and are unknown.

    Remarks go to standard error.
    """
    dataset = read_korquad(Path(config.dataset))
    if config.fold is not None:
        dataset = fold_split(dataset, config.fold)[1]
    predictions = read_predictions(Path(config.predictions))
    say(remarks(dataset, {config.predictions: predictions}))
    score = score_predictions(dataset.gold(), predictions)
    line = {
        "exact_match": score.exact_match,
        "f1": score.f1,
        "total": score.total,
        "unanswered": score.unanswered,
        "unknown": score.unknown,
    }
    print(json.dumps(line))


def remarks(dataset: KorquadDataset, predictions: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What does not fit together, of prediction files by name; it is scored as the official script does.

    Which is: a question without a prediction scores 0, a prediction without a question is not looked at, and a data set
    of another version is scored as if it were of this one.
    """
    if not dataset.is_korquad_1:
        yield f"{other_version(dataset)}; it is scored all the same"
    gold = dataset.gold()
    for name, found in predictions.items():
        missing = [key for key in gold if key not in found]
        unknown = [key for key in found if key not in gold]
        if missing:
            yield f"{name}: {len(missing)} of {len(gold)} questions have no prediction; each scores 0{_some(missing)}"
        if unknown:
            share = f"{len(unknown)} of {len(found)} predictions"
            yield f"{name}: {share} are for no question here; ignored{_some(unknown)}"
        if missing and unknown and len(missing) == len(gold):
            yield f"{name}: not one question fits: is this another data set, or another version of it?"


def other_version(dataset: KorquadDataset) -> str:
    """A word on a data set that is not KorQuAD 1.0."""
    says = f"its version is {dataset.version!r}" if dataset.version else "it names no version"
    return f"{dataset.path}: {says}, not {VERSION}_*: scores are not comparable with those of KorQuAD 1.0"


def say(lines: Iterable[str]) -> None:
    """Print to standard error."""
    for line in lines:
        print(line, file=sys.stderr)


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_IDS])
    return f" ({shown}{', …' if len(ids) > _SHOWN_IDS else ''})"
