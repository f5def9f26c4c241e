"""What is typed on the command line, as Hydra can read it."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable

from korbert.config.mistakes import without_hydra_s_words
from korbert.config.overrides import quoted

_WORD = re.compile(r"[^\s,\[\]][^,\[\]]*(?<!\s)")
# What is quoted already, dictionaries and what stands for other values, functions.
_LEFT_ALONE = re.compile(r"['\"{}\\]|(?:^|[,\[])\s*[A-Za-z_]+\(")


def start(main: Callable[[], object]) -> None:
    """Run a door with the arguments of the process, of which paths with Hangul need no second quotation marks."""
    sys.argv[1:] = [with_quotes(argument) for argument in sys.argv[1:]]
    try:
        without_hydra_s_words(main)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
        sys.exit(1)


def _is_reader_gone() -> bool:
    """Whether nobody reads standard output any more, as behind `| head`; nothing is written to it from now on."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in reader.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def with_quotes(argument: str) -> str:
    """An override whose words with other letters than ASCII are quoted: Hydra's grammar has no such letters.

    Parts of a list, and values of a sweep, are words by themselves. Arguments that have quotation marks are left as
    they are.
    """
    key, sign, value = argument.partition("=")
    if argument.startswith("-") or value.isascii() or _LEFT_ALONE.search(value):
        return argument
    return key + sign + _WORD.sub(lambda word: word[0] if word[0].isascii() else quoted(word[0]), value)
