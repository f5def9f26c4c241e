"""The KorQuAD benchmark: both sides do the same work, speeds by hand, and the whole suite at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from korbert.config import BenchmarkCase, BenchmarkConfig, compose_config
from korbert.config.comparisons import KorquadBenchmark
from korbert.data.batching import collate_windows
from korbert.data.korquad import read_korquad
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError
from korbert.model import SpanModel
from korbert.model.foreign import from_transformers
from korbert.tasks import benchmark_korquad as module
from korbert.tasks.benchmark import benchmark
from korbert.tasks.benchmark_korquad import their_batch
from korbert.tasks.contenders import Share, measure
from korbert.tokenizers import CharacterTokenizer
from korbert.training.runtime import make_runtime
from korbert.training.settings import RuntimeConfig

transformers = pytest.importorskip("transformers")
pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def windows(sample: Path) -> list[Window]:
    tokenizer = CharacterTokenizer.train((sample / "corpus.txt").read_text("utf-8").splitlines(), 900)
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, WindowConfig(64, 16, 30))
    return maker.dataset(read_korquad(sample / "KorQuAD_sample_dev.json"))[0]


@pytest.mark.parametrize("length", [64, None])
def test_both_sides_read_the_same(windows: list[Window], length: int | None) -> None:
    """One model's weights in both: the same logits, and the loss but for korbert's ruling the question out."""
    some = windows[:7]
    theirs = transformers.BertForQuestionAnswering(
        transformers.BertConfig(
            vocab_size=900, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=64,
        )
    ).eval()  # fmt: skip
    batch = their_batch(some, 0, length, torch.device("cpu"))
    assert batch["input_ids"].shape == (7, length or max(map(len, some)))
    imported = from_transformers(theirs.config.to_dict(), theirs.state_dict(), 900)
    ours = SpanModel(imported.sizes).eval()
    ours.load_state_dict(imported.weights)
    mine = collate_windows(some, pad_id=0)
    with torch.no_grad():
        expected = theirs(**batch)
        start, _ = ours.logits(mine)
        loss = ours.losses(mine)["span"] / 7
    allowed = mine.allowed
    width = allowed.shape[1]
    assert (start - expected.start_logits[:, :width])[allowed].abs().max() < 1e-5
    ends = [
        torch.nn.functional.cross_entropy(said[:, :width].masked_fill(~allowed, -torch.inf), batch[f"{name}_positions"])
        for name, said in (("start", expected.start_logits), ("end", expected.end_logits))
    ]
    assert float(loss) == pytest.approx(float(sum(ends)) / 2, abs=1e-5)


def test_a_share_of_each_round_and_all_of_it(windows: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contender is given the same windows, all rounds taken together, and none of them twice."""
    given: dict[str, list[list[Window]]] = {}

    def dealt(step: object, inputs: object, batches: list[list[Window]], *rest: object) -> list[Share]:
        given[f"{len(given)}"] = batches
        return [Share(lambda: None, 1.0)]

    monkeypatch.setattr(module, "dealt", dealt)
    monkeypatch.setattr(module, "measure_models", lambda *_: [])
    rounds = 3
    config = BenchmarkConfig(
        rounds=rounds, korquad=KorquadBenchmark(work=["inference"], steps=2), suite="korquad", run_dir=""
    )  # fmt: skip
    tokenizer = CharacterTokenizer.train(["가나다"], 900)
    case = BenchmarkCase(num_layers=1, hidden_size=8, num_heads=1, length=64, batch_size=4)
    module.measure_case(case, windows, tokenizer, config, make_runtime(RuntimeConfig(device="cpu")))
    seen = [sorted(id(window) for batch in batches for window in batch) for batches in given.values()]
    assert len(given) == 3
    assert seen[0] == seen[1] == seen[2]
    assert len({*seen[0]}) == len(seen[0]) == 4 * 2 * rounds


