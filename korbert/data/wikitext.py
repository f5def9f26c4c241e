"""Wikitext that a parser can read in time: brackets that nothing closes as the signs that they are."""

from __future__ import annotations

import re
from collections import Counter

# mwparserfromhell reads on to the end of the page behind every bracket, and begins again where none closes it: a page
# of 40,000 letters could take half a minute, one of two million a day. Real pages have a few dozen at most.
_LIMIT = 50_000_000  # letters that would be read again
_SIGN = re.compile(
    r"<!--|(?P<comment>-->)|(?P<template>\}\})|(?P<table>\|\})|(?P<link>\]\])|(?P<external>\])|\{\{|\{\||\[\["
    r"|\[(?=//|\w+:)|<(?P<slash>/?)(?P<tag>[^\s<>/\[\]{}|]+)(?![^\s<>/\[\]{}|])[^<>]*?(?P<alone>/?)>|<"
)
_KINDS = {"<!--": "comment", "{{": "template", "{|": "table", "[[": "link", "[": "external"}
_NEVER_CLOSED = frozenset(("br", "wbr", "hr", "meta", "link", "img", "li", "dt", "dd", "th", "td", "tr"))
_ENTITIES = {"<": "&lt;", "{": "&#123;", "[": "&#91;"}


def closed(wikitext: str) -> str:
    """The text as it is, or, where too many brackets and tags are never closed, with these as character references.

    What is shown is the same: a bracket without an end is text. Takes time as the text's length, and again where a
    bracket that has become text leaves another one without its end: of {{{|}} the {|, and then, because |} is what
    there is to read now, the {{.
    """
    while (unclosed := _unclosed(wikitext)) and len(unclosed) * len(wikitext) > _LIMIT:
        parts, end = [], 0
        for start, sign in unclosed:
            parts += [wikitext[end:start], *(_ENTITIES.get(char, char) for char in sign)]
            end = start + len(sign)
        wikitext = "".join(parts) + wikitext[end:]
    return wikitext


def _unclosed(wikitext: str) -> list[tuple[int, str]]:
    """Where brackets and tags begin that nothing closes, or something outside of what they are in, in order."""
    found: list[tuple[int, str]] = []
    stack: list[tuple[str, int, str]] = []
    opened: Counter[str] = Counter()

    def close(kind: str) -> None:
        while opened[kind]:
            last, start, sign = stack.pop()
            opened[last] -= 1
            if last == kind:
                return
            found.append((start, sign))

    for match in _SIGN.finditer(wikitext):
        sign, tag = match[0], match["tag"]
        if tag:
            name = tag.lower()
            if match["slash"]:
                close(f"<{name}")
                continue
            if match["alone"] or name in _NEVER_CLOSED:
                continue
            kind, sign = f"<{name}", "<"
        elif match.lastgroup not in (None, "slash", "alone"):
            close(match.lastgroup or "")
            continue
        elif sign == "<":  # no tag, as in a < b
            found.append((match.start(), sign))
            continue
        else:
            kind = _KINDS[sign]
        stack.append((kind, match.start(), sign))
        opened[kind] += 1
    return sorted([*found, *((start, sign) for _, start, sign in stack)])
