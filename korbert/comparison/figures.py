"""The figures of a comparison's rows: columns in groups, the best trades, and advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
        found: Any = row.get("training", {}) if self.measure == "training" else row["results"].get(self.measure, {})
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
        Column("≤{} %", "cost", "fits.{}", "paragraphs that fit {} tokens with [CLS] and [SEP]", 100, better="high"),
        Column("used %", "cost", "used", "entries of the vocabulary that occur", 100, better="high"),
        Column("once %", "cost", "used_once", "entries that occur once", 100, better="low"),
        Column("Rényi", "cost", "renyi_efficiency", "evenness of use, Rényi efficiency of order 2.5", 1, 2, "high"),
        Column("emb. M", "cost", "embedding_parameters", "millions of parameters in embeddings", 1e-6, better="low"),
    ),
    "Loss": (
        Column("unknown %", "cost", "unknown", "tokens that are unknown", 100, 2, "low"),
        Column("lost %", "cost", "lost", "visible characters that are in unknown tokens, or in none", 100, 2, "low"),
        Column("exact %", "cost", "round_trip", "paragraphs that decode to themselves", 100, better="high"),
        Column("unaligned", "alignment", "unaligned", "morphemes of the analyser that the text lacks", 1, 0, "low"),
    ),
    "KorQuAD ceiling": (
        Column("oracle EM", "ceiling", "exact_match", "the best tokens at the answer, official metric", better="high"),
        Column("oracle F1", "ceiling", "f1", "the best tokens at the answer, official metric", better="high"),
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
        Column("{} processes", "speed", "by_processes.{}", "spans by the clock, megabytes a second", 1, 2, "high"),
        Column("RAM MB", "speed", "memory_mb", "memory that the tokenizer takes", 1, 0, "low"),
        Column("trained s", "training", "seconds", "seconds of training, by the clock", 1, 0, "low"),
    ),
}  # fmt: skip
_USUAL_LENGTH = "384"  # of KorQuAD's windows; of several lengths one is shown


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each row's main figures by the titles of their columns."""
    columns = used_columns(rows)
    return [
        {"tokenizer": row["name"], "vocabulary": row["vocabulary"]}
        | {column.title: "" if (value := column.value(row)) is None else value for column in columns}
        for row in rows
    ]


def used_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns that some row has a figure for."""
    return [column for _, columns in used_groups(rows) for column in columns]


def recommend(rows: Sequence[Row]) -> list[str]:
    """What the figures say about the choice for KorQuAD, and how far that goes; [] without costs and ceilings."""
    known = [row for row in rows if {"cost", "ceiling"} <= row["results"].keys()]
    front = best_trades(rows)
    if not front:
        return [f"All of them lose more than {_LOSSLESS:.1%} of the characters; none can be advised."] if known else []
    listed = ", ".join(f"{row['name']} ({oracle_em(row):.1f} at {tokens_by_eojeol(row):.2f})" for row in front)
    sentences = [
        f"Of those that lose at most {_LOSSLESS:.1%} of the characters, none has a higher oracle EM with as few tokens "
        f"by eojeol as: {listed}."
    ]
    good = [row for row in front if oracle_em(row) >= _GOOD_CEILING]
    if good:
        sentences.append(
            f"For a reader that points at tokens: {good[0]['name']}, the shortest sequences with an oracle EM of "
            f"{_GOOD_CEILING:.0f} or more. With a shorter one more answers cannot be pointed at where they stand."
        )
    else:
        sentences.append(
            f"None of them reaches an oracle EM of {_GOOD_CEILING:.0f}: a reader that points at tokens needs cuts at "
            "entities, a smaller vocabulary, or an analyser in front."
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
        ours = (-oracle_em(row), tokens_by_eojeol(row))
        others = ((-oracle_em(other), tokens_by_eojeol(other)) for other in faithful)
        return any(a <= ours[0] and b <= ours[1] and (a, b) != ours for a, b in others)

    return sorted((row for row in faithful if not is_beaten(row)), key=tokens_by_eojeol)


def oracle_em(row: Row) -> float:
    """Percent."""
    return float(row["results"]["ceiling"]["exact_match"])


def tokens_by_eojeol(row: Row) -> float:
    """Tokens by eojeol of KorQuAD's paragraphs."""
    return float(row["results"]["cost"]["per_eojeol"])


def used_groups(rows: Sequence[Row]) -> list[tuple[str, list[Column]]]:
    """Titles and columns of the groups that some row has figures for."""
    groups = []
    for title, columns in _GROUPS.items():
        every = [one for column in columns for one in _by_setting(column, rows)]
        groups.append((title, [column for column in every if any(column.value(row) is not None for row in rows)]))
    return [(title, columns) for title, columns in groups if columns]


def _by_setting(column: Column, rows: Sequence[Row]) -> list[Column]:
    """A column that has a number in its key: one for each number that was measured, or the usual one alone."""
    outer = column.key.removesuffix(".{}")
    if outer == column.key:
        return [column]
    found = {number for row in rows for number in row["results"].get(column.measure, {}).get(outer, {})}
    numbers = [_USUAL_LENGTH] if _USUAL_LENGTH in found else sorted(found, key=int)
    made = []
    for number in numbers:
        title, key, about = (text.format(number) for text in (column.title, column.key, column.about))
        made.append(replace(column, title="1 process" if title == "1 processes" else title, key=key, about=about))
    return made
