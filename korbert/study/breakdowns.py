"""Where a difference comes from: the same comparison among the questions of one kind alone, and of what is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from korbert.data.korquad import Answer
from korbert.entities.base import EntityAnnotator
from korbert.files import NBEST
from korbert.study.answers import Answered, Answers, QuestionScores
from korbert.study.contrasts import Contrast, answered_pair
from korbert.study.errors import BREAKDOWNS, Asked, annotated_questions, answer_parts, question_groups
from korbert.study.grouping import EXACT, Table
from korbert.study.multibootstrap import Estimate, Floats, bootstrap_difference
from korbert.study.significance import holm_of_tested, within_percent

Names: TypeAlias = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Part:
    """A difference on the questions of one part of a breakdown.

    score: the baseline's; found: None where nothing can be drawn, as of one article, or of two questions that are both
    mended. p, corrected: None where the whole difference cannot be tested, either. mended: questions that a run of the
    group has exactly right and a run of the baseline has not, made: the reverse, both in percent of the part, and the
    mean over all pairs of runs.
    """

    contrast: Contrast
    name: str
    questions: int
    score: float
    difference: float
    found: Estimate | None
    p: float | None
    corrected: float | None
    mended: float
    made: float


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a group's answers are of a part, less how many of the baseline's are, in percent of all questions.

    gold, ours, theirs: of the gold answers, the group's and the baseline's. found, p, corrected: as of a Part.
    """

    contrast: Contrast
    name: str
    gold: float
    theirs: float
    ours: float
    found: Estimate | None
    p: float | None
    corrected: float | None


class Breakdowns:
    """Parts of questions and of answers, each file annotated once. annotator: says which answers are entities."""

    def __init__(self, answers: Answers, annotator: EntityAnnotator) -> None:
        self._answers = answers
        self._annotator = annotator
        self._asked: dict[str, list[Asked]] = {}
        self._groups: dict[str, list[dict[str, str]]] = {}
        self._named: dict[tuple[int, str], Names | None] = {}

    def parts(self, table: Table, contrasts: Sequence[Contrast], key: str) -> list[Part]:
        """Each difference on each part, the largest part first, their p-values corrected for all of them together.

        [] where the answers or the questions themselves are not at hand, which `answers.why_not` says.
        """
        found: list[Part] = []
        for contrast in contrasts:
            pair = answered_pair(contrast.group, contrast.baseline, table.folds, self._answers)
            names = None if pair is None else self._names(table, pair[0], key)
            if pair is not None and names is not None:
                found += _parts(contrast, *pair, names)
        corrected = holm_of_tested([part.p for part in found])
        return [replace(part, corrected=p) for part, p in zip(found, corrected, strict=True)]

    def shares(self, table: Table, contrasts: Sequence[Contrast], key: str) -> list[Share]:
        """What is answered: of each part of the answers, the largest of the gold ones first; see `Share`.

        key: of OF_ANSWERS. Groups whose runs do not say where their answers stand are left out, which
        `answers.why_not` says.
        """
        found: list[Share] = []
        for contrast in contrasts:
            pair = answered_pair(contrast.group, contrast.baseline, table.folds, self._answers)
            if contrast.measure is not EXACT or pair is None or (gold := self._names(table, pair[0], key)) is None:
                continue
            base, ours = (self._answer_names(one, key) for one in pair[:2])
            if base is None or ours is None:
                self._answers.tell(f"what is answered is not told of runs without an {NBEST} that fits")
            else:
                found += _shares(contrast, gold, base, ours, pair[0].articles, pair[2])
        corrected = holm_of_tested([one.p for one in found])
        return [replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)]

    def _answer_names(self, answered: Answered, key: str) -> list[list[list[Names]]] | None:
        """Of each unit, of each fold, of each of its runs, the part of each answer."""
        units: list[list[list[Names]]] = []
        for of_unit in answered.runs:
            units.append([])
            for of_fold in of_unit:
                names = [found for run in of_fold if (found := self._of_run(run, key)) is not None]
                if len(names) < len(of_fold):
                    return None
                units[-1].append(names)
        return units

    def _of_run(self, scores: QuestionScores, key: str) -> Names | None:
        """The part of each answer; None where it is not known where they stand."""
        if (id(scores), key) not in self._named:
            self._named[id(scores), key] = self._part_names(scores, key)
        return self._named[id(scores), key]

    def _part_names(self, scores: QuestionScores, key: str) -> Names | None:
        asked, places = self._asked[scores.questions], scores.places
        if places is None or len(places) != len(asked):
            return None
        if any(end > len(one.paragraph.context) for one, (_, end) in zip(asked, places, strict=True)):
            return None
        found = (
            answer_parts(Answer(one.paragraph.context[start:end], start), one.entities)
            for one, (start, end) in zip(asked, places, strict=True)
        )
        return np.array([parts[key] for parts in found])

    def _names(self, table: Table, answered: Answered, key: str) -> Names | None:
        """The part of each answered question."""
        for fold in table.folds:
            run = next(run for group in table.groups for run in group.runs if run.fold == fold)
            asked = self._answers.asked(run, fold)
            if asked is None:
                return None
            if asked[0] not in self._asked:
                self._asked[asked[0]] = annotated_questions(asked[1], self._annotator)
                self._groups[asked[0]] = question_groups(self._asked[asked[0]])
        if not all(questions in self._groups for questions, _ in answered.ids):
            self._answers.tell("the questions at hand are others than runs were scored on: nothing is broken down")
            return None
        return np.array([self._groups[questions][number][BREAKDOWNS[key]] for questions, number in answered.ids])


