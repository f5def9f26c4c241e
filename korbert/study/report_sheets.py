"""The report's tables: scores, differences, costs, settings, and every run with its command and commit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korbert.study.answers import Answers
from korbert.study.contrasts import (
    BOTH,
    FOLDS,
    NOTHING,
    ONE_PRETRAINING,
    ONE_SEED,
    QUESTIONS,
    SEEDS,
    Contrast,
    Score,
    contrasts,
    score,
)
from korbert.study.grouping import Group, Measure, Table, shown
from korbert.study.records import Run
from korbert.study.sheets import Cell, Sheet, relative_link

_SOURCES = {
    BOTH: "drawn are seeds and whole articles of questions together (multi-bootstrap)",
    QUESTIONS: "drawn are whole articles of questions; how seeds would move it is not known",
    SEEDS: "Student's t over seeds; how other test data would move it is not known",
    FOLDS: "Student's t over the folds of one seed",
    NOTHING: "one run: no interval",
}
_MOST_LISTED = 8  # settings in a note
_SAID = {
    ONE_SEED: "⚠ one seed",
    ONE_PRETRAINING: "⚠ one pretraining seed",
}


@dataclass(frozen=True)
class Scored:
    """A table with what was worked out for it."""

    table: Table
    scores: dict[tuple[str, str], Score]  # by name of group and key of measure
    contrasts: Sequence[Contrast]

    def score(self, group: Group, measure: Measure) -> Score:
        """Of a group of the table."""
        return self.scores[group.name, measure.key]


def score_table(table: Table, baseline: Sequence[str], answers: Answers) -> Scored:
    """Work out means, intervals and, with a baseline, differences."""
    at_hand = answers if table.has_answers() else None
    scores = {(g.name, m.key): score(g, m, table.folds, at_hand) for g in table.groups for m in table.measures}
    return Scored(table, scores, contrasts(table, baseline, at_hand) if baseline else ())


def title_of(table: Table) -> str:
    """The task and what it was measured on, which belongs to every score."""
    several = "s" if len(table.folds) > 1 else ""
    folds = f", fold{several} {_listed(table.folds)}" if _has_folds(table) else ""
    return f"{table.title}: {table.protocol}{folds}" if table.protocol else table.title


def scores_sheet(scored: Scored) -> Sheet:
    """A row for each group: settings, runs, seeds, folds, mean ± spread, interval."""
    table = scored.table
    first = ["run"] if table.of_single_runs() else [] if table.columns else ["runs of"]
    head = [*first, *table.columns, "runs", "seeds", *(["folds"] if _has_folds(table) else [])]
    rows = []
    sources = list(dict.fromkeys(scored.score(g, m).source for g in table.groups for m in table.measures))
    letters = _letters([source for source in sources if source != NOTHING])
    for group in table.groups:
        named = [Cell(shown(group.settings.get(key)), note=str(group.settings.get(key))) for key in table.columns]
        seeds = list(group.units())
        row = [
            *([Cell(group.name)] if first else []),
            *named,
            Cell(str(len(group.runs)), len(group.runs)),
            Cell(str(len(seeds)), len(seeds), note=", ".join(map(str, seeds))),
        ]
        row += [Cell(_folds(group), len({run.fold for run in group.runs}))] if _has_folds(table) else []
        for measure in table.measures:
            found = scored.score(group, measure)
            interval = _interval(found.low, found.high, measure)
            letter = letters.get(found.source, "") if interval else ""
            row.append(Cell(_mean(found, measure), found.mean))
            row += [Cell(interval + letter, note=_SOURCES[found.source])] if letters else []
        rows.append(row)
    for measure in table.measures:
        head += [measure.title, "95 % interval"] if letters else [measure.title]
    notes = [f"Intervals{letter}: {_SOURCES[source]}." for source, letter in letters.items()]
    if any(found.spread is not None for found in scored.scores.values()):
        notes += ["± is the sample standard deviation over seeds, or over folds where there is one seed."]
    if table.further:
        more = len(table.further) - _MOST_LISTED
        said = ", ".join(table.further[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
        notes += [f"Rows differ in these, too: {said}; see the settings."]
    intro = (
        "Not to be compared with scores of another protocol." if table.protocol else "As the runs themselves scored it."
    )
    return Sheet(title_of(table), head, rows, [intro], notes, texts=len(first) + len(table.columns))


def _letters(sources: Sequence[str]) -> dict[str, str]:
    """A mark for each source of intervals, where there are several."""
    return {source: f" ({chr(97 + number)})" if len(sources) > 1 else "" for number, source in enumerate(sources)}


def _has_folds(table: Table) -> bool:
    return any(fold is not None for fold in table.folds)


def _folds(group: Group) -> str:
    return _listed(sorted({run.fold for run in group.runs if run.fold is not None}))


def _listed(values: Iterable[object]) -> str:
    return ", ".join("–" if value is None else str(value) for value in values)


def _mean(found: Score, measure: Measure) -> str:
    if found.mean is None:
        return "not measured"
    mean = f"{found.mean:.{measure.digits}f}"
    return mean if found.spread is None else f"{mean} ± {found.spread:.{measure.digits}f}"


def _interval(low: float | None, high: float | None, measure: Measure, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f"{low:{sign}.{measure.digits}f} to {high:{sign}.{measure.digits}f}".replace("-", "−")


def contrasts_sheet(scored: Scored) -> Sheet | None:
    """A row for each difference from the baseline; None without one."""
    if not scored.contrasts:
        return None
    rows = []
    for one in scored.contrasts:
        sign = f"{one.difference:+.{one.measure.digits}f}".replace("-", "−")
        rows.append(
            [
                Cell(one.group.label, note=one.group.name), Cell(one.baseline.label, note=one.baseline.name),
                Cell(one.measure.title),
                Cell(sign + one.marks, one.difference), Cell(_interval(one.low, one.high, one.measure, "+")),
                Cell(_p(one.p), one.p), Cell(_p(one.corrected), one.corrected),
                Cell("; ".join([one.source, *(_SAID[warning] for warning in one.warnings)])),
            ]
        )  # fmt: skip
    tested = sum(one.p is not None for one in scored.contrasts)
    used = {one.source for one in scored.contrasts}
    notes = [f"Named by {' · '.join(scored.table.columns)}."] if not scored.table.of_single_runs() else []
    notes += [f"{source}: {text}." for source, text in _SOURCES.items() if source in used]
    notes.append(
        f"Holm: corrected for all {tested} comparisons of this table. * below 0.05, ** below 0.01, *** below 0.001, "
        "after correction."
    )
    if any(ONE_SEED in one.warnings for one in scored.contrasts):
        notes.append("One seed: another seed of the same settings may move the score by more than this difference.")
    if any(ONE_PRETRAINING in one.warnings for one in scored.contrasts):
        notes.append("One pretraining seed: seeds of fine-tuning alone were repeated, not what the arms differ in.")
    head = ["runs", "baseline", "measure", "difference", "95 % interval", "p", "p (Holm)", "from"]
    return Sheet(f"Differences, {title_of(scored.table)}", head, rows, notes=notes, texts=3)


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def cost_sheet(groups: Sequence[tuple[Table, Group]]) -> Sheet | None:
    """What each group's runs took, means of a run; None where no run says."""
    rows = []
    for table, group in groups:
        taken = {key: _known(run.score(key) for run in group.runs) for key in ("steps", "tokens", "seconds")}
        if not any(taken.values()):
            continue
        means = {key: sum(values) / len(values) if values else None for key, values in taken.items()}
        whole = sum(taken["seconds"]) / 3600
        clocks = sorted({str(run.settings.get("train.clock") or "wall") for run in group.runs})
        devices = sorted({run.found.record.get("hardware", {}).get("device", "?") for run in group.runs})
        sessions = sum(max(1, len(run.found.record.get("sessions", []))) for run in group.runs)
        rows.append(
            [
                Cell(table.title), Cell(group.label, note=group.name), Cell(str(len(group.runs)), len(group.runs)),
                Cell(str(sessions), sessions), *(_count(means[key]) for key in ("steps", "tokens")),
                _minutes(means["seconds"]), Cell(f"{whole:.2f}", whole), Cell(", ".join(clocks)),
                Cell(", ".join(devices)),
            ]
        )  # fmt: skip
    head = [
        "task", "runs of", "runs", "sessions", "steps", "tokens", "minutes of training", "hours in all", "clock",
        "device",
    ]  # fmt: skip
    notes = [
        "Steps, tokens and minutes: mean of a run. Minutes count training alone, on the clock of train.clock (wall, or "
        "cpu: of the process). Energy was not measured."
    ]
    return Sheet("Cost", head, rows, notes=notes, texts=2) if rows else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _count(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:,.0f}", value)


