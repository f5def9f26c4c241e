"""The report's pictures: learning curves, differences as a forest, scores against what a tokenizer costs and allows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from korbert.comparison.figures import Row
from korbert.errors import DataError
from korbert.study.grouping import Group, Measure, Table
from korbert.study.lineage import Run
from korbert.study.page import clock_threads
from korbert.study.report_sheets import Scored, title_of
from korbert.study.report_tokenizers import row_of
from korbert.study.svg import as_svg, color, make_figure, marker, plain
from korbert.study.trends import Trend

_WIDTH = 5.6  # inches
_LINE = 0.2  # inches, of a name below a plot
# Of a curve's points, with their names; the first of the held-out ones that there is.
_HELD_OUT = {
    "mlm_loss_per_character": "held-out masked-LM loss (nats a character)",
    "mlm_loss": "held-out masked-LM loss (nats a token)",
    "f1": "held-out F1 (%)",
    "exact_match": "held-out EM (%)",
}
_FEW_POINTS = 30
_MOST_NAMED = 14  # lines with a name each
_LONGEST_BESIDE, _LONGEST_ABOVE = 40, 84  # characters of a name beside a plot, and of a line of it in the plot
_BESIDE = 0.015  # of an axis, between points on one place


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG element and what is said below it."""

    title: str
    svg: str
    caption: str = ""


def curve_pictures(tables: Sequence[Table]) -> list[Picture]:
    """For each task the training loss by step and the best held-out measure, a line for each run."""
    drawn: list[Picture] = []
    for title in dict.fromkeys(table.title for table in tables):
        groups = [group for table in tables if table.title == title for group in table.groups]
        curves = [[(run, run.curve()) for run in group.runs] for group in groups]
        points = [point for of_group in curves for _, curve in of_group for point in curve]
        held_out = next((key for key in _HELD_OUT if any(key in point for point in points)), None)
        for key, label in (("training_loss", "training loss (nats)"), (held_out, _HELD_OUT.get(held_out or "", ""))):
            if key is not None and any(key in point for point in points):
                by_time = key != "training_loss" and all("minutes" in point for point in points if key in point)
                svg = _curves(groups, curves, key, label, title, by_time, f"curve{len(drawn)}")
                drawn.append(Picture(f"{title}: {label.partition(' (')[0]}", svg))
    return drawn


def _curves(
    groups: Sequence[Group],
    curves: Sequence[Sequence[tuple[Run, Sequence[Mapping[str, Any]]]]],
    key: str,
    label: str,
    title: str,
    by_time: bool,
    name: str,
) -> str:
    named = min(len(groups), _MOST_NAMED)
    figure, axes = make_figure(_WIDTH, 3.4 + _LINE * named)
    x = "minutes" if by_time else "step"
    runs = [run for of_group in curves for run, _ in of_group]
    threads = clock_threads(run.found.record for run in runs) if by_time else None
    times = dict(zip(map(id, runs), threads or [1] * len(runs), strict=True))
    for number, (group, of_group) in enumerate(zip(groups, curves, strict=True)):
        said = False
        for run, curve in of_group:
            points = [_point(run, point, x, key) for point in curve if x in point and key in point]
            points = [(place * times[id(run)], value) for place, value in points]
            if not points:
                continue
            style = "o" if len(points) < _FEW_POINTS else ""
            visible = not said and number < _MOST_NAMED
            axes.plot(
                *zip(*points, strict=True), color=color(number), marker=style, markersize=4, linewidth=1.2,
                linestyle="-" if number < 10 else "--", label=plain(group.label) if visible else None,
            )  # fmt: skip
            said = True
    time = "minutes of training × threads" if threads else "minutes of training"
    axes.set(xlabel=time if by_time else "optimizer step", ylabel=_unit(label))
    _legend(figure)
    return as_svg(figure, name, f"{title}: {label}")


def _unit(label: str) -> str:
    """What stands in the label's brackets: the title says the rest."""
    return label.partition("(")[2].rstrip(")")


