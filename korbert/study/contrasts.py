"""What a group of runs scores, and how it differs from a baseline, each with how far chance could move it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from korbert.errors import ConfigError, meant
from korbert.study.answers import Answered, Answers
from korbert.study.grouping import Group, Measure, Table, shown
from korbert.study.lineage import Run
from korbert.study.multibootstrap import bootstrap_difference, bootstrap_mean
from korbert.study.significance import Difference, holm_of_tested, summarise, t_difference, within_percent

# What an interval was made from.
BOTH, SEEDS, FOLDS, QUESTIONS, NOTHING = "seeds and questions", "seeds", "folds of one seed", "questions", "one run"
OTHER_FOLDS = "seeds on other folds"  # of these, nothing
ONE_SIDED = "questions, and seeds of one side"
# What keeps a difference from being tested: chance could move it in ways that nothing here shows.
ONE_SEED, ONE_PRETRAINING, NO_SPREAD = "one seed", "one pretraining seed", "no spread to test against"
_UNTESTED = {ONE_SEED, ONE_PRETRAINING, NO_SPREAD}
# What a test is restricted to.
SOME_FOLDS, SAME_MODEL, UNPAIRED = "some folds only", "one pretrained model", "other seeds"
_NAMED = 8  # how many groups a message names
_MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True, slots=True)
class Score:
    """A group's mean, spread over units and 95 % interval; None where there is none, or too few runs for it.

    units: how many of its seeds are in them.
    """

    mean: float | None
    spread: float | None
    low: float | None
    high: float | None
    source: str
    units: int


@dataclass(frozen=True, slots=True)
class Contrast:
    """A group's score less the baseline's. p: None where it cannot be tested; corrected: by Holm's method.

    The interval of what cannot be tested shows what there is to see: how questions would move it, say. One seed's luck
    is not in it, so that it is no test.
    """

    group: Group
    baseline: Group
    measure: Measure
    difference: float
    low: float | None
    high: float | None
    p: float | None
    corrected: float | None
    source: str
    warnings: tuple[str, ...]

    @property
    def marks(self) -> str:
        """Stars of its corrected p-value."""
        return significance_marks(self.corrected)


def is_testable(warnings: Iterable[str]) -> bool:
    """Whether none of a difference's warnings keeps it from being tested."""
    return _UNTESTED.isdisjoint(warnings)


def significance_marks(corrected: float | None) -> str:
    """Stars for a corrected p-value below 0.05, 0.01 and 0.001."""
    return next((marks for limit, marks in _MARKS if corrected is not None and corrected < limit), "")


def unit_scores(group: Group, measure: Measure) -> dict[Any, dict[int | None, float]]:
    """Scores by unit and fold; runs that repeat one of them are averaged, those without the score left out."""
    found: dict[Any, dict[int | None, float]] = {}
    for unit, by_fold in group.units().items():
        for fold, runs in by_fold.items():
            values = [value * measure.scale for run in runs if (value := run.score(measure.key)) is not None]
            if values:
                found.setdefault(unit, {})[fold] = sum(values) / len(values)
    return found


def _whole_units(group: Group, measure: Measure, folds: Sequence[int | None]) -> dict[Any, dict[int | None, float]]:
    """As `unit_scores`, of those that have all the folds: one that was scored on an easy one says something else.

    All of them where none has.
    """
    found = unit_scores(group, measure)
    return {unit: by_fold for unit, by_fold in found.items() if by_fold.keys() >= set(folds)} or found


def _over_folds(units: Mapping[Any, Mapping[int | None, float]], group: Group) -> dict[Any, float]:
    """The score of each unit over its folds, by how many questions they have."""
    sizes = {run.fold: run.score("total") or 1.0 for run in group.runs}
    return {
        unit: sum(sizes[fold] * value for fold, value in by_fold.items()) / sum(sizes[fold] for fold in by_fold)
        for unit, by_fold in units.items()
    }


def score(group: Group, measure: Measure, folds: Sequence[int | None], answers: Answers | None) -> Score:
    """Mean and spread over units, and the best interval that can be had.

    No score of runs on different questions; of units on different folds, none of which has all, the mean alone.
    """
    units = _whole_units(group, measure, folds)
    by_unit = _over_folds(units, group)
    if not by_unit or (answers is not None and answers.differ([group], folds)):
        return Score(None, None, None, None, NOTHING, 0)
    if len({frozenset(by_fold) for by_fold in units.values()}) > 1:  # no seed has all folds, and folds are not alike
        return Score(sum(by_unit.values()) / len(by_unit), None, None, None, OTHER_FOLDS, len(by_unit))
    over, source = summarise(list(by_unit.values())), SEEDS
    if over.count == 1:
        by_fold = summarise(list(next(iter(units.values())).values()))
        source = FOLDS if by_fold.count > 1 else NOTHING
        over = replace(by_fold, mean=over.mean, spread=None)
    found = Score(over.mean, over.spread, over.low, over.high, source, len(by_unit))
    answered = None if answers is None else answers.of_group(group, folds)
    if answered is not None and len(set(answered.articles)) > 1:
        drawn = bootstrap_mean(answered.scores[measure.key], answered.articles)
        source = QUESTIONS if drawn.one_seed else BOTH
        low, high = (drawn.low, drawn.high) if drawn.has_spread else (None, None)
        return _within(measure, replace(found, low=low, high=high, source=source))
    if len(group.runs) == 1 and source == NOTHING:
        return _own_interval(group.runs[0], measure, found)
    return _within(measure, found)


