"""How fast a pretraining step is beside Hugging Face's, interleaved in one process, and how near to the hardware.

All contenders read the same paragraphs of real text, all rounds taken together (see `korbert.tasks.contenders`), each
cut to the case's length and with the same tokens masked, predict the same targets, and have the same sizes, dropout and
optimizer. group_texts lays the masked paragraphs end to end, and leaves out the last tokens, which fill no block. What
differs is what a user would get: how sequences are brought into batches, the model's code, and how freed memory is
kept. Tokens are counted without padding. Time is the process's CPU time divided by its threads on a CPU (other programs
do not count), CUDA events on a GPU; batches are made beforehand.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korbert.config import BenchmarkCase, BenchmarkConfig
from korbert.data.batching import PretrainingBatch, collate_pretraining, pad
from korbert.data.corpus import read_documents
from korbert.data.masking import MaskingConfig, mask_tokens
from korbert.data.pretraining import PretrainingExample
from korbert.errors import check_known
from korbert.model import IGNORE_INDEX, ModelConfig, PretrainingModel
from korbert.tasks.benchmark_korquad import benchmark_korquad
from korbert.tasks.benchmark_tokenizers import benchmark_tokenizers
from korbert.tasks.contenders import (
    OURS,
    Rows,
    batches_of,
    columns_of,
    dealt,
    encoder_flops,
    measure_models,
    our_training_step,
    sample,
    sizes_of,
    their_inputs,
    their_model,
    their_training_step,
)
from korbert.tasks.prepare import corpus_files, prepare_tokenizer
from korbert.tasks.profile import MATRIX_PRODUCTS, step_profile
from korbert.tasks.runs import finish_run, kept, run_once, start_run
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.runtime import Runtime, make_runtime, seed_everything

Batches = Sequence[Sequence[PretrainingExample]]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that can make training steps: its batches of examples, and what each is as the step's input."""

    name: str
    step: Callable[[Any], None]
    batches: Batches
    inputs: Sequence[Any]


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
        measured = functools.partial(measure_case, case, texts, tokenizer, config, runtime)
        rows, profile = kept(config, asdict(case), measured)
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
) -> tuple[Rows, dict[str, Any]]:
    """One row of results for each contender, and where the time of korbert's steps goes."""
    sizes = sizes_of(case, len(tokenizer))
    contenders = make_contenders(case, sizes, texts, tokenizer, config, runtime)
    needed = functools.partial(useful_flops, sizes=sizes)
    shares = {one.name: dealt(one.step, one.inputs, one.batches, config.rounds, needed) for one in contenders}
    rows = measure_models(case, "", shares, runtime)

    def work() -> None:
        for share in shares[OURS]:
            share.work()

    seconds, parts = step_profile(work, runtime)
    done = sum(share.flops for share in shares[OURS]) / seconds / (rows[0]["ceiling_gflops"] * 1e9)
    rate = done / parts[MATRIX_PRODUCTS]
    return rows, {**columns_of(case), **parts, "rate of the matrix products by the ceiling": rate}


def make_contenders(
    case: BenchmarkCase,
    sizes: ModelConfig,
    texts: list[np.ndarray],
    tokenizer: Tokenizer,
    config: BenchmarkConfig,
    runtime: Runtime,
) -> list[Contender]:
    """Hugging Face in three ways to batch the text (without blocks where it does not fill one), and korbert."""
    special = tokenizer.special
    some = sample(texts, case.batch_size, config.steps * config.rounds, config.seed, "cases", "paragraphs")
    rng = np.random.default_rng(config.seed)
    lines = [make_example(ids[: case.length - 2], tokenizer, rng) for ids in some]
    mixed, alike = (batches_of(lines, case.batch_size, config.seed, bucketed) for bucketed in (False, True))
    blocks = batches_of(in_blocks(lines, case.length), case.batch_size, config.seed, bucketed=False)

    def theirs(batches: Batches) -> list[dict[str, Tensor]]:
        return [their_batch(batch, special.pad, runtime.device) for batch in batches]

    collate = functools.partial(collate_pretraining, pad_id=special.pad, packed=runtime.packed)
    ours = [collate(batch).to(runtime.device) for batch in alike]
    hf_step = their_training_step(their_model("BertForPreTraining", sizes), runtime)
    contenders = [
        Contender("Hugging Face, padded", hf_step, mixed, theirs(mixed)),
        Contender("Hugging Face, group_texts", hf_step, blocks, theirs(blocks)),
        Contender("Hugging Face, bucketed", hf_step, alike, theirs(alike)),
        Contender(OURS, our_step(sizes, replace(runtime, compile=False)), alike, ours),
    ]
    if runtime.compile or runtime.device.type == "cuda":
        compiled = our_step(sizes, replace(runtime, compile=True))
        contenders.append(Contender(f"{OURS}, compiled", compiled, alike, ours))
    return [contender for contender in contenders if contender.batches]


def in_blocks(lines: Sequence[PretrainingExample], length: int) -> list[PretrainingExample]:
    """The lines' tokens end to end, masked as they are, in blocks of `length` with [CLS] and [SEP] of their own.

    What is left over at the end fills no block, and is left out.
    """
    first, last = lines[0].token_ids[0], lines[0].token_ids[-1]
    ids, labels = (np.concatenate([getattr(line, key)[1:-1] for line in lines]) for key in ("token_ids", "mlm_labels"))
    room, nothing = length - 2, np.zeros(length, dtype=np.int32)
    return [
        PretrainingExample(
            np.concatenate([[first], ids[start : start + room], [last]]).astype(np.int32), nothing, nothing,
            np.concatenate([[IGNORE_INDEX], labels[start : start + room], [IGNORE_INDEX]]).astype(np.int32), 1,
        )
        for start in range(0, len(ids) - room + 1, room)
    ]  # fmt: skip


def make_example(ids: np.ndarray, tokenizer: Tokenizer, rng: np.random.Generator) -> PretrainingExample:
    """[CLS] ids [SEP], masked at 15 %, called a true next pair."""
    special = tokenizer.special
    token_ids = np.concatenate([[special.cls], ids, [special.sep]]).astype(np.int32)
    masked, labels = mask_tokens(token_ids, rng, special, len(tokenizer), MaskingConfig())
    nothing = np.zeros(len(token_ids), dtype=np.int32)
    return PretrainingExample(masked, nothing, nothing, labels, 1)


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


def their_batch(examples: Sequence[PretrainingExample], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """Padded to the longest, as transformers' collator does."""
    batch = their_inputs(examples, pad_id)
    batch |= {
        "labels": pad([example.mlm_labels for example in examples], IGNORE_INDEX),
        "next_sentence_label": torch.tensor([example.nsp_label for example in examples]),
    }
    return {name: value.to(device) for name, value in batch.items()}
