"""The tokenizers' benchmark: both sides give the same ids, and rounds are counted right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.errors import ConfigError
from korbert.morphology import make_analyser
from korbert.tasks import benchmark_tokenizers as module
from korbert.tasks.benchmark import benchmark
from korbert.tasks.benchmark_tokenizers import hugging_face, measure
from korbert.tokenizers import SentencePieceTokenizer


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_hugging_face_does_the_same_work(sample: Path, model_type: str) -> None:
    texts = [line for line in (sample / "corpus.txt").read_text("utf-8").split("\n") if line]
    tokenizer = SentencePieceTokenizer.train(texts, 1100, model_type=model_type)
    theirs = hugging_face(tokenizer)(texts, add_special_tokens=False, return_offsets_mapping=True)
    same = 0
    for text, ids, offsets in zip(texts, theirs["input_ids"], theirs["offset_mapping"], strict=True):
        tokens = tokenizer.encode(text)
        # The same pieces: SentencePiece's unknown one is 0, ours are behind the special tokens.
        same += [1 if i == 0 else i + 6 for i in ids] == tokens.ids.tolist()
        assert offsets[-1][1] == tokens.ends[-1]
    # A few differ: text that normalisation changes, and ties.
    assert same > 0.9 * len(texts)


def test_speeds_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "process_time", lambda: now[0])

    def takes(seconds: float) -> module.Work:
        def work(texts: Sequence[str]) -> None:
            now[0] += seconds * len(texts)

        return work

    rows = measure("x@1", {"ids": {"korbert": takes(0.5), "other": takes(2.0)}}, ["가나다"] * 12, rounds=3)
    assert [row["contender"] for row in rows] == ["korbert", "other"]
    assert rows[0]["megabytes_per_second"] == pytest.approx(9e-6 / 0.5)
    assert [row["korbert_is_faster_by"] for row in rows] == [1.0, 4.0]


@pytest.mark.slow
def test_door(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    basic = ["suite=tokenizers", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}", "rounds=1"]
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        chosen = "tokenizers=[sentencepiece_unigram@1100,morpheme_mecab@1100]"
        record = benchmark(compose_config("benchmark", [*basic, chosen, "paragraphs=40"]))
        # Interrupted, it goes on from what was measured.
        (tmp_path / "run" / "record.json").unlink()
        monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("measured again"))
        again = benchmark(compose_config("benchmark", [*basic, chosen, "paragraphs=40"]))
        assert again["results"] == record["results"]
        basic[2] = f"run_dir={tmp_path / 'wrong'}"
        with pytest.raises(ConfigError, match="wanted NAME@SIZE"):
            benchmark(compose_config("benchmark", [*basic, "tokenizers=[word]"]))
        with pytest.raises(ConfigError, match="wanted a SentencePiece strategy or one with an analyser"):
            benchmark(compose_config("benchmark", [*basic, "tokenizers=[syllable@1100]"]))
    found = [
        (row["tokenizer"].partition("@")[0], row["what"], row["contender"]) for row in record["results"]["tokenizers"]
    ]
    assert found == [
        ("sentencepiece_unigram", "ids", "korbert"),
        ("sentencepiece_unigram", "ids", "korbert, a text at a time"),
        ("sentencepiece_unigram", "ids", "Hugging Face"),
        ("sentencepiece_unigram", "ids", "SentencePiece alone"),
        ("sentencepiece_unigram", "ids and spans", "korbert"),
        ("sentencepiece_unigram", "ids and spans", "korbert, a text at a time"),
        ("sentencepiece_unigram", "ids and spans", "Hugging Face"),
        ("morpheme_mecab", "ids and spans", "korbert"),
        ("morpheme_mecab", "ids and spans", f"{make_analyser('mecab').name} alone"),
    ]
    assert all(row["megabytes_per_second"] > 0 for row in record["results"]["tokenizers"])
