"""Looking at what was run: lists, comparisons, files for other programs, all from the store of records."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from korbert.config import RunsConfig, as_override
from korbert.errors import ConfigError, KorbertError
from korbert.study.query import SUPERSEDED, Row, as_row, check_keys, parse, value
from korbert.study.records import RecordStore, StoredRun, scan
from korbert.study.results import main_score

log = logging.getLogger(__name__)
_USUAL = ["id", "date", "task", "folder", "seed"]
_SHOWN, _MOST = 8, 8  # digits of an id, and ids, in a message
_QUOTED = re.compile(r"""(['"])(?:(?!\1).)*\1""", re.DOTALL)  # for Hydra already


def as_overrides(words: Sequence[str]) -> list[str]:
    """`list where='f1>20 seed=1'` and `compare RUN RUN` as Hydra wants it: the first word is the action."""
    keys = {f.name for f in fields(RunsConfig)}
    made, runs = [], []
    for number, word in enumerate(words):
        key, sign, rest = word.partition("=")
        if number == 0 and not sign and not word.startswith("-"):
            made.append(as_override("action", word))
        elif sign and key in keys:
            made.append(as_override(key, rest) if key in ("output", "records") else word)
        elif word.startswith("-") or (sign and not Path(word).exists()) or key in ("help",):
            made.append(word)
        else:
            runs.append(word)
    made = with_conditions(made)
    return [*made, as_override("runs", runs)] if runs else made


def with_conditions(words: Sequence[str]) -> list[str]:
    """`where='f1>20 seed=1'` among overrides as Hydra wants it; what has its quotation marks for Hydra keeps them."""
    return [
        as_override("where", rest) if key == "where" and rest and not _QUOTED.fullmatch(rest) else word
        for word in words
        for key, _, rest in [word.partition("=")]
    ]


def look_at_runs(config: RunsConfig) -> None:
    """Do what `config.action` says."""
    if config.action not in _ACTIONS:
        raise ConfigError(f"the first word, or action=: wanted {', '.join(_ACTIONS)}, got {config.action!r}")
    _ACTIONS[config.action](config)


def _scan(config: RunsConfig) -> None:
    store = RecordStore(Path(config.records))
    count, problems = scan(store, [Path(run) for run in config.runs or ["runs"]])
    store.close()
    for problem in problems:
        log.warning("left out: %s", problem)
    print(f"{config.records}: {count} records of these folders")


def _list(config: RunsConfig) -> None:
    chosen = _chosen(config)
    columns = config.columns or [*_USUAL, *([SUPERSEDED] if any(run.superseded for run, _ in chosen) else [])]
    shown = Table(*columns, *([] if config.columns else ["score"]), box=None)
    for run, row in chosen:
        cells = [_cell(value(row, key)) for key in columns]
        shown.add_row(*cells, *([] if config.columns else [_score(run)]))
    _print(shown)
    print(f"{len(chosen)} runs")


def _compare(config: RunsConfig) -> None:
    """What differs between runs: settings, then every number that came out, then what it cost."""
    found = _named(config) if config.runs else _chosen(config)
    if len(found) < 2:
        raise ConfigError("compare: wanted two runs or more, by folder or id, or a where= that several runs fulfil")
    rows = [row for _, row in found]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    settings = [key for key in keys if key.startswith("config.")]
    differing = [key for key in settings if any(row.get(key) != rows[0].get(key) for row in rows)]
    numbers = [key for key in keys if key.startswith(("results.", "cost."))]
    shown = Table("", *(row["id"] for row in rows), box=None)
    for key in ["folder", "task", "date", "commit", *differing, *numbers]:
        shown.add_row(key, *(_cell(row.get(key)) for row in rows))
    _print(shown)


def _export(config: RunsConfig) -> None:
    path = Path(config.output or "")
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"output={config.output}: wanted a file that ends in .csv or .parquet")
    rows = [row for _, row in _chosen(config)]
    keys = list(dict.fromkeys(config.columns or (key for row in rows for key in row)))
    cell = value if config.columns else dict.get  # a whole key may also be the end of another one
    table = {key: [cell(row, key) for row in rows] for key in keys}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(keys)
            writer.writerows(zip(*table.values(), strict=True))
    else:
        _write_parquet(path, table)
    print(f"{path}: {len(rows)} runs, {len(keys)} columns")


def _write_parquet(path: Path, table: dict[str, list[Any]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise KorbertError("output=….parquet needs a package: pip install -e '.[parquet]'") from None
    pyarrow.parquet.write_table(pyarrow.table({key: _one_type(column) for key, column in table.items()}), path)


def _one_type(column: list[Any]) -> list[Any]:
    """As they are where all are of one type, else numbers as numbers, or everything as text."""
    types = {type(cell) for cell in column if cell is not None}
    if len(types) <= 1:
        return column
    if types == {int, float}:
        return [None if cell is None else float(cell) for cell in column]
    return [None if cell is None else str(cell) for cell in column]


def _rows(config: RunsConfig) -> list[tuple[StoredRun, Row]]:
    store = RecordStore(Path(config.records), must_exist=True)
    found = [(run, as_row(run)) for run in store.runs()]
    store.close()
    return found


def _chosen(config: RunsConfig) -> list[tuple[StoredRun, Row]]:
    """The runs that fulfil every condition, in order.

    Those whose folder is another run's now are left out, unless they are asked for: by a condition, column or order.
    """
    found = _rows(config)
    conditions, rows = parse(config.where), [row for _, row in found]
    check_keys(rows, [condition.key for condition in conditions], "where")
    check_keys(rows, config.columns, "columns")
    found = [(run, row) for run, row in found if all(condition.holds(row) for condition in conditions)]
    if config.sort is not None:
        key = config.sort
        check_keys(rows, [key], "sort")
        found.sort(key=lambda pair: _order(value(pair[1], key)))
    if SUPERSEDED in (*(condition.key for condition in conditions), *config.columns, config.sort):
        return found
    kept = [(run, row) for run, row in found if not run.superseded]
    if len(kept) < len(found):
        log.warning(
            "%d runs are left out, in whose folders later ones were run: where='superseded=true' shows them, "
            "sort=superseded all", len(found) - len(kept),
        )  # fmt: skip
    return kept


def _order(cell: Any) -> tuple[int, float, str]:
    """Runs without a value first, numbers by size, then text."""
    if isinstance(cell, int | float):
        return 1, float(cell), ""
    return (0, 0.0, "") if cell is None else (2, 0.0, str(cell))


def _named(config: RunsConfig) -> list[tuple[StoredRun, Row]]:
    """Those of the folders and ids that are asked for. Raises ConfigError for what is none's, or the id of several."""
    found = _rows(config)
    named = []
    for name in config.runs:
        place = Path(name).resolve()
        of_folder = [(run, row) for run, row in found if run.folder.resolve() == place]
        fitting = of_folder or [(run, row) for run, row in found if run.id.startswith(name)]
        if not fitting:
            raise ConfigError(f"runs: {name} is neither the folder nor the id of a run in {config.records}")
        if len(fitting) > 1 and not of_folder:
            ids = [f"{run.id[: max(_SHOWN, len(name) + 4)]} ({run.folder})" for run, _ in fitting]
            more = f", and {len(ids) - _MOST} more" if len(ids) > _MOST else ""
            raise ConfigError(
                f"runs: {name} is the beginning of {len(ids)} ids, wanted that of one: {', '.join(ids[:_MOST])}{more}"
            )
        named.append(fitting[-1])  # a folder may have been used again; the last counts
    return named


def _score(run: StoredRun) -> str:
    score = main_score(run.record)
    return "" if score is None else f"{score:.4g}"


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.4g}" if 0 < abs(cell) < 0.001 else f"{cell:.4f}".rstrip("0").rstrip(".")


def _print(shown: Table) -> None:
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file has room for whole lines
        console = Console(markup=False, highlight=False, width=10_000)
    console.print(shown)


_ACTIONS = {"list": _list, "compare": _compare, "export": _export, "scan": _scan}