def _within(measure: Measure, found: Score) -> Score:
    """Without what cannot be: percentages below 0 or above 100, or certainty, where all runs have the same score."""
    if found.low is None or found.high is None or found.low == found.high:
        return replace(found, low=None, high=None)
    if not measure.is_percentage:
        return found
    return replace(found, low=max(0.0, found.low), high=min(100.0, found.high))


def _own_interval(run: Run, measure: Measure, found: Score) -> Score:
    """The interval over articles that a run's own record has."""
    own = run.results.get(f"{measure.key}_interval")
    if not isinstance(own, list) or len(own) != 2 or not all(isinstance(bound, int | float) for bound in own):
        return found
    return replace(found, low=own[0] * measure.scale, high=own[1] * measure.scale, source=QUESTIONS)


def choose_baselines(table: Table, wanted: Sequence[str]) -> list[tuple[Group, Group]]:
    """Pairs of a group and its baseline. wanted: `key:value`, all of which it has; or its name, or its runs' only one.

    Where several groups fit, each other one is compared with the one that shares most of its settings; one that shares
    as much with two of them is left out. [] where nothing fits.
    """
    bases = [group for group in table.groups if _fits(group, wanted)]
    pairs = []
    for group in table.groups:
        if group in bases:
            continue
        keys = [*table.columns, *table.further]
        alike = [sum(group.settings.get(k) == base.settings.get(k) for k in keys) for base in bases]
        best = [base for base, same in zip(bases, alike, strict=True) if same == max(alike)]
        if len(best) == 1:
            pairs.append((group, best[0]))
    return pairs


def _fits(group: Group, wanted: Sequence[str]) -> bool:
    def is_called(part: str) -> bool:
        """By its own name, or by one that all of its runs have, with or without the folders around them."""
        return part in (group.name, group.label) or all(f"/{run.name}".endswith(f"/{part}") for run in group.runs)

    return all(is_called(part) or _has(group, part) for part in wanted)


def _has(group: Group, part: str) -> bool:
    """Whether the group has the setting `key:value` or `key=value`."""
    match = re.fullmatch(r"\s*([^:=]+?)\s*[:=]\s*(.*?)\s*", part)
    if match is None or match[1] not in group.settings:
        return False
    key, value = match.groups()
    own = group.settings[key]
    return value == ("null" if own is None else shown(own, longest=10_000))


def check_baseline(tables: Sequence[Table], wanted: Sequence[str], key: str = "baseline") -> None:
    """Raises ConfigError where no group of any table is the baseline. key: what it is called in the configuration."""
    if not any(_fits(group, wanted) for table in tables for group in table.groups):
        settings = [group.settings for table in tables for group in table.groups]
        for part in wanted:
            given = re.split(r"[:=]", part, maxsplit=1)[0].strip()
            if given != part and not any(given in own for own in settings):
                near = meant(given, {name for own in settings for name in own})
                raise ConfigError(f"{key}={', '.join(wanted)}: no run here has a setting {given}{near}")
        names = list(dict.fromkeys(group.name for table in tables for group in table.groups))
        more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise ConfigError(
            f"{key}={', '.join(wanted)}: no group of runs is that; there are: {'; '.join(names[:_NAMED])}{more}"
        )


def contrasts(table: Table, wanted: Sequence[str], answers: Answers | None, turned: bool = False) -> list[Contrast]:
    """All differences from the baseline, their p-values corrected for all of the table together.

    turned: those of the baseline from every other group.
    """
    pairs = choose_baselines(table, wanted)
    found = [
        contrast
        for group, base in ([(base, group) for group, base in pairs] if turned else pairs)
        for measure in table.measures
        if (contrast := _contrast(group, base, measure, table.folds, answers)) is not None
    ]
    corrected = holm_of_tested([contrast.p for contrast in found])
    return [replace(contrast, corrected=p) for contrast, p in zip(found, corrected, strict=True)]


