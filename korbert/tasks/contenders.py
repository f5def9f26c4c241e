"""What the contenders of the benchmarks share: how their work is timed, and what a training step ends with."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from korbert.training.runtime import Runtime


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


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradients, and make the step."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
