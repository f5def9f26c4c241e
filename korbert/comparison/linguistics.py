"""Whether tokens begin and end where morphemes, particles and names do.

Fair across vocabularies, because only places inside eojeol count (every tokenizer here cuts at white space) and they
are places in the text. Not neutral: morphemes are an analyser's, and a tokenizer that cuts at the same analyser's
morphemes agrees with it by construction. Names are gold where the corpus has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.morphology import PARTICLE_TAG, Analyser, Morpheme
from korbert.text import AnnotatedText, place_of
from korbert.tokenizers import Tokenizer, Tokens


@dataclass(frozen=True, slots=True)
class BoundaryAgreement:
    """Places inside eojeol: tokens' against morphemes'. josa: share of the particles in front of which a token begins.

    precision, recall, f1, josa: between 0 and 1; no josa where the analyser finds none. places: boundaries of
    morphemes; particles: how many there are.
    """

    precision: float
    recall: float
    f1: float
    josa: float | None
    places: int
    particles: int


@dataclass(frozen=True, slots=True)
class EntityCuts:
    """Shares of gold entities, between 0 and 1: cut at neither edge, torn at the start, torn at the end."""

    whole: float
    torn_start: float
    torn_end: float
    entities: int


@dataclass(frozen=True, slots=True)
class Consistency:
    """Pairs of eojeol: do those that share a morpheme share a token (recall), and the other way round (precision)?

    Source: the morphological consistency of Asgari et al. 2025, MorphBPE.
    """

    precision: float
    recall: float
    f1: float
    words: int


def inner_places(text: str, places: Iterable[int]) -> set[int]:
    """Those of `places` that are inside an eojeol: no white space before or behind, not at either end."""
    return {
        place
        for place in places
        if 0 < place < len(text) and not text[place - 1].isspace() and not text[place].isspace()
    }


def boundary_agreement(texts: Iterable[str], tokenizer: Tokenizer, analyser: Analyser) -> BoundaryAgreement:
    """Compare over all texts. Raises ValueError where the analyser finds no boundary inside an eojeol."""
    shared = cut = wanted = particles = particles_met = 0
    for text in texts:
        morphemes = analyser.analyse_in_nfc(text)
        theirs = inner_places(text, _edges(morphemes))
        ours = inner_places(text, tokenizer.encode(text).starts.tolist())
        josa = inner_places(text, (m.start for m in morphemes if m.tag.startswith(PARTICLE_TAG)))
        shared += len(ours & theirs)
        cut += len(ours)
        wanted += len(theirs)
        particles += len(josa)
        particles_met += len(josa & ours)
    if not wanted:
        raise ValueError("no morpheme boundary inside an eojeol: nothing to compare with")
    precision, recall = shared / cut if cut else 1.0, shared / wanted
    return BoundaryAgreement(
        precision, recall, _f1(precision, recall), particles_met / particles if particles else None, wanted, particles
    )


def _edges(morphemes: Iterable[Morpheme]) -> set[int]:
    return {edge for morpheme in morphemes for edge in (morpheme.start, morpheme.end)}


def entity_cuts(texts: Iterable[AnnotatedText], tokenizer: Tokenizer) -> EntityCuts:
    """Which entities begin and end where tokens do. Raises ValueError where there is no entity."""
    starts: list[bool] = []
    ends: list[bool] = []
    for text in texts:
        tokens = tokenizer.encode(text.text)
        for entity in text.entities:
            starts.append(_is_crossed(tokens, entity.start))
            ends.append(_is_crossed(tokens, entity.end))
    if not starts:
        raise ValueError("there is no entity to measure a tokenizer on")
    torn_start, torn_end = np.array(starts), np.array(ends)
    return EntityCuts(
        float(np.mean(~torn_start & ~torn_end)), float(torn_start.mean()), float(torn_end.mean()), len(starts)
    )


def _is_crossed(tokens: Tokens, place: int) -> bool:
    """Whether a token goes on across `place`."""
    last = place_of(tokens.starts, place, "left") - 1  # the last token that begins before
    return last >= 0 and bool(tokens.ends[last] > place)


def consistency(words: Sequence[str], tokenizer: Tokenizer, analyser: Analyser) -> Consistency:
    """Compare all pairs of different words; morphemes are the same where their characters are."""
    share_morpheme = _sharing([{w[m.start : m.end] for m in analyser.analyse_in_nfc(w)} for w in words])
    share_token = _sharing([set(_forms(w, tokenizer)) for w in words])
    both = float((share_morpheme & share_token).sum())
    precision = both / max(1.0, float(share_token.sum()))
    recall = both / max(1.0, float(share_morpheme.sum()))
    return Consistency(precision, recall, _f1(precision, recall), len(words))


def _forms(word: str, tokenizer: Tokenizer) -> list[str]:
    """What the tokens of a word say; the sign of a word's start would tell 학교 from 초등학교."""
    tokens = tokenizer.encode(word)
    return [word[a:b] for a, b in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True) if a < b]


def _sharing(sets: Sequence[set[str]]) -> npt.NDArray[np.bool_]:
    """(N, N) upper triangle: which pairs of sets have an element in common."""
    numbers = {element: i for i, element in enumerate(sorted(set().union(*sets)))}
    has = np.zeros((len(sets), max(1, len(numbers))), dtype=np.float32)
    for row, elements in enumerate(sets):
        has[row, [numbers[element] for element in elements]] = 1
    return np.triu(has @ has.T > 0, k=1)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
