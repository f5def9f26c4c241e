"""Overrides, `KEY=VALUE`: as they were typed, and as Hydra and the shell read them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from omegaconf import OmegaConf

# Text that Hydra takes for nothing but text.
_PLAIN = re.compile(r"(?:[A-Za-z]|\.{0,2}/)[A-Za-z0-9_/.-]*")
_WORDS = ("null", "true", "false", "nan", "inf")


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Hydra's list of overrides, with each `${…}` in them as it is: some cannot be resolved where they are read."""
    words = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def key_of(override: str) -> str:
    """The key, or group, that an override is of."""
    return override.lstrip("+~").partition("=")[0]


def as_overrides(group: str, values: Any) -> list[str]:
    """A part of a configuration as overrides, to be passed on to another door."""
    return [as_override(f"{group}.{key}", value) for key, value in asdict(values).items()]


def as_override(key: str, value: Any) -> str:
    """`key=value` for text, numbers or a list of them; text that could be more to Hydra than text is quoted."""
    return f"{key}={quoted(value)}"


def for_the_shell(key: str, value: Any) -> str:
    """`as_override` as it is typed into a shell. Text with Hangul is quoted by the doors, see commandline.py."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w/.-]+", value) and not value.isascii()
    return f"{key}={shlex.quote(value if plain else quoted(value))}"


def quoted(value: Any) -> str:
    """A value as Hydra reads it; text that could be more than text is in quotation marks."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, str):
        # Hydra takes a backslash as it is, but before a quotation mark.
        inside = re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value)
        return f"'{inside}'"
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return json.dumps(value)
