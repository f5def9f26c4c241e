"""Scores question by question, read again from runs' predictions, so that questions can be drawn as well as seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import KorquadDataset, fold_split, read_korquad, read_predictions
from korbert.errors import KorbertError
from korbert.metrics import score_per_question
from korbert.study.grouping import EXACT, Group
from korbert.study.lineage import Run

_PREDICTIONS = "predictions.json"
_ROUNDING = 1e-6  # percent


@dataclass(frozen=True)
class Answered:
    """Scores in percent of units (seeds) on questions, (units, questions), by measure; the article of each question."""

    units: Sequence[object]
    ids: Sequence[str]
    articles: Sequence[int]
    scores: dict[str, npt.NDArray[np.float64]]


class Answers:
    """Reads predictions and questions, each file once. root: stands for `{root}` in the names of question files.

    why_not: what kept runs from being read, a sentence each.
    """

    def __init__(self, root: str | None) -> None:
        self.root = root
        self.why_not: dict[str, None] = {}
        self._datasets: dict[str, KorquadDataset | None] = {}
        self._groups: dict[int, Answered | None] = {}

    def of_group(self, group: Group, folds: Sequence[int | None]) -> Answered | None:
        """A row for each unit that has all the folds; None where questions or predictions of a run are not at hand."""
        if id(group) not in self._groups:
            self._groups[id(group)] = self._of_group(group, folds)
        return self._groups[id(group)]

    def _of_group(self, group: Group, folds: Sequence[int | None]) -> Answered | None:
        units = {unit: by_fold for unit, by_fold in group.units().items() if set(folds) <= by_fold.keys()}
        datasets = [self._dataset(group.runs[0], fold) for fold in folds]
        if not units or any(dataset is None for dataset in datasets):
            return None
        known = [dataset for dataset in datasets if dataset is not None]
        rows: dict[str, list[list[float]]] = {"exact_match": [], "f1": []}
        for by_fold in units.values():
            row: dict[str, list[float]] = {key: [] for key in rows}
            for fold, dataset in zip(folds, known, strict=True):
                scored = [self._scores(run, dataset) for run in by_fold[fold]]
                for key in row:
                    every = [one[key] for one in scored if one is not None]
                    if len(every) < len(scored):
                        return None
                    row[key] += np.mean(every, axis=0).tolist()
            for key, values in row.items():
                rows[key].append(values)
        articles = [number for number, (_, count) in enumerate(_sizes(known)) for _ in range(count)]
        ids = [key for dataset in known for key in dataset.gold()]
        return Answered(list(units), ids, articles, {key: np.array(values) for key, values in rows.items()})

    def _dataset(self, run: Run, fold: int | None) -> KorquadDataset | None:
        """The questions that a run was scored on."""
        named = str(run.settings.get("task.test", ""))
        if not named:
            self._tell("questions are not at hand: a run's record does not name them (task.test)")
            return None
        root = self.root or (run.config.get("data") or {}).get("root") or "."
        path = Path(named.replace("{root}", root))
        key = f"{path} {fold}"
        if key not in self._datasets:
            try:
                whole = read_korquad(path)
                self._datasets[key] = whole if fold is None else fold_split(whole, fold)[1]
            except KorbertError as error:
                self._datasets[key] = None
                self._tell(f"questions are not at hand ({error}): give data.root=FOLDER")
        return self._datasets[key]

    def _scores(self, run: Run, dataset: KorquadDataset) -> dict[str, list[float]] | None:
        folder = run.found.folder
        if folder is None or not (folder / _PREDICTIONS).exists():
            self._tell("predictions are not at hand for every run: a page keeps its runs' scores alone")
            return None
        found = score_per_question(dataset.gold(), read_predictions(folder / _PREDICTIONS)).values()
        scores = {key: [100 * getattr(one, key) for one in found] for key in ("exact_match", "f1")}
        said = run.score(EXACT.key)
        again = sum(scores[EXACT.key]) / len(scores[EXACT.key])
        if said is None or abs(said - again) > _ROUNDING:
            self._tell(f"{folder / _PREDICTIONS} has an EM of {again:.4f} on {dataset.path.name}, its record {said}")
            return None
        return scores

    def _tell(self, why: str) -> None:
        self.why_not[why] = None


def _sizes(datasets: Sequence[KorquadDataset]) -> list[tuple[str, int]]:
    return [(article.title, article.num_questions) for dataset in datasets for article in dataset.articles]