def _minutes(seconds: float | None) -> Cell:
    return Cell("") if seconds is None else Cell(f"{seconds / 60:,.1f}", seconds / 60)


def settings_sheet(table: Table) -> Sheet | None:
    """Everything in which the groups differ; None where that is nothing more than the scores' table names."""
    keys = [*table.columns, *table.further]
    if not table.further:
        return None
    rows = [
        [Cell(key, code=True), *(Cell(shown(group.settings.get(key), 200)) for group in table.groups)] for key in keys
    ]
    return Sheet(
        f"Settings, {title_of(table)}",
        ["setting", *(group.label for group in table.groups)],
        rows,
        texts=len(table.groups) + 1,
    )


def runs_sheet(table: Table, folder: Path) -> Sheet:
    """Every run: scores, seed, fold, where its configuration lies as seen from `folder`, commit and command."""
    alone, folds = table.of_single_runs(), _has_folds(table)
    rows = []
    for group in table.groups:
        for run in group.runs:
            scores = []
            for measure in table.measures:
                value = run.score(measure.key)
                scored = None if value is None else value * measure.scale
                scores.append(Cell("" if scored is None else f"{scored:.{measure.digits}f}", scored))
            record = run.found.record
            rows.append(
                [
                    Cell(run.name, link=_address(run, folder)), *([] if alone else [Cell(group.label)]), _seed(run),
                    *([Cell("" if run.fold is None else str(run.fold), run.fold)] if folds else []), *scores,
                    Cell(str(record.get("date", ""))[:10]), _commit(run),
                    Cell(str(record.get("command", "")), code=True),
                ]
            )  # fmt: skip
    head = [
        "run",
        *([] if alone else ["of"]),
        "seed",
        *(["fold"] if folds else []),
        *(measure.title for measure in table.measures),
        "date",
        "commit",
        "command",
    ]
    note = "Links lead to the configuration of the run, or to the page's records."
    return Sheet(f"Runs, {title_of(table)}", head, rows, [note], texts=1 if alone else 2)


