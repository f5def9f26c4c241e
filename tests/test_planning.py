"""What a run will take: operations against the benchmark's count, memory and time by hand, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data.pretraining import PretrainingExample
from korbert.errors import ConfigError, DataError
from korbert.model import IGNORE_INDEX, ModelConfig, PretrainingModel, ReplacedTokenModel
from korbert.study.planning import Assumed, Measured, Plan, Shape, nearest
from korbert.study.results import make_stamp
from korbert.tasks.benchmark import useful_flops
from korbert.tasks.plan import beside_run, make_plan, plan_run, read_measured
from korbert.tasks.runs import as_dict
from korbert.tokenizers import CharacterTokenizer


@pytest.fixture(autouse=True)
def conf(repository: Path) -> Iterator[None]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield


SHAPE = Shape(layers=2, width=8, feed_forward=32, inner=32, vocabulary=100, length=16, predicted=0.25)


def test_operations_are_those_that_the_benchmark_counts() -> None:
    sizes = ModelConfig(100, 8, 2, 2, 32, max_positions=16)
    ids, nothing = np.full(16, 7, dtype=np.int32), np.zeros(16, dtype=np.int32)
    labels = np.where(np.arange(16) < 4, 7, IGNORE_INDEX).astype(np.int32)
    examples = [PretrainingExample(ids, nothing, nothing, labels, None)] * 3
    pooler = 3 * 2.0 * (8 * 8 + 2 * 8) * len(examples)  # next sentence prediction
    assert SHAPE.operations * 16 * 3 == pytest.approx(useful_flops(examples, sizes) - pooler)


def test_time_follows_from_operations() -> None:
    measured = Measured("m", "cpu", 2, SHAPE, tokens_per_second=1000.0, fullness=0.5)
    same = Plan(SHAPE, 10, 4, batch=8, accumulation=2, bf16=False)
    assert same.speed(measured) == pytest.approx(1000.0)
    assert same.tokens_per_step(measured) == 8 * 2 * 16 * 0.5
    assert replace(same, devices=4, scaling=0.5, accumulation=4).speed(measured) == pytest.approx(2500.0)
    assert replace(same, devices=4, scaling=0.5).speed(measured) == pytest.approx(1500.0)  # two of them do nothing
    deeper = replace(same, shape=replace(SHAPE, layers=20))
    assert deeper.speed(measured) == pytest.approx(1000.0 * SHAPE.operations / deeper.shape.operations)
    assert deeper.speed(measured) < 200
    assert same.speed(Assumed(1000 * SHAPE.operations, 0.5, fullness=0.5)) == pytest.approx(500.0)


@pytest.mark.parametrize(("muon", "moments"), [(False, 20), (True, 16)])
def test_memory_by_hand(muon: bool, moments: int) -> None:
    plan = Plan(SHAPE, parameters=10, matrix_parameters=4, batch=8, accumulation=2, bf16=False, muon=muon)
    memory = plan.memory_bytes(Measured("m", "cpu", 2, SHAPE, 1.0, 0.5))
    layer, head = 12 * 8 + 32 + 32, 0.25 * 3 * 8
    assert memory == {
        "weights and gradients": 80.0,
        "moments of the optimizer": 4.0 * moments,
        "activations of a batch": pytest.approx(8 * 16 * 4 * (2 * layer + head)),
    }
    assert plan.checkpoint_bytes() == 4 * (10 + moments)


def test_the_most_similar_run_counts() -> None:
    plan = Plan(SHAPE, 1, 1, 1, 1, False)
    runs = [Measured(str(n), "cpu", 2, replace(SHAPE, layers=n), 1.0, 1.0) for n in (1, 3, 40)]
    assert nearest(plan, runs).name == "3"
    with pytest.raises(ValueError, match="at least one measured run"):
        nearest(plan, [])


def record(folder: Path, **results: Any) -> Path:
    """A pretraining's record as the doors write it: this configuration, these results."""
    config = compose_config("pretrain", ["model=mini", "recipe=modern", "train.steps=100", f"run_dir={folder}"])
    folder.mkdir(parents=True)
    made = {
        "task": "pretrain", "config": as_dict(config), "hardware": {"device": "two cores", "threads": 2},
        "results": {"steps": 100, "tokens": 307_200, "seconds": 50.0, **results},
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(made), "utf-8")
    return folder


