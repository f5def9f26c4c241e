"""Scores question by question, so that questions can be drawn as well as seeds, and where answers stand.

They are read again from runs' predictions, or from what a page keeps of them: scores, places and the sizes of articles,
none of the data set's own text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import KorquadDataset, fold_split, read_korquad, read_predictions
from korbert.errors import DataError, KorbertError
from korbert.files import NBEST, PREDICTIONS, read_json, text_checksum
from korbert.metrics import score_per_question
from korbert.study.collection import QUESTION_SCORES, Found
from korbert.study.grouping import EXACT, Group
from korbert.study.lineage import Run

Place: TypeAlias = tuple[int, int]
_NO_ANSWER: dict[str, Any] = {"text": "", "start": 0, "end": 0}
_ROUNDING = 1e-6  # percent
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """What one run scored on each question, in percent, in the order of the file.

    questions: a digest of their ids; articles: how many of them each article has. places: where in its context each
    answer begins and ends, twice the same for none; None where the run does not say it.
    """

    questions: str
    articles: list[int]
    exact_match: list[float]
    f1: list[float]
    places: list[Place] | None

    @classmethod
    def of(cls, dataset: KorquadDataset, run: Path) -> QuestionScores:
        """Those of a run's predictions, scored by the official definition. Raises DataError for damaged files."""
        predictions = read_predictions(run / PREDICTIONS)
        gold = dataset.gold()
        found = score_per_question(gold, predictions).values()
        digest = digest_of(dataset)
        sizes = [article.num_questions for article in dataset.articles]
        places = _places(run / NBEST, {key: predictions.get(key, "") for key in gold})
        return cls(digest, sizes, [100 * one.exact_match for one in found], [100 * one.f1 for one in found], places)

    def kept(self) -> dict[str, Any]:
        """For a page's record; exact matches as a string of 0 and 1."""
        return {
            "questions": self.questions,
            "articles": self.articles,
            "exact_match": "".join("1" if value else "0" for value in self.exact_match),
            "f1": [round(value, _DIGITS) for value in self.f1],
            **({"places": self.places} if self.places is not None else {}),
        }

    @classmethod
    def from_kept(cls, found: Found) -> QuestionScores | None:
        """Those of a page's record; None where it keeps none. Raises DataError for damaged ones."""
        kept = found.record.get(QUESTION_SCORES)
        if kept is None:
            return None
        try:
            exact = [100.0 * int(digit) for digit in kept["exact_match"]]
            sizes, f1 = list(map(int, kept["articles"])), list(map(float, kept["f1"]))
            places = [(int(start), int(end)) for start, end in kept["places"]] if "places" in kept else None
            scores = cls(str(kept["questions"]), sizes, exact, f1, places)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(found.path, f"{found.where}{QUESTION_SCORES}", f"damaged ({error})") from None
        if any(not 0 <= start <= end for start, end in places or ()):
            raise DataError(found.path, f"{found.where}{QUESTION_SCORES}", "damaged (places that cannot be)")
        if {len(exact), len(f1), len(exact if places is None else places)} != {sum(sizes)}:
            raise DataError(
                found.path,
                f"{found.where}{QUESTION_SCORES}",
                "articles, scores and places are not of as many questions",
            )
        return scores


