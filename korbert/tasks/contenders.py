"""What the contenders of the benchmarks share: what they read, how their turns are timed, and their training steps.

All of them do the same examples: a sample that fills the batches of all rounds is drawn, and then every contender makes
batches of it in its own way. What comes in one round differs, since a batch of like lengths cannot hold what a batch of
all lengths does: so speed is what all rounds hold by the time of all rounds.
"""

from __future__ import annotations

import functools
import gc
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from korbert.config import BenchmarkCase
from korbert.data.batching import Example, epoch_batches
from korbert.errors import ConfigError, KorbertError
from korbert.model import ModelConfig
from korbert.training.optimizer import make_optimizers
from korbert.training.runtime import Runtime, compile_layers, keep_freed_memory
from korbert.training.settings import OptimizerConfig

log = logging.getLogger(__name__)
OURS = "korbert"
Rows = list[dict[str, Any]]
E = TypeVar("E", bound=Sized)


@dataclass(frozen=True, slots=True)
class Share:
    """What one contender does in one round, how much that is, and how many operations it needs at least."""

    work: Callable[[], object]
    amount: float
    flops: float = 0.0


def sample(examples: Sequence[E], batch_size: int, batches: int, seed: int, key: str, name: str) -> list[E]:
    """So many full batches' examples, drawn by `seed`; of fewer examples as many as fill batches.

    key, name: of the cases, and what the examples are, for the ConfigError where they do not fill one.
    """
    count = min(batches, len(examples) // batch_size) * batch_size
    if not count:
        raise ConfigError(f"{key}: batch_size={batch_size} is more than the {len(examples)} {name} there are")
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:count]]


def batches_of(examples: Sequence[E], batch_size: int, seed: int, bucketed: bool) -> list[list[E]]:
    """Each of the examples once, as in an epoch of training; the last batch may be smaller."""
    lengths = np.array([len(example) for example in examples]) if bucketed else None
    order = epoch_batches(len(examples), lengths, batch_size, np.random.default_rng(seed))
    return [[examples[i] for i in indices] for indices in order]


def dealt(
    step: Callable[[Any], object],
    inputs: Sequence[Any],
    batches: Sequence[Sequence[Sized]],
    rounds: int,
    flops: Callable[[Any], float],
) -> list[Share]:
    """The batches dealt out to the rounds, with their tokens and what `flops` says of their examples.

    inputs: of `step`, one for each batch. Where there are fewer batches than rounds, the last rounds have none.
    """

    def work(given: Sequence[Any]) -> None:
        for batch in given:
            step(batch)

    shares = []
    for number in range(rounds):
        examples = [example for batch in batches[number::rounds] for example in batch]
        shares.append(Share(functools.partial(work, inputs[number::rounds]), sum(map(len, examples)), flops(examples)))
    return shares


def measure(
    about: Mapping[str, Any],
    unit: str,
    shares: Mapping[str, Sequence[Share]],
    rounds: int,
    clock: Callable[[Callable[[], object]], float],
    ceiling: Callable[[], float] | None = None,
    warm: int = 1,
) -> Rows:
    """A row for each contender: how much it does in a second, and how much faster korbert is.

    shares: one share, which is done in every round: medians of the rounds count; or one for each round: all rounds
    together count, which hold the same for everyone. ceiling: measures the operations a second that the hardware can
    do. warm: how many of the shares are done once before, and do not count.
    """
    spent: dict[str, list[float]] = {who: [] for who in shares}
    ceilings: list[float] = []
    gc.collect()
    gc.freeze()  # what was made for the others before is not gone through in anyone's time
    for who, of_rounds in shares.items():
        keep_freed_memory(who.startswith(OURS))
        for share in of_rounds[:warm]:
            share.work()
    for number in range(rounds):
        if ceiling is not None:
            ceilings.append(ceiling())
        for who, of_rounds in shares.items():
            keep_freed_memory(who.startswith(OURS))
            spent[who].append(clock(of_rounds[number % len(of_rounds)].work))
        log.info("%s  round %d of %d", "  ".join(map(str, about.values())), number + 1, rounds)
    gc.unfreeze()
    keep_freed_memory()
    speeds, useful = ({who: _speeds(shares[who], spent[who], key) for who in shares} for key in ("amount", "flops"))
    rows = []
    for who, speed in speeds.items():
        ratios = [a / b for a, b in zip(speeds[OURS], speed, strict=True)]
        row = {**about, "contender": who, f"{unit}_per_second": statistics.median(speed)}
        row["korbert_is_faster_by"] = statistics.median(ratios)
        if ceilings:
            limit = statistics.median(ceilings)
            row |= {
                "useful_share_of_ceiling": statistics.median(useful[who]) / limit,
                "ceiling_gflops": limit / 1e9,
            }
        rows.append(row)
    return rows


def _speeds(shares: Sequence[Share], seconds: Sequence[float], key: str) -> list[float]:
    """What was done in a second: in each round, where all do the same; in all of them together otherwise."""
    if len(shares) == 1:
        return [getattr(shares[0], key) / of_round for of_round in seconds]
    return [sum(getattr(share, key) for share in shares) / sum(seconds)]


