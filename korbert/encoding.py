"""The one place that knows how entities enter the input: AnnotatedText + Tokenizer → Encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from korbert.entities.types import TYPES, type_id
from korbert.text import AnnotatedText, IntArray, span_edges
from korbert.tokenizers import SpecialTokens, Tokenizer

OUTSIDE, ENTITY = 0, 1  # entity ids; where types are told, from 1 on they are those of `TYPES`
BoolArray = npt.NDArray[np.bool_]


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

    @classmethod
    def _missing_(cls, value: object) -> EntityMode:
        raise ValueError(f"mode: {value!r} is unknown, wanted one of {', '.join(mode.value for mode in cls)}")


@dataclass(frozen=True, slots=True)
class EntityInput:
    """How entities enter the input, in full.

    mode: or its name. typed: entity ids tell the type, else all are 1. embed_markers: markers have the entity id of
    their mention, too; in mode "markers" they alone, so that they tell types apart. shared_positions: a marker has the
    position of the token that it stands beside, so that text has the positions it would have without. max_entities:
    mentions that are marked in a sequence at most, see `shares`; of a segment that has more than its share those are
    taken that are spread evenly over all it has. The others are text, cut at their boundaries.
    Raises ValueError for an unknown mode, and for what would change nothing.
    """

    mode: EntityMode = EntityMode.BOTH
    typed: bool = False
    embed_markers: bool = False
    shared_positions: bool = False
    max_entities: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", EntityMode(self.mode))
        for key in ("embed_markers", "shared_positions"):
            if getattr(self, key) and not self.mode.has_markers:
                raise ValueError(f"{key} needs markers, but mode is {self.mode.value}")
        if self.typed and not self.uses_embedding:
            raise ValueError(f"typed changes nothing in mode {self.mode.value}; for typed markers set embed_markers")
        if self.max_entities is not None and self.max_entities < 0:
            raise ValueError(f"max_entities: wanted 0 or more, got {self.max_entities}")

    @classmethod
    def of(cls, value: EntityInput | EntityMode) -> EntityInput:
        """A mode with all else as it is by default."""
        return value if isinstance(value, EntityInput) else cls(value)

    @property
    def embeds_markers(self) -> bool:
        """Whether markers have entity ids."""
        return self.embed_markers and self.mode.has_markers

    @property
    def uses_embedding(self) -> bool:
        """Whether any token has an entity id but 0."""
        return self.mode.has_embedding or self.embeds_markers

    @property
    def entity_types(self) -> int:
        """How many entity ids there are beside 0."""
        return len(TYPES) if self.typed else 1

    def shown(self, token_ids: IntArray, entity_ids: IntArray, special: SpecialTokens) -> tuple[IntArray, IntArray]:
        """Of tokens with all markers and typed entity ids: the indices that stay, and the entity ids of those.

        Markers that a cut has parted from their partner go in every mode.
        """
        keep = balanced(token_ids, special)
        ids, entities = token_ids[keep], entity_ids[keep]
        is_open, is_close = ids == special.ent, ids == special.ent_end
        if not self.typed:
            entities = np.minimum(entities, ENTITY)
        out = entities if self.mode.has_embedding else np.zeros_like(entities)
        if self.embeds_markers:
            out = np.where(is_open, np.append(entities[1:], 0), np.where(is_close, np.append(0, entities[:-1]), out))
        if not self.mode.has_markers:
            is_text = ~(is_open | is_close)
            keep, out = keep[is_text], out[is_text]
        return keep, out.astype(np.int32)

    def shares(self, first: int, second: int) -> tuple[int, int]:
        """How many mentions of a sequence's two segments are marked, which have so many: as many as are allowed.

        Half of `max_entities` for each, of an odd number one more for the first, and what one does not need is the
        other's: a question, which has few, keeps all of its own beside a text that is full of them.
        """
        if self.max_entities is None:
            return first, second
        own = min(first, max(self.max_entities - self.max_entities // 2, self.max_entities - second))
        return own, min(second, self.max_entities - own)

    def limited(
        self, token_ids: IntArray, entity_ids: IntArray, special: SpecialTokens, allowed: int | None = None
    ) -> tuple[IntArray, IntArray]:
        """The same of such tokens, before they are `shown`, without the mentions that are more than `allowed`.

        allowed: None for `max_entities`, where the tokens are all of a sequence. A mention that a cut has left in part
        counts in every mode, so that all modes mark the same ones.
        """
        allowed = self.max_entities if allowed is None else allowed
        everything = np.arange(len(token_ids), dtype=np.int32), entity_ids
        if allowed is None:
            return everything
        mentions = mention_numbers(token_ids, entity_ids, special)
        count = mention_count(mentions)
        if count <= allowed:
            return everything
        stays = np.zeros(count, dtype=np.bool_)
        stays[np.linspace(0, count - 1, allowed).round().astype(np.int64)] = True
        return unmarked(token_ids, entity_ids, mentions, ~stays, special)

    def fitting(
        self, token_ids: IntArray, entity_ids: IntArray, special: SpecialTokens, allowed: int | None = None
    ) -> tuple[IntArray, IntArray]:
        """What is `shown` of what is `limited`."""
        keep, entities = self.limited(token_ids, entity_ids, special, allowed)
        stay, shown = self.shown(token_ids[keep], entities, special)
        return keep[stay], shown


EVERYTHING = EntityInput(typed=True)  # what the others can be made of, see `EntityInput.fitting`


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of one text, markers included; no [CLS], [SEP] or padding yet.

    token_ids, entity_ids, starts, ends: (T,) int32. `starts` and `ends` are characters of the original text; a
    marker has an empty span at its mention's edge.
    """

    token_ids: IntArray
    entity_ids: IntArray
    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.token_ids)

    def take(self, keep: IntArray | slice) -> Encoding:
        """Return the tokens at the indices `keep`."""
        return Encoding(self.token_ids[keep], self.entity_ids[keep], self.starts[keep], self.ends[keep])

    def window(self, start: int, end: int, special: SpecialTokens) -> Encoding:
        """Return tokens `[start, end)` with every marker whose partner was cut off taken out."""
        keep = start + balanced(self.token_ids[start:end], special)
        return self.take(keep)