def _shares(
    contrast: Contrast,
    gold: Names,
    base: Sequence[Sequence[Sequence[Names]]],
    ours: Sequence[Sequence[Sequence[Names]]],
    articles: Sequence[int],
    together: bool,
) -> list[Share]:
    """base, ours: see `Breakdowns._answer_names`."""
    counts = Counter(gold.tolist())
    answered = [names for units in (base, ours) for folds in units for runs in folds for names in runs]
    seen = {name for names in answered for name in np.unique(names).tolist()}
    found = []
    for name in sorted(counts.keys() | seen, key=lambda name: (-counts[name], name)):
        a, b = (np.array([_share(folds, name) for folds in units]) for units in (base, ours))
        # Where nobody answers so, nothing is compared.
        drawn, p = _drawn(contrast, a, b, articles, together) if name in seen else (None, None)
        share = 100 * counts[name] / len(gold)
        found.append(Share(contrast, name, share, float(a.mean()), float(b.mean()), drawn, p, None))
    return found


def _share(folds: Sequence[Sequence[Names]], name: str) -> Floats:
    """Of a unit's runs on each question, how many answer it so, in percent."""
    return np.concatenate([100 * np.mean([names == name for names in runs], axis=0) for runs in folds])


def _parts(contrast: Contrast, base: Answered, ours: Answered, together: bool, names: Names) -> list[Part]:
    kinds, sizes = np.unique(names, return_counts=True)
    found = []
    for name in kinds[np.argsort(-sizes, kind="stable")].tolist():
        there = names == name
        articles = np.asarray(base.articles)[there].tolist()
        a, b = (one.scores[contrast.measure.key][:, there] for one in (base, ours))
        drawn, p = _drawn(contrast, a, b, articles, together)
        wrong, right = (one.scores[EXACT.key][:, there].mean(0) / 100 for one in (base, ours))
        mended, made = 100 * float((right * (1 - wrong)).mean()), 100 * float((wrong * (1 - right)).mean())
        mean = float(a.mean())
        found.append(Part(contrast, name, len(articles), mean, float(b.mean()) - mean, drawn, p, None, mended, made))
    return found


def _drawn(
    contrast: Contrast, base: Floats, ours: Floats, articles: Sequence[int], together: bool
) -> tuple[Estimate | None, float | None]:
    """How far chance could move the difference, None where that cannot be seen; p where the whole one has one, too."""
    drawn = bootstrap_difference(base, ours, articles, together) if len(set(articles)) > 1 else None
    if drawn is None or not drawn.has_spread:
        return None, None
    low, high = within_percent(drawn.low, drawn.high)
    return replace(drawn, low=low, high=high), None if contrast.p is None else drawn.p
