"""Tables as data, and as Markdown and LaTeX; the page's template renders the same data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from korbert.study.page import table

_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "≤": r"$\le$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "−": r"$-$", "×": r"$\times$",
    "·": r"$\cdot$", "–": "--", "…": r"\dots{}", "\n": " ",
}  # fmt: skip
_MARKDOWN = {char: f"\\{char}" for char in "\\`*_{}[]#|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
_SIMPLE = re.compile(r"[^`|\\\n]+")  # can stand between backticks, in a table
_HARMLESS = " .,:;/=-+"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table. value: to sort by, None for text; link: relative; note: said where the reader points."""

    text: str
    value: float | None = None
    link: str = ""
    note: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with its title and what has to be said before and behind it. texts: how many first columns are text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    intro: Sequence[str] = field(default=())
    notes: Sequence[str] = field(default=())
    texts: int = 1


def without_empty_columns(sheet: Sheet) -> Sheet:
    """The sheet without columns of numbers that no row has."""
    kept = [n for n in range(len(sheet.head)) if n < sheet.texts or any(row[n].text for row in sheet.rows)]
    return replace(sheet, head=[sheet.head[n] for n in kept], rows=[[row[n] for n in kept] for row in sheet.rows])


def sheet_as_markdown(sheet: Sheet, level: int = 3) -> list[str]:
    """Lines of the sheet with a heading."""
    lines = [f"{'#' * level} {markdown_text(sheet.title)}", ""]
    lines += [line for text in sheet.intro for line in (markdown_text(text), "")]
    lines += table(map(markdown_text, sheet.head), (map(_markdown_cell, row) for row in sheet.rows))
    lines += [f"- {markdown_text(note)}" for note in sheet.notes]
    return [*lines, *([""] if sheet.notes else [])]


def markdown_text(text: str) -> str:
    """`text` as Markdown shows it, letter by letter."""
    return "".join(_MARKDOWN.get(char, char) for char in text)


def _markdown_cell(cell: Cell) -> str:
    if cell.code:
        text = f"`{cell.text}`" if _SIMPLE.fullmatch(cell.text) else f"<code>{_by_number(cell.text)}</code>"
    else:
        text = markdown_text(cell.text)
    return f"[{text}]({cell.link})" if cell.link and cell.text else text


def _by_number(text: str) -> str:
    """`text` with everything that Markdown or HTML could read as its own by its number."""
    return "".join(char if char.isalnum() or char in _HARMLESS else f"&#{ord(char)};" for char in text)


def sheet_as_latex(sheet: Sheet) -> list[str]:
    """Lines of a table in the style of booktabs, with caption and notes."""
    return [
        r"\begin{table}", r"\centering", rf"\caption{{{latex_text('. '.join([sheet.title, *sheet.intro]))}}}",
        *latex_table(sheet.head, [[cell.text for cell in row] for row in sheet.rows], sheet.texts),
        *(rf"\par\footnotesize {latex_text(note)}" for note in sheet.notes), r"\end{table}", "",
    ]  # fmt: skip


def latex_table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """Lines of a tabular in the style of booktabs. texts: how many first columns are text, the others numbers."""
    lines = [
        rf"\begin{{tabular}}{{{'l' * texts}{'r' * (len(head) - texts)}}}",
        r"\toprule",
        _latex_row(head),
        r"\midrule",
    ]
    return [*lines, *map(_latex_row, rows), r"\bottomrule", r"\end{tabular}"]


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def latex_text(text: str) -> str:
    """`text` as LaTeX prints it, letter by letter."""
    return "".join(_LATEX.get(char, char) for char in text)


def relative_link(path: str) -> str:
    """A relative path as an address: no letter of it is read as a scheme, a query or a fragment."""
    address = quote(path)
    return address if address.startswith(("./", "../")) else f"./{address}"