def _seed(run: Run) -> Cell:
    if run.pretraining_seed is None:
        return Cell("" if run.seed is None else str(run.seed), run.seed)
    return Cell(f"{run.seed} (pretraining {run.pretraining_seed})", run.seed)


def _commit(run: Run) -> Cell:
    commit = str(run.found.record.get("commit", "unknown"))
    changed = "+changes" if commit.endswith("+changes") else ""
    return Cell(commit[:12] + changed, code=True, note=commit)


def _address(run: Run, folder: Path) -> str:
    """The run's config.json, or the file that has its record, as seen from `folder`."""
    path = run.found.path
    if run.found.folder is not None and (run.found.folder / "config.json").exists():
        path = run.found.folder / "config.json"
    return relative_link(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())


def remarks(tables: Sequence[Table], runs: Sequence[Run]) -> Iterator[str]:
    """What a reader has to know of the runs before believing the tables."""
    yield from dict.fromkeys(warning for run in runs for warning in run.warnings)
    for table in tables:
        for group in table.groups:
            yield from _remarks(table, group)
    changed = [run.name for run in runs if str(run.found.record.get("commit", "")).endswith("+changes")]
    if changed:
        yield f"made of code that no commit has: {', '.join(changed)}"


def _remarks(table: Table, group: Group) -> Iterator[str]:
    for measure in table.measures:
        lacking = [run.name for run in group.runs if run.score(measure.key) is None]
        if lacking:
            yield f"no {measure.key} in {', '.join(lacking)}"
    for unit, by_fold in group.units().items():
        missing = [fold for fold in table.folds if fold not in by_fold]
        if missing:
            yield f"{group.name}: seed {unit} has no fold {_listed(missing)}; questions are drawn without this seed"
        for fold, repeated in by_fold.items():
            if len({run.seed for run in repeated}) < len(repeated):
                where = f"seed {unit}" + ("" if fold is None else f", fold {fold}")
                yield f"{group.name}: {where} was run {len(repeated)} times: {', '.join(run.name for run in repeated)}"