def _places(path: Path, predictions: Mapping[str, str]) -> list[Place] | None:
    """Of each answer, from a file of n-best ones; None where there is none that fits the predictions."""
    try:
        listed = read_json(path)
        best = [listed[key]["answers"][0] if text else _NO_ANSWER for key, text in predictions.items()]
        places = [(int(answer["start"]), int(answer["end"])) for answer in best]
        same = [answer["text"] for answer in best] == [*predictions.values()]
    except (DataError, KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None
    fits = all(end - start == len(text) for (start, end), text in zip(places, predictions.values(), strict=True))
    return places if same and fits and all(start >= 0 for start, _ in places) else None


def digest_of(dataset: KorquadDataset) -> str:
    """What tells one set of questions, in their order, from another: a digest of their ids."""
    return text_checksum("\n".join(dataset.gold()))[:16]


def question_file(named: str, config: Mapping[str, Any], root: str | None) -> Path:
    """The file that a run's configuration names; root stands for `{root}`, None: as it was for the run."""
    return Path(named.replace("{root}", root or (config.get("data") or {}).get("root") or "."))


def scored_dataset(path: Path, fold: int | None) -> KorquadDataset:
    """The questions of a file that a run was scored on. Raises DataError for a file that is missing or damaged."""
    whole = read_korquad(path)
    return whole if fold is None else fold_split(whole, fold)[1]


@dataclass(frozen=True)
class Answered:
    """Scores in percent of units (seeds) on questions, (units, questions), by measure; the article of each question.

    ids: the same for the same questions in the same order. runs: of each unit, of each fold, what its runs answered.
    """

    units: Sequence[object]
    ids: Sequence[tuple[str, int]]
    articles: Sequence[int]
    scores: dict[str, npt.NDArray[np.float64]]
    runs: Sequence[Sequence[Sequence[QuestionScores]]]


class Answers:
    """Reads predictions and questions, each file once. root: stands for `{root}` in the names of question files.

    why_not: what kept runs from being read, a sentence each.
    """

    def __init__(self, root: str | None) -> None:
        self.root = root
        self.why_not: dict[str, None] = {}
        self._datasets: dict[str, KorquadDataset | None] = {}
        self._groups: dict[int, Answered | None] = {}
        self._questions: dict[int, dict[int | None, set[str]]] = {}

    def of_group(self, group: Group, folds: Sequence[int | None]) -> Answered | None:
        """A row for each unit that has all the folds; None where questions or predictions of a run are not at hand."""
        if id(group) not in self._groups:
            self._groups[id(group)] = self._of_group(group, folds)
        return self._groups[id(group)]

    def differ(self, groups: Sequence[Group], folds: Sequence[int | None]) -> bool:
        """Whether any runs of the groups are known to have been scored on different questions of the same fold.

        Known are the number of questions, of which every record tells, and, of runs whose answers are at hand, the ids.
        """
        for group in groups:
            self.of_group(group, folds)
        for fold in folds:
            totals = {run.score("total") for group in groups for run in group.runs if run.fold == fold} - {None}
            ids = set().union(*(self._questions[id(group)].get(fold, ()) for group in groups))
            if len(totals) > 1 or len(ids) > 1:
                self.tell(f"runs of {' and '.join(one.label for one in groups)} were scored on different questions")
                return True
        return False

    def asked(self, run: Run, fold: int | None) -> tuple[str, KorquadDataset] | None:
        """The questions that a run was scored on, and their digest; None, and said why, where they are not at hand."""
        dataset = self._dataset(run, fold)
        return None if dataset is None else (digest_of(dataset), dataset)

    def _of_group(self, group: Group, folds: Sequence[int | None]) -> Answered | None:
        every = {
            unit: {fold: [self._scores(run, fold) for run in by_fold[fold]] for fold in folds if fold in by_fold}
            for unit, by_fold in group.units().items()
        }
        questions = self._questions.setdefault(id(group), {})
        for found in every.values():
            for fold, scores in found.items():
                questions.setdefault(fold, set()).update(one.questions for one in scores if one is not None)
        units = {unit: by_fold for unit, by_fold in every.items() if set(folds) <= by_fold.keys()}
        rows: dict[str, list[list[float]]] = {"exact_match": [], "f1": []}
        of_folds: dict[int | None, QuestionScores] = {}
        runs: list[list[list[QuestionScores]]] = []
        for by_fold in units.values():
            row: dict[str, list[float]] = {key: [] for key in rows}
            runs.append([])
            for fold in folds:
                scored = [scores for scores in by_fold[fold] if scores is not None]
                if len(scored) < len(by_fold[fold]) or len(questions[fold]) > 1:
                    return None
                of_folds.setdefault(fold, scored[0])
                runs[-1].append(scored)
                for key in row:
                    row[key] += np.mean([getattr(one, key) for one in scored], axis=0).tolist()
            for key, values in row.items():
                rows[key].append(values)
        if not units:
            return None
        sizes = [size for fold in folds for size in of_folds[fold].articles]
        articles = [number for number, size in enumerate(sizes) for _ in range(size)]
        ids = [(one.questions, i) for one in (of_folds[fold] for fold in folds) for i in range(len(one.f1))]
        return Answered(list(units), ids, articles, {key: np.array(values) for key, values in rows.items()}, runs)

    def _dataset(self, run: Run, fold: int | None) -> KorquadDataset | None:
        """The questions that a run was scored on."""
        named = str(run.settings.get("task.test", ""))
        if not named:
            self.tell("questions are not at hand: a run's record does not name them (task.test)")
            return None
        path = question_file(named, run.config, self.root)
        key = f"{path} {fold}"
        if key not in self._datasets:
            try:
                self._datasets[key] = scored_dataset(path, fold)
            except KorbertError as error:
                self._datasets[key] = None
                self.tell(f"questions are not at hand ({error}): give data.root=FOLDER")
        return self._datasets[key]

    def _scores(self, run: Run, fold: int | None) -> QuestionScores | None:
        """Those of a run's folder, or of its page; None, and said why, where there are none that fit its record."""
        folder = run.found.folder
        if folder is None:
            scores, source = QuestionScores.from_kept(run.found), run.found.path
            named = f"the questions of {run.name}"
        else:
            path = folder / PREDICTIONS
            dataset = self._dataset(run, fold) if path.exists() else None
            if path.exists() and dataset is None:
                return None
            scores = None if dataset is None else QuestionScores.of(dataset, folder)
            source, named = path, "" if dataset is None else dataset.path.name
        if scores is None:
            self.tell("predictions, or scores question by question, are not at hand for every run")
            return None
        said = run.score(EXACT.key)
        again = sum(scores.exact_match) / max(1, len(scores.exact_match))
        if said is None or abs(said - again) > _ROUNDING:
            self.tell(f"{source} has an EM of {again:.4f} on {named}, its record {said}")
            return None
        return scores

    def tell(self, why: str) -> None:
        """Note what kept runs, or questions, from being read."""
        self.why_not[why] = None
