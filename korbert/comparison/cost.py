"""What a tokenizer costs and what it loses: counts over a text, in units that do not depend on the vocabulary.

Fair across vocabularies, because figures are by the text's own units (eojeol, characters, bytes, paragraphs), not by
token: "4 % of tokens are unknown" would flatter a tokenizer that makes many tokens, so the share of characters that
are lost stands beside it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korbert.tokenizers import Tokenizer, Tokens

_RENYI_ORDER = 2.5
_WITH_CLS_AND_SEP = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts over paragraphs; shares are between 0 and 1.

    fits: length → share of paragraphs that fit it, [CLS] and [SEP] counted. renyi_efficiency: how evenly the vocabulary
    is used (Zouhar et al. 2023, order 2.5). used, used_once: share of the entries that occur, that occur once.
    embedding_parameters: at the given width. unknown: share of tokens; lost: share of the visible characters that are
    in unknown tokens, or, format and control characters apart, in none. round_trip: share of paragraphs whose ids
    decode to them, with white space as single spaces.
    """

    tokens: int
    per_eojeol: float
    per_character: float
    per_paragraph: float
    bytes_per_token: float
    longest: int
    fits: dict[int, float]
    vocabulary: int
    used: float
    used_once: float
    renyi_efficiency: float
    embedding_parameters: int
    unknown: float
    lost: float
    round_trip: float


def cost(
    tokenizer: Tokenizer,
    paragraphs: Iterable[str],
    lengths: Sequence[int] = (128, 256, 384, 512),
    hidden_size: int = 768,
) -> Cost:
    """Measure over all paragraphs that have a visible character. Raises ValueError where there are none."""
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    sizes: list[int] = []
    eojeol = characters = visible = encoded_bytes = lost = exact = 0
    for text in paragraphs:
        words = text.split()
        if not words:
            continue
        tokens = tokenizer.encode(text)
        np.add.at(counts, tokens.ids, 1)
        sizes.append(len(tokens))
        collapsed = " ".join(words)
        eojeol += len(words)
        characters += len(collapsed)
        visible += len(collapsed) - len(words) + 1
        encoded_bytes += len(collapsed.encode("utf-8", "surrogatepass"))
        lost += _lost(text, tokens, tokenizer.special.unk)
        exact += tokenizer.decode(tokens.ids) == collapsed
    if not sizes:
        raise ValueError("there is no text to measure a tokenizer on")
    total = int(counts.sum())
    paragraph_sizes = np.array(sizes)
    return Cost(
        tokens=total,
        per_eojeol=total / eojeol,
        per_character=total / characters,
        per_paragraph=total / len(sizes),
        bytes_per_token=encoded_bytes / total,
        longest=int(paragraph_sizes.max()),
        fits={length: float(np.mean(paragraph_sizes + _WITH_CLS_AND_SEP <= length)) for length in lengths},
        vocabulary=len(tokenizer),
        used=float(np.mean(counts > 0)),
        used_once=float(np.mean(counts == 1)),
        renyi_efficiency=renyi_efficiency(counts),
        embedding_parameters=len(tokenizer) * hidden_size,
        unknown=float(counts[tokenizer.special.unk] / total),
        lost=lost / visible,
        round_trip=exact / len(sizes),
    )


def _lost(text: str, tokens: Tokens, unknown: int) -> int:
    """Visible characters that are in unknown tokens, or in none and not of a kind that normalisation leaves out."""
    is_unknown = tokens.ids == unknown
    count = 0
    for start, end in zip(tokens.starts[is_unknown].tolist(), tokens.ends[is_unknown].tolist(), strict=True):
        count += len("".join(text[start:end].split()))
    lasts, firsts = np.append(0, tokens.ends), np.append(tokens.starts, len(text))
    gaps = np.flatnonzero(lasts < firsts)
    for end, start in zip(lasts[gaps].tolist(), firsts[gaps].tolist(), strict=True):
        left_out = "".join(text[end:start].split())
        count += sum(unicodedata.category(char) not in ("Cc", "Cf") for char in left_out)
    return count


def renyi_efficiency(counts: npt.NDArray[np.int64], order: float = _RENYI_ORDER) -> float:
    """Rényi entropy of how often entries occur, by the largest that as many entries could have; in [0, 1].

    Source: Zouhar et al. 2023, "Tokenization and the Noiseless Channel".
    """
    shares = counts[counts > 0] / counts.sum()
    if len(counts) < 2:
        return 0.0
    return float(np.log(np.sum(shares**order)) / (1 - order) / np.log(len(counts)))
