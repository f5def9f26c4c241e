"""Where and how fast: device, precision, threads. Nothing here may change what is computed beyond rounding."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from korbert.errors import ConfigError, check_known
from korbert.model.encoder import Layer
from korbert.training.settings import RuntimeConfig

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
_USUAL_MMAP_MAX, _LARGEST_MMAP_THRESHOLD = 1 << 16, 1 << 25


@dataclass(frozen=True, slots=True)
class Runtime:
    """What "auto" came to."""

    device: torch.device
    bf16: bool
    packed: bool = False
    loader_workers: int = 0
    compile: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Mixed precision for the forward pass, where it is on."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()


def make_runtime(config: RuntimeConfig) -> Runtime:
    """Resolve "auto". Raises ConfigError for a device that is not there or an unknown precision."""
    check_known("runtime.device", config.device, ("auto", "cpu", "cuda"))
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device=cuda, but torch sees no GPU here; runtime.device=auto takes what is there")
    check_known("runtime.precision", config.precision, ("auto", "fp32", "bf16"))
    check_known("runtime.layout", config.layout, ("auto", "packed", "padded"))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    use_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    bf16 = config.precision == "bf16" or (config.precision == "auto" and use_gpu)
    loader_workers = config.loader_workers
    if loader_workers is None:
        loader_workers = config.workers if use_gpu else 0
    return Runtime(
        torch.device("cuda" if use_gpu else "cpu"),
        bf16,
        packed=config.layout == "packed" or (config.layout == "auto" and use_gpu),
        loader_workers=loader_workers,
        compile=config.compile,
    )


def compile_layers(model: nn.Module, runtime: Runtime) -> None:
    """Compile the model's layers where the runtime says so; their weights and names stay as they are."""
    if runtime.compile:
        for module in model.modules():
            if isinstance(module, Layer):
                module.compile(dynamic=True)


def keep_freed_memory(large: bool = True) -> None:
    """Let glibc reuse freed tensors of the last step: it gives large ones back, and gets them again page by page.

    large: False is its habit, also to give back blocks of 32 MiB and more, as a program does that sets nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            glibc = ctypes.CDLL("libc.so.6")
            glibc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            glibc.mallopt(_M_MMAP_MAX, 0 if large else _USUAL_MMAP_MAX)
            glibc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def seed_everything(seed: int) -> None:
    """Seed every generator that anything might draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
