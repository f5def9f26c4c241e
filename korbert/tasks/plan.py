"""Planning a pretraining: the command line of the run, and what it will take here or elsewhere."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from korbert.config import PlanConfig
from korbert.data.shards import ShardedCorpus
from korbert.errors import ConfigError, DataError
from korbert.files import RECORD, read_json
from korbert.model import ModelConfig, PretrainingModel, ReplacedTokenModel
from korbert.study.planning import Assumed, Measured, Plan, nearest, shape_of
from korbert.tasks.prepare import prepare_tokenizer
from korbert.tasks.runs import as_dict, finish_run, start_run
from korbert.tokenizers import load_tokenizer
from korbert.training.optimizer import layer_matrices
from korbert.training.settings import CHECKPOINT, TrainConfig

log = logging.getLogger(__name__)
_ASSUMED = "ASSUMED, not measured"
_SHARD_BYTES = {True: 3, False: 5}  # of a token and its entity id on disk: 16 bits for small vocabularies, else 32


def plan_run(config: PlanConfig) -> dict[str, Any]:
    """Say what the pretraining of this configuration takes, write the record, and return it."""
    measured = [read_measured(Path(path), config.scaling) for path in config.measured]
    if not measured and config.peak_teraflops is None:
        raise ConfigError(
            "measured: wanted at least one finished pretraining's folder, e.g. measured=[runs/mini]; or, for a device "
            "that was not measured, peak_teraflops= and peak_share="
        )
    sizes = config.model.model_config(_vocabulary(config), config.entities.entity_input().entity_types)
    plan = make_plan(config, sizes)
    like = nearest(plan, measured) if measured else None
    basis, assumptions = planned_from(config, like)
    folder = start_run(config, again="plan_run")
    corpus = corpus_figures(config, sizes.vocab_size)
    results: dict[str, Any] = {**corpus, **run_figures(config, plan, basis, corpus.get("corpus tokens"))}
    if isinstance(basis, Assumed):
        results = {"speed": _ASSUMED, **results}
    _show(results, assumptions)
    if config.against is not None:
        rows = beside_run(results, Path(config.against))
        _show_beside(rows, config.against)
        results["beside a run"] = rows
    return finish_run(folder, "plan_run", config, {**results, "assumptions": assumptions})


def planned_from(config: PlanConfig, like: Measured | None) -> tuple[Measured | Assumed, dict[str, str]]:
    """What the plan's speed comes from, and what is to be said beside it.

    like: the measured run, without which the peak of the device has to be given.
    """
    told: dict[str, str] = {}
    basis: Measured | Assumed
    if config.peak_teraflops is not None and config.peak_share is not None:
        basis = Assumed(config.peak_teraflops * 1e12, config.peak_share, 1.0 if like is None else like.fullness)
        told["operations a second"] = (
            f"{_ASSUMED}: {100 * basis.share:.0f} % of a peak of {config.peak_teraflops:,.0f} teraflops a second"
        )
    else:
        assert like is not None
        basis = like
        told["measured run"] = f"{like.name}: {like.tokens_per_second:,.0f} tokens/s on {like.device}"
        told["operations a second"] = "those of the measured run"
    full = f"{100 * basis.fullness:.0f} % full, "
    told["sequences"] = full + (_ASSUMED if like is None else f"as in the measured run, {like.name}")
    told["devices"] = f"each beyond the first adds {100 * config.scaling:.0f} % of one"
    if config.train.accumulation % config.devices:
        batches = f"train.accumulation={config.train.accumulation}"
        told["devices"] += f"; they cannot share the batches of a step evenly ({batches})"
    if config.train.epochs is not None:
        told["an epoch"] = "as many tokens as the corpus; what pairs of sentences and questions add is not counted"
    return basis, told


def _vocabulary(config: PlanConfig) -> int:
    """Entries of the tokenizer. Raises DataError for shards that were made with another one."""
    if config.tokenizer.path is None:
        return config.tokenizer.vocab_size
    tokenizer = load_tokenizer(prepare_tokenizer(config.tokenizer, config.corpus, config.data))
    if config.corpus.shards is not None:
        ShardedCorpus(Path(config.corpus.shards), tokenizer.fingerprint)
    return len(tokenizer)


def read_measured(run: Path, scaling: float = 1.0) -> Measured:
    """A finished pretraining as a measurement of one device. Raises DataError where it is not one.

    scaling: what each device beyond the first has added to it, where torchrun started several processes.
    """
    record = _pretraining(run)
    with _reading(run):
        return _measured(run.name, record, scaling)


@contextlib.contextmanager
def _reading(run: Path) -> Iterator[None]:
    """Around what takes numbers out of a record: raises DataError where they are not there, or no numbers."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        problem = f"not what a pretraining of this version says ({error!r})"
        raise DataError(run / RECORD, "content", problem) from error


