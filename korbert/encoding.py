"""The one place that knows how entities enter the input: AnnotatedText + Tokenizer → Encoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from korbert.text import AnnotatedText, IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

OUTSIDE, ENTITY = 0, 1  # entity ids


class EntityMode(str, Enum):
    """How entities enter the input. Every mode but NONE cuts tokens at entity boundaries, as SPLIT alone does."""

    NONE = "none"
    SPLIT = "split"
    MARKERS = "markers"
    EMBEDDING = "embedding"
    BOTH = "both"

    @property
    def cuts(self) -> bool:
        """Whether tokens are cut at entity boundaries."""
        return self is not EntityMode.NONE

    @property
    def has_markers(self) -> bool:
        """Whether [ENT] and [/ENT] stand around a mention."""
        return self in (EntityMode.MARKERS, EntityMode.BOTH)

    @property
    def has_embedding(self) -> bool:
        """Whether the tokens of a mention have an entity id."""
        return self in (EntityMode.EMBEDDING, EntityMode.BOTH)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of one text, markers included; no [CLS], [SEP] or padding yet.

    token_ids, entity_ids, starts, ends: (T,) int32. `starts` and `ends` are characters of the original text; a
    marker has an empty span at its mention's edge, and entity id 0.
    """

    token_ids: IntArray
    entity_ids: IntArray
    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.token_ids)

    def take(self, keep: IntArray) -> Encoding:
        """Return the tokens at the indices `keep`."""
        return Encoding(self.token_ids[keep], self.entity_ids[keep], self.starts[keep], self.ends[keep])

    def window(self, start: int, end: int, special: SpecialTokens) -> Encoding:
        """Return tokens `[start, end)` with every marker whose partner was cut off taken out."""
        keep = start + balanced(self.token_ids[start:end], special)
        return self.take(keep)


def encode(
    annotated: AnnotatedText,
    tokenizer: Tokenizer,
    mode: EntityMode = EntityMode.BOTH,
    boundaries: Iterable[int] = (),
    cut: bool = True,
) -> Encoding:
    """Tokenize a text with its entities as `mode` says, cut at `boundaries` (characters) too.

    cut=False leaves tokens whole at entity boundaries: a mention is then every token that it touches. The empty text
    gives an empty encoding.
    """
    edges = [edge for e in annotated.entities for edge in (e.start, e.end)] if mode.cuts and cut else []
    tokens = tokenizer.encode(annotated.text, [*edges, *boundaries])
    entity_ids = np.zeros(len(tokens), dtype=np.int32)
    encoding = Encoding(tokens.ids, entity_ids, tokens.starts, tokens.ends)
    if not mode.has_markers and not mode.has_embedding:
        return encoding
    mentions = _mentions(annotated, encoding)
    if mode.has_embedding:
        for first, last in mentions:
            entity_ids[first:last] = ENTITY
    return _insert_markers(encoding, mentions, tokenizer.special) if mode.has_markers else encoding


def _mentions(annotated: AnnotatedText, encoding: Encoding) -> list[tuple[int, int]]:
    """Token ranges `[first, last)` of the entities; one that shares all its tokens with the one before has none."""
    starts, ends = encoding.starts, encoding.ends
    mentions: list[tuple[int, int]] = []
    previous = 0
    for entity in annotated.entities:
        first = max(int(np.searchsorted(ends, entity.start, side="right")), previous)
        last = int(np.searchsorted(starts, entity.end, side="left"))
        while last < len(ends) and starts[last] == ends[last] == entity.end:
            last += 1  # the rest of an expanded character, which has no characters of its own
        if first < last:
            mentions.append((first, last))
            previous = last
    return mentions


def _insert_markers(encoding: Encoding, mentions: list[tuple[int, int]], special: SpecialTokens) -> Encoding:
    if not mentions:
        return encoding
    edges = np.array(mentions, dtype=np.int32)
    # np.insert keeps the order of values given for one place: a closing marker must precede the next opening one.
    at = edges.reshape(-1)
    markers = np.tile(np.array([special.ent, special.ent_end], dtype=np.int32), len(mentions))
    places = np.empty(len(at), dtype=np.int32)
    places[0::2] = encoding.starts[edges[:, 0]]
    places[1::2] = encoding.ends[edges[:, 1] - 1]
    return Encoding(
        np.insert(encoding.token_ids, at, markers),
        np.insert(encoding.entity_ids, at, OUTSIDE),
        np.insert(encoding.starts, at, places),
        np.insert(encoding.ends, at, places),
    )


def balanced(token_ids: IntArray, special: SpecialTokens) -> IntArray:
    """Indices of `token_ids` (T,) without markers that lost their partner at either end of a cut.

    In a slice of well-formed input only the first marker can be a lone [/ENT] and only the last a lone [ENT].
    """
    keep = np.arange(len(token_ids), dtype=np.int32)
    markers = np.flatnonzero((token_ids == special.ent) | (token_ids == special.ent_end))
    lone = []
    if len(markers) and token_ids[markers[0]] == special.ent_end:
        lone.append(markers[0])
    if len(markers) and token_ids[markers[-1]] == special.ent:
        lone.append(markers[-1])
    return np.delete(keep, lone) if lone else keep
