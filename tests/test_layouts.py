"""The check of packed batches against padded ones tells those that are right from those that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from korbert.data.batching import PretrainingBatch, collate_pretraining
from korbert.data.shards import build_shards
from korbert.errors import KorbertError
from korbert.files import read_json
from korbert.tasks import layouts
from korbert.tokenizers import CharacterTokenizer
from korbert.training.settings import RuntimeConfig

pytestmark = pytest.mark.usefixtures("one_thread", "small")
CPU = RuntimeConfig(device="cpu", threads=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    monkeypatch.setattr(layouts, "_SIZES", sizes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> tuple[Path, Path]:
    """Folders of a tokenizer and of shards without entities."""
    folder = tmp_path_factory.mktemp("layouts")
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    CharacterTokenizer.train(lines, vocab_size=500).save(folder / "tokenizer")
    build_shards(folder / "shards", [sample / "corpus.txt"], folder / "tokenizer", "none", workers=1)
    return folder / "tokenizer", folder / "shards"


def test_layouts_that_agree_leave_a_record(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    layouts.check_layouts(*corpus, CPU, tmp_path / "check")
    record = read_json(tmp_path / "check" / "record.json")
    assert record["task"] == layouts.TASK
    assert len(record["results"]) == 8
    # Padded is computed twice alike; packed is not padded under another name.
    assert all(error == 0 for key, error in record["results"].items() if "padded" in key)
    assert all(0 < error < 1e-4 for key, error in record["results"].items() if "packed: gradient" in key)


def _label_exchanged(batch: PretrainingBatch) -> None:
    batch.mlm_labels[0] = batch.mlm_labels[0] - 1


def _token_exchanged(batch: PretrainingBatch) -> None:
    place = batch.mlm_positions[0]
    batch.token_ids.view(-1)[place] = batch.token_ids.view(-1)[place] - 1


@pytest.mark.parametrize("harm", [_label_exchanged, _token_exchanged])
def test_layouts_that_differ_leave_none(
    corpus: tuple[Path, Path], harm: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one label or one token of a batch: a record would count as a check that has passed."""

    def collate(examples: Any, pad: int, packed: bool) -> PretrainingBatch:
        batch = collate_pretraining(examples, pad, packed)
        if packed:
            harm(batch)
        return batch

    monkeypatch.setattr(layouts, "collate_pretraining", collate)
    with pytest.raises(KorbertError, match=r"bert packed: (loss|gradient), relative error: .*, padded 0\.00e\+00"):
        layouts.check_layouts(*corpus, CPU, tmp_path / "check")
    assert not (tmp_path / "check").exists()