def encode(
    annotated: AnnotatedText,
    tokenizer: Tokenizer,
    entities: EntityInput | EntityMode = EntityMode.BOTH,
    boundaries: Iterable[int] = (),
    cut: bool = True,
) -> Encoding:
    """Tokenize a text with its entities as `entities` says, cut at `boundaries` (characters) too.

    cut=False leaves tokens whole at entity boundaries: a mention is then every token that it touches. The empty text
    gives an empty encoding. `max_entities` is for sequences, and not looked at here, see `encode_sequence`.
    """
    given = EntityInput.of(entities)
    edges = span_edges(annotated.text, annotated.entities)
    tokens = tokenizer.encode(annotated.text, [*(edges if given.mode.cuts and cut else ()), *boundaries])
    entity_ids = np.zeros(len(tokens), dtype=np.int32)
    encoding = Encoding(tokens.ids, entity_ids, tokens.starts, tokens.ends)
    if not given.mode.has_markers and not given.mode.has_embedding:
        return encoding
    marked = _marked(encoding, _mentions(_typed(annotated, edges), tokens.starts, tokens.ends), tokenizer.special)
    if given.mode is EntityMode.BOTH and given.typed and not given.embeds_markers:
        return marked  # all of it is shown
    keep, shown = given.shown(marked.token_ids, marked.entity_ids, tokenizer.special)
    return Encoding(marked.token_ids[keep], shown, marked.starts[keep], marked.ends[keep])


