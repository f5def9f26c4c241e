"""Figures as SVG inside of a page: text stays text, colours follow the page, nothing is named twice."""

from __future__ import annotations

import io
import re
import warnings
from functools import cache
from html import escape
from typing import Any

from korbert.errors import KorbertError

_FAMILIES = (
    "system-ui, 'Noto Sans KR', 'Noto Sans CJK KR', 'Apple SD Gothic Neo', 'Malgun Gothic', NanumGothic, sans-serif"
)
_FONT = re.compile(r"font: ([^;\"']*?px) [^;\"]*")  # style and size, then the families
_MARKERS = "osD^v<>PX"


def make_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that many inches and its axes. Raises KorbertError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise KorbertError("drawing needs matplotlib: pip install -e '.[report]'") from None
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@cache
def color(number: int) -> str:
    """A colour that can be told from the others before it, up to ten."""
    from matplotlib import colormaps

    red, green, blue = colormaps["tab10"].colors[number % 10]  # type: ignore[attr-defined]
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def marker(number: int) -> str:
    """A marker that tells equal colours apart."""
    return _MARKERS[number // 10 % len(_MARKERS)]


def plain(text: str) -> str:
    """`text` as a label that shows every letter: to matplotlib, dollars are formulas and _ at the front hides."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def as_svg(figure: Any, name: str, title: str) -> str:
    """The figure as an element of HTML. name: of this plot on its page; title: for those who cannot see it.

    It is the same for the same figure. The reader's fonts have Korean glyphs, so text is left to them.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "korbert"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # in matplotlib's own fonts
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', lambda found: f"{found[1]}{name}-", drawn).replace("xlink:href", "href")
    drawn = _FONT.sub(lambda found: f"font: {found[1]} {_FAMILIES}", drawn).replace("#000000", "currentColor")
    head = f'<svg viewBox="\\1" role="img" aria-label="{escape(title)}">'
    return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', lambda found: head.replace("\\1", found[1]), drawn, count=1)


def as_file(element: str) -> str:
    """An element that `as_svg` has made as a file of its own, on white: a page that shows it may be dark."""
    head, _, rest = element.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'
