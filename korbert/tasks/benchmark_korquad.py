"""How fast KorQuAD fine-tuning and scoring are beside transformers' `run_qa`, interleaved in one process.

Features and post-processing are one thread's work, seconds of its processor time. Training steps and inference read
the same windows on both sides, with the same model sizes, dropout and optimizer; batches are made beforehand, tokens
are counted without padding. transformers takes part as its example is by default, every window padded to the longest
there may be, and once more with batches of like length, padded to their own longest, as korbert has them. The
operations that the text itself needs stand beside what the hardware can do: nobody can be faster than that.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korbert.config import BenchmarkCase, BenchmarkConfig, expand_root
from korbert.data.batching import SpanBatch, collate_windows, epoch_batches
from korbert.data.decoding import DecodingConfig, Logits, decode_answers, scores_of
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError, check_all_known
from korbert.model import ModelConfig, SpanModel
from korbert.study.calibration import confidences
from korbert.tasks.contenders import (
    encoder_flops,
    matmul_flops,
    our_training_step,
    their_model,
    timed,
    timed_alone,
    update,
)
from korbert.tasks.prepare import prepare_tokenizer
from korbert.tasks.run_qa import as_examples, postprocessed, training_features, validation_features
from korbert.tasks.runs import finish_run, kept, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.tokenizers.conversion import as_fast_tokenizer
from korbert.training.optimizer import make_optimizers
from korbert.training.runtime import Runtime, compile_layers, keep_freed_memory, make_runtime, seed_everything
from korbert.training.settings import OptimizerConfig

log = logging.getLogger(__name__)
_OURS, _PADDED, _BUCKETED = "korbert", "Hugging Face, padded", "Hugging Face, bucketed"
_ALONE, _OF_MODELS = ("features", "postprocessing"), ("training", "inference")
# How much logits fall with each token from one place on. A trained model's best starts and ends lie together, so that
# most of their pairs are possible answers; few are of noise.
_SLOPES = {"one place stands out": 0.2, "noise": 0.0}
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Share:
    """What one contender does in one round, how much that is, and how many operations it needs at least."""

    work: Callable[[], object]
    amount: float
    flops: float = 0.0


def benchmark_korquad(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure all work that is asked for, write the record, and return it."""
    check_all_known("korquad.work", config.korquad.work, (*_ALONE, *_OF_MODELS))
    os.environ["RAYON_NUM_THREADS"] = "1"  # before tokenizers is imported
    dataset = read_korquad(Path(expand_root(config.korquad.file, config.data)))
    runtime = make_runtime(config.runtime)
    folder = start_run(config)
    tokenizer = load_tokenizer(prepare_tokenizer(config.tokenizer, config.corpus, config.data))
    seed_everything(config.seed)
    alone: Rows = []
    steps: Rows = []
    for length in sorted({case.length for case in config.korquad.cases}):
        window = WindowConfig(length, config.korquad.doc_stride, config.korquad.max_question_length)
        alone += kept(config, length, functools.partial(measure_alone, dataset, tokenizer, window, config))
        windows, _ = _maker(tokenizer, window).dataset(dataset)
        for case in config.korquad.cases:
            if case.length == length:
                measure = functools.partial(measure_models, case, windows, tokenizer, config, runtime)
                steps += kept(config, asdict(case), measure)
    results = {"suite": config.suite, "questions": len(dataset), "one thread": alone, "models": steps}
    return finish_run(folder, "benchmark", config, {key: value for key, value in results.items() if value != []})


def _maker(tokenizer: Tokenizer, window: WindowConfig) -> WindowMaker:
    return WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, window)


def measure_alone(dataset: KorquadDataset, tokenizer: Tokenizer, window: WindowConfig, config: BenchmarkConfig) -> Rows:
    """Features of all questions, made anew; and answers of all of them from the same logits, with their confidence."""
    examples, fast = as_examples(dataset), as_fast_tokenizer(tokenizer)
    contenders: dict[str, dict[str, Callable[[], object]]] = {}
    if "features" in config.korquad.work:
        contenders["features"] = {
            _OURS: lambda: _maker(tokenizer, window).dataset(dataset),
            _PADDED: lambda: training_features(fast, examples, window),
        }
    if "postprocessing" in config.korquad.work:
        windows, _ = _maker(tokenizer, window).dataset(dataset)
        features = validation_features(fast, examples, window)
        for name, slope in _SLOPES.items():
            said = random_logits(windows, len(features), window.max_length, slope, config.seed)
            starts, ends = ([getattr(of_window, side) for of_window in said] for side in ("start", "end"))
            contenders[f"postprocessing, {name}"] = {
                _OURS: functools.partial(_answers, windows, said[: len(windows)]),
                _PADDED: functools.partial(postprocessed, examples, features, starts, ends, DecodingConfig()),
            }
    rows = []
    for name, works in contenders.items():
        shares = {who: [Share(work, len(dataset))] for who, work in works.items()}
        rows += _measure({"work": name, "length": window.max_length}, "questions", shares, config.rounds, timed_alone)
    return rows


