"""Rows of a comparison as tables, as a page to look at, and as advice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from korbert.errors import KorbertError
from korbert.study.page import table

Row = Mapping[str, Any]
_GOOD_CEILING = 98.0  # EM in percent; a reader that is right four times in five hardly feels what is above
_LOSSLESS = 0.001  # share of the characters


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a row: `measure` and `key` in its results, times `scale`; which way is better, if any."""

    title: str
    measure: str
    key: str
    about: str
    scale: float = 1.0
    digits: int = 1
    better: str = ""

    def value(self, row: Row) -> float | None:
        """The figure; None where it was not measured."""
        found: Any = row["training"] if self.measure == "training" else row["results"].get(self.measure, {})
        for part in self.key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return None if found is None else float(found) * self.scale

    def shown(self, row: Row) -> str:
        """The figure for people to read; "" where it was not measured."""
        value = self.value(row)
        return "" if value is None else f"{value:,.{self.digits}f}"


_GROUPS = {
    "Length and vocabulary": (
        Column("tok/eojeol", "cost", "per_eojeol", "tokens by eojeol", digits=2, better="low"),
        Column("tok/par.", "cost", "per_paragraph", "tokens by KorQuAD paragraph", digits=0, better="low"),
        Column("≤384 %", "cost", "fits.384", "paragraphs that fit 384 tokens with [CLS] and [SEP]", 100, better="high"),
        Column("used %", "cost", "used", "entries of the vocabulary that occur", 100, better="high"),
        Column("once %", "cost", "used_once", "entries that occur once", 100, better="low"),
        Column("Rényi", "cost", "renyi_efficiency", "evenness of use, Rényi efficiency of order 2.5", 1, 2, "high"),
        Column("emb. M", "cost", "embedding_parameters", "millions of parameters in embeddings", 1e-6, better="low"),
    ),
    "Loss": (
        Column("unknown %", "cost", "unknown", "tokens that are unknown", 100, 2, "low"),
        Column("lost %", "cost", "lost", "visible characters that are in unknown tokens", 100, 2, "low"),
        Column("exact %", "cost", "round_trip", "paragraphs that decode to themselves", 100, better="high"),
        Column("unaligned", "alignment", "unaligned", "morphemes of the analyser that the text lacks", 1, 0, "low"),
    ),
    "KorQuAD ceiling": (
        Column("oracle EM", "ceiling", "exact_match", "the best span of tokens, official metric", better="high"),
        Column("oracle F1", "ceiling", "f1", "the best span of tokens, official metric", better="high"),
        Column("answers %", "ceiling", "at_boundary", "answers that begin and end where tokens do", better="high"),
        Column("EM at entities", "ceiling_at_entities", "exact_match", "tokens cut at entities, too", better="high"),
        Column("F1 at entities", "ceiling_at_entities", "f1", "tokens cut at entities, too", better="high"),
        Column(
            "EM w/o josa", "ceiling_without_josa", "exact_match",
            "without particles on both sides, as in kortok's table: not the official metric", better="high",
        ),
    ),
    "Language": (
        Column("morph. P", "boundaries", "precision", "boundaries inside eojeol that are the analyser's", 100),
        Column("morph. R", "boundaries", "recall", "the analyser's boundaries that are found", 100),
        Column("morph. F1", "boundaries", "f1", "of the two", 100),
        Column("josa %", "boundaries", "josa", "particles in front of which a token begins", 100, better="high"),
        Column("names %", "names", "whole", "gold names that no token crosses an edge of", 100, better="high"),
        Column("consistency", "consistency", "f1", "morphological consistency, F1", 100, better="high"),
    ),
    "Downstream": (
        Column("EM", "downstream", "exact_match", "of models that differ in the tokenizer alone, mean of the seeds"),
        Column("F1", "downstream", "f1", "of models that differ in the tokenizer alone, mean of the seeds"),
    ),
    "Speed": (
        Column("ids MB/s", "speed", "ids", "ids only, megabytes by the second of one core", 1, 2, "high"),
        Column("spans MB/s", "speed", "spans", "ids and spans, megabytes by the second of one core", 1, 2, "high"),
        Column("1 process", "speed", "by_processes.1", "spans by the clock, megabytes a second", 1, 2, "high"),
        Column("2 processes", "speed", "by_processes.2", "spans by the clock, megabytes a second", 1, 2, "high"),
        Column("RAM MB", "speed", "memory_mb", "memory that the tokenizer takes", 1, 0, "low"),
        Column("trained s", "training", "seconds", "seconds of training, by the clock", 1, 0, "low"),
    ),
}  # fmt: skip
COLUMNS = tuple(column for columns in _GROUPS.values() for column in columns)


