"""What the contenders of the benchmarks share: how their work is timed, and what a training step ends with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from korbert.training.optimizer import OptimizerConfig, make_optimizers
from korbert.training.runtime import Runtime, compile_layers


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


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradients, and make the step."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
