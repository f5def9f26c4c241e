"""Pictures of a comparison as SVG: ceiling against length, paragraphs that fit, speed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

from korbert.comparison.figures import Row, oracle_em, tokens_by_eojeol


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
        x, y = [tokens_by_eojeol(row) for row in members], [oracle_em(row) for row in members]
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
