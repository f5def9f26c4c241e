"""The report's tables of what was run: costs, settings, every run with its command and commit, and what to mind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from korbert.study.grouping import Group, Table, shown
from korbert.study.lineage import Run
from korbert.study.report_sheets import Scored, has_folds, listed, title_of
from korbert.study.sheets import Cell, Sheet, relative_link

_MOST_NAMED = 4  # runs with the same remark
# What a run took: title, where it stands in a record, what a number of it is divided by, decimals.
_TAKEN = (
    ("steps", "results", "steps", 1, 0),
    ("tokens", "results", "tokens", 1, 0),
    ("minutes of training", "results", "seconds", 60, 1),
    ("wall minutes", "cost", "wall_seconds", 60, 1),
    ("CPU minutes", "cost", "cpu_seconds", 60, 1),
    ("GPU minutes", "cost", "gpu_seconds", 60, 1),
    ("peak memory (MB)", "cost", "peak_memory_mb", 1, 0),
    ("GPU memory (MB)", "cost", "gpu_peak_memory_mb", 1, 0),
)


def cost_sheet(groups: Sequence[tuple[Table, Group]]) -> Sheet | None:
    """What each group's runs took, means of a run; None where no run says."""
    known = [(table, group, [_taken(group, part, key) for _, part, key, _, _ in _TAKEN]) for table, group in groups]
    known = [(table, group, means) for table, group, means in known if any(mean is not None for mean in means)]
    used = [n for n in range(len(_TAKEN)) if any(means[n] is not None for _, _, means in known)]
    rows = []
    for table, group, means in known:
        clocks = sorted({str(run.settings.get("train.clock") or "wall") for run in group.runs})
        devices = sorted({device_of(run) for run in group.runs})
        row = [Cell(table.title), Cell(group.label, note=group.name), Cell(str(len(group.runs)), len(group.runs))]
        for number in used:
            mean, (_, _, _, divisor, digits) = means[number], _TAKEN[number]
            row.append(Cell("") if mean is None else Cell(f"{mean / divisor:,.{digits}f}", mean / divisor))
        rows.append([*row, Cell(", ".join(clocks)), Cell(", ".join(devices))])
    head = ["task", "runs of", "runs", *(_TAKEN[number][0] for number in used), "clock", "device"]
    notes = [
        "Means of a run. Minutes of training count that alone, on the clock named (wall, or cpu: of the process); the "
        "others count the whole run. Energy was not measured."
    ]
    return Sheet("Cost", head, rows, notes=notes, texts=2) if rows else None


def _taken(group: Group, part: str, key: str) -> float | None:
    """The mean of a number over the runs that say it."""
    said = [(run.found.record.get(part) or {}).get(key) for run in group.runs]
    numbers = [value for value in said if isinstance(value, int | float)]
    return sum(numbers) / len(numbers) if numbers else None


def device_of(run: Run) -> str:
    """What it ran on."""
    hardware = run.found.record.get("hardware")
    return str(hardware.get("device", "?")) if isinstance(hardware, dict) else "?"


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
    alone, folds = table.of_single_runs(), has_folds(table)
    rows = []
    for group in table.groups:
        for run in group.runs:
            scores = []
            for measure in table.measures:
                value = run.score(measure.key)
                scored = None if value is None else value * measure.scale
                scores.append(Cell("" if scored is None else measure.shown(scored), scored))
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


def commit_of(run: Run) -> str:
    """The first digits of the commit that it was made with."""
    return str(run.found.record.get("commit", "unknown"))[:12]


def _commit(run: Run) -> Cell:
    commit = str(run.found.record.get("commit", "unknown"))
    changed = "+changes" if commit.endswith("+changes") else ""
    return Cell(commit_of(run) + changed, code=True, note=commit)


def _address(run: Run, folder: Path) -> str:
    """The run's config.json, or the file that has its record, as seen from `folder`."""
    path = run.found.path
    if run.found.folder is not None and (run.found.folder / "config.json").exists():
        path = run.found.folder / "config.json"
    return relative_link(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())


def remarks(tables: Sequence[Table], runs: Sequence[Run]) -> Iterator[str]:
    """What a reader has to know of the runs before believing the tables."""
    doubtful: dict[str, list[str]] = {}
    for run in runs:
        for warning in run.warnings:
            doubtful.setdefault(warning, []).append(run.name)
    for warning, names in doubtful.items():
        more = len(names) - _MOST_NAMED
        yield f"{', '.join(names[:_MOST_NAMED])}{f' and {more} more' if more > 0 else ''}: {warning}"
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
    units = group.units()
    missing = {unit: [fold for fold in table.folds if fold not in by_fold] for unit, by_fold in units.items()}
    if all(missing.values()):
        has = "; ".join(f"{unit}: {listed(by_fold)}" for unit, by_fold in units.items())
        yield (
            f"{group.name}: no seed has all folds ({has}), so that its mean is over scores on different folds, without "
            "an interval"
        )
    for unit, by_fold in units.items():
        if folds := [] if all(missing.values()) else missing[unit]:
            yield f"{group.name}: seed {unit} has no fold {listed(folds)}; questions are drawn without this seed"
        for fold, repeated in by_fold.items():
            where = f"seed {unit}" + ("" if fold is None else f", fold {fold}")
            if len({run.seed for run in repeated}) < len(repeated):
                yield f"{group.name}: {where} was run {len(repeated)} times: {', '.join(run.name for run in repeated)}"
            elif len(repeated) > 1:
                yield f"{group.name}: pretraining {where} stands for the mean of {len(repeated)} fine-tunings"


def remarks_on_differences(scored: Sequence[Scored]) -> Iterator[str]:
    """What a reader has to know of the comparisons: who is left out, and pairs that were not run alike."""
    asked = [one for one in scored if one.table.has_answers()]
    for one in asked:
        compared = {group for found in one.contrasts for group in (found.group, found.baseline)}
        lacking = [group for group in one.table.groups if group not in compared]
        named = [group.label if len(one.table.groups) > 1 else f"runs as {group.runs[0].name}" for group in lacking]
        if named:
            yield f"{title_of(one.table)}: in no comparison are {'; '.join(named)}"
    pairs = dict.fromkeys((found.group, found.baseline) for one in asked for found in one.contrasts)
    for group, baseline in pairs:
        for what, told in (("devices", device_of), ("precisions", _precision), ("commits", commit_of)):
            ours, theirs = ({told(run) for run in one.runs} for one in (group, baseline))
            if ours != theirs:
                yield (
                    f"{group.label} and {baseline.label} were run on different {what}: {', '.join(sorted(ours))} and "
                    f"{', '.join(sorted(theirs))}"
                )


def _precision(run: Run) -> str:
    return str((run.config.get("runtime") or {}).get("precision", "?"))
