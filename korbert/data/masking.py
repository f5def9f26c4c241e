"""Which tokens a masked LM must predict, and what it sees in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.data.units import EOJEOL, MENTION, MORPHEME, NEW_MENTION, PROPER
from korbert.encoding import marker_mask
from korbert.errors import ConfigError, check_known
from korbert.model.targets import IGNORE_INDEX
from korbert.morphology import make_analyser
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens

UNITS = ("token", "eojeol", "morpheme", "span", "entity")
Indices = npt.NDArray[np.int64]


@dataclass
class MaskingConfig:
    """Share of tokens to predict, and what is shown in their place; the rest of them stay as they are.

    unit: what is chosen as a whole. "token"; "eojeol"; "morpheme"; "span", stretches whose length is drawn from a
    geometric distribution of parameter span_p, at most max_span tokens (Joshi et al. 2020, SpanBERT); "entity",
    mentions and runs of proper nouns first, until they are entity_share of all, then morphemes. analyser: whose
    morphemes and proper nouns.
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    unit: str = "token"
    analyser: str = "mecab"
    span_p: float = 0.2
    max_span: int = 10
    entity_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise ConfigError(f"task.masking.rate: wanted a share between 0 and 1, got {self.rate}")
        if not (self.mask_share >= 0 and self.random_share >= 0 and self.mask_share + self.random_share <= 1):
            raise ConfigError(
                "task.masking: mask_share and random_share must not be negative and sum to at most 1, got "
                f"{self.mask_share} and {self.random_share}"
            )
        check_known("task.masking.unit", self.unit, UNITS)
        if not 0.0 < self.span_p <= 1.0 or self.max_span < 1:
            raise ConfigError(
                f"task.masking: wanted 0 < span_p <= 1 and max_span of 1 or more, got {self.span_p} and {self.max_span}"
            )
        if not 0.0 <= self.entity_share <= 1.0:
            raise ConfigError(f"task.masking.entity_share: wanted a share between 0 and 1, got {self.entity_share}")

    @property
    def flags(self) -> str:
        """What has to be flagged in the token shards, see `korbert.data.shards.build_shards`."""
        if self.unit in ("token", "span"):
            return ""
        return "eojeol" if self.unit == "eojeol" else make_analyser(self.analyser, "task.masking.analyser").name


def mask_tokens(
    token_ids: IntArray,
    rng: np.random.Generator,
    special: SpecialTokens,
    vocab_size: int,
    config: MaskingConfig,
    flags: IntArray | None = None,
) -> tuple[IntArray, IntArray]:
    """Choose `rate` of the ordinary tokens, exactly (rounded, at least one), and hide them 80/10/10.

    flags: (T,), see `korbert.data.units`, for units that are more than a token; such a unit has one fate, and one of
    them at most is hidden in part, where the number could not be reached otherwise. Special tokens and markers are
    never chosen and never put in as random tokens. Returns the new token ids and the labels (IGNORE_INDEX where
    nothing is predicted), each (T,) int32. Source: Devlin et al. 2019, section 3.1.
    """
    labels = np.full(len(token_ids), IGNORE_INDEX, dtype=np.int32)
    is_special = special.among(token_ids)
    candidates = np.flatnonzero(~is_special)
    if not len(candidates):
        return token_ids, labels
    budget = max(1, round(config.rate * len(candidates)))
    if config.unit == "token":
        chosen = rng.choice(candidates, size=budget, replace=False)
        fate = rng.random(budget)
    else:
        is_marker = marker_mask(token_ids, special)
        # What is not parted by a special token has one number.
        cut = np.cumsum(is_special & ~is_marker, dtype=np.int64)[candidates]
        if config.unit == "span":
            places, unit = _spans(cut, budget, rng, config)
        else:
            assert flags is not None
            places, unit = _units(cut, flags[candidates], budget, rng, config)
        chosen = candidates[places]
        fate = rng.random(len(candidates))[unit]
    labels[chosen] = token_ids[chosen]
    masked = token_ids.copy()
    masked[chosen[fate < config.mask_share]] = special.mask
    replaced = chosen[(fate >= config.mask_share) & (fate < config.mask_share + config.random_share)]
    masked[replaced] = _random_tokens(len(replaced), rng, special, vocab_size)
    return masked, labels


def _units(
    cut: Indices, flags: IntArray, budget: int, rng: np.random.Generator, config: MaskingConfig
) -> tuple[Indices, Indices]:
    """Places of `budget` of the candidates in whole units, and the unit of each."""
    begins = np.concatenate([[True], cut[1:] != cut[:-1]])
    preferred = np.zeros(len(flags), dtype=np.bool_)
    if config.unit == "entity":
        kind = np.where(flags & MENTION, 2, np.where(flags & PROPER, 1, 0))
        begins[1:] |= kind[1:] != kind[:-1]
        begins |= (flags & NEW_MENTION) > 0
        begins |= ((flags & MORPHEME) > 0) & (kind == 0)
        begins |= ((flags & EOJEOL) > 0) & (kind == 1)
        preferred = kind > 0
    else:
        begins |= (flags & (EOJEOL if config.unit == "eojeol" else MORPHEME)) > 0
    first = np.flatnonzero(begins)
    sizes = np.diff(np.append(first, len(flags)))
    order = rng.permutation(len(first))
    reserved = round(config.entity_share * budget)
    taken: list[int] = []
    left = budget
    if config.unit == "entity":
        for number in order[preferred[first[order]]].tolist():
            if sizes[number] <= left - (budget - reserved):
                taken.append(number)
                left -= int(sizes[number])
    done = set(taken)
    part = -1
    for number in order[np.argsort(preferred[first[order]], kind="stable")].tolist():
        if left == 0:
            break
        if number in done:
            continue
        if sizes[number] <= left:
            taken.append(number)
            left -= int(sizes[number])
        elif part < 0:
            part = number
    if left:  # what is left is smaller than every unit that is left
        taken.append(part)
        sizes[part] = left
    lengths = sizes[taken]
    unit = np.repeat(taken, lengths)
    within = np.arange(len(unit)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return first[unit] + within, unit


def _spans(cut: Indices, budget: int, rng: np.random.Generator, config: MaskingConfig) -> tuple[Indices, Indices]:
    """Places of `budget` of the candidates in stretches of random length, and the stretch of each."""
    unit = np.full(len(cut), -1, dtype=np.int64)
    left, number = budget, 0
    while left:
        length = min(int(rng.geometric(config.span_p)), config.max_span, left)
        free = np.flatnonzero(unit < 0)
        # Where so long a stretch has no room any more, a shorter one is drawn.
        starts = free[: len(free) - length + 1]
        lasts = free[length - 1 :]
        starts = starts[(lasts - starts == length - 1) & (cut[lasts] == cut[starts])]
        if len(starts):
            start = int(rng.choice(starts))
            unit[start : start + length] = number
            left -= length
            number += 1
    places = np.flatnonzero(unit >= 0)
    return places, unit[places]


def _random_tokens(
    count: int, rng: np.random.Generator, special: SpecialTokens, vocab_size: int
) -> npt.NDArray[np.int64]:
    special_ids = sorted(set(special.ids.tolist()))  # some vocabularies have one token for two roles
    drawn = rng.integers(vocab_size - len(special_ids), size=count)
    for forbidden in special_ids:  # step over them, wherever they lie
        drawn += drawn >= forbidden
    return drawn
