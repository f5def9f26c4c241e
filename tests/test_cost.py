"""Costs by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from korbert.comparison.cost import cost, renyi_efficiency
from korbert.tokenizers import CharacterTokenizer, SentencePieceTokenizer, WordTokenizer


def test_by_hand() -> None:
    tokenizer = CharacterTokenizer.train(["가나 다"], 20)  # seven special tokens, ▁가, 나, ▁다
    found = cost(tokenizer, ["가나  다", " \n", "가 힣a나"], lengths=(5, 6), hidden_size=10)
    assert (found.tokens, found.vocabulary, found.embedding_parameters) == (7, 10, 100)
    assert found.per_eojeol == 7 / 4
    assert found.per_character == 7 / 9
    assert found.per_paragraph == 3.5
    assert found.bytes_per_token == (3 * 3 + 1 + 1 + 3 * 3 + 1) / 7
    assert (found.longest, found.fits) == (4, {5: 0.5, 6: 1.0})
    assert found.unknown == found.lost == pytest.approx(2 / 7)
    assert (found.used, found.used_once) == (0.4, 0.1)  # [UNK] 2, ▁가 2, 나 2, ▁다 1
    assert found.round_trip == 0.5
    with pytest.raises(ValueError, match="no text"):
        cost(tokenizer, ["", "\n"])


def test_lost_characters_are_not_unknown_tokens() -> None:
    """Half of the tokens and five of six characters."""
    found = cost(WordTokenizer.train(["가"], 20), ["가 나다라마바"])
    assert (found.unknown, found.lost) == (0.5, pytest.approx(5 / 6))


def test_renyi_efficiency_by_hand() -> None:
    assert renyi_efficiency(np.array([5, 5, 5, 5])) == pytest.approx(1)
    assert renyi_efficiency(np.array([5, 5, 0, 0])) == pytest.approx(0.5)
    assert renyi_efficiency(np.array([9, 0, 0])) == pytest.approx(0)
    # Order 2 is the chance that two draws are the same.
    assert renyi_efficiency(np.array([3, 1]), order=2) == pytest.approx(-math.log(10 / 16) / math.log(2))


def test_normalisation_that_changes_text_is_no_round_trip() -> None:
    text = "가나다 라마바 ㈜ 가나다 라마바"
    tokenizer = SentencePieceTokenizer.train([text] * 3, 28, model_type="bpe", character_coverage=1.0)
    assert cost(tokenizer, [text]).round_trip == 0
    assert cost(tokenizer, ["가나다 라마바"]).round_trip == 1