def encode_sequence(
    annotated: AnnotatedText, tokenizer: Tokenizer, entities: EntityInput, boundaries: Iterable[int] = ()
) -> Encoding:
    """As `encode`, of a text that is a sequence by itself: with no more mentions marked than `max_entities`."""
    if entities.max_entities is None or not entities.mode.cuts:
        return encode(annotated, tokenizer, entities, boundaries)
    whole = encode(annotated, tokenizer, EVERYTHING, boundaries)
    keep, shown = entities.fitting(whole.token_ids, whole.entity_ids, tokenizer.special)
    return replace(whole.take(keep), entity_ids=shown)


def encode_all(
    annotated: Sequence[AnnotatedText], tokenizer: Tokenizer, cut: bool = True
) -> tuple[Encoding, npt.NDArray[np.int64]]:
    """Many texts as `encode` gives them with typed entities in mode "both", end to end, and how many tokens each has.

    Marking all of them at once takes a fraction of the time where texts are short.
    """
    if not annotated:
        nothing = np.zeros(0, dtype=np.int32)
        return Encoding(nothing, nothing, nothing, nothing), np.zeros(0, dtype=np.int64)
    edges = [span_edges(text.text, text.entities) for text in annotated]
    tokens = tokenizer.encode_all([text.text for text in annotated], edges if cut else ())
    ids, starts, ends = map(np.concatenate, zip(*((t.ids, t.starts, t.ends) for t in tokens), strict=True))
    lengths = np.array([len(t.ids) for t in tokens])
    firsts = np.append(0, np.cumsum(lengths))
    # Characters are counted as if a text began one behind the end of the one before: nothing touches another's.
    places = np.cumsum([0, *(len(text.text) + 1 for text in annotated[:-1])])
    entities = [
        (place + start, place + end, kind)
        for place, text, own in zip(places.tolist(), annotated, edges, strict=True)
        for start, end, kind in _typed(text, own)
    ]
    shift = np.repeat(places, lengths)
    mentions = _mentions(entities, starts + shift, ends + shift)
    marked = _marked(Encoding(ids, np.full_like(ids, OUTSIDE), starts, ends), mentions, tokenizer.special)
    before = np.searchsorted([last for _, last, _ in mentions], firsts, side="right")
    return marked, np.diff(firsts + 2 * before)


def _typed(annotated: AnnotatedText, edges: Sequence[int]) -> list[tuple[int, int, int]]:
    """Where entities are cut, and their types."""
    kinds = (type_id(entity.label) for entity in annotated.entities)
    return list(zip(edges[0::2], edges[1::2], kinds, strict=True))


def _marked(encoding: Encoding, mentions: Sequence[tuple[int, int, int]], special: SpecialTokens) -> Encoding:
    """With markers around every mention, and typed entity ids in it."""
    for first, last, kind in mentions:
        encoding.entity_ids[first:last] = kind
    return _insert_markers(encoding, [(first, last) for first, last, _ in mentions], special)


def _mentions(
    entities: Sequence[tuple[int, int, int]], starts: npt.NDArray[np.integer], ends: npt.NDArray[np.integer]
) -> list[tuple[int, int, int]]:
    """Token ranges `[first, last)` of the entities, which are characters `[start, end)`, and their types.

    An entity that shares all its tokens with the one before has none.
    """
    if not entities:
        return []
    edges = np.array(entities, dtype=starts.dtype)
    firsts = ends.searchsorted(edges[:, 0], side="right").tolist()
    lasts = starts.searchsorted(edges[:, 1], side="left").tolist()
    mentions: list[tuple[int, int, int]] = []
    previous = 0
    for (_, _, kind), first, last in zip(entities, firsts, lasts, strict=True):
        first = max(first, previous)
        if first < last:
            end = ends[last - 1]  # of its last token, which may go on where the entity ends
            while last < len(ends) and starts[last] == ends[last] == end:
                last += 1  # the rest of a character of several tokens, of which the first has it all
            mentions.append((first, last, kind))
            previous = last
    return mentions


