"""Sentences as spans of text."""

from __future__ import annotations

import re
import unicodedata

from korbert.text import AnnotatedText, composed_places

# A full stop, question or exclamation mark, closing quotes or brackets behind it, then white space.
_END = re.compile(r"[.!?。…][\"'”’」』)\]》〉]*\s+")
_SHORTEST = 10  # characters in NFC; shorter ones ("1. ", "Mr. ") stay with what follows


def split_sentences(annotated: AnnotatedText) -> list[AnnotatedText]:
    """Cut a paragraph into sentences, white space at their ends removed; never inside an entity.

    The rule is typographic (an end mark and white space), fast, and good enough for next-sentence segments.
    """
    text, starts = annotated.text, sentence_starts(annotated)
    sentences = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        trail = len(text[start:end]) - len(text[start:end].rstrip())
        if start + lead < end - trail:
            sentences.append(annotated.slice(start + lead, end - trail))
    return sentences


def sentence_starts(annotated: AnnotatedText) -> list[int]:
    """Where the sentences of a paragraph begin, in characters; the first one at 0; in NFD where they do in NFC."""
    text = annotated.text
    composed = None if unicodedata.is_normalized("NFC", text) else composed_places(text)

    def is_short(start: int, end: int) -> bool:
        return (end - start if composed is None else composed[end] - composed[start]) < _SHORTEST

    starts = [0]
    entities = iter(annotated.entities)
    entity = next(entities, None)
    for match in _END.finditer(text):
        position = match.end()
        while entity is not None and entity.end <= position:
            entity = next(entities, None)
        inside = entity is not None and entity.start < position
        if not inside and not is_short(starts[-1], position):
            starts.append(position)
    if len(starts) > 1 and is_short(starts[-1], len(text)):
        starts.pop()
    return starts
