"""Does a difference grow or fade along a setting, as a gain from entities along the size of the model?

A trend is the slope of a least-squares line through the differences, over the setting's logarithm to base 2: what a
doubling adds. It is a sum of weighted mean scores, so that the multi-bootstrap says how far chance could move it, with
the same articles drawn for all levels. Whether each difference alone is significant, and another one is not, says
nothing of whether the two differ (Gelman and Stern 2006, doi 10.1198/000313006X152649).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from korbert.errors import ConfigError, meant
from korbert.study.answers import Answered, Answers
from korbert.study.contrasts import NO_SPREAD, UNPAIRED, Contrast, answered_pair, is_testable
from korbert.study.grouping import Group, Measure, Table
from korbert.study.lineage import REPEATED
from korbert.study.multibootstrap import Estimate, bootstrap_contrast
from korbert.study.significance import holm_of_tested


@dataclass(frozen=True, slots=True)
class Trend:
    """What a doubling of a setting adds to a difference.

    label, baseline: the groups without the setting and what goes along with it. levels: the setting's values and the
    difference at each, the smallest first. found: None where it cannot be drawn; p, corrected: None where it cannot be
    tested, as where one of the differences cannot.
    """

    label: str
    baseline: str
    measure: Measure
    levels: tuple[tuple[float, Contrast], ...]
    slope: float
    found: Estimate | None
    p: float | None
    corrected: float | None
    warnings: tuple[str, ...]


def goes_along(table: Table, key: str) -> list[str]:
    """Settings that differ among the table's groups, and are known where `key` is; `key` itself among them."""
    told: dict[str, dict[str, set[str]]] = {name: {} for name in (*table.columns, *table.further)}
    for group in table.groups:
        level = _frozen(group.settings.get(key))
        for name, by_level in told.items():
            by_level.setdefault(level, set()).add(_frozen(group.settings.get(name)))
    return [name for name, by_level in told.items() if all(len(values) == 1 for values in by_level.values())]


def trends(table: Table, contrasts: Sequence[Contrast], key: str, answers: Answers) -> list[Trend]:
    """The trends of all differences that are alike but for `key` and what goes along with it.

    Their p-values are corrected for all of them together. [] where the table has the setting at one level alone.
    A difference between two levels, or of groups without the setting, is in none. Raises ConfigError for a level that
    is no number above 0.
    """
    if key not in (*table.columns, *table.further):
        return []
    dropped = set(goes_along(table, key))
    chains: dict[tuple[str, str, str], dict[float, Contrast]] = {}
    for contrast in contrasts:
        group, baseline = contrast.group, contrast.baseline
        if group.settings.get(key) is not None and group.settings[key] == baseline.settings.get(key):
            alike = (_rest(group, table, dropped), _rest(baseline, table, dropped), contrast.measure.key)
            chains.setdefault(alike, {})[_level(group, key)] = contrast
    found = [
        _trend(table, dropped, sorted(by_level.items()), answers) for by_level in chains.values() if len(by_level) > 1
    ]
    corrected = holm_of_tested([trend.p for trend in found])
    return [replace(trend, corrected=p) for trend, p in zip(found, corrected, strict=True)]


def check_trends(tables: Sequence[Table], keys: Sequence[str]) -> None:
    """Raises ConfigError for a key in which no groups of a table differ."""
    known = {name for table in tables for name in (*table.columns, *table.further)}
    for key in keys:
        if key in REPEATED:
            raise ConfigError(f"trends: {key}: wanted a setting, not what the runs of one row are repeated with")
        if key not in known:
            raise ConfigError(f"trends: the runs do not differ in {key}{meant(key, known)}")


def _trend(table: Table, dropped: set[str], levels: Sequence[tuple[float, Contrast]], answers: Answers) -> Trend:
    first = levels[0][1]
    places = [math.log2(level) for level, _ in levels]
    middle = sum(places) / len(places)
    spread = sum((place - middle) ** 2 for place in places)
    weights = [(place - middle) / spread for place in places]
    slope = sum(weight * one.difference for weight, (_, one) in zip(weights, levels, strict=True))
    warnings = tuple(dict.fromkeys(chain.from_iterable(one.warnings for _, one in levels)))
    label, baseline = (_named(group, table, dropped) for group in (first.group, first.baseline))
    trend = Trend(label, baseline, first.measure, tuple(levels), slope, None, None, None, warnings)
    pairs = [answered_pair(one.group, one.baseline, table.folds, answers) for _, one in levels]
    answered = [pair for pair in pairs if pair is not None]
    articles = answered[0][0].articles if answered else []
    same = all(pair[0].ids == answered[0][0].ids for pair in answered)
    if len(answered) < len(pairs) or not same or len(set(articles)) < 2:
        return trend
    together = all(pair[2] for pair in answered) and _alike([one for _, one in levels], [pair[0] for pair in answered])
    parts = [
        [(-weight, base.scores[first.measure.key]), (weight, ours.scores[first.measure.key])]
        for weight, (base, ours, _) in zip(weights, answered, strict=True)
    ]
    # Arms whose seeds stand for the same draws at all levels are drawn at once; others each on their own.
    arms = [list(chain.from_iterable(parts))] if together else [[one] for part in parts for one in part]
    if not together and all(one.group.is_seeded() and one.baseline.is_seeded() for _, one in levels):
        trend = replace(trend, warnings=(*(w for w in warnings if w != UNPAIRED), UNPAIRED))
    drawn = bootstrap_contrast(arms, articles)
    if not drawn.has_spread:
        return replace(trend, slope=drawn.value, warnings=(*trend.warnings, NO_SPREAD))
    return replace(trend, slope=drawn.value, found=drawn, p=drawn.p if is_testable(trend.warnings) else None)


def _alike(contrasts: Sequence[Contrast], answered: Sequence[Answered]) -> bool:
    """Whether a seed stands for the same draw at all levels."""
    units = {tuple(one.units) for one in answered}
    return len(units) == 1 and len({one.group.repeats_pretraining() for one in contrasts}) == 1


def _level(group: Group, key: str) -> float:
    value = group.settings.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"trends: wanted numbers above 0 for {key}, got {value!r} in {group.name}")
    return float(value)


def _rest(group: Group, table: Table, dropped: set[str]) -> str:
    """All other settings of a group."""
    names = [name for name in (*table.columns, *table.further) if name not in dropped]
    return _frozen([group.settings.get(name) for name in names])


def _named(group: Group, table: Table, dropped: set[str]) -> str:
    return " · ".join(group.cells[key] for key in table.columns if key not in dropped) or group.label


def _frozen(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