def measure_models(case: BenchmarkCase, work: str, shares: Mapping[str, Sequence[Share]], runtime: Runtime) -> Rows:
    """`measure` of models' steps, beside what the hardware can do. work: a column of that name, where it is not ""."""
    rounds = len(shares[OURS])
    return measure(
        {**({"work": work} if work else {}), **columns_of(case)}, "tokens", shares, rounds,
        functools.partial(timed, runtime=runtime), functools.partial(matmul_flops, runtime),
        # All of it where it costs little, and a new shape may have something compiled or looked for.
        warm=rounds if runtime.device.type == "cuda" else 1,
    )  # fmt: skip


def sizes_of(case: BenchmarkCase, vocabulary: int) -> ModelConfig:
    """Of the case's model."""
    return ModelConfig(
        vocabulary, case.hidden_size, case.num_layers, case.num_heads, 4 * case.hidden_size,
        max_positions=max(512, case.length), attention_dropout=case.attention_dropout,
    )  # fmt: skip


def columns_of(case: BenchmarkCase) -> dict[str, Any]:
    """What the case's rows begin with."""
    return {
        "model": case.name,
        "length": case.length,
        "batch_size": case.batch_size,
        "attention_dropout": case.attention_dropout,
    }


def timed(work: Callable[[], object], runtime: Runtime) -> float:
    """Seconds that `work` takes; on a CPU processor time divided by torch's threads: other programs do not count."""
    if runtime.device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000
    started = time.process_time()
    work()
    return (time.process_time() - started) / torch.get_num_threads()


def timed_alone(work: Callable[[], object]) -> float:
    """Processor seconds of work that one thread does."""
    started = time.process_time()
    work()
    return time.process_time() - started


def encoder_flops(lengths: Sequence[int], sizes: ModelConfig) -> float:
    """Operations of a forward pass over sequences that no way of computing it can do without.

    Matrices of the layers at every token, attention within each sequence; a multiplication and its sum are two.
    Padding, embeddings and other elementwise work count nothing.
    """
    d = sizes.hidden_size
    layers = (4 * d * d + 2 * d * sizes.intermediate_size) * sum(lengths)
    attention = 2 * d * sum(length**2 for length in lengths)
    return 2.0 * sizes.num_layers * (layers + attention)


def matmul_flops(runtime: Runtime) -> float:
    """Operations a second of a large matrix product in the precision that training has: what the hardware can do."""
    size = 8192 if runtime.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if runtime.bf16 else torch.float32
    a, b = (torch.randn(size, size, dtype=dtype, device=runtime.device) for _ in range(2))
    best = min(timed(lambda: torch.mm(a, b), runtime) for _ in range(6))
    return 2 * size**3 / best


def our_training_step(model: nn.Module, runtime: Runtime) -> Callable[[Any], None]:
    """A training step of a model of korbert's, as `korbert.training.loop` makes it."""
    model.to(runtime.device).train()
    compile_layers(model, runtime)
    (optimizer,) = make_optimizers(model, OptimizerConfig())

    def step(batch: Any) -> None:
        with runtime.autocast():
            losses = model(batch)
        counts = batch.target_counts()
        loss = torch.stack([value / counts[name] for name, value in losses.items()]).sum()
        loss.backward()
        update(model, optimizer)

    return step


def their_model(name: str, sizes: ModelConfig) -> nn.Module:
    """The model of transformers that is called so, BertFor…, of the same sizes. Raises KorbertError without it."""
    try:
        import transformers
    except ImportError:
        raise KorbertError("the benchmark compares with Hugging Face: pip install -e '.[hf]'") from None
    theirs = transformers.BertConfig(
        vocab_size=sizes.vocab_size, hidden_size=sizes.hidden_size, num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads, intermediate_size=sizes.intermediate_size,
        max_position_embeddings=sizes.max_positions, hidden_dropout_prob=sizes.hidden_dropout,
        attention_probs_dropout_prob=sizes.attention_dropout, attn_implementation="sdpa",
    )  # fmt: skip
    model: nn.Module = getattr(transformers, name)(theirs)
    return model


def their_training_step(model: nn.Module, runtime: Runtime) -> Callable[[dict[str, Tensor]], None]:
    """A training step of a model of transformers'."""
    model.to(runtime.device).train()
    (optimizer,) = make_optimizers(model, OptimizerConfig())

    def step(batch: dict[str, Tensor]) -> None:
        with runtime.autocast():
            loss = model(**batch).loss
        loss.backward()
        update(model, optimizer)

    return step


def their_inputs(examples: Sequence[Example], pad_id: int, length: int | None = None) -> dict[str, Tensor]:
    """What a model of transformers' reads of them, padded to `length`, or (None) to the longest."""
    size = (len(examples), length or max(len(example.token_ids) for example in examples))
    ids = torch.full(size, pad_id)
    segments, mask = torch.zeros(2, *size, dtype=torch.int64)
    for row, example in enumerate(examples):
        end = len(example.token_ids)
        ids[row, :end] = torch.from_numpy(example.token_ids)
        segments[row, :end] = torch.from_numpy(example.segment_ids.copy())
        mask[row, :end] = 1
    return {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradients, and make the step."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
