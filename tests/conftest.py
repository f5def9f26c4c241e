"""Fixtures: where the real data lies, the bundled sample, and its token shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from korbert.data.shards import ShardedCorpus, build_shards
from korbert.tokenizers import CharacterTokenizer, Tokenizer, load_tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests are not added to the store of the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KORBERT_RECORDS", str(tmp_path_factory.mktemp("records") / "records.sqlite"))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with korquad/, tydiqa_ko/, kowiki/: KORBERT_DATA, or ../shared/data beside the checkout.

    Skips where it is absent, unless KORBERT_REQUIRE_DATA=1 (as in CI) says that its absence is a failure.
    """
    root = Path(os.environ.get("KORBERT_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (root / "korquad" / "KorQuAD_v1.0_dev.json").is_file():
        message = f"real data not found at {root} (set KORBERT_DATA; see data/README.md)"
        if os.environ.get("KORBERT_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return root


@pytest.fixture(scope="session")
def sample() -> Path:
    return REPOSITORY / "data" / "sample"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> tuple[ShardedCorpus, Tokenizer]:
    """The sample corpus with MeCab's entities, by syllable."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    CharacterTokenizer.train(lines, vocab_size=1500).save(folder / "tokenizer")
    build_shards(folder / "shards", [sample / "corpus.txt"], folder / "tokenizer", "mecab")
    tokenizer = load_tokenizer(folder / "tokenizer")
    return ShardedCorpus(folder / "shards", tokenizer.fingerprint), tokenizer


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, and sums on one thread are the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
