"""Scores of models beside what a comparison of tokenizers measured of the tokenizers that fed them."""

from __future__ import annotations

from collections.abc import Sequence

from korbert.comparison.figures import COLUMNS, Column, Row, used
from korbert.study.contrasts import significance_marks
from korbert.study.grouping import Group, Measure
from korbert.study.report_sheets import Scored, p_value, title_of
from korbert.study.sheets import Cell, Sheet, without_empty_columns
from korbert.study.significance import holm, rank_correlation

_IDENTITY = ("kind", "vocab_size", "split", "tags", "symbols", "model_type", "byte_fallback", "train_characters")
_NO_FIGURES = ("downstream", "speed", "training")  # scores of other models, and what depends on the machine
_FEWEST_RANKED = 5  # of four, no order is rarer than one in 24


def row_of(group: Group, rows: Sequence[Row]) -> Row | None:
    """The row of the tokenizer that the group's runs used: by its fingerprint, or else by its settings."""
    prints = {print_ for run in group.runs if (print_ := run.tokenizer()) is not None}
    by_print = [row for row in rows if row["fingerprint"] in prints]
    if by_print:
        return by_print[0]
    ours = {key: group.settings.get(f"tokenizer.{key}") for key in _IDENTITY}
    if prints or ours["kind"] is None or group.settings.get("tokenizer.path") is not None:
        return None
    return next((row for row in rows if all(row["tokenizer"].get(key) == ours[key] for key in _IDENTITY)), None)


def tokenizer_sheets(scored: Scored, rows: Sequence[Row]) -> list[Sheet]:
    """Scores of answers beside figures of tokenizers, and how far the one goes with the other.

    [] for other tables, and where fewer than two groups have a tokenizer of `rows`.
    """
    found = [(group, row) for group in scored.table.groups if (row := row_of(group, rows)) is not None]
    if not scored.table.has_answers() or len(found) < 2:
        return []
    columns = used([column for column in COLUMNS if column.measure not in _NO_FIGURES], [row for _, row in found])
    sheets = [_figures(scored, found, columns)]
    return [*sheets, *_correlations(scored, found, columns)]


def _figures(scored: Scored, found: Sequence[tuple[Group, Row]], columns: Sequence[Column]) -> Sheet:
    table = scored.table
    lines = []
    for group, row in found:
        scores = [(measure, scored.score(group, measure).mean) for measure in table.measures]
        lines.append(
            [
                Cell(group.label, note=group.name), Cell(row["name"]),
                Cell(f"{row['vocabulary']:,}", row["vocabulary"]),
                *(Cell("" if mean is None else measure.shown(mean), mean) for measure, mean in scores),
                *(Cell(column.shown(row), column.value(row)) for column in columns),
            ]
        )  # fmt: skip
    head = ["runs", "tokenizer", "entries", *(measure.title for measure in table.measures), *(c.title for c in columns)]
    notes = [
        f"Named by {' · '.join(table.columns)}.",
        "Figures of the tokenizers are the comparison's, on its texts and all of its questions; scores are of "
        f"{title_of(table)}.",
        *(f"{column.title}: {column.about}." for column in columns),
    ]
    return without_empty_columns(Sheet(f"Tokenizers, {title_of(table)}", head, lines, notes=notes, texts=2))


def _correlations(scored: Scored, found: Sequence[tuple[Group, Row]], columns: Sequence[Column]) -> list[Sheet]:
    """Of ranks by each figure with ranks by each score; [] where a tokenizer stands twice, or there are too few."""
    if len({id(row) for _, row in found}) < len(found) or len(found) < _FEWEST_RANKED:
        return []
    tested: list[tuple[Column, Measure, float, float]] = []
    for column in columns:
        figures = [column.value(row) for _, row in found]
        for measure in scored.table.measures:
            means = [scored.score(group, measure).mean for group, _ in found]
            pairs = [(x, y) for x, y in zip(figures, means, strict=True) if x is not None and y is not None]
            drawn = rank_correlation(*zip(*pairs, strict=True)) if len(pairs) == len(found) else None
            if drawn is not None:
                tested.append((column, measure, *drawn))
    if not tested:
        return []
    corrected = holm([p for *_, p in tested])
    lines = [
        [
            Cell(column.title, note=column.about), Cell(measure.title),
            Cell(f"{value:+.2f}{significance_marks(after)}", value), Cell(p_value(p), p), Cell(p_value(after), after),
        ]
        for (column, measure, value, p), after in zip(tested, corrected, strict=True)
    ]  # fmt: skip
    notes = [
        f"Spearman's, over the {len(found)} tokenizers of the table above; p by permuting them.",
        f"Holm: corrected for all {len(tested)} of this table.",
        "Tokenizers are no sample of anything, and several are near relatives: what goes together among these need not "
        "among others.",
    ]
    head = ["figure", "score", "rank correlation", "p", "p (Holm)"]
    return [Sheet(f"Figures that go with scores, {title_of(scored.table)}", head, lines, notes=notes, texts=2)]
