"""Rows of a comparison as tables and as a page to look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from korbert.comparison.figures import Column, Row, best_trades, recommend, used_columns, used_groups
from korbert.comparison.plots import plots
from korbert.study.html import fill_page
from korbert.study.page import cell_text, table
from korbert.study.sheets import latex_table


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for each group of figures, and what their columns say."""
    lines = []
    for title, columns in used_groups(rows):
        head = ["tokenizer", "entries", *(column.title for column in columns)]
        cells = [
            [cell_text(row["name"]), f"{row['vocabulary']:,}", *(column.shown(row) for column in columns)]
            for row in rows
        ]
        lines += [f"**{title}**", "", *table(head, cells), *(f"- {c.title}: {c.about}" for c in columns), ""]
    return "\n".join([*lines, *map(cell_text, recommend(rows)), ""])


def as_latex(rows: Sequence[Row]) -> str:
    """One table in the style of booktabs."""
    columns = used_columns(rows)
    cells = [[row["name"], f"{row['vocabulary']}", *(c.shown(row) for c in columns)] for row in rows]
    return "\n".join([*latex_table(["tokenizer", "entries", *(c.title for c in columns)], cells), ""])


def as_csv(rows: Sequence[Row]) -> str:
    """Every figure, one column each, named measure.key."""
    kept = ("fingerprint", "vocabulary", "date", "commit")
    flat = [
        {"tokenizer": row["name"], **{key: row[key] for key in kept}, **dict(_flat("", row["results"]))} for row in rows
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def as_rich(rows: Sequence[Row]) -> list[Any]:
    """A table for each group of figures, for a terminal."""
    from rich.table import Table

    tables = []
    for title, columns in used_groups(rows):
        made = Table(title=title, title_justify="left")
        made.add_column("tokenizer", no_wrap=True)
        for name in ("entries", *(column.title for column in columns)):
            made.add_column(name, justify="right")
        for row in rows:
            made.add_row(row["name"], f"{row['vocabulary']:,}", *(column.shown(row) for column in columns))
        tables.append(made)
    return tables


def as_html(rows: Sequence[Row], left_out: Mapping[str, str]) -> str:
    """One page that needs nothing else: tables to sort, plots, and the examples cut into coloured tokens.

    Raises KorbertError where what draws it is not installed.
    """
    return fill_page(
        Path(__file__).with_name("report.html"),
        tables=used_groups(rows),
        rows=rows,
        best={column.title: _best(column, rows) for column in used_columns(rows)},
        front={row["fingerprint"] for row in best_trades(rows)},
        advice=recommend(rows),
        left_out=left_out,
        plots=plots(rows),
        examples=list(_examples(rows)),
        dates=sorted({row["date"][:10] for row in rows}),
        commits=sorted({row["commit"] for row in rows}),
        devices=sorted({row["hardware"]["device"] for row in rows}),
    )


def _best(column: Column, rows: Sequence[Row]) -> float | None:
    values = [value for row in rows if (value := column.value(row)) is not None]
    if not column.better or not values:
        return None
    return max(values) if column.better == "high" else min(values)


@dataclass(frozen=True, slots=True)
class Part:
    """Characters of an example that belong to one token, or to none: its number from 0, or None."""

    text: str
    token: int | None
    is_unknown: bool
    is_entity: bool


def _examples(rows: Sequence[Row]) -> Iterator[tuple[str, list[tuple[str, int, list[Part]]]]]:
    """Each example's text, and for each row its name, number of tokens, and parts."""
    texts = dict.fromkeys(example["text"] for row in rows for example in row["examples"])
    for text in texts:
        shown = [(row["name"], example) for row in rows for example in row["examples"] if example["text"] == text]
        yield text, [(name, len(example["tokens"]), parts_of(example)) for name, example in shown]


def parts_of(example: Mapping[str, Any]) -> list[Part]:
    """Cut an example where tokens and entities begin and end."""
    text = example["text"]
    token: list[int | None] = [None] * len(text)
    unknown, entity = [False] * len(text), [False] * len(text)
    for number, (start, end, is_unknown) in enumerate(example["tokens"]):
        for i in range(start, end):
            token[i], unknown[i] = number, is_unknown
    for start, end in example["entities"]:
        entity[start:end] = [True] * (end - start)
    parts: list[Part] = []
    for char, *about in zip(text, token, unknown, entity, strict=True):
        part = Part(char, *about)  # type: ignore[arg-type]
        if parts and replace(parts[-1], text=char) == part:
            part = replace(part, text=parts.pop().text + char)
        parts.append(part)
    return parts
