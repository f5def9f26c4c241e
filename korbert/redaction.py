"""Secrets of the environment stay out of what korbert writes: configurations, records, logs, notes of failures.

A secret is the value of a variable whose name says so, such as WANDB_API_KEY, HF_TOKEN, GITHUB_PAT or MYSQL_PWD, and
what stands before the @ of an address, as in https://user:password@host or https://token@host.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from korbert.errors import ConfigError

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"(^|_)((API|AUTH)?(KEY|TOKEN)|PAT|PASS)$|_PWD$|PASSW|PASSPHRASE|SECRET", re.IGNORECASE)
_SHORTEST = 8  # characters; shorter values, such as "false", occur in any text
# A user and a password, in which people leave "/" and "@" as they are: up to the last @, because rather a port and path
# are hidden than the rest of a password kept. A name alone is a token on the web; the one of ssh://git@host is a login.
_IN_ADDRESS = re.compile(
    r"(?<=://)[^\s/@:'\"]*:(?:(?!://)[^\s'\"])*(?=@)|(?:(?<=http://)|(?<=https://))[^\s/@:'\"]+(?=@)", re.IGNORECASE
)


def _secrets() -> dict[str, str]:
    """Value → the name of its variable, the longest value first: one may be a part of another."""
    found = {
        value: name
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and not _is_folder(value)
    }
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _is_folder(value: str) -> bool:
    """As OLD_PWD is."""
    return os.path.isdir(value)  # noqa: PTH112 - of Path's own a long key is an error


def redacted(text: str) -> str:
    """The text with every secret in it hidden."""
    for value in _secrets():
        text = text.replace(value, HIDDEN)
    return _IN_ADDRESS.sub(HIDDEN, text) if "://" in text else text


def redacted_values(value: Any) -> Any:
    """A JSON-able value with every secret in its strings hidden."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(inner) for key, inner in value.items()}
    return [redacted_values(inner) for inner in value] if isinstance(value, list | tuple) else value


def refuse_secrets(words: Sequence[str]) -> None:
    """Raise ConfigError where one of the command line's words has a secret in it: it would be kept with the run."""
    for word in words:
        name = next((name for value, name in _secrets().items() if value in word), None)
        if name is not None or _IN_ADDRESS.search(word):
            what = "a password or a token" if name is None else f"the value of {name}"
            raise ConfigError(
                f"{word.partition('=')[0]}: has {what} in it, and a run keeps its command line; leave it to the "
                "environment"
            )


class RedactingFormatter(logging.Formatter):
    """Log lines without secrets, those of libraries and tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry."""
        return redacted(super().format(record))