def random_logits(windows: Sequence[Window], count: int, length: int, slope: float, seed: int) -> list[Logits]:
    """Start and end logits of windows, each (length,) float32: noise that falls by `slope` a token from some place on.

    count: at least so many; transformers' side may have a few more windows, for it normalises text in another way.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(max(count, len(windows)), 2, length)).astype(np.float32)
    for of_window, window in zip(logits, windows, strict=False):
        place = window.context_start + rng.integers(max(1, len(window.starts)))
        of_window -= np.float32(slope) * np.abs(np.arange(length, dtype=np.float32) - place)
    return [Logits(start, end) for start, end in logits]


def _answers(windows: Sequence[Window], logits: Sequence[Logits]) -> np.ndarray:
    answers = decode_answers(windows, logits, DecodingConfig())
    return confidences(scores_of(answers))


def measure_models(
    case: BenchmarkCase, windows: Sequence[Window], tokenizer: Tokenizer, config: BenchmarkConfig, runtime: Runtime
) -> Rows:
    """Training steps and inference, in batches of the same windows."""
    sizes = ModelConfig(
        len(tokenizer), case.hidden_size, case.num_layers, case.num_heads, 4 * case.hidden_size,
        max_positions=max(512, case.length), attention_dropout=case.attention_dropout,
    )  # fmt: skip
    count, pad_id = config.korquad.steps * (config.rounds + 1), tokenizer.special.pad
    mixed, alike = (batches(windows, case.batch_size, count, config.seed, bucketed) for bucketed in (False, True))
    collate = functools.partial(collate_windows, pad_id=pad_id, packed=runtime.packed)
    inputs: dict[str, list[Any]] = {
        _OURS: [collate(some).to(runtime.device) for some in alike],
        _PADDED: [their_batch(some, pad_id, case.length, runtime.device) for some in mixed],
        _BUCKETED: [their_batch(some, pad_id, None, runtime.device) for some in alike],
    }
    rows: Rows = []
    for work in (name for name in _OF_MODELS if name in config.korquad.work):
        mine, theirs = our_work(sizes, work, runtime), their_work(sizes, work, runtime)
        needed = functools.partial(_flops, sizes, work)
        shares = {
            who: _shares(
                mine if who == _OURS else theirs, given, mixed if who == _PADDED else alike, config.rounds + 1, needed
            )
            for who, given in inputs.items()
        }
        about = {
            "work": work, "model": case.name, "length": case.length, "batch_size": case.batch_size,
            "attention_dropout": case.attention_dropout,
        }  # fmt: skip
        rows += _measure(
            about, "tokens", shares, config.rounds, functools.partial(timed, runtime=runtime),
            functools.partial(matmul_flops, runtime),
        )  # fmt: skip
    return rows


def _flops(sizes: ModelConfig, work: str, lengths: Sequence[int]) -> float:
    """Operations that sequences of these lengths need; a backward pass costs twice a forward pass."""
    return (3 if work == "training" else 1) * encoder_flops(lengths, sizes)


def _shares(
    step: Callable[[Any], object],
    inputs: Sequence[Any],
    windows: Sequence[Sequence[Window]],
    rounds: int,
    flops: Callable[[Sequence[int]], float],
) -> list[Share]:
    """The batches dealt out to the rounds, with their tokens and `flops` of their sequences."""

    def work(given: Sequence[Any]) -> None:
        for batch in given:
            step(batch)

    shares = []
    for number in range(rounds):
        lengths = [len(window) for some in windows[number::rounds] for window in some]
        shares.append(Share(functools.partial(work, inputs[number::rounds]), sum(lengths), flops(lengths)))
    return shares


def _measure(
    about: Mapping[str, Any],
    unit: str,
    shares: Mapping[str, Sequence[Share]],
    rounds: int,
    clock: Callable[[Callable[[], object]], float],
    ceiling: Callable[[], float] | None = None,
) -> Rows:
    """A row for each contender: how much it does in a second, and how much faster korbert is, medians of the rounds.

    shares: one for each round, or the same one for all; the first round warms up. ceiling: measures the operations a
    second that the hardware can do.
    """
    speeds: dict[str, list[float]] = {who: [] for who in shares}
    useful: dict[str, list[float]] = {who: [] for who in shares}
    ceilings: list[float] = []
    gc.collect()
    gc.freeze()  # what was made for the others before is not gone through in anyone's time
    for number in range(rounds + 1):
        if ceiling is not None:
            ceilings.append(ceiling())
        for who, of_round in shares.items():
            share = of_round[number % len(of_round)]
            keep_freed_memory(who == _OURS)
            seconds = clock(share.work)
            speeds[who].append(share.amount / seconds)
            useful[who].append(share.flops / seconds)
        log.info("%s  round %d of %d", "  ".join(map(str, about.values())), number, rounds)
    gc.unfreeze()
    keep_freed_memory()
    rows = []
    for who, speed in speeds.items():
        ratios = [a / b for a, b in zip(speeds[_OURS][1:], speed[1:], strict=True)]
        row = {**about, "contender": who, f"{unit}_per_second": statistics.median(speed[1:])}
        row["korbert_is_faster_by"] = statistics.median(ratios)
        if ceilings:
            limit = statistics.median(ceilings[1:])
            row |= {
                "useful_share_of_ceiling": statistics.median(useful[who][1:]) / limit,
                "ceiling_gflops": limit / 1e9,
            }
        rows.append(row)
    return rows


def batches(windows: Sequence[Window], batch_size: int, count: int, seed: int, bucketed: bool) -> list[list[Window]]:
    """`count` full batches of an epoch, again from its beginning where there are not so many."""
    lengths = np.array([len(window) for window in windows]) if bucketed else None
    order = epoch_batches(len(windows), lengths, batch_size, np.random.default_rng(seed))
    full = [indices for indices in order if len(indices) == batch_size]
    if not full:
        raise ConfigError(f"korquad.cases: batch_size={batch_size} is more than the {len(windows)} windows there are")
    return [[windows[i] for i in full[number % len(full)]] for number in range(count)]


def our_work(sizes: ModelConfig, work: str, runtime: Runtime) -> Callable[[SpanBatch], object]:
    """A training step as `korbert.training.loop` makes it, or logits as `korbert.prediction` does."""
    if work == "training":
        return our_training_step(SpanModel(sizes), runtime)
    model = SpanModel(sizes).to(runtime.device).eval()
    compile_layers(model, runtime)

    def infer(batch: SpanBatch) -> list[np.ndarray]:
        with torch.inference_mode(), runtime.autocast():
            return [part.float().cpu().numpy() for part in model.logits(batch)]

    return infer


def their_work(sizes: ModelConfig, work: str, runtime: Runtime) -> Callable[[dict[str, Tensor]], object]:
    """The same of transformers' BertForQuestionAnswering. Raises KorbertError without transformers."""
    model = their_model("BertForQuestionAnswering", sizes).to(runtime.device).train(work == "training")
    (optimizer,) = make_optimizers(model, OptimizerConfig())

    def step(batch: dict[str, Tensor]) -> None:
        with runtime.autocast():
            loss = model(**batch).loss
        loss.backward()
        update(model, optimizer)

    def infer(batch: dict[str, Tensor]) -> list[np.ndarray]:
        known = {name: value for name, value in batch.items() if not name.endswith("_positions")}
        with torch.inference_mode(), runtime.autocast():
            said = model(**known)
        return [part.float().cpu().numpy() for part in (said.start_logits, said.end_logits)]

    return step if work == "training" else infer


def their_batch(windows: Sequence[Window], pad_id: int, length: int | None, device: torch.device) -> dict[str, Tensor]:
    """Padded to `length`, as `run_qa` does by default, or (None) to the longest of the batch."""
    size = (len(windows), length or max(map(len, windows)))
    ids = torch.full(size, pad_id)
    segments, mask = torch.zeros(2, *size, dtype=torch.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.from_numpy(window.token_ids)
        segments[row, : len(window)] = torch.from_numpy(window.segment_ids.copy())
        mask[row, : len(window)] = 1
    answers = torch.tensor([window.answer for window in windows])
    batch = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    batch |= {"start_positions": answers[:, 0], "end_positions": answers[:, 1]}
    return {name: value.to(device) for name, value in batch.items()}