def planned(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    measured = record(tmp_path / "measured")
    options = (f"measured=[{measured}]", f"run_dir={tmp_path / 'plan'}", "recipe=modern", *overrides)
    return dict(plan_run(compose_config("plan_run", options))["results"])


def test_the_measured_run_itself_is_planned_as_it_was(tmp_path: Path) -> None:
    results = planned(tmp_path, "model=mini", "train.tokens=307_200")
    assert results["hours"] * 3600 == pytest.approx(50.0)
    assert results["steps"] == 100
    assert results["tokens a step"] == 3072


def test_processes_of_a_measured_run_are_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several have done together is no measurement of one; how much more they do is said by `scaling`."""
    measured = record(tmp_path / "measured")
    content = json.loads((measured / "record.json").read_text("utf-8"))
    content["hardware"]["processes"] = 3
    (measured / "record.json").write_text(json.dumps(content), "utf-8")
    alone = 307_200 / 50
    assert read_measured(measured).tokens_per_second == pytest.approx(alone / 3)
    assert read_measured(measured, 0.5).tokens_per_second == pytest.approx(alone / 2)
    options = [f"measured=[{measured}]", f"run_dir={tmp_path / 'plan'}", "recipe=modern", "model=mini"]
    length = ["devices=3", "train.tokens=307_200", "train.accumulation=3", "train.batch_size=16"]
    results = plan_run(compose_config("plan_run", [*options, *length]))["results"]
    assert results["tokens a second"] == pytest.approx(alone, rel=1e-3)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert make_stamp()["hardware"]["processes"] == 3
    monkeypatch.delenv("WORLD_SIZE")
    assert "processes" not in make_stamp()["hardware"]


def test_the_vocabulary_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    """Of one that is named by its path, and of the measured run's record."""
    CharacterTokenizer.train(["가나다라마바사아자차카타파하"], 20).save(tmp_path / "syllables")
    measured = record(tmp_path / "measured")
    content = json.loads((measured / "record.json").read_text("utf-8"))
    content["tokenizer"] = {"kind": "character", "vocabulary": 20}
    (measured / "record.json").write_text(json.dumps(content), "utf-8")
    assert read_measured(measured).shape.vocabulary == 20
    options = [f"measured=[{measured}]", "recipe=modern", "model=mini", "train.steps=100"]
    counted = []
    for number, chosen in enumerate((f"tokenizer.path={tmp_path / 'syllables'}", "tokenizer.vocab_size=20")):
        plan = compose_config("plan_run", [*options, chosen, f"run_dir={tmp_path / str(number)}"])
        counted.append(plan_run(plan)["results"]["parameters"])
    assert counted[0] == counted[1]


def test_a_curriculum_has_as_many_tokens_in_a_batch(tmp_path: Path) -> None:
    """Shorter sequences come in larger batches: a step and its memory are as large, only attention costs less."""
    stages = "task.curriculum=[{start: 0, max_length: 32}, {start: 0.5, max_length: 64}]"
    plain, staged = (
        planned(tmp_path / name, "model=mini", "train.steps=100", *more)
        for name, more in (("plain", ()), ("staged", (stages,)))
    )
    assert staged["tokens a step"] == plain["tokens a step"] == 3072
    assert staged["tokens"] == plain["tokens"] == 307_200
    assert staged["gigabytes of a device"] == plain["gigabytes of a device"]
    assert staged["tokens a second"] > plain["tokens a second"]


def test_parameters_are_those_of_the_model(tmp_path: Path) -> None:
    config = compose_config("plan_run", ["model=mini", "recipe=modern", "measured=[x]", "run_dir=x"])
    sizes = config.model.model_config(config.tokenizer.vocab_size)
    plan = make_plan(config, sizes)
    model = PretrainingModel(sizes, ("mlm",))
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    layer = model.encoder.layers[0]
    assert isinstance(layer, torch.nn.Module)
    matrices = 4 * sum(p.numel() for name, p in layer.named_parameters() if p.ndim == 2)
    assert plan.matrix_parameters == matrices


def test_corpus_budget_and_devices(tmp_path: Path) -> None:
    results = planned(
        tmp_path, "model=mini", "train.epochs=2", "characters=1e9", "tokens_per_character=0.5", "devices=2",
        "scaling=1.0", "train.accumulation=2",
    )  # fmt: skip
    assert results["corpus tokens"] == 500_000_000
    assert results["tokens"] == 1_000_000_000
    assert results["shards"] == 30
    assert results["shard gigabytes"] == pytest.approx(1.5)
    assert results["hours"] == pytest.approx(1e9 / (2 * 307_200 / 50) / 3600)


@pytest.mark.parametrize(("accumulation", "speed"), [(1, 1.0), (2, 1.5), (3, 1.25), (4, 1.5)])
def test_devices_share_the_batches_of_a_step(tmp_path: Path, accumulation: int, speed: float) -> None:
    """Of three, one of two devices has two: they take the time of two."""
    results = planned(
        tmp_path, "model=mini", "train.steps=9", "devices=2", "scaling=0.5", f"train.accumulation={accumulation}"
    )
    assert results["tokens a second"] == pytest.approx(speed * 307_200 / 50, rel=1e-3)


def test_a_generator_counts(tmp_path: Path) -> None:
    """That of replaced tokens reads every token, too."""
    asked = ["model=mini", "measured=[x]", "run_dir=x"]
    plain, replaced = (
        make_plan(config, config.model.model_config(config.tokenizer.vocab_size))
        for config in (
            compose_config("plan_run", asked),
            compose_config("plan_run", [*asked, "task.nsp=false", "task.replaced_tokens=true"]),
        )
    )
    sizes = compose_config("plan_run", asked).model.model_config(8000)
    assert replaced.parameters - plain.parameters == sum(
        p.numel() for p in ReplacedTokenModel(sizes).parameters()
    ) - sum(p.numel() for p in PretrainingModel(sizes).parameters())
    small = replace(plain.shape, width=64, feed_forward=256, inner=256, vocabulary=0, predicted=0.0)
    assert replaced.shape.operations == plain.shape.operations + small.operations


def test_a_budget_becomes_tokens(tmp_path: Path) -> None:
    results = planned(tmp_path, "model=mini", "train.budget=100s")
    assert results["tokens"] == pytest.approx(614_400, abs=1)


def test_beside_a_run_that_was_made(tmp_path: Path) -> None:
    """Twice the tokens in the time of the measured one: its own speed, and the plan's, are half as high as that."""
    made = record(tmp_path / "made", steps=200, tokens=614_400)
    (made / "checkpoint.safetensors").write_bytes(bytes(1000))
    results = planned(tmp_path, "model=mini", "train.budget=50s", f"against={made}")
    rows = {row["figure"]: row for row in results["beside a run"]}
    assert rows["tokens"] == {"figure": "tokens", "planned": 307_200, "measured": 614_400, "off_by": -0.5}
    assert rows["steps"]["off_by"] == rows["tokens a second"]["off_by"] == -0.5
    assert rows["hours"]["off_by"] == pytest.approx(0.0)
    assert rows["gigabytes of the checkpoint"]["measured"] == 1e-6
    assert "gigabytes of the model" not in rows


def test_a_device_that_nobody_measured(tmp_path: Path) -> None:
    """Its speed is said to be assumed, in the table and beside it; sequences are as full as the measured run's."""
    peak = ("train.tokens=307_200", "model=mini", "peak_teraflops=2", "peak_share=0.25")
    made = planned(tmp_path, *peak)
    assert next(iter(made.items())) == ("speed", "ASSUMED, not measured")
    assert made["teraflops a second"] == pytest.approx(0.5)
    assert made["assumptions"] == {
        "operations a second": "ASSUMED, not measured: 25 % of a peak of 2 teraflops a second",
        "sequences": "75 % full, as in the measured run, measured",
        "devices": "each beyond the first adds 90 % of one",
    }
    assert made["tokens a step"] == 3072
    eight = planned(tmp_path / "eight", *peak, "devices=8", "train.accumulation=8")
    assert made["hours"] / eight["hours"] == pytest.approx(1 + 7 * 0.9)
    idle = planned(tmp_path / "idle", *peak, "devices=8")
    assert idle["hours"] == pytest.approx(made["hours"])
    assert idle["assumptions"]["devices"].endswith("cannot share the batches of a step evenly (train.accumulation=1)")
    assert "speed" not in planned(tmp_path / "measured run", *peak[:2])

    alone = [*peak, "recipe=modern", f"run_dir={tmp_path / 'alone'}"]
    results = plan_run(compose_config("plan_run", alone))["results"]
    assert results["assumptions"]["sequences"] == "100 % full, ASSUMED, not measured"
    assert results["tokens a step"] == 4096


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["peak_teraflops=989"], "wanted both or neither.*got 989.0 and None"),
        (["peak_share=0.4"], "wanted both or neither.*got None and 0.4"),
        (["peak_teraflops=0", "peak_share=0.4"], "peak_teraflops: wanted more than 0, got 0.0"),
        (["peak_teraflops=989", "peak_share=40"], "peak_share: wanted a share above 0, at most 1, got 40.0"),
    ],
)
def test_half_an_assumption_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config("plan_run", [*given, "run_dir=x"])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="measured: wanted at least one finished pretraining"):
        plan_run(compose_config("plan_run", [f"run_dir={tmp_path / 'plan'}"]))
    measured = record(tmp_path / "measured")
    options = [f"measured=[{measured}]", f"run_dir={tmp_path / 'plan'}", "train.epochs=1"]
    with pytest.raises(ConfigError, match=r"train\.epochs: the corpus's size is not known"):
        plan_run(compose_config("plan_run", options))
    (measured / "record.json").write_text('{"task": "finetune_korquad"}', "utf-8")
    with pytest.raises(DataError, match=r"record\.json: task: is 'finetune_korquad', wanted a pretraining"):
        read_measured(measured)
    for broken in ('{"task": "pretrain"}', '{"task": "pretrain", "config": 1, "results": {"seconds": 0, "tokens": 1}}'):
        (measured / "record.json").write_text(broken, "utf-8")
        with pytest.raises(DataError, match=r"record\.json: content: not what a pretraining of this version says"):
            read_measured(measured)
        with pytest.raises(DataError, match=r"record\.json: content: not what a pretraining of this version says"):
            beside_run({}, measured)
