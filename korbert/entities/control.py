"""Random spans in the place of entities, of all of them or of some.

All of them: the control that tells information from mere marking and cutting. Some, left out or moved: what a model
makes of annotations that are worse than those it has learned with.
"""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.errors import ConfigError
from korbert.sentences import sentence_starts
from korbert.text import AnnotatedText, NormalizedText, Normalizer, Span, blank_mask, composed_places, place_of

_RULES = "random-spans-6"  # raise the number when the rules below change what is drawn
_DAMAGE_RULES = "damaged-3"
_LABEL = "RANDOM"
_STRETCH = 1 << 14  # characters in NFC; no paragraph of KorQuAD or Wikipedia has as many, save for lists
_MOST_COMPOSED = 3  # characters that one becomes in NFC at most
log = logging.getLogger(__name__)


class _DrawnAnnotator(EntityAnnotator):
    """Another annotator's entities, some of them at other places of the same text.

    White space and invisible characters do not count, and stand at no drawn span's ends. Characters are counted, and
    spans drawn, in NFC: NFD text has those of the same text in NFC. A text always gets the same ones: its own hash is
    of the seed.
    """

    def __init__(self, base: EntityAnnotator) -> None:
        self.base = base
        self._normalizer = Normalizer("NFC")

    @abstractmethod
    def _drawn(self, annotated: AnnotatedText, normal: NormalizedText, seed: list[int]) -> AnnotatedText:
        """The text, which is `normal` in NFC, with what takes its entities' place."""

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its spans; one for which no room is left is dropped."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, in their order."""
        return [self._of_stretches(annotated) for annotated in self.base.annotate_all(texts)]

    def _of_stretches(self, annotated: AnnotatedText) -> AnnotatedText:
        spans: list[Span] = []
        for start, stretch in _stretches(annotated):
            found = self._drawn(stretch, *self._seeded(stretch)).entities
            spans += (Span(span.start + start, span.end + start, span.label) for span in found)
        return AnnotatedText(annotated.text, tuple(spans))

    def _seeded(self, stretch: AnnotatedText) -> tuple[NormalizedText, list[int]]:
        """A stretch in NFC, and what is drawn with there."""
        normal = self._normalizer(stretch.text)
        return normal, list(hashlib.sha256(normal.text.encode("utf-8")).digest())


class RandomSpanAnnotator(_DrawnAnnotator):
    """For each entity of another annotator a span of as many visible characters of one sentence, none overlapping.

    They are drawn as `_DrawnAnnotator` says, anywhere in the text, and are of one type. As no entity goes on behind a
    sentence's end, what is cut at sentences is cut alike, unless one of the other annotator's has such an end in it.
    """

    @property
    def fingerprint(self) -> str:
        """The rules, and the other annotator's fingerprint."""
        return f"{_RULES}/{self.base.fingerprint}"

    def _drawn(self, annotated: AnnotatedText, normal: NormalizedText, seed: list[int]) -> AnnotatedText:
        places = _Places.of(normal)
        taken = np.zeros(len(places.visible), dtype=np.bool_)
        first, last = places.of_spans(annotated.entities)
        wanted = [(length, _LABEL) for length in (last - first).tolist()]
        sentences = np.searchsorted(sentence_starts(annotated), places.starts, side="right")
        spans = _draw(places, wanted, taken, np.random.default_rng(seed), sentences)
        return mapped_back(normal, spans)


class DamageCounts(NamedTuple):
    """What became of a base annotator's entities: how many there were, were left out, were moved, and were to be moved
    but left out, because no place of the text had room for them."""

    entities: int
    dropped: int
    moved: int
    no_room: int


