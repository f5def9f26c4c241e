"""Result pages: text by people, tables by this module from run records, so that no number is typed by hand."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from korbert.errors import DataError, KorbertError

BEGIN, END = "<!-- records: written by experiments/publish_results.py -->", "<!-- end of records -->"
_REPORT = re.compile(r"<!-- report: (?P<settings>.*?) -->\n(?P<made>.*?)(?P<end><!-- end of report -->|\Z)", re.DOTALL)
_OF_TRAINING = {"step", "training_loss", "minutes"}
_POINTS, _ROWS = 100, 10  # of a curve: kept and drawn, shown in the table
_COLUMNS = 3  # of panels in a picture
_MANY = 30  # records of one task, whose runs are lines of a table
# An interval says how other articles would move this one model's score, and nothing of another seed's.
_NAMES = {
    "exact_match": "EM (%)",
    "f1": "F1 (%)",
    "exact_match_interval": "EM, 95 % over articles, this model",
    "f1_interval": "F1, 95 % over articles, this model",
}
_MEMORY = "memory"  # a table of results that is drawn, and only shown in part


def curve(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """About 100 evenly spaced points of a run's metrics.jsonl.

    Each has the step, the mean training loss since the point before, the last held-out measures since then, and the
    minutes of training so far.
    """
    points: list[dict[str, Any]] = []
    for row in metrics:
        point: dict[str, Any] = {"step": row["step"]}
        if "loss" in row:
            point["training_loss"] = row["loss"]
        point |= {k.removeprefix("validation/"): v for k, v in row.items() if k.startswith("validation/")}
        if "seconds" in row:
            point["minutes"] = row["seconds"] / 60
        points.append(point)
    return _thin(points, _POINTS)


def _thin(points: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """Bring `points` together in about `count` parts of as many steps; one with held-out scores ends with the last."""
    last = points[-1]["step"] if points else 0
    measured = [point["step"] for point in points if point.keys() - _OF_TRAINING]
    ends = [0]
    for number in range(1, count + 1):
        end = round(last * number / count)
        # What a model is worth at one step is not told of a later one.
        ends.append(max((step for step in measured if ends[-1] < step <= end), default=end))
    thinned = []
    before = 0
    for end in [*ends[1:], last]:
        part = [point for point in points if before < point["step"] <= end]
        losses = [point["training_loss"] for point in part if "training_loss" in point]
        if losses:
            merged = {key: value for point in part for key, value in point.items()}
            thinned.append({**merged, "step": end, "training_loss": sum(losses) / len(losses)})
            before = end
    return thinned


def clock_threads(records: Iterable[Mapping[str, Any]]) -> list[int] | None:
    """By how many threads each record's minutes are to be multiplied, to be held against each other.

    None where the clock of any of them counted other time than that of the process's own processors.
    """
    found = list(records)
    if any(record.get("config", {}).get("train", {}).get("clock") != "cpu" for record in found):
        return None
    return [record["hardware"]["threads"] for record in found]


def draw(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw the loss curves of all records, several pretrainings by time, and memory over time, as an SVG file.

    It is the same for the same records; without a curve there is none.

    Runs whose clock counted the time of processors are held against each other by that of all their threads.

    Raises KorbertError where matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise KorbertError("drawing needs matplotlib: pip install -e '.[report]'") from None
    many = _with_many(records)  # of these, a report draws the curves
    trained = [record for record in records if record["curve"] and record["task"] not in many]
    compared = [record for record in trained if len(_held_out(record)) > 1]
    threads = clock_threads(compared)
    watched = [record for record in records if record["results"].get(_MEMORY)]
    panels = len(trained) + len(watched) + (len(compared) > 1)
    if not panels:
        return
    columns = min(panels, _COLUMNS)
    rows = -(-panels // columns)
    with matplotlib.rc_context({"svg.hashsalt": "korbert"}):
        figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
        if len(compared) > 1:
            axes = figure.add_subplot(rows, columns, panels)
            xlabel = "training minutes × threads" if threads else "training minutes"
            axes.set(title="held-out masked LM", xlabel=xlabel, ylabel="loss (nats a character)")
            lines = {}
            for record, times in zip(compared, threads or [1] * len(compared), strict=True):
                lines[record["name"]] = [(minutes * times, loss) for minutes, loss in _held_out(record)]
            _plot(axes, lines)
        for number, record in enumerate([*trained, *watched], start=1):
            axes = figure.add_subplot(rows, columns, number)
            if number <= len(trained):
                axes.set(title=record["name"], xlabel="optimizer step", ylabel="loss (nats)")
                keys = (("training_loss", "training, all objectives"), ("mlm_loss", "held-out, masked LM"))
                _plot(axes, {label: _points(record, "step", key) for key, label in keys})
            else:
                axes.set(title=record["name"], xlabel="minutes", ylabel="memory (MB)")
                _plot(axes, _memory(record["results"][_MEMORY]))
                axes.set_ylim(bottom=0)
        figure.savefig(path, metadata={"Date": None})


def _memory(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Megabytes of the main process and of its workers together, by minutes."""
    parts = {"main process": "main", "workers together": "workers"}
    return {label: [(line["seconds"] / 60, line[key]) for line in lines] for label, key in parts.items()}


def _points(record: Mapping[str, Any], x: str, y: str) -> list[tuple[float, float]]:
    return [(point[x], point[y]) for point in record["curve"] if x in point and y in point]


