"""Speeds by a clock that the test sets, and real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from korbert.comparison import speed as module
from korbert.comparison.speed import enough, rate, speed
from korbert.tokenizers import CharacterTokenizer


def test_rate_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text takes half a second: after four of them two seconds are over."""
    now = [0.0]
    seen: list[str] = []

    def encode(text: str) -> None:
        seen.append(text)
        now[0] += 0.5

    monkeypatch.setattr(module.time, "process_time", lambda: now[0])
    assert rate(encode, ["가나", "abc"], 2.0) == pytest.approx(2 * (6 + 3) / 2.0 / 1e6)
    assert seen == ["가나", "가나", "abc", "가나", "abc"]  # one to warm up
    with pytest.raises(ValueError, match="no text"):
        rate(encode, ["", ""], 1.0)


def test_enough_text() -> None:
    assert enough(["가", "나"], 9e-6) == ["가", "나", "가"]
    assert enough(["가", "나"], 3.1e-6) == ["가", "나"]


def test_workers_use_the_saved_tokenizer(tmp_path: Path) -> None:
    texts = ["세종은 집현전을 두었다."] * 20
    tokenizer = CharacterTokenizer.train(texts, 50)
    tokenizer.save(tmp_path)
    found = speed(tokenizer, tmp_path, texts, processes=[1, 2], seconds=0.05)
    assert min(found.ids, found.spans, *found.by_processes.values()) > 0
    assert list(found.by_processes) == [1, 2]
    assert 0 <= found.memory_mb < 200
