"""How fast a pretraining step is beside Hugging Face's, interleaved in one process, and how near to the hardware.

All contenders read the same paragraphs of real text with the same tokens masked, predict the same targets, and have
the same sizes, dropout and optimizer. What differs is what a user would get: how sequences are brought into batches,
the model's code, and how freed memory is kept. Tokens are counted without padding. Time is the process's CPU time
divided by its threads on a CPU (other programs do not count), CUDA events on a GPU; batches are made beforehand.
"""

from __future__ import annotations

import functools
import itertools
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korbert.config import BenchmarkCase, BenchmarkConfig
from korbert.data.batching import PretrainingBatch, collate_pretraining, epoch_batches, pad
from korbert.data.corpus import read_documents
from korbert.data.masking import MaskingConfig, mask_tokens
from korbert.data.pretraining import PretrainingExample
from korbert.errors import check_known
from korbert.model import IGNORE_INDEX, ModelConfig, PretrainingModel
from korbert.tasks.benchmark_korquad import benchmark_korquad
from korbert.tasks.benchmark_tokenizers import benchmark_tokenizers
from korbert.tasks.contenders import encoder_flops, matmul_flops, our_training_step, their_model, timed, update
from korbert.tasks.prepare import corpus_files, prepare_tokenizer
from korbert.tasks.profile import MATRIX_PRODUCTS, step_profile
from korbert.tasks.runs import finish_run, kept, run_once, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.optimizer import make_optimizers
from korbert.training.runtime import Runtime, keep_freed_memory, make_runtime, seed_everything
from korbert.training.settings import OptimizerConfig

log = logging.getLogger(__name__)
_OURS = "korbert"


@dataclass(frozen=True, slots=True)
class Work:
    """One step's input, and what it holds: tokens without padding, and floating-point operations that it needs."""

    batch: Any
    tokens: int
    flops: float


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that can make training steps."""

    name: str
    step: Callable[[Any], None]
    works: Sequence[Work]


@run_once
def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure every case, write the record and the table, and return the record."""
    others = {"tokenizers": benchmark_tokenizers, "korquad": benchmark_korquad}
    check_known("suite", config.suite, ("pretraining", *others))
    if config.suite in others:
        return others[config.suite](config)
    runtime = make_runtime(config.runtime)
    folder = start_run(config)
    tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    tokenizer = load_tokenizer(tokenizer_folder)
    texts = list(itertools.islice(paragraphs(config, tokenizer), config.paragraphs))
    seed_everything(config.seed)
    steps, shares = [], []
    for case in config.cases:
        measure = functools.partial(measure_case, case, texts, tokenizer, config, runtime)
        rows, profile = kept(config, asdict(case), measure)
        steps += rows
        shares.append(profile)
    return finish_run(folder, "benchmark", config, {"suite": config.suite, "steps": steps, "time of a step": shares})


