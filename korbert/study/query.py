"""Asking for runs: records as flat rows, and conditions such as `task=finetune_korquad f1>20 seed=1`."""

from __future__ import annotations

import json
import operator
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from korbert.errors import ConfigError, meant
from korbert.study.records import StoredRun

Row = dict[str, Any]  # dotted key → value
_TOP = ("task", "date", "commit", "seed", "command")
SUPERSEDED = "superseded"
# A key may be given without the part of the record that it is in; the first part that has it counts.
_PARTS = ("results", "config", "tokenizer", "cost", "hardware", "versions")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"([\w./-]+?)(!=|<=|>=|=|<|>|~)(.*)", re.DOTALL)


def as_row(run: StoredRun) -> Row:
    """A record as one row: what it is, then results.…, config.… and so on; lists as JSON."""
    row: Row = {"id": run.id[:8], "folder": str(run.folder), SUPERSEDED: run.superseded}
    row |= {key: run.record.get(key) for key in _TOP}
    for part in _PARTS:
        _flatten(run.record.get(part), part, row)
    return row


def _flatten(value: Any, key: str, row: Row) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(inner, f"{key}.{name}", row)
    elif isinstance(value, list):
        row[key] = json.dumps(value, ensure_ascii=False)
    elif value is not None or "." in key:
        row[key] = value


def full_key(row: Row, key: str) -> str | None:
    """The key as the row has it; None where it has none such."""
    return next((name for name in (key, *(f"{part}.{key}" for part in _PARTS)) if name in row), None)


def value(row: Row, key: str) -> Any:
    """What the row has under `key`, None where it has nothing."""
    name = full_key(row, key)
    return None if name is None else row[name]


@dataclass(frozen=True, slots=True)
class Condition:
    """`KEY=VALUE`, with =, !=, <, <=, >, >= or ~ (contains)."""

    key: str
    sign: str
    wanted: Any
    text: str  # as it was given: 2.10 is another version than 2.1

    def holds(self, row: Row) -> bool:
        """Numbers are compared as numbers, other values as text; what a row does not have is null."""
        found = value(row, self.key)
        if self.sign == "~":
            return found is not None and self.text in str(found)
        if found is None or self.wanted is None:
            return self.sign in ("=", "!=") and (found == self.wanted) == (self.sign == "=")
        both_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (found, self.wanted))
        if both_numbers or (isinstance(found, bool) and isinstance(self.wanted, bool)):
            return _COMPARISONS[self.sign](found, self.wanted)
        if self.sign[0] in "<>" and isinstance(found, int | float) and not isinstance(found, bool):
            raise ConfigError(f"where: {self.key}{self.sign}{self.wanted}: {self.key} is a number, wanted another one")
        return _COMPARISONS[self.sign](str(found), self.text)


def parse(conditions: str) -> list[Condition]:
    """Conditions with spaces between them, values with a space in quotes. Raises ConfigError naming a wrong one."""
    try:
        words = shlex.split(conditions)
    except ValueError as error:
        raise ConfigError(f"where={conditions}: {error}") from None
    found = []
    for word in words:
        match = _CONDITION.fullmatch(word)
        if match is None:
            signs = " ".join([*_COMPARISONS, "~"])
            raise ConfigError(f"where: {word!r}: wanted KEY, one of {signs}, and a value, e.g. f1>20")
        found.append(Condition(match[1], match[2], _scalar(match[3]), match[3]))
    return found


def _scalar(text: str) -> Any:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return text
    return parsed if parsed is None or isinstance(parsed, bool | int | float) else text


def check_keys(rows: Sequence[Row], keys: Sequence[str], where: str) -> None:
    """Raise ConfigError for a key that not one row has; it is more likely mistyped than everywhere absent."""
    for key in keys:
        if rows and not any(full_key(row, key) for row in rows):
            names = {name for row in rows for name in row}
            names |= {name.partition(".")[2] for name in names if "." in name}
            raise ConfigError(f"{where}: no run has {key!r}{meant(key, names, most=3)}")
