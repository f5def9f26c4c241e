"""The error report as Markdown and as one HTML page without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from korbert.study.errors import Case
from korbert.study.html import fill_page
from korbert.study.page import cell_text, table

_EXAMPLES = 12  # of each kind of error
_NOTE = (
    "Official KorQuAD 1.0 metric. Intervals are 95 %, articles drawn with replacement. The kortok variant strips josa "
    "from gold and prediction alike (arXiv 2010.02534): it is another metric, not to be compared with official scores."
)


def as_markdown(report: Mapping[str, Any], found: Sequence[Case]) -> str:
    """Tables, and examples of each kind of error."""
    rows = [
        [name.replace("_", " "), f"{score['mean']:.2f}", _interval(score["interval"]), f"{report['kortok'][name]:.2f}"]
        for name, score in report["official"].items()
    ]
    lines = [
        f"# Errors of {cell_text(report['title'])}", "",
        f"{report['protocol']}: {report['questions']:,} questions, {report['unanswered']} without a prediction, "
        f"{report['unknown']} predictions for other questions.", _NOTE, "",
        *table(["", "official (%)", "95 % interval", "kortok variant (%)"], rows),
        "## Kinds of errors", "",
        *table(["kind", "questions", "of all (%)"], _kind_rows(report)),
    ]  # fmt: skip
    for key, parts in report["breakdowns"].items():
        lines += [f"## By {key}", "", *table(["", "questions", "EM (%)", "F1 (%)"], map(_part_row, parts))]
    lines += ["## Examples", ""]
    for kind, examples in _examples(found).items():
        rows = [[cell_text(case.question), cell_text(case.gold), cell_text(case.predicted)] for case in examples]
        lines += [f"### {kind}", "", *table(["question", "gold", "predicted"], rows)]
    return "\n".join(lines).rstrip() + "\n"


def as_html(report: Mapping[str, Any], found: Sequence[Case]) -> str:
    """The same as a page. Raises KorbertError without jinja2."""
    return fill_page(
        Path(__file__).with_name("errors.html"),
        report=report,
        note=_NOTE,
        interval=_interval,
        kinds=_kind_rows(report),
        part_row=_part_row,
        examples=_examples(found),
    )


def _interval(found: Sequence[float] | None) -> str:
    return "one article: unknown" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def _kind_rows(report: Mapping[str, Any]) -> list[list[str]]:
    return [[kind, f"{count:,}", f"{100 * count / report['questions']:.1f}"] for kind, count in report["kinds"].items()]


def _part_row(part: Mapping[str, Any]) -> list[str]:
    return [part["name"], f"{part['questions']:,}", f"{part['exact_match']:.1f}", f"{part['f1']:.1f}"]


def _examples(found: Sequence[Case]) -> dict[str, list[Case]]:
    """Some cases of each kind, evenly spread over the data set."""
    shown = {}
    for kind in dict.fromkeys(case.kind for case in found if case.kind != "right"):
        of_kind = [case for case in found if case.kind == kind]
        step = max(1, len(of_kind) // _EXAMPLES)
        shown[kind] = of_kind[::step][:_EXAMPLES]
    return shown
