"""Pictures of a comparison as SVG: ceiling against length, paragraphs that fit, speed."""

from __future__ import annotations

from collections.abc import Sequence

from korbert.comparison.figures import Row, oracle_em, tokens_by_eojeol
from korbert.study.svg import as_svg, color, make_figure, marker, plain


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
    figure, axes = make_figure(9, 5)
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row["name"].partition("@")[0], []).append(row)
    for number, (name, members) in enumerate(families.items()):
        members = sorted(members, key=lambda row: row["vocabulary"])
        x, y = [tokens_by_eojeol(row) for row in members], [oracle_em(row) for row in members]
        axes.plot(x, y, color=color(number), marker=marker(number), linewidth=1, markersize=6, label=plain(name))
    axes.set(title="Ceiling against length", xlabel="tokens by eojeol (fewer: shorter, faster)", ylabel="oracle EM (%)")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return as_svg(figure, "ceiling", "Ceiling against length")


def _lengths(rows: Sequence[Row]) -> str:
    figure, axes = make_figure(9, 1.2 + 0.24 * len(rows))
    lengths = list(rows[0]["results"]["cost"]["fits"])
    left = [0.0] * len(rows)
    names = [plain(row["name"]) for row in rows]
    shades = ("#1b4965", "#3d7ea6", "#7fb3d5", "#bcd9ea", "#dcebf5", "#eef5fa")
    for number, length in enumerate(lengths):
        share = [100 * row["results"]["cost"]["fits"][length] for row in rows]
        widths = [max(0.0, now - before) for now, before in zip(share, left, strict=True)]
        axes.barh(names, widths, left=left, label=f"≤ {length}", color=shades[number % len(shades)])
        left = share
    axes.invert_yaxis()
    axes.set(title="KorQuAD paragraphs that fit a length in tokens", xlabel="%", xlim=(0, 100))
    figure.legend(loc="outside lower center", frameon=False, ncols=len(lengths))
    return as_svg(figure, "lengths", "Paragraphs that fit a length in tokens")


def _speeds(rows: Sequence[Row]) -> str:
    figure, axes = make_figure(9, 1.2 + 0.24 * len(rows))
    names = [plain(row["name"]) for row in rows]
    for key, label, shade, height in (("ids", "ids", "#bcd9ea", 0.8), ("spans", "ids and spans", "#1b4965", 0.4)):
        axes.barh(names, [row["results"]["speed"][key] for row in rows], color=shade, label=label, height=height)
    axes.invert_yaxis()
    axes.set(title="Speed on one core", xlabel="MB of text a second", xscale="log")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return as_svg(figure, "speeds", "Speed on one core")
