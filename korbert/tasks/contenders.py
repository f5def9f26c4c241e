"""What the contenders of the benchmarks share: how work is timed, what it needs, and a training step's end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from korbert.errors import KorbertError
from korbert.model import ModelConfig
from korbert.training.optimizer import make_optimizers
from korbert.training.runtime import Runtime, compile_layers
from korbert.training.settings import OptimizerConfig


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
    size, dtype = (8192, torch.bfloat16) if runtime.device.type == "cuda" else (2048, torch.float32)
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


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradients, and make the step."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
