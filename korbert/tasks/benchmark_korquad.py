"""How fast KorQuAD fine-tuning and scoring are beside transformers' `run_qa`, interleaved in one process.

Features and post-processing are one thread's work, seconds of its processor time. Training steps and inference read
the same windows on all sides, all rounds taken together (see `korbert.tasks.contenders`), with the same model sizes,
dropout and optimizer; batches are made beforehand, tokens are counted without padding. transformers takes part as its
example is by default, every window padded to the longest there may be, and once more with batches of like length,
padded to their own longest, as korbert has them. The operations that the text itself needs stand beside what the
hardware can do: nobody can be faster than that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korbert.config import BenchmarkCase, BenchmarkConfig, expand_root
from korbert.data.batching import SpanBatch, collate_windows
from korbert.data.decoding import DecodingConfig, Logits, decode_answers, scores_of
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.errors import check_all_known
from korbert.model import ModelConfig, SpanModel
from korbert.study.calibration import confidences
from korbert.tasks.contenders import (
    OURS,
    Rows,
    Share,
    batches_of,
    dealt,
    encoder_flops,
    measure,
    measure_models,
    our_training_step,
    sample,
    sizes_of,
    their_inputs,
    their_model,
    their_training_step,
    timed_alone,
)
from korbert.tasks.prepare import prepare_tokenizer
from korbert.tasks.run_qa import as_examples, postprocessed, training_features, validation_features
from korbert.tasks.runs import finish_run, kept, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.tokenizers.conversion import as_fast_tokenizer
from korbert.training.runtime import Runtime, compile_layers, make_runtime, seed_everything

_PADDED, _BUCKETED = "Hugging Face, padded", "Hugging Face, bucketed"
_ALONE, _OF_MODELS = ("features", "postprocessing"), ("training", "inference")
# How much logits fall with each token from one place on. A trained model's best starts and ends lie together, so that
# most of their pairs are possible answers; few are of noise.
_SLOPES = {"one place stands out": 0.2, "noise": 0.0}


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
                measured = functools.partial(measure_case, case, windows, tokenizer, config, runtime)
                steps += kept(config, asdict(case), measured)
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
            OURS: lambda: _maker(tokenizer, window).dataset(dataset),
            _PADDED: lambda: training_features(fast, examples, window),
        }
    if "postprocessing" in config.korquad.work:
        windows, _ = _maker(tokenizer, window).dataset(dataset)
        features = validation_features(fast, examples, window)
        for name, slope in _SLOPES.items():
            said = random_logits(windows, len(features), window.max_length, slope, config.seed)
            starts, ends = ([getattr(of_window, side) for of_window in said] for side in ("start", "end"))
            contenders[f"postprocessing, {name}"] = {
                OURS: functools.partial(_answers, windows, said[: len(windows)]),
                _PADDED: functools.partial(postprocessed, examples, features, starts, ends, DecodingConfig()),
            }
    rows = []
    for name, works in contenders.items():
        shares = {who: [Share(work, len(dataset))] for who, work in works.items()}
        rows += measure({"work": name, "length": window.max_length}, "questions", shares, config.rounds, timed_alone)
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


def measure_case(
    case: BenchmarkCase, windows: Sequence[Window], tokenizer: Tokenizer, config: BenchmarkConfig, runtime: Runtime
) -> Rows:
    """Training steps and inference, in batches of the same windows."""
    sizes = sizes_of(case, len(tokenizer))
    count, pad_id = config.korquad.steps * config.rounds, tokenizer.special.pad
    some = sample(windows, case.batch_size, count, config.seed, "korquad.cases", "windows")
    mixed, alike = (batches_of(some, case.batch_size, config.seed, bucketed) for bucketed in (False, True))
    collate = functools.partial(collate_windows, pad_id=pad_id, packed=runtime.packed)
    inputs: dict[str, list[Any]] = {
        OURS: [collate(batch).to(runtime.device) for batch in alike],
        _PADDED: [their_batch(batch, pad_id, case.length, runtime.device) for batch in mixed],
        _BUCKETED: [their_batch(batch, pad_id, None, runtime.device) for batch in alike],
    }
    rows: Rows = []
    for work in (name for name in _OF_MODELS if name in config.korquad.work):
        mine, theirs = our_work(sizes, work, runtime), their_work(sizes, work, runtime)
        needed = functools.partial(_flops, sizes, work)
        shares = {
            who: dealt(
                mine if who == OURS else theirs, given, mixed if who == _PADDED else alike, config.rounds, needed
            )
            for who, given in inputs.items()
        }
        rows += measure_models(case, work, shares, runtime)
    return rows


def _flops(sizes: ModelConfig, work: str, windows: Sequence[Window]) -> float:
    """Operations that the windows need; a backward pass costs twice a forward pass."""
    return (3 if work == "training" else 1) * encoder_flops([len(window) for window in windows], sizes)


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
    model = their_model("BertForQuestionAnswering", sizes)
    if work == "training":
        return their_training_step(model, runtime)
    model.to(runtime.device).eval()

    def infer(batch: dict[str, Tensor]) -> list[np.ndarray]:
        known = {name: value for name, value in batch.items() if not name.endswith("_positions")}
        with torch.inference_mode(), runtime.autocast():
            said = model(**known)
        return [part.float().cpu().numpy() for part in (said.start_logits, said.end_logits)]

    return infer


def their_batch(windows: Sequence[Window], pad_id: int, length: int | None, device: torch.device) -> dict[str, Tensor]:
    """Padded to `length`, as `run_qa` does by default, or (None) to the longest of the batch."""
    answers = torch.tensor([window.answer for window in windows])
    batch = their_inputs(windows, pad_id, length)
    batch |= {"start_positions": answers[:, 0], "end_positions": answers[:, 1]}
    return {name: value.to(device) for name, value in batch.items()}