def summary(row: Row) -> dict[str, Any]:
    """A row's main figures by the titles of their columns."""
    found = {column.title: column.value(row) for column in COLUMNS}
    return {"tokenizer": row["name"], "vocabulary": row["vocabulary"]} | {
        title: "" if value is None else value for title, value in found.items()
    }


def used(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """Columns that some row has a figure for."""
    return [column for column in columns if any(column.value(row) is not None for row in rows)]


def recommend(rows: Sequence[Row]) -> list[str]:
    """What the figures say about the choice for KorQuAD, and how far that goes; [] without costs and ceilings."""
    known = [row for row in rows if {"cost", "ceiling"} <= row["results"].keys()]
    front = best_trades(rows)
    if not front:
        return [f"All of them lose more than {_LOSSLESS:.1%} of the characters; none can be advised."] if known else []
    listed = ", ".join(f"{row['name']} ({_em(row):.1f} at {_length(row):.2f})" for row in front)
    sentences = [
        f"Of those that lose at most {_LOSSLESS:.1%} of the characters, none has a higher oracle EM with as few tokens "
        f"by eojeol as: {listed}."
    ]
    good = [row for row in front if _em(row) >= _GOOD_CEILING]
    if good:
        sentences.append(
            f"For a reader that points at tokens: {good[0]['name']}, the shortest sequences with an oracle EM of "
            f"{_GOOD_CEILING:.0f} or more. A shorter one costs exact matches that no training can bring back."
        )
    else:
        sentences.append(
            f"None reaches an oracle EM of {_GOOD_CEILING:.0f}: a reader that points at tokens needs cuts at entities, "
            "a smaller vocabulary, or an analyser in front."
        )
    sentences.append("These are limits, not scores: what is learned within them needs the downstream comparison.")
    protocols = sorted({row["results"]["downstream"]["protocol"] for row in rows if "downstream" in row["results"]})
    if protocols:
        sentences[-1] = f"Downstream scores: {'; '.join(protocols)}; not to be compared with published ones."
    return sentences


def best_trades(rows: Sequence[Row]) -> list[Row]:
    """Rows, the shortest sequences first, that no other one beats in oracle EM or length and equals in the other.

    Those that lose characters, or were not measured so, are not considered.
    """
    known = [row for row in rows if {"cost", "ceiling"} <= row["results"].keys()]
    faithful = [row for row in known if row["results"]["cost"]["lost"] <= _LOSSLESS]

    def is_beaten(row: Row) -> bool:
        ours = (-_em(row), _length(row))
        others = ((-_em(other), _length(other)) for other in faithful)
        return any(a <= ours[0] and b <= ours[1] and (a, b) != ours for a, b in others)

    return sorted((row for row in faithful if not is_beaten(row)), key=_length)


def _em(row: Row) -> float:
    return float(row["results"]["ceiling"]["exact_match"])


def _length(row: Row) -> float:
    return float(row["results"]["cost"]["per_eojeol"])


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for each group of figures, and what their columns say."""
    lines = []
    for title, columns in _used_groups(rows):
        head = ["tokenizer", "entries", *(column.title for column in columns)]
        cells = [[row["name"], f"{row['vocabulary']:,}", *(column.shown(row) for column in columns)] for row in rows]
        lines += [f"**{title}**", "", *table(head, cells), *(f"- {c.title}: {c.about}" for c in columns), ""]
    return "\n".join([*lines, *recommend(rows), ""])


def _used_groups(rows: Sequence[Row]) -> list[tuple[str, list[Column]]]:
    groups = ((title, used(columns, rows)) for title, columns in _GROUPS.items())
    return [(title, columns) for title, columns in groups if columns]


def as_latex(rows: Sequence[Row]) -> str:
    """One table in the style of booktabs."""
    columns = used(COLUMNS, rows)
    head = ["tokenizer", "entries", *(column.title for column in columns)]
    lines = [r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}", r"\toprule", _latex_row(head), r"\midrule"]
    lines += [_latex_row([row["name"], f"{row['vocabulary']}", *(c.shown(row) for c in columns)]) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_row(cells: Iterable[str]) -> str:
    special = {**{char: f"\\{char}" for char in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"\\": r"\textbackslash{}", "≤": r"$\le$"}
    return " & ".join("".join(special.get(char, char) for char in cell) for cell in cells) + r" \\"


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
    for title, columns in _used_groups(rows):
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
    try:
        import jinja2
        import matplotlib  # noqa: F401  # for the plots
        from markupsafe import Markup
    except ImportError as error:
        raise KorbertError(f"the page needs packages: pip install 'korbert[report]' ({error})") from None
    source = resources.files("korbert.comparison").joinpath("report.html").read_text("utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(
        tables=_used_groups(rows),
        rows=rows,
        best={column.title: _best(column, rows) for column in COLUMNS},
        front={row["fingerprint"] for row in best_trades(rows)},
        advice=recommend(rows),
        left_out=left_out,
        plots=[Markup(plot) for plot in plots(rows)],
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


def plots(rows: Sequence[Row]) -> list[str]:
    """Pictures as SVG: ceiling against length, paragraphs that fit, speed."""
    drawn = []
    both = [row for row in rows if {"cost", "ceiling"} <= row["results"].keys()]
    if both:
        drawn.append(_scatter(both))
        drawn.append(_lengths(both))
    fast = [row for row in rows if "speed" in row["results"]]
    if fast:
        drawn.append(_speeds(fast))
    return drawn


def _scatter(rows: Sequence[Row]) -> str:
    figure, axes = _figure(9, 5)
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row["name"].partition("@")[0], []).append(row)
    for number, (name, members) in enumerate(families.items()):
        members = sorted(members, key=lambda row: row["vocabulary"])
        marker = "osD^v<>PX"[number // 10 % 9]
        x, y = [_length(row) for row in members], [_em(row) for row in members]
        axes.plot(x, y, color=_color(number), marker=marker, linewidth=1, markersize=6, label=name)
    axes.set(title="Ceiling against length", xlabel="tokens by eojeol (fewer: shorter, faster)", ylabel="oracle EM (%)")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _svg(figure)


def _lengths(rows: Sequence[Row]) -> str:
    figure, axes = _figure(9, 1.2 + 0.24 * len(rows))
    lengths = list(rows[0]["results"]["cost"]["fits"])
    left = [0.0] * len(rows)
    names = [row["name"] for row in rows]
    shades = ("#1b4965", "#3d7ea6", "#7fb3d5", "#bcd9ea", "#dcebf5", "#eef5fa")
    for number, length in enumerate(lengths):
        share = [100 * row["results"]["cost"]["fits"][length] for row in rows]
        widths = [max(0.0, now - before) for now, before in zip(share, left, strict=True)]
        axes.barh(names, widths, left=left, label=f"≤ {length}", color=shades[number % len(shades)])
        left = share
    axes.invert_yaxis()
    axes.set(title="KorQuAD paragraphs that fit a length in tokens", xlabel="%", xlim=(0, 100))
    figure.legend(loc="outside lower center", frameon=False, ncols=len(lengths))
    return _svg(figure)


def _speeds(rows: Sequence[Row]) -> str:
    figure, axes = _figure(9, 1.2 + 0.24 * len(rows))
    names = [row["name"] for row in rows]
    for key, label, color, height in (("ids", "ids", "#bcd9ea", 0.8), ("spans", "ids and spans", "#1b4965", 0.4)):
        axes.barh(names, [row["results"]["speed"][key] for row in rows], color=color, label=label, height=height)
    axes.invert_yaxis()
    axes.set(title="Speed on one core", xlabel="MB of text a second", xscale="log")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@cache
def _color(number: int) -> str:
    from matplotlib import colormaps

    red, green, blue = colormaps["tab10"].colors[number % 10]  # type: ignore[attr-defined]
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _svg(figure: Any) -> str:
    """The figure as an element of HTML, its text as text: the reader's fonts have Korean glyphs."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "korbert"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :]
