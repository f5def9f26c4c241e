"""Where the time of a training step goes: why the benchmark's speed is what it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch.autograd import DeviceType  # type: ignore[attr-defined]  # public, but not in __all__
from torch.profiler import ProfilerActivity, profile, schedule

from korbert.tasks.contenders import timed
from korbert.training.runtime import Runtime

MATRIX_PRODUCTS = "matrix products"
# Beginnings of the names of torch's operators, by what a step spends its time on.
_PARTS: dict[str, tuple[str, ...]] = {
    MATRIX_PRODUCTS: (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "_scaled_dot_product",
        "_flash_attention",
        "_efficient_attent",
    ),
    "activations, softmax, LayerNorm": ("gelu", "_softmax", "native_layer_norm", "exp", "amax", "sum"),
    "dropout and masks": ("random", "bernoulli", "native_dropout", "ge", "masked_fill", "bitwise"),
    "embeddings": ("index", "embedding", "gather", "scatter"),
    "optimizer and clipping": ("_fused_adam", "_foreach", "linalg_vector_norm"),
    "copies and fills": ("copy", "fill", "zero", "cat"),
    "sums and products by element": ("add", "sub", "mul", "div"),
}
_REST = "the rest, and Python"


def step_profile(work: Callable[[], object], runtime: Runtime) -> tuple[float, dict[str, float]]:
    """Seconds that `work` takes as `timed` counts them, and part of it → share of its time.

    It is done twice and measured the second time, when the profiler's own memory is at hand. Shares are of the time
    that passes, since that is what the profiler has of each part; other programs make all parts longer alike.
    """
    on_gpu = runtime.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, schedule=schedule(wait=0, warmup=1, active=1), acc_events=True) as profiler:
        for _ in range(2):
            started = time.perf_counter()
            seconds = timed(work, runtime)
            passed = time.perf_counter() - started
            profiler.step()
    shares = dict.fromkeys(_PARTS, 0.0)
    for event in profiler.key_averages():
        part = part_of(event.key)
        if part is not None and event.device_type == DeviceType.CPU:
            spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            shares[part] += spent / 1e6 / passed
    return seconds, shares | {_REST: 1 - sum(shares.values())}


def part_of(operator: str) -> str | None:
    """The part that an operator such as "aten::addmm_" belongs to; of several beginnings the longest decides."""
    name = operator.removeprefix("aten::")
    fitting = [(len(begin), part) for part, begins in _PARTS.items() for begin in begins if name.startswith(begin)]
    return max(fitting)[1] if operator.startswith("aten::") and fitting else None