def _contrast(
    group: Group, base: Group, measure: Measure, folds: Sequence[int | None], answers: Answers | None
) -> Contrast | None:
    """None where nothing says how the two differ: on no fold do both have scores, or the questions are not the same."""
    if answers is not None and answers.differ([group, base], folds):
        return None
    mine, other = (_whole_units(one, measure, folds) for one in (group, base))
    shared = [fold for fold in folds if all(fold in by_fold for by_fold in (*mine.values(), *other.values()))]
    if not mine or not other or not shared:
        return None
    if len(shared) < len(folds):  # on the others the two cannot be compared yet
        mine, other = ({unit: {f: s[f] for f in shared} for unit, s in one.items()} for one in (mine, other))
    ours, theirs = _over_folds(mine, group), _over_folds(other, base)
    warnings = _warnings(group, base, len(ours), len(theirs))
    paired = _seeds_match(group, base, ours, theirs)
    if not paired and min(len(ours), len(theirs)) > 1 and group.is_seeded() and base.is_seeded():
        warnings = (*warnings, UNPAIRED)
    if len(shared) < len(folds):
        warnings = (*warnings, SOME_FOLDS)
    plain = sum(ours.values()) / len(ours) - sum(theirs.values()) / len(theirs)
    found = Contrast(group, base, measure, plain, None, None, None, None, NOTHING, warnings)
    pair = None if answers is None else answered_pair(group, base, folds, answers)
    if pair is not None and len(set(pair[0].articles)) > 1:
        a, b, together = pair
        drawn = bootstrap_difference(a.scores[measure.key], b.scores[measure.key], a.articles, together)
        found = replace(found, difference=drawn.value)
        if not drawn.has_spread:
            return replace(found, warnings=(*warnings, NO_SPREAD))
        bounds, p = (drawn.low, drawn.high), drawn.p
        source = _drawn([len(side.units) for side, one in ((a, base), (b, group)) if one.is_seeded()])
    else:
        tested, source = _by_scores(mine, other, ours, theirs, paired)
        if tested is None:
            return found
        if tested.low == tested.high and tested.difference:  # two seeds of the same score prove nothing
            return replace(found, warnings=(*warnings, NO_SPREAD))
        bounds, p = (tested.low, tested.high), tested.p
    testable = p if is_testable(warnings) else None
    low, high = within_percent(*bounds) if measure.is_percentage else bounds
    return replace(found, low=low, high=high, p=testable, source=source)


def _drawn(seeds: Sequence[int]) -> str:
    """What is drawn, by how many seeds each side has that has any."""
    if max(seeds, default=1) == 1:
        return QUESTIONS
    return BOTH if min(seeds) > 1 else ONE_SIDED


def answered_pair(
    group: Group, base: Group, folds: Sequence[int | None], answers: Answers
) -> tuple[Answered, Answered, bool] | None:
    """The baseline's and the group's answers to the same questions, and whether their seeds are to be drawn together.

    None where they are not at hand, or are to different questions.
    """
    a, b = (answers.of_group(one, folds) for one in (base, group))
    if a is None or b is None or a.ids != b.ids:
        return None
    return a, b, _seeds_match(group, base, a.units, b.units)


def _seeds_match(group: Group, base: Group, ours: Iterable[object], theirs: Iterable[object]) -> bool:
    """Whether a seed stands for the same draw in both."""
    return list(ours) == list(theirs) and group.repeats_pretraining() == base.repeats_pretraining()


def _warnings(group: Group, base: Group, ours: int, theirs: int) -> tuple[str, ...]:
    """What the difference rests on, where that is too little. ours, theirs: how many seeds each has."""
    if any(count == 1 for one, count in ((group, ours), (base, theirs)) if one.is_seeded()):
        return (ONE_SEED,)
    if not (group.rests_on_one_pretraining() or base.rests_on_one_pretraining()):
        return ()
    origins = {run.origin for one in (group, base) for run in one.runs}
    return (SAME_MODEL if len(origins) == 1 else ONE_PRETRAINING,)


def _by_scores(
    mine: Mapping[Any, Mapping[int | None, float]],
    other: Mapping[Any, Mapping[int | None, float]],
    ours: dict[Any, float],
    theirs: dict[Any, float],
    paired: bool,
) -> tuple[Difference | None, str]:
    """A t test on scores of runs: over seeds, or over the folds where there is one seed."""
    if min(len(ours), len(theirs)) > 1:
        return t_difference(list(theirs.values()), list(ours.values()), paired), SEEDS
    if len(ours) == len(theirs) == 1:
        (one,), (another,) = mine.values(), other.values()
        if one.keys() == another.keys() and len(one) > 1:
            return t_difference([another[fold] for fold in one], list(one.values()), True), FOLDS
    return None, NOTHING