def paragraphs(config: BenchmarkConfig, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Token ids of the corpus's paragraphs, the lines of a text file."""
    for path in corpus_files(config.corpus, config.data):
        for document in read_documents(path):
            for paragraph in document:
                ids = tokenizer.encode(paragraph).ids
                if len(ids):
                    yield ids


def measure_case(
    case: BenchmarkCase, texts: list[np.ndarray], tokenizer: Tokenizer, config: BenchmarkConfig, runtime: Runtime
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row of results for each contender, all measured in turn, `rounds` times over; and korbert's profile."""
    sizes = ModelConfig(
        len(tokenizer), case.hidden_size, case.num_layers, case.num_heads, 4 * case.hidden_size,
        max_positions=max(512, case.length), attention_dropout=case.attention_dropout,
    )  # fmt: skip
    contenders = make_contenders(case, sizes, texts, tokenizer, config, runtime)
    speeds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    useful: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    ceilings = []
    for number in range(config.rounds + 1):
        ceilings.append(matmul_flops(runtime))
        for contender in contenders:
            # Every round does the same share of the work, from the beginning on; the first round warms up.
            works = [contender.works[(number * config.steps + i) % len(contender.works)] for i in range(config.steps)]
            keep_freed_memory(contender.name.startswith(_OURS))
            seconds = timed(lambda c=contender, w=works: [c.step(work.batch) for work in w], runtime)  # type: ignore[misc]
            speeds[contender.name].append(sum(work.tokens for work in works) / seconds)
            useful[contender.name].append(sum(work.flops for work in works) / seconds)
        log.info("%s  round %d of %d", case.name, number, config.rounds)
    ceiling = statistics.median(ceilings[1:])
    ours = speeds[_OURS][1:]
    about = {
        "model": case.name,
        "length": case.length,
        "batch_size": case.batch_size,
        "attention_dropout": case.attention_dropout,
    }
    rows = [
        {
            **about,
            "contender": name,
            "tokens_per_second": statistics.median(speed[1:]),
            "korbert_is_faster_by": statistics.median(a / b for a, b in zip(ours, speed[1:], strict=True)),
            "useful_share_of_ceiling": statistics.median(useful[name][1:]) / ceiling,
            "ceiling_gflops": ceiling / 1e9,
        }
        for name, speed in speeds.items()
    ]
    contender = next(contender for contender in contenders if contender.name == _OURS)

    def work() -> None:
        for one in contender.works:
            contender.step(one.batch)

    keep_freed_memory()
    seconds, shares = step_profile(work, runtime.device)
    needed = sum(one.flops for one in contender.works) / seconds / ceiling
    rate = needed / shares[MATRIX_PRODUCTS]
    return rows, {**about, **shares, "rate of the matrix products by the ceiling": rate}


def make_contenders(
    case: BenchmarkCase,
    sizes: ModelConfig,
    texts: list[np.ndarray],
    tokenizer: Tokenizer,
    config: BenchmarkConfig,
    runtime: Runtime,
) -> list[Contender]:
    """Hugging Face in three ways to batch the text, and korbert."""
    rng = np.random.default_rng(config.seed)
    special = tokenizer.special
    lines = [make_example(ids[: case.length - 2], tokenizer, rng) for ids in texts]
    joined = np.concatenate(texts)
    room = case.length - 2
    blocks = [make_example(joined[i : i + room], tokenizer, rng) for i in range(0, len(joined) - room, room)]
    count = config.steps * (config.rounds + 1)

    def batches(examples: list[PretrainingExample], bucketed: bool) -> list[list[PretrainingExample]]:
        lengths = np.array([len(example) for example in examples]) if bucketed else None
        order = epoch_batches(len(examples), lengths, case.batch_size, np.random.default_rng(config.seed))
        full = [indices for indices in order if len(indices) == case.batch_size]
        return [[examples[i] for i in indices] for indices in full[:count]]

    def theirs(chosen: list[list[PretrainingExample]]) -> list[Work]:
        return [_work(their_batch(c, special.pad, runtime.device), c, sizes) for c in chosen]

    collate = functools.partial(collate_pretraining, pad_id=special.pad, packed=runtime.packed)
    ours = [_work(collate(c).to(runtime.device), c, sizes) for c in batches(lines, bucketed=True)]
    hf_step = their_step(sizes, runtime)
    contenders = [
        Contender("Hugging Face, padded", hf_step, theirs(batches(lines, bucketed=False))),
        Contender("Hugging Face, group_texts", hf_step, theirs(batches(blocks, bucketed=False))),
        Contender("Hugging Face, bucketed", hf_step, theirs(batches(lines, bucketed=True))),
        Contender(_OURS, our_step(sizes, replace(runtime, compile=False)), ours),
    ]
    if runtime.compile or runtime.device.type == "cuda":
        contenders.append(Contender(f"{_OURS}, compiled", our_step(sizes, replace(runtime, compile=True)), ours))
    return contenders


def make_example(ids: np.ndarray, tokenizer: Tokenizer, rng: np.random.Generator) -> PretrainingExample:
    """[CLS] ids [SEP], masked at 15 %, called a true next pair."""
    special = tokenizer.special
    token_ids = np.concatenate([[special.cls], ids, [special.sep]]).astype(np.int32)
    masked, labels = mask_tokens(token_ids, rng, special, len(tokenizer), MaskingConfig())
    nothing = np.zeros(len(token_ids), dtype=np.int32)
    return PretrainingExample(masked, nothing, nothing, labels, 1)


def _work(batch: Any, examples: Sequence[PretrainingExample], sizes: ModelConfig) -> Work:
    tokens = sum(len(example) for example in examples)
    return Work(batch, tokens, useful_flops(examples, sizes))


def useful_flops(examples: Sequence[PretrainingExample], sizes: ModelConfig) -> float:
    """Operations of a training step that no way of computing it can do without, see `encoder_flops`.

    Beside the encoder the vocabulary head at masked tokens, and next sentence at [CLS]; the backward pass costs twice
    the forward pass.
    """
    d = sizes.hidden_size
    masked = sum(int((example.mlm_labels != IGNORE_INDEX).sum()) for example in examples)
    heads = (d * d + d * sizes.vocab_size) * masked + (d * d + 2 * d) * len(examples)
    return 3 * (encoder_flops([len(example) for example in examples], sizes) + 2.0 * heads)


def our_step(sizes: ModelConfig, runtime: Runtime) -> Callable[[PretrainingBatch], None]:
    """A training step of korbert, as `korbert.training.loop` makes it."""
    return our_training_step(PretrainingModel(sizes), runtime)


def their_step(sizes: ModelConfig, runtime: Runtime) -> Callable[[dict[str, Tensor]], None]:
    """A training step of transformers' BertForPreTraining of the same sizes.

    Raises KorbertError without transformers.
    """
    model = their_model("BertForPreTraining", sizes).to(runtime.device).train()
    (optimizer,) = make_optimizers(model, OptimizerConfig())

    def step(batch: dict[str, Tensor]) -> None:
        with runtime.autocast():
            loss = model(**batch).loss
        loss.backward()
        update(model, optimizer)

    return step


def their_batch(examples: Sequence[PretrainingExample], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """Padded to the longest, as transformers' collator does."""
    batch = {
        "input_ids": pad([example.token_ids for example in examples], pad_id),
        "token_type_ids": pad([example.segment_ids for example in examples], 0),
        "attention_mask": pad([np.ones(len(example), dtype=np.int64) for example in examples], 0),
        "labels": pad([example.mlm_labels for example in examples], IGNORE_INDEX),
        "next_sentence_label": torch.tensor([example.nsp_label for example in examples]),
    }
    return {name: value.to(device) for name, value in batch.items()}