def marker_mask(token_ids: IntArray, special: SpecialTokens) -> npt.NDArray[np.bool_]:
    """Where [ENT] and [/ENT] stand, (T,)."""
    return (token_ids == special.ent) | (token_ids == special.ent_end)


def _insert_markers(encoding: Encoding, mentions: list[tuple[int, int]], special: SpecialTokens) -> Encoding:
    if not mentions:
        return encoding
    edges = np.array(mentions, dtype=np.int32)
    count = len(encoding) + edges.size
    # Markers come in the order of their places: a closing one before an opening one that has the same.
    places = edges.reshape(-1) + np.arange(edges.size)
    is_token = np.ones(count, dtype=np.bool_)
    is_token[places] = False
    opens, closes = places[0::2], places[1::2]
    token_ids, entity_ids, starts, ends = (np.empty(count, dtype=np.int32) for _ in range(4))
    token_ids[is_token], token_ids[opens], token_ids[closes] = encoding.token_ids, special.ent, special.ent_end
    entity_ids[is_token], entity_ids[places] = encoding.entity_ids, OUTSIDE
    starts[is_token], ends[is_token] = encoding.starts, encoding.ends
    starts[opens] = ends[opens] = encoding.starts[edges[:, 0]]
    starts[closes] = ends[closes] = encoding.ends[edges[:, 1] - 1]
    return Encoding(token_ids, entity_ids, starts, ends)


def balanced(token_ids: IntArray, special: SpecialTokens) -> IntArray:
    """Indices of `token_ids` (T,) without markers that lost their partner at either end of a cut.

    In a slice of well-formed input only the first marker can be a lone [/ENT] and only the last a lone [ENT].
    """
    keep = np.arange(len(token_ids), dtype=np.int32)
    markers = np.flatnonzero(marker_mask(token_ids, special))
    lone = []
    if len(markers) and token_ids[markers[0]] == special.ent_end:
        lone.append(markers[0])
    if len(markers) and token_ids[markers[-1]] == special.ent:
        lone.append(markers[-1])
    return np.delete(keep, lone) if lone else keep


def mention_numbers(token_ids: IntArray, entity_ids: IntArray, special: SpecialTokens) -> IntArray:
    """The number of the mention that each token belongs to, its markers too; -1 outside of all, (T,) int32.

    token_ids: no marker without its partner. Outside of markers, a run of one entity id counts as one mention: where
    there are no markers, or a cut has parted them.
    """
    is_open, is_close = token_ids == special.ent, token_ids == special.ent_end
    inside = np.cumsum(is_open) - np.cumsum(is_close) + is_close > 0
    loose = np.where(inside, 0, entity_ids)
    begins = is_open | ((loose > 0) & (loose != np.append(0, loose[:-1])))
    return np.where(inside | (loose > 0), np.cumsum(begins) - 1, -1).astype(np.int32)


def mention_count(mentions: IntArray) -> int:
    """How many there are, of their `mention_numbers`."""
    return int(mentions.max(initial=-1)) + 1


def unmarked(
    token_ids: IntArray, entity_ids: IntArray, mentions: IntArray, dropped: BoolArray, special: SpecialTokens
) -> tuple[IntArray, IntArray]:
    """Indices of the tokens that stay, and their entity ids, where the `dropped` mentions are text like any other.

    mentions: (T,), see `mention_numbers`; dropped: (mentions,).
    """
    goes = np.append(dropped, False)[mentions]  # -1 is the last
    is_marker = marker_mask(token_ids, special)
    keep = np.flatnonzero(~(goes & is_marker)).astype(np.int32)
    return keep, np.where(goes, OUTSIDE, entity_ids)[keep].astype(np.int32)


def shared_positions(token_ids: IntArray, special: SpecialTokens) -> IntArray:
    """Positions as without markers, (T,) int32; a marker has that of the token of its mention beside it."""
    is_close = token_ids == special.ent_end
    is_text = ~is_close & (token_ids != special.ent)
    before = np.cumsum(is_text) - is_text
    return (before - is_close).astype(np.int32)