class DamagedAnnotator(_DrawnAnnotator):
    """Another annotator's entities, a share of them left out and a share moved to where none of its entities is.

    What is damaged is drawn for every entity by itself, from the seed and the text; with a larger share and the same
    seed it is more of them, and none of the others. Moved ones keep their type and their number of visible characters,
    and lie apart; one that finds no room is left out, see `counts`.
    """

    def __init__(self, base: EntityAnnotator, dropped: float = 0.0, moved: float = 0.0, seed: int = 0) -> None:
        """dropped, moved: shares of the entities, in [0, 1] together. Raises ConfigError for others."""
        super().__init__(base)
        for key, share in (("dropped", dropped), ("moved", moved)):
            if not 0 <= share <= 1:
                raise ConfigError(f"damage.{key}: wanted a share between 0 and 1, got {share}")
        if dropped + moved > 1:
            raise ConfigError(f"damage.dropped={dropped} and damage.moved={moved} are more than all entities")
        self.dropped, self.moved, self.seed = dropped, moved, seed

    @property
    def fingerprint(self) -> str:
        """The rules, the shares, the seed, and the other annotator's fingerprint."""
        return f"{_DAMAGE_RULES}/{self.dropped}/{self.moved}/{self.seed}/{self.base.fingerprint}"

    def counts(self, texts: Sequence[str]) -> DamageCounts:
        """What becomes of the entities of several texts; where some find no room, a warning says how many."""
        entities = dropped = moved = no_room = 0
        for annotated in self.base.annotate_all(texts):
            for _, stretch in _stretches(annotated):
                normal, seed = self._seeded(stretch)
                kept, displaced, asked = self._damaged(stretch, normal, seed)
                entities += len(stretch.entities)
                dropped += len(stretch.entities) - len(kept) - asked
                moved += len(displaced)
                no_room += asked - len(displaced)
        if no_room:
            log.warning(
                "damage.moved=%s: %d of %d entities found no room beside the others of their text, and are left out",
                self.moved, no_room, moved + no_room,
            )  # fmt: skip
        return DamageCounts(entities, dropped, moved, no_room)

    def _drawn(self, annotated: AnnotatedText, normal: NormalizedText, seed: list[int]) -> AnnotatedText:
        kept, displaced, _ = self._damaged(annotated, normal, seed)
        return AnnotatedText(annotated.text, tuple(sorted((*kept, *displaced))))

    def _damaged(
        self, annotated: AnnotatedText, normal: NormalizedText, seed: list[int]
    ) -> tuple[Sequence[Span], Sequence[Span], int]:
        """The entities that stay, those that were moved, and how many were to be."""
        rng = np.random.default_rng([self.seed, *seed])
        fate = rng.random(len(annotated.entities))
        stays = fate >= self.dropped + self.moved
        kept = [annotated.entities[i] for i in np.flatnonzero(stays).tolist()]
        places = _Places.of(normal)
        first, last = places.of_spans(annotated.entities)
        taken = np.zeros(len(places.visible), dtype=np.bool_)
        # Where any entity was, those that are left out too: a span there would be right, or right in part.
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            taken[a:b] = True
        is_moved = np.flatnonzero((fate >= self.dropped) & ~stays).tolist()
        wanted = [(int(last[i] - first[i]), annotated.entities[i].label) for i in is_moved]
        return kept, mapped_back(normal, _draw(places, wanted, taken, rng)).entities, len(is_moved)


class _Places(NamedTuple):
    """The visible characters of a text in NFC, each (N,): their indices there, their first and end character in the
    text; and, (N + 1,), whether a span may begin or end there: a letter goes with the marks on it."""

    visible: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    can_cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, normal: NormalizedText) -> _Places:
        """Those of a text."""
        visible = np.flatnonzero(~blank_mask(normal.text))
        starts = normal.starts[visible]
        return cls(visible, starts, normal.ends[visible], np.append(np.diff(starts, prepend=-1) > 0, True))

    def of_spans(self, entities: Sequence[Span]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each entity the first visible character, and the one behind its last."""
        edges = np.array([(entity.start, entity.end) for entity in entities], dtype=np.int32).reshape(-1, 2)
        return self.ends.searchsorted(edges[:, 0], side="right"), self.starts.searchsorted(edges[:, 1])


def _draw(
    places: _Places,
    wanted: Sequence[tuple[int, str]],
    taken: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    sentences: npt.NDArray[np.int64] | None = None,
) -> list[tuple[int, int, str]]:
    """Spans of so many visible characters where none is taken, in order: start and end in NFC, type.

    sentences: the number of each visible character's sentence, (N,), where no span may reach into the next one.
    """
    spans = []
    for length, label in sorted(wanted, key=lambda one: -one[0]):  # long ones first, while there is room
        before = np.append(0, np.cumsum(taken))
        last = len(before) - length
        is_free = before[length:] == before[:last]
        if sentences is not None and length:
            is_free &= sentences[length - 1 :] == sentences[:last]
        starts = np.flatnonzero(is_free & places.can_cut[length:] & places.can_cut[:last])
        if length and len(starts):
            start = int(rng.choice(starts))
            taken[start : start + length] = True
            spans.append((int(places.visible[start]), int(places.visible[start + length - 1]) + 1, label))
    return sorted(spans)


def _stretches(annotated: AnnotatedText) -> Iterator[tuple[int, AnnotatedText]]:
    """A long text in parts, and where each begins: all places of one are looked through for every span."""
    start = 0
    for end in [*_ends(annotated), len(annotated.text)]:
        yield start, annotated.slice(start, end)
        start = end


def _ends(annotated: AnnotatedText) -> Iterator[int]:
    """Where stretches end, of about so many characters in NFC each; never inside an entity."""
    if len(annotated.text) * _MOST_COMPOSED <= _STRETCH:
        return
    places = composed_places(annotated.text)
    if places[-1] <= _STRETCH:
        return

    def behind(count: int) -> int:
        return place_of(places, count, "right") - 1

    end = behind(_STRETCH)
    for entity in annotated.entities:
        while end <= entity.start:
            yield end
            end = behind(int(places[end]) + _STRETCH)
        end = max(end, entity.end)
    while end < len(annotated.text):
        yield end
        end = behind(int(places[end]) + _STRETCH)
