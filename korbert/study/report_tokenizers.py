"""Scores of models beside what a comparison of tokenizers measured of the tokenizers that fed them."""

from __future__ import annotations

from collections.abc import Sequence

from korbert.comparison.figures import Column, Row, used_columns
from korbert.study.contrasts import significance_marks
from korbert.study.grouping import Group, Measure
from korbert.study.report_sheets import Scored, named_by, p_value, title_of
from korbert.study.sheets import Cell, Sheet, without_empty_columns
from korbert.study.significance import holm, rank_correlation, ranks

_IDENTITY = ("kind", "vocab_size", "split", "tags", "symbols", "model_type", "byte_fallback", "train_characters")
_NO_FIGURES = ("downstream", "speed", "training")  # scores of other models, and what depends on the machine
_OF_A_SIZE = ("embedding_parameters",)  # of a model that is as wide as the comparison says, not as these are
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
    every = used_columns([row for _, row in found])
    columns = [column for column in every if column.measure not in _NO_FIGURES and column.key not in _OF_A_SIZE]
    return [_figures(scored, found, columns), *_correlations(scored, found, columns)]


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
        *named_by(table),
        "Figures of the tokenizers are the comparison's, on its texts and all of its questions; scores are of "
        f"{title_of(table)}.",
        "; ".join(f"{column.title}: {column.about}" for column in columns) + ".",
    ]
    return without_empty_columns(Sheet(f"Tokenizers, {title_of(table)}", head, lines, notes=notes, texts=2))


def _correlations(scored: Scored, found: Sequence[tuple[Group, Row]], columns: Sequence[Column]) -> list[Sheet]:
    """Of ranks by each figure with ranks by each score; [] where a tokenizer stands twice, or there are too few."""
    if len({id(row) for _, row in found}) < len(found) or len(found) < _FEWEST_RANKED:
        return []
    tested: list[tuple[Column, Measure, float, float]] = []
    before: list[tuple[float, ...]] = []
    for column in columns:
        values = [value for _, row in found if (value := column.value(row)) is not None]
        order = tuple(ranks(values))
        if len(order) < len(found) or order in before:
            continue
        before += [order, tuple(-rank for rank in order)]
        for measure in scored.table.measures:
            means = [mean for group, _ in found if (mean := scored.score(group, measure).mean) is not None]
            drawn = rank_correlation(values, means) if len(means) == len(found) else None
            if drawn is not None:
                tested.append((column, measure, *drawn))
    if not tested:
        return []
    corrected = holm([p for *_, p in tested])
    lines = []
    for (column, measure, value, p), after in zip(tested, corrected, strict=True):
        said = measure.shown(value, "+") + significance_marks(after)
        names = [Cell(column.title, note=column.about), Cell(measure.title)]
        lines.append([*names, Cell(said, value), Cell(p_value(p), p), Cell(p_value(after), after)])
    notes = [
        f"Spearman's, over the {len(found)} tokenizers of the table above; p by permuting them. A figure that puts "
        "them in the order of an earlier one, or the reverse, is left out.",
        f"Holm: corrected for all {len(tested)} of this table.",
        "Tokenizers are no sample of anything, and several are near relatives: what goes together among these need not "
        "among others.",
    ]
    head = ["figure", "score", "rank correlation", "p", "p (Holm)"]
    return [Sheet(f"Figures that go with scores, {title_of(scored.table)}", head, lines, notes=notes, texts=2)]