def _point(run: Run, point: Mapping[str, Any], x: str, y: str) -> tuple[float, float]:
    try:
        return float(point[x]), float(point[y])
    except (TypeError, ValueError):
        raise DataError(
            run.found.path, f"{run.found.where}curve", f"wanted numbers, found {point[x]!r}, {point[y]!r}"
        ) from None


def _legend(figure: Any) -> None:
    """Names below the plot, in one column, which a narrow screen shows as well."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=9, ncols=1)


def forest_picture(scored: Scored, name: str) -> Picture | None:
    """Differences from the baseline with their intervals, a line each; None without one."""
    rows = list(scored.contrasts)
    if not rows:
        return None
    several = len({one.measure.key for one in rows}) > 1
    bases = ", ".join(dict.fromkeys(one.baseline.label for one in rows))
    against = len({one.baseline.label for one in rows}) > len({one.group.label for one in rows})
    labels = [
        plain(one.group.label + (f" − {one.baseline.label}" if against else ""))
        + (f"  {one.measure.title}" if several else "")
        + ("" if one.p is not None else " ⚠")
        for one in rows
    ]
    is_long = max(map(len, labels)) > _LONGEST_BESIDE
    lines = [textwrap.fill(label.replace("  ", " \u2003"), _LONGEST_ABOVE) if is_long else label for label in labels]
    rows_of_text = max(line.count("\n") for line in lines) + 1 if is_long else 0
    figure, axes = make_figure(_WIDTH, 1.1 + (0.42 + _LINE * rows_of_text) * len(rows))
    for place, one in enumerate(rows):
        clear = one.corrected is not None and one.corrected < 0.05
        gain = -one.difference if one.measure.better == "low" else one.difference
        shade = "#666666" if gain == 0 else color(0 if gain > 0 else 3)
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [place, place], color=shade, linewidth=2.2, alpha=1 if clear else 0.7)
        face = shade if clear else "none"
        axes.plot([one.difference], [place], "o", color=shade, markerfacecolor=face, markersize=7)
    axes.axvline(0, color="#000000", linewidth=0.8)
    if is_long:  # beside the plot they would leave it no room
        axes.set_yticks(range(len(rows)), [""] * len(rows))
        for place, line in enumerate(lines):
            axes.text(0, place - 0.15, line, transform=axes.get_yaxis_transform(), fontsize=8, va="bottom")
    else:
        axes.set_yticks(range(len(rows)), lines)
    axes.set_ylim(len(rows) - 0.5, -0.5 - 0.4 * is_long)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="difference from the baseline")
    title = f"Differences from {bases}: {title_of(scored.table)}"
    caption = (
        f"Baseline: {bases}. Lines are 95 % intervals; filled: p below 0.05 after Holm's correction; "
        "blue: better, red: worse than the baseline"
        + ("; ⚠ cannot be tested, see the table. " if any(one.p is None for one in rows) else ". ")
        + f"{title_of(scored.table)}."
    )
    return Picture("Differences from the baseline", as_svg(figure, name, title), caption)


def trend_pictures(table: Table, key: str, trends: Sequence[Trend], name: str) -> list[Picture]:
    """Differences along a setting with their intervals, a picture for each measure and a line for each trend."""
    drawn: list[Picture] = []
    for measure in dict.fromkeys(one.measure for one in trends):
        lines = [one for one in trends if one.measure == measure]
        figure, axes = make_figure(_WIDTH, 3.4 + _LINE * len(lines))
        for number, one in enumerate(lines):
            beside = 1 + _BESIDE * (number - (len(lines) - 1) / 2)  # on an axis of logarithms
            for level, found in one.levels:
                if found.low is not None and found.high is not None:
                    axes.plot(
                        [level * beside] * 2, [found.low, found.high], color=color(number), linewidth=1.2, alpha=0.7
                    )
            axes.plot(
                [level * beside for level, _ in one.levels], [found.difference for _, found in one.levels],
                color=color(number), marker=marker(number), linewidth=1.2, label=plain(f"{one.label} − {one.baseline}"),
            )  # fmt: skip
        axes.axhline(0, color="#000000", linewidth=0.8)
        levels = sorted({level for one in lines for level, _ in one.levels})
        axes.set_xscale("log", base=2)
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.set(xlabel=key, ylabel=f"difference, {measure.title}")
        _legend(figure)
        title = f"{measure.title.partition(' (')[0]}: differences along {key}"
        svg = as_svg(figure, f"{name}{len(drawn)}", f"{title}: {title_of(table)}")
        drawn.append(Picture(title, svg, f"Lines up and down are 95 % intervals. {title_of(table)}."))
    return drawn


# ---- scores against tokenizers ----

_AGAINST = (
    ("tokens by eojeol (fertility)", "cost", "per_eojeol"),
    ("oracle EM (%), the tokenizer's ceiling", "ceiling", "exact_match"),
)


def tokenizer_pictures(scored: Sequence[Scored], rows: Sequence[Row]) -> list[Picture]:
    """Scores against fertility and against the ceiling: for each table of answers, each measure and each of the two.

    rows: of a comparison; those with scores of their own (measure downstream) are drawn by their protocol, too.
    """
    drawn: list[Picture] = []
    for protocol, measure, points in _points(scored, rows):
        for label, part, key in _AGAINST:
            placed = [(found, *rest) for row, *rest in points if (found := _figure(row, part, key)) is not None]
            if len(placed) > 1:
                figure, axes = make_figure(_WIDTH, 3.4 + _LINE * len(placed))
                for number, (x, text, value, low, high) in enumerate(_apart(placed)):
                    reach = [[value - low], [high - value]] if low is not None and high is not None else None
                    axes.errorbar(
                        [x], [value], yerr=reach, fmt=marker(number), color=color(number), capsize=3, label=plain(text)
                    )  # fmt: skip
                axes.set(xlabel=label, ylabel=measure.title)
                _legend(figure)
                title = f"{measure.title.partition(' (')[0]} against {label.partition(' (')[0].partition(',')[0]}"
                svg = as_svg(figure, f"tokenizers{len(drawn)}", f"{title}: {protocol}")
                drawn.append(Picture(title, svg, f"{protocol}. Bars: 95 % intervals, where there are any."))
    return drawn


def _apart(placed: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Points on one place of the axis beside each other, so that none hides another."""
    places = [x for x, *_ in placed]
    step = _BESIDE * (max(places) - min(places))
    moved = []
    for number, (x, *rest) in enumerate(placed):
        before = places[:number].count(x)
        moved.append((x + step * (before - (places.count(x) - 1) / 2), *rest))
    return moved


