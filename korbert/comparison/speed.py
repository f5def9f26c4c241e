"""How fast a tokenizer encodes, on one core and on several, and how much memory that takes.

Fair across vocabularies, because speed is megabytes of the same text (UTF-8) by the second of processor time, not
tokens, of which a tokenizer that cuts small has more. Ratios against other libraries are the benchmark's:
`experiments/benchmark.py suite=tokenizers`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korbert.tokenizers import Tokenizer, load_tokenizer

_MEGABYTE = 1e6
_CHUNKS_PER_WORKER = 4
_tokenizer: Tokenizer | None = None  # of a worker process
_memory_before = 0.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Megabytes of text a second: ids and spans on one core; by_processes: number of processes → spans on them.

    memory_mb: what the tokenizer adds to a process, at most; 0 where the system does not say.
    """

    ids: float
    spans: float
    by_processes: dict[int, float]
    memory_mb: float


def speed(
    tokenizer: Tokenizer, folder: Path, texts: Sequence[str], processes: Sequence[int] = (1, 2), seconds: float = 2.0
) -> Speed:
    """Measure on `texts`, in their order, each figure for about `seconds`; `folder`: where the tokenizer is saved.

    One core is the processor time of this process, other programs do not count. Several are by the clock, so nothing
    else should run then; workers are started anew, not forked, because a JVM does not survive a fork.
    """
    ids = rate(tokenizer.encode_ids, texts, seconds)
    spans = rate(tokenizer.encode, texts, seconds)
    chosen = enough(texts, spans * seconds)
    found = {count: _parallel(folder, chosen * count, count) for count in processes}
    return Speed(ids, spans, {n: by for n, (by, _) in found.items()}, max(memory for _, memory in found.values()))


def rate(encode: Callable[[str], Any], texts: Sequence[str], seconds: float) -> float:
    """Megabytes that `encode` does in a second of processor time; it warms up on the first text.

    Raises ValueError where there is no text.
    """
    if not any(texts):
        raise ValueError("there is no text to measure speed on")
    encode(texts[0])
    done = 0
    began = time.process_time()
    while True:
        for text in texts:
            encode(text)
            done += len(text.encode("utf-8", "surrogatepass"))
            spent = time.process_time() - began
            if spent >= seconds:
                return done / spent / _MEGABYTE


def enough(texts: Sequence[str], megabytes: float) -> list[str]:
    """So many of the texts, again from the beginning where they end, as have `megabytes`; one at least."""
    chosen: list[str] = []
    left = megabytes * _MEGABYTE
    while left > 0:
        for text in texts:
            chosen.append(text)
            left -= len(text.encode("utf-8", "surrogatepass"))
            if left <= 0:
                break
    return chosen


def _parallel(folder: Path, texts: list[str], count: int) -> tuple[float, float]:
    """Megabytes a second on `count` processes, and the memory of the largest."""
    parts = count * _CHUNKS_PER_WORKER
    chunks = [texts[number::parts] for number in range(parts)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _begin, (folder,)) as pool:
        list(pool.map(_work, [texts[:1]] * parts))  # all are up and warm
        began = time.perf_counter()
        memories = list(pool.map(_work, chunks))
        spent = time.perf_counter() - began
    megabytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / _MEGABYTE
    return megabytes / spent, max(memories)


def _begin(folder: Path) -> None:
    global _tokenizer, _memory_before
    _memory_before = _memory("VmRSS")
    _tokenizer = load_tokenizer(folder)


def _work(texts: Sequence[str]) -> float:
    assert _tokenizer is not None
    for text in texts:
        _tokenizer.encode(text)
    return _memory("VmHWM") - _memory_before


def _memory(key: str) -> float:
    """Megabytes of this process, now or at most; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(f"{key}:")), 0.0)
