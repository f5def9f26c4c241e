"""Tokenizers on KoNLPy's taggers, which are slow: the laws of test_tokenizers.py on fewer texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tokenizers import TEXTS, check_spans

from korbert.data.corpus import read_documents
from korbert.data.korquad import read_korquad
from korbert.morphology.konlpy import _lines
from korbert.tokenizers import Pretokenizer, Tokenizer, WordTokenizer, load_tokenizer

TAGGERS = ["okt", "komoran", "hannanum", "kkma"]


@pytest.fixture(scope="module")
def trained(sample: Path) -> dict[str, Tokenizer]:
    texts = (sample / "corpus.txt").read_text("utf-8").split("\n")[:12]
    return {name: WordTokenizer.train(texts, 500, pretokenizer=Pretokenizer(name)) for name in TAGGERS}


@pytest.mark.slow
@pytest.mark.parametrize("tagger", TAGGERS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
@example(text="")
@example(text=" \n")
@example(text="\ud800")
@example(text="👨‍👩‍👧 李舜臣 שלום \u200b\u1112\u1161\u11ab")
def test_spans_on_any_text(trained: dict[str, Tokenizer], tagger: str, text: str) -> None:
    check_spans(trained[tagger], text)


@pytest.mark.slow
@pytest.mark.parametrize("tagger", TAGGERS)
def test_real_text(data_root: Path, trained: dict[str, Tokenizer], tagger: str) -> None:
    """Some contexts of the dev file and some articles; the slower the tagger, the fewer."""
    dataset = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    contexts = [paragraph.context for article in dataset.articles for paragraph in article.paragraphs]
    articles = read_documents(data_root / "kowiki" / "kowiki-00000-of-00008.jsonl.xz")
    step = 100 if tagger == "kkma" else 30
    paragraphs = [next(articles)[0] for _ in range(1000 // step)]
    for text in contexts[::step] + paragraphs:
        check_spans(trained[tagger], text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tagger", "length", "together"),
    [("okt", 100_000, 800), ("komoran", 100_000, 20_000), ("hannanum", 100_000, 2000), ("kkma", 10_000, 40)],
)
def test_a_very_long_line(trained: dict[str, Tokenizer], tagger: str, length: int, together: int) -> None:
    """Without a line break; and as much without white space as the tagger can take. Kkma does 2,000 a second."""
    check_spans(trained[tagger], "가 나다 " * (length // 5))
    check_spans(trained[tagger], ("가나다라마바사아자차" * together)[:together])


@pytest.mark.slow
@pytest.mark.parametrize("tagger", ["komoran"])
def test_folder_round_trip(trained: dict[str, Tokenizer], tagger: str, tmp_path: Path) -> None:
    trained[tagger].save(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "세종대왕은 집현전을 두었다."
    assert again.fingerprint == trained[tagger].fingerprint
    assert np.array_equal(again.encode(text).ids, trained[tagger].encode(text).ids)


@given(st.text("가 \n\u3000", max_size=40), st.integers(2, 6))
def test_lines_are_the_text(text: str, limit: int) -> None:
    parts = list(_lines(text, limit))
    assert "".join(parts) == text
    assert all(len(part) <= limit for part in parts)
    assert all("\n" not in part[:-1] for part in parts)
