"""What masking takes as a whole: where eojeol and morphemes begin among a text's tokens, and which are proper nouns."""

from __future__ import annotations

import numpy as np

from korbert.encoding import Encoding, marker_mask, mention_numbers
from korbert.morphology import Analyser
from korbert.text import IntArray, Normalizer
from korbert.tokenizers import SpecialTokens

# Bits of a token's flags: it begins an eojeol; it begins a morpheme; it belongs to a proper noun; and, when it is read
# again, it belongs to a mention; it begins one.
EOJEOL, MORPHEME, PROPER, MENTION, NEW_MENTION = 1, 2, 4, 8, 16
_NORMALIZER = Normalizer("NFC")
_RULES = 4  # raise the number when the flags of any text change


def unit_flags(text: str, encoding: Encoding, special: SpecialTokens, analyser: Analyser | None = None) -> IntArray:
    """Flags of each token of `text`, (T,) int32; markers have none. Without an analyser, those of eojeol alone.

    A token belongs to the morpheme in which it begins. The text is analysed in NFC, without invisible characters, as
    annotators do.
    """
    flags = np.zeros(len(encoding), dtype=np.int32)
    at = np.flatnonzero(~marker_mask(encoding.token_ids, special))
    # The rest of a character (its second byte, a final consonant) has no characters of its own, and is in its unit.
    places, ends = encoding.starts[at].astype(np.int64), encoding.ends[at]
    places -= (places == ends) & (places == np.append(0, ends[:-1])) & (places > 0)
    # A token may be the space before an eojeol, or begin with it: what counts is its first other character.
    is_blank = np.array([character.isspace() for character in text], dtype=np.bool_)
    following = np.minimum.accumulate(np.where(is_blank, len(text), np.arange(len(text)))[::-1])[::-1]
    starts = np.append(following, len(text))[places]
    eojeol = np.cumsum(~is_blank & np.append(True, is_blank[:-1]))[: len(text)]  # of each character
    number = np.append(eojeol, 0)[starts]
    begins = number != np.append(-1, number[:-1])
    flags[at[begins]] |= EOJEOL
    if analyser is None:
        return flags
    normal = _NORMALIZER(text)
    morphemes = analyser.analyse(normal.text)
    starts = normal.ends.searchsorted(starts.astype(np.int32), side="right")  # the same characters in NFC
    first = np.array([morpheme.start for morpheme in morphemes], dtype=np.int64)
    own = np.searchsorted(first, starts, side="right") - 1  # -1 before the first morpheme
    begins |= own != np.append(-2, own[:-1])
    flags[at[begins]] |= MORPHEME
    if morphemes:
        inside = starts < np.array([morpheme.end for morpheme in morphemes])[own]
        is_proper = np.array([morpheme.tag in analyser.proper_noun for morpheme in morphemes])[own]
        flags[at[inside & is_proper & (own >= 0)]] |= PROPER
    return flags


def units_identity(units: str) -> str:
    """What flags are made by: units as shards have them, with the number of the rules."""
    return f"{units}:{_RULES}" if units else ""


def with_mentions(flags: IntArray, token_ids: IntArray, entity_ids: IntArray, special: SpecialTokens) -> IntArray:
    """Flags with those of mentions; `token_ids` with all their markers, none of them parted from its partner."""
    numbers = mention_numbers(token_ids, entity_ids, special)
    inside = (numbers >= 0) & ~marker_mask(token_ids, special)
    before = np.append(-1, numbers[:-1])
    is_new = inside & ((numbers != before) | (np.append(0, token_ids[:-1]) == special.ent))
    return (flags | inside * MENTION | is_new * NEW_MENTION).astype(np.int32)
