"""Score the lexical baseline on a KorQuAD file or a fold of it: what a trained model must beat."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from korbert.config import BaselineConfig, expand_root
from korbert.data.korquad import fold_split, read_korquad, write_predictions
from korbert.data.lexical import LexicalBaseline
from korbert.files import PREDICTIONS
from korbert.tasks.finetune import score_results
from korbert.tasks.prepare import progress_bar
from korbert.tasks.runs import finish_run, run_once, start_run

log = logging.getLogger(__name__)


@run_once
def lexical_baseline(config: BaselineConfig) -> dict[str, Any]:
    """Answer every question, write predictions and record, and return the record."""
    dataset = read_korquad(Path(expand_root(config.task.test, config.data)))
    if config.task.fold is not None:
        dataset = fold_split(dataset, config.task.fold)[1]
    folder = start_run(config)
    baseline = LexicalBaseline(dataset, config.analyser)
    predictions = {}
    with progress_bar(total=len(dataset), unit=" questions") as bar:
        for _, paragraph, question in dataset.questions():
            predictions[question.id] = baseline.answer(question.text, paragraph.context)
            bar.update()
    write_predictions(folder / PREDICTIONS, predictions)
    results = score_results(dataset, predictions, config.task, trained=False)
    log.info("EM %(exact_match).2f  F1 %(f1).2f  on %(total)d questions (%(protocol)s)", results)
    return finish_run(folder, "lexical_baseline", config, results)