def test_speeds_by_hand() -> None:
    """Medians over the rounds, of each round's ratio, where all rounds do the same; what warms up does not count."""
    now = {"korbert": iter([9.0, 1.0, 2.0, 4.0]), "other": iter([9.0, 3.0, 2.0, 16.0])}
    order: list[str] = []

    def share(who: str) -> list[Share]:
        return [Share(lambda: order.append(who) or next(now[who]), 8.0, 2e9)]  # type: ignore[func-returns-value]

    shares = {who: share(who) for who in now}
    rows = measure({"work": "x"}, "things", shares, 3, lambda work: work())  # type: ignore[arg-type, return-value]
    assert order == ["korbert", "other"] * 4
    assert rows == [
        {"work": "x", "contender": "korbert", "things_per_second": 4.0, "korbert_is_faster_by": 1.0},
        {"work": "x", "contender": "other", "things_per_second": 8 / 3, "korbert_is_faster_by": 3.0},
    ]


def test_shares_of_the_ceiling_by_hand() -> None:
    """Of 4 billion operations a second, medians of the rounds, 2 billion in 1, 2 and 4 seconds."""
    now, limits = iter([9.0, 1.0, 2.0, 4.0]), iter([3e9, 4e9, 5e9])
    shares = {"korbert": [Share(lambda: next(now), 8.0, 2e9)]}
    (row,) = measure({}, "things", shares, 3, lambda work: work(), lambda: next(limits))  # type: ignore[arg-type, return-value]
    assert (row["useful_share_of_ceiling"], row["ceiling_gflops"]) == (0.25, 4.0)


def test_rounds_that_divide_the_work_count_together() -> None:
    """Twelve things in 3 + 1 seconds, and in 2 + 6, though each has another part of them in a round."""
    now = {"korbert": iter([9.0, 3.0, 1.0]), "other": iter([9.0, 2.0, 6.0])}

    def shares(who: str, *amounts: float) -> list[Share]:
        return [Share(lambda: next(now[who]), amount, 1e9 * amount) for amount in amounts]

    given = {"korbert": shares("korbert", 4.0, 8.0), "other": shares("other", 10.0, 2.0)}
    rows = measure({}, "things", given, 2, lambda work: work(), lambda: 6e9)  # type: ignore[arg-type, return-value]
    assert [row["things_per_second"] for row in rows] == [3.0, 1.5]
    assert [row["korbert_is_faster_by"] for row in rows] == [1.0, 2.0]
    assert [row["useful_share_of_ceiling"] for row in rows] == [0.5, 0.25]


@pytest.mark.slow
def test_door(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    basic = [
        "suite=korquad", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}", "rounds=1",
        "korquad.file=data/sample/KorQuAD_sample_dev.json", "tokenizer.vocab_size=1100", "korquad.doc_stride=16",
        "korquad.max_question_length=40", "runtime.threads=1",
        "korquad.cases=[{num_layers:1,hidden_size:16,num_heads:2,length:128,batch_size:4}]",
    ]  # fmt: skip
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        results = benchmark(compose_config("benchmark", basic))["results"]
        other = f"run_dir={tmp_path / 'other'}"
        with pytest.raises(ConfigError, match=r"korquad\.work: 'decoding' is unknown, wanted features"):
            benchmark(compose_config("benchmark", [*basic, "korquad.work=[decoding]", other]))
        with pytest.raises(ConfigError, match="wanted pretraining, tokenizers or korquad"):
            benchmark(compose_config("benchmark", [*basic, "suite=squad", other]))
    padded, bucketed = "Hugging Face, padded", "Hugging Face, bucketed"
    assert [(row["work"], row["contender"]) for row in results["one thread"]] == [
        (work, who)
        for work in ("features", "postprocessing, one place stands out", "postprocessing, noise")
        for who in ("korbert", padded)
    ]
    assert [(row["work"], row["contender"]) for row in results["models"]] == [
        (work, who) for work in ("training", "inference") for who in ("korbert", padded, bucketed)
    ]
    assert all(row["questions_per_second"] > 0 for row in results["one thread"])
    assert all(row["tokens_per_second"] > 0 and row["useful_share_of_ceiling"] > 0 for row in results["models"])
