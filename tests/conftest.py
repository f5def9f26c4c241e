"""Fixtures: where the real data lies, the bundled sample, and its token shards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import Browser, find_browser
from models import write_run
from studies import report, study

from korbert.config import DemoConfig
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.demo import DemoServer
from korbert.encoding import EntityMode
from korbert.files import write_json_atomically
from korbert.tasks.demo import prepare_demo
from korbert.text import WORD_START
from korbert.tokenizers import CharacterTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer, load_tokenizer

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
def vocabulary(sample: Path) -> list[str]:
    """WordPiece's, as BERT writes it."""
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    trained = WordPieceTokenizer.train(lines, 1400)
    pieces = [token for token in trained.vocabulary if not token.startswith("[") and token != WORD_START]
    pieces = [p[1:] if p.startswith(WORD_START) else f"##{p}" for p in pieces]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> tuple[ShardedCorpus, Tokenizer]:
    """The sample corpus with MeCab's entities, by syllable."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    CharacterTokenizer.train(lines, vocab_size=1500).save(folder / "tokenizer")
    build_shards(folder / "shards", [sample / "corpus.txt"], folder / "tokenizer", "mecab")
    tokenizer = load_tokenizer(folder / "tokenizer")
    return ShardedCorpus(folder / "shards", tokenizer.fingerprint), tokenizer


@pytest.fixture(scope="session")
def study_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokenizers, each with two modes and three seeds."""
    return study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def study_report(study_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The report on them, against mode "none"."""
    return report(tmp_path_factory.mktemp("report"), study_runs, baseline="entities.mode:none", title="보고서")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, and sums on one thread are the same on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium, for pages of a server or of a file.

    Skips where none is installed, unless KORBERT_REQUIRE_BROWSER=1 (as in CI) says that its absence is a failure.
    """
    found = find_browser()
    if isinstance(found, str):
        if os.environ.get("KORBERT_REQUIRE_BROWSER") == "1":
            pytest.fail(found)
        pytest.skip(found)
    with Browser(*found) as opened:
        yield opened


EVIL = "<script>alert(1)<img src=x onerror=alert(2)>"  # the name of a run


@pytest.fixture(scope="session")
def demo_config(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> DemoConfig:
    """Small runs, made without training: two that answer, one of them with a name to be escaped, and one for masks."""
    folder = tmp_path_factory.mktemp("demo")
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    SentencePieceTokenizer.train(iter(lines), vocab_size=1200, model_type="bpe").save(folder / "bpe")
    CharacterTokenizer.train(iter(lines[:20]), vocab_size=300).save(folder / "syllables")
    write_run(folder / "plain", "span", folder / "bpe", EntityMode.NONE, seed=1)
    write_run(folder / "base", "pretraining", folder / "bpe", EntityMode.BOTH, seed=3, objectives=("mlm",))
    evil = folder / EVIL
    write_run(evil, "span", folder / "bpe", EntityMode.BOTH, seed=2)
    dev = sample / "KorQuAD_sample_dev.json"
    for run in (folder / "plain", evil):
        write_json_atomically(run / "config.json", {"run_dir": str(run), "task": {"train": [str(dev)]}})
    examples = [str(dev), str(sample / "KorQuAD_sample_train.json")]
    return DemoConfig(
        runs=[str(folder / "plain"), str(evil)],
        pretrain=str(folder / "base"),
        tokenizers=[str(folder / "syllables")],
        annotator="expressions-mecab+mecab",
        examples=examples,
        masked_examples=["세종은 [MASK]의 제4대 [MASK]이다."],
        port=0,
    )


@pytest.fixture(scope="session")
def demo_server(demo_config: DemoConfig) -> Iterator[DemoServer]:
    """The demo, served from this process."""
    with prepare_demo(demo_config) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
