"""Which tokens a masked LM must predict, and what it sees in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.errors import ConfigError
from korbert.model.heads import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens


@dataclass
class MaskingConfig:
    """Share of tokens to predict, and what is shown in their place; the rest of them stay as they are."""

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 1.0:
            raise ConfigError(f"task.masking.rate: wanted a share between 0 and 1, got {self.rate}")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise ConfigError(
                "task.masking: mask_share and random_share must not be negative and sum to at most 1, got "
                f"{self.mask_share} and {self.random_share}"
            )


def mask_tokens(
    token_ids: IntArray,
    rng: np.random.Generator,
    special: SpecialTokens,
    vocab_size: int,
    config: MaskingConfig,
) -> tuple[IntArray, IntArray]:
    """Choose `rate` of the ordinary tokens, exactly (rounded, at least one), and hide them 80/10/10.

    Special tokens and markers are never chosen and never put in as random tokens. Returns the new token ids and the
    labels (IGNORE_INDEX where nothing is predicted), each (T,) int32. Source: Devlin et al. 2019, section 3.1.
    """
    labels = np.full(len(token_ids), IGNORE_INDEX, dtype=np.int32)
    candidates = np.flatnonzero(~np.isin(token_ids, special.ids))
    if not len(candidates):
        return token_ids, labels
    budget = max(1, round(config.rate * len(candidates)))
    chosen = rng.choice(candidates, size=budget, replace=False)
    labels[chosen] = token_ids[chosen]
    masked = token_ids.copy()
    fate = rng.random(budget)
    masked[chosen[fate < config.mask_share]] = special.mask
    replaced = chosen[(fate >= config.mask_share) & (fate < config.mask_share + config.random_share)]
    masked[replaced] = _random_tokens(len(replaced), rng, special, vocab_size)
    return masked, labels


def _random_tokens(
    count: int, rng: np.random.Generator, special: SpecialTokens, vocab_size: int
) -> npt.NDArray[np.int64]:
    special_ids = np.unique(special.ids)  # some vocabularies have one token for two roles
    drawn = rng.integers(vocab_size - len(special_ids), size=count)
    for forbidden in special_ids:  # step over them, wherever they lie
        drawn += drawn >= forbidden
    return drawn
