"""What cases of loads.py have in common: how much of what, where, and what each part took."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "data" / "sample" / "corpus.txt"


@dataclass
class Bench:
    """Where a case works and what its parts took."""

    scale: float
    folder: Path
    root: str = ""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def size(self, full: int) -> int:
        """So much of the full size."""
        return max(100, round(full * self.scale))

    @contextlib.contextmanager
    def part(self, name: str, size: int) -> Iterator[None]:
        """Measure what is done in it, by the clock, and of the processor, whatever else the machine does."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        self.parts[name] = {"size": size, "seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}


@functools.cache
def sample() -> list[str]:
    """Paragraphs of the sample corpus."""
    return [line for line in SAMPLE.read_text("utf-8").splitlines() if line.strip()]
