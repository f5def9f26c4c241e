"""Score a prediction file with the official KorQuAD 1.0 metric."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from korbert.config import EvaluateConfig
from korbert.data.korquad import fold_split, read_korquad, read_predictions
from korbert.metrics import score_predictions


def evaluate_korquad(config: EvaluateConfig) -> None:
    """Print one JSON line with EM, F1 (percent), total and unanswered questions; remarks go to standard error."""
    dataset = read_korquad(Path(config.dataset))
    if config.fold is not None:
        dataset = fold_split(dataset, config.fold)[1]
    score = score_predictions(dataset.gold(), read_predictions(Path(config.predictions)))
    if score.unanswered:
        print(f"{score.unanswered} of {score.total} questions have no prediction; they score 0", file=sys.stderr)
    if score.unknown:
        print(f"{score.unknown} predictions are for questions that the data set does not have", file=sys.stderr)
    line = {
        "exact_match": score.exact_match,
        "f1": score.f1,
        "total": score.total,
        "unanswered": score.unanswered,
    }
    print(json.dumps(line))