def _figure(row: Row, part: str, key: str) -> float | None:
    value = row["results"].get(part, {}).get(key)
    return None if value is None else float(value)


def _points(scored: Sequence[Scored], rows: Sequence[Row]) -> list[tuple[str, Measure, list[tuple[Any, ...]]]]:
    """Protocol and measure of each picture, with rows, names, scores and intervals."""
    found = []
    for one in scored:
        if one.table.has_answers():
            pairs = [(row, group) for group in one.table.groups if (row := row_of(group, rows)) is not None]
            alone = len({id(row) for row, _ in pairs}) == len(pairs)  # a tokenizer's name tells its runs
            for measure in one.table.measures:
                scores = ((r, r["name"] if alone else g.label, one.score(g, measure)) for r, g in pairs)
                points = [(row, label, s.mean, s.low, s.high) for row, label, s in scores if s.mean is not None]
                found.append((title_of(one.table), measure, points))
    own = [row for row in rows if "downstream" in row["results"]]
    for protocol in dict.fromkeys(row["results"]["downstream"]["protocol"] for row in own):
        same = [row for row in own if row["results"]["downstream"]["protocol"] == protocol]
        for measure in (Measure("exact_match", "EM (%)"), Measure("f1", "F1 (%)")):
            points = [(row, row["name"], row["results"]["downstream"][measure.key], None, None) for row in same]
            found.append((f"comparison's own models, {protocol}", measure, points))
    return found