def _held_out(record: Mapping[str, Any]) -> list[tuple[float, float]]:
    return _points(record, "minutes", "mlm_loss_per_character")


def _plot(axes: Any, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for label, points in lines.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 30 else "")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def render(records: Sequence[Mapping[str, Any]]) -> str:
    """All records as Markdown: those of one kind side by side, then how each was run, what came out, its curve.

    Of a task with very many runs there is a table of how each was run.
    """
    lines = _render_together(records)
    many = _with_many(records)
    for task in many:
        lines += _render_runs([record for record in records if record["task"] == task])
    for record in records:
        lines += _render_record(record) if record["task"] not in many else []
    return "\n".join(lines)


def _with_many(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tasks that have very many of the records."""
    return [task for task, count in Counter(record["task"] for record in records).items() if count > _MANY]


def _render_runs(records: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            cell_text(r["name"]), r["date"][:10], f"`{r['commit'][:12]}`", str(r["seed"]),
            f"{r['hardware']['device']} ({r['hardware']['threads']} threads)",
            f"<code>{cell_text(r['command'].replace('&', '&amp;'))}</code>",
        ]
        for r in records
    ]  # fmt: skip
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records})
    return [
        *table(["run", "date", "commit", "seed", "hardware", "command"], rows),
        *(line for text in versions for line in (f"With {text}.", "")),
    ]


def _render_together(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each task that several records have."""
    lines = []
    for task in dict.fromkeys(record["task"] for record in records):
        same = [record for record in records if record["task"] == task]
        keys = list(dict.fromkeys(key for r in same for key, value in r["results"].items() if not _is_table(value)))
        if len(same) > 1 and keys:
            rows = [[cell_text(r["name"]), *(_number(r["results"].get(key, "")) for key in keys)] for r in same]
            lines += table([task.replace("_", " "), *map(_words, keys)], rows)
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _render_record(record: Mapping[str, Any]) -> list[str]:
    hardware, versions, results = record["hardware"], record["versions"], record["results"]
    lines = [
        f"### {cell_text(record['name'])}",
        "",
        "```",
        record["command"].replace("```", "`` `"),
        "```",
        "",
        f"{record['date'][:10]}, commit `{record['commit'][:12]}`, seed {record['seed']}, {hardware['device']} "
        f"({hardware['threads']} threads), " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "",
        *table(["result", ""], [[_words(k), _number(v)] for k, v in results.items() if not _is_table(v)]),
    ]
    for name, rows in results.items():
        if not _is_table(rows):
            continue
        if name == _MEMORY:
            rows = [rows[-(-len(rows) * place // _ROWS) - 1] for place in range(1, min(_ROWS, len(rows)) + 1)]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        lines += table(map(_words, keys), ([_number(row.get(key, "")) for key in keys] for row in rows))
    if points := _thin(record["curve"], _ROWS):
        keys = list(dict.fromkeys(key for point in points for key in point))
        lines += table(map(_words, keys), ([_number(point.get(key, "")) for key in keys] for point in points))
    return lines


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table, and the empty one behind it."""
    head = list(header)
    return [f"| {' | '.join(head).rstrip()} |", f"|{'---|' * len(head)}", *map(_row, rows), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell_text(text: str) -> str:
    """A name or a value as text: no tag of HTML, no cell of its own."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return "; ".join(f"{_words(key)} {_number(part)}" for key, part in value.items())
    if isinstance(value, list) and len(value) > _ROWS:  # all are in the record
        return f"{_number(value[0])} … {_number(value[-1])}"
    if isinstance(value, list):
        return " to ".join(map(_number, value))
    if isinstance(value, float):
        text = f"{value:,.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
        return text if text.strip("-0.") else text.lstrip("-")  # no negative zero
    return f"{value:,}" if isinstance(value, int) else cell_text(str(value))


def replace_records(path: Path, page: str, rendered: str) -> str:
    """Return `page` with what stands between its two marks replaced. Raises DataError where a mark is missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(path, "page", f"wanted the lines {BEGIN!r} and {END!r}; the records go between them")
    return f"{head}{BEGIN}\n\n{rendered}{END}{tail}"


def check_marks(path: Path, page: str, has_records: bool = True) -> None:
    """Raises DataError where a mark of a part that is made is missing, and where a page without records has none."""
    reports = report_settings(path, page)
    if has_records or not reports:
        replace_records(path, page, "")


def report_settings(path: Path, page: str) -> list[list[str]]:
    """What each `<!-- report: … -->` of a page asks of `experiments/report.py`, as its overrides, in order.

    Raises DataError where one has no end, or quotes that have none.
    """
    found = []
    for match in _REPORT.finditer(page):
        if not match["end"]:
            raise DataError(path, f"<!-- report: {match['settings']} -->", "wanted <!-- end of report --> behind it")
        try:
            found.append(shlex.split(match["settings"]))
        except ValueError as error:
            raise DataError(path, f"<!-- report: {match['settings']} -->", str(error)) from None
    return found


def replace_reports(page: str, rendered: Iterable[str]) -> str:
    """Return `page` with what stands between the marks of its reports replaced, one after the other."""
    made = iter(rendered)
    return _REPORT.sub(lambda match: f"<!-- report: {match['settings']} -->\n\n{next(made)}\n{match['end']}", page)