def _measured(name: str, record: dict[str, Any], scaling: float) -> Measured:
    config, results = record["config"], record["results"]
    model = config["model"]
    vocabulary = record.get("tokenizer", {}).get("vocabulary", config["tokenizer"]["vocab_size"])
    devices = 1 + scaling * (record["hardware"].get("processes", 1) - 1)
    sizes = ModelConfig(vocabulary, **{k: v for k, v in model.items() if k in ModelConfig.__dataclass_fields__})
    length, train = _mean_length(config["task"]), config["train"]
    room = results["steps"] * train["batch_size"] * train["accumulation"] * config["task"]["max_length"]
    return Measured(
        name, record["hardware"]["device"], record["hardware"]["threads"],
        shape_of(config, vocabulary, sizes.feed_forward_size, length),
        results["tokens"] / results["seconds"] / devices, results["tokens"] / room,
    )  # fmt: skip


def _pretraining(run: Path) -> dict[str, Any]:
    path = run / RECORD
    record = read_json(path)
    if record.get("task") != "pretrain":
        raise DataError(path, "task", f"is {record.get('task')!r}, wanted a pretraining")
    return dict(record)


def make_plan(config: PlanConfig, sizes: ModelConfig) -> Plan:
    """Sizes of the run that the configuration describes; parameters are counted, not computed."""
    objectives = config.task.objectives()
    with torch.device("meta"):
        model: nn.Module
        model = ReplacedTokenModel(sizes) if "detection" in objectives else PretrainingModel(sizes, objectives)
    described = as_dict(config)
    shape = shape_of(described, sizes.vocab_size, sizes.feed_forward_size, _mean_length(described["task"]))
    return Plan(
        shape, sum(p.numel() for p in model.parameters()), sum(p.numel() for p, _ in layer_matrices(model)),
        batch=config.train.batch_size, accumulation=config.train.accumulation, bf16=config.bf16,
        devices=config.devices, scaling=config.scaling, muon=config.train.optimizer.kind == "muon",
        batch_length=config.task.max_length,
    )  # fmt: skip


def _mean_length(task: dict[str, Any]) -> int:
    """Tokens of a sequence, over the run; a batch of longer ones has fewer, so that only attention costs more."""
    stages = task["curriculum"]
    if not stages:
        return int(task["max_length"])
    ends = [stage["start"] for stage in stages[1:]] + [1.0]
    return round(sum((end - s["start"]) * s["max_length"] for s, end in zip(stages, ends, strict=True)))


