"""Where a difference comes from: the same comparison, among the questions of one kind alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from korbert.entities.base import EntityAnnotator
from korbert.study.answers import Answered, Answers
from korbert.study.contrasts import Contrast, answered_pair
from korbert.study.errors import BREAKDOWNS, question_groups
from korbert.study.grouping import EXACT, Table
from korbert.study.multibootstrap import Estimate, bootstrap_difference
from korbert.study.significance import holm_of_tested


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


class Breakdowns:
    """Parts of questions, each file sorted into them once. annotator: says which answers are entities."""

    def __init__(self, answers: Answers, annotator: EntityAnnotator) -> None:
        self._answers = answers
        self._annotator = annotator
        self._of_file: dict[str, list[dict[str, str]]] = {}

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

    def _names(self, table: Table, answered: Answered, key: str) -> npt.NDArray[np.str_] | None:
        """The part of each answered question."""
        for fold in table.folds:
            run = next(run for group in table.groups for run in group.runs if run.fold == fold)
            asked = self._answers.asked(run, fold)
            if asked is None:
                return None
            if asked[0] not in self._of_file:
                self._of_file[asked[0]] = question_groups(asked[1], self._annotator)
        if not all(questions in self._of_file for questions, _ in answered.ids):
            why = "the questions at hand are others than runs were scored on: nothing is broken down"
            self._answers.why_not[why] = None
            return None
        name = BREAKDOWNS[key]
        return np.array([self._of_file[questions][number][name] for questions, number in answered.ids])


def _parts(
    contrast: Contrast, base: Answered, ours: Answered, together: bool, names: npt.NDArray[np.str_]
) -> list[Part]:
    kinds, sizes = np.unique(names, return_counts=True)
    found = []
    for name in kinds[np.argsort(-sizes, kind="stable")].tolist():
        there = names == name
        articles = np.asarray(base.articles)[there].tolist()
        a, b = (one.scores[contrast.measure.key][:, there] for one in (base, ours))
        drawn = bootstrap_difference(a, b, articles, together) if len(set(articles)) > 1 else None
        drawn = drawn if drawn is not None and drawn.has_spread else None
        p = None if drawn is None or contrast.p is None else drawn.p
        wrong, right = (one.scores[EXACT.key][:, there].mean(0) / 100 for one in (base, ours))
        mended, made = 100 * float((right * (1 - wrong)).mean()), 100 * float((wrong * (1 - right)).mean())
        mean = float(a.mean())
        found.append(Part(contrast, name, len(articles), mean, float(b.mean()) - mean, drawn, p, None, mended, made))
    return found
