"""Pieces and symbols, by hand and against Unicode's own decomposition."""

from __future__ import annotations

import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.errors import ConfigError
from korbert.morphology import make_analyser
from korbert.tokenizers import Pretokenizer
from korbert.tokenizers.pretokenizer import SYMBOLS

TEXT = st.text(st.sampled_from("가각힣한ㅋaZ1é李€😀_가"), min_size=1, max_size=20)


@given(text=TEXT)
def test_jamo_are_unicodes_decomposition(text: str) -> None:
    found = Pretokenizer(symbols="jamo")(text)
    # Canonical decomposition, of syllables only.
    expected = "".join(unicodedata.normalize("NFD", c) if "가" <= c <= "힣" else c for c in text)
    assert "".join(found.pieces) == f" {expected}"
    assert unicodedata.normalize("NFC", Pretokenizer(symbols="jamo").text(expected)) == unicodedata.normalize(
        "NFC", text
    )


@given(text=TEXT)
def test_bytes_are_utf8(text: str) -> None:
    found = Pretokenizer(symbols="bytes")(text)
    assert found.firsts is not None
    sizes = [len(char.encode()) for char in f" {text}"]
    assert found.firsts.tolist() == [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    assert len("".join(found.pieces)) == sum(sizes)
    assert Pretokenizer(symbols="bytes").text("".join(found.pieces)) == f" {text}"
    assert not any(char.isspace() for char in "".join(found.pieces)[1:])


@pytest.mark.parametrize("symbols", SYMBOLS)
def test_cuts_are_kept_before_white_space(symbols: str) -> None:
    pretokenizer = Pretokenizer(symbols=symbols)
    found = pretokenizer("한글 은 글", cuts=[1, 3, 4, 0, 6])
    assert [pretokenizer.text(piece) for piece in found.pieces] == [" 한", "글", " 은", " 글"]


def test_morphemes_and_tags() -> None:
    assert Pretokenizer("mecab")("한글은 글자다").pieces == [" 한글", "은", " 글자", "다"]
    pretokenizer = Pretokenizer("mecab", tags=True)
    assert pretokenizer("한글은 글자다").pieces == [" 한글", "은", " 글자", "다"]  # no tag has a symbol yet
    found = pretokenizer("한글은 글자다", learn=True)
    assert [pretokenizer.shown(piece) for piece in found.pieces] == [" 한글/NNG", "은/JX", " 글자/NNG", "다/VCP"]
    assert [pretokenizer.text(piece) for piece in found.pieces] == [" 한글", "은", " 글자", "다"]
    assert found.firsts is not None
    assert found.firsts.tolist() == [0, 1, 2, 4, 6, 7, 8, 10, 12]
    cut = pretokenizer("한글은", cuts=[1])  # the tag is the last part's
    assert [pretokenizer.shown(piece) for piece in cut.pieces] == [" 한", "글/NNG", "은/JX"]
    # A character that looks like a tag's symbol is not one.
    assert pretokenizer.text("".join(pretokenizer("글\U000f0000").pieces)) == " 글\ufffd"


def test_another_version_of_the_analyser_is_said(caplog: pytest.LogCaptureFixture) -> None:
    analyser = make_analyser("mecab")
    with caplog.at_level(logging.WARNING):
        assert Pretokenizer(analyser.name, version="0.1").description() == {"split": analyser.name, "version": "0.1"}
    assert f"made with {analyser.install} 0.1; {analyser.version} is installed" in caplog.text


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.symbols: 'strokes' is unknown, wanted text, jamo or bytes"):
        Pretokenizer(symbols="strokes")
    with pytest.raises(ConfigError, match=r"tokenizer\.split: 'mecap' is unknown, wanted mecab"):
        Pretokenizer("mecap")
    with pytest.raises(ConfigError, match=r"tokenizer\.tags: .* choose an analyser"):
        Pretokenizer(tags=True)