def corpus_figures(config: PlanConfig, vocabulary: int) -> dict[str, Any]:
    """Tokens of the corpus, and the disk that its shards take: counted where there are shards, else estimated."""
    if config.corpus.shards is not None:
        manifest = ShardedCorpus(Path(config.corpus.shards)).manifest
        size = sum(path.stat().st_size for path in Path(config.corpus.shards).rglob("*.npy"))
        return {"corpus tokens": manifest.tokens, "shards": manifest.shards, "shard gigabytes": size / 1e9}
    if config.characters is None or config.tokens_per_character is None:
        return {}
    tokens = round(config.characters * config.tokens_per_character)
    size = tokens * _SHARD_BYTES[vocabulary <= 1 << 16]
    shards = -(-tokens // config.shard_tokens)
    return {"corpus tokens": tokens, "shards": shards, "shard gigabytes": size / 1e9}


def run_figures(config: PlanConfig, plan: Plan, basis: Measured | Assumed, corpus_tokens: int | None) -> dict[str, Any]:
    """Parameters, tokens, steps, hours, memory of a device, disk of a run."""
    speed, step = plan.speed(basis), plan.tokens_per_step(basis)
    tokens = run_tokens(config.train, speed, step, corpus_tokens)
    memory = plan.memory_bytes(basis)
    return {
        "parameters": plan.parameters,
        "tokens": round(tokens),
        "tokens a step": round(step),
        "steps": round(tokens / step),
        "tokens a second": round(speed),
        "hours": tokens / speed / 3600,
        "teraflops a second": speed * plan.shape.operations / 1e12,
        "gigabytes of a device": sum(memory.values()) / 1e9,
        **{f"gigabytes, {name}": size / 1e9 for name, size in memory.items()},
        "gigabytes of the checkpoint": plan.checkpoint_bytes() / 1e9,
        "gigabytes of the model": 4 * plan.parameters / 1e9,
    }


def beside_run(planned: Mapping[str, Any], run: Path) -> list[dict[str, Any]]:
    """The plan's figures, those of the run when it was made, and how far the plan is off, of the measured one.

    Raises DataError where the run is no finished pretraining.
    """
    record = _pretraining(run)
    with _reading(run):
        measured = _made(run, record)
        return [
            {"figure": key, "planned": planned[key], "measured": value, "off_by": planned[key] / value - 1}
            for key, value in measured.items()
        ]


def _made(run: Path, record: Mapping[str, Any]) -> dict[str, float]:
    results, cost = record["results"], record.get("cost", {})
    files = {"the checkpoint": run / CHECKPOINT, "the model": run / "model" / "model.safetensors"}
    measured = {
        "tokens": results["tokens"],
        "steps": results["steps"],
        "tokens a second": results["tokens"] / results["seconds"],
        "hours": results["seconds"] / 3600,
        **{f"gigabytes of {name}": path.stat().st_size / 1e9 for name, path in files.items() if path.is_file()},
    }
    if "gpu_peak_memory_mb" in cost:
        measured["gigabytes of a device"] = cost["gpu_peak_memory_mb"] / 1e3
    return measured


def run_tokens(train: TrainConfig, speed: float, step: float, corpus: int | None) -> float:
    """Tokens of a run of this length. Raises ConfigError for epochs over a corpus of unknown size."""
    if train.tokens is not None:
        return float(train.tokens)
    if train.steps is not None:
        return train.steps * step
    if train.epochs is not None:
        if corpus is None:
            raise ConfigError(
                "train.epochs: the corpus's size is not known; give corpus.shards=FOLDER, or characters= and "
                "tokens_per_character="
            )
        return train.epochs * corpus
    assert train.budget_seconds is not None
    return train.budget_seconds * speed


def _show(results: dict[str, Any], assumptions: dict[str, str]) -> None:
    console = Console(markup=False)
    table = Table("", "", show_header=False)
    for key, value in results.items():
        table.add_row(key, _cell(value))
    console.print(table)
    for key, value in assumptions.items():
        console.print(f"{key}: {value}")


def _show_beside(rows: Sequence[Mapping[str, Any]], run: str) -> None:
    table = Table("", "planned", run, "off by")
    for row in rows:
        table.add_row(row["figure"], _cell(row["planned"]), _cell(row["measured"]), f"{100 * row['off_by']:+.1f} %")
    Console(markup=False).print(table)


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
