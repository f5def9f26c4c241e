"""Work on a stream in several processes: in order, and never far ahead of what is taken."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from korbert.errors import KorbertError

T = TypeVar("T")
R = TypeVar("R")
_OTHER_FILES = 256  # that a process may open later: libraries, sockets, workers' pipes
_CHUNK = 32  # items sent to a worker at a time
_work: Callable[[Any], Any] | None = None
_failure: Exception | None = None


def ordered_map(
    make: Callable[..., Callable[[T], R]],
    arguments: Sequence[Any],
    items: Iterable[T],
    workers: int,
    chunk: int = _CHUNK,
) -> Iterator[R]:
    """Results of `make(*arguments)` for each item, in order; each process makes its own.

    workers: processes, 1 for none beside this one. They are spawned, because a JVM does not survive a fork, and end
    with this process, however it ends. `make`, its arguments and the items are pickled; `chunk` items are sent at a
    time. The order of the results does not depend on `workers`, and memory not on the number of items. An error among
    the items comes behind the results of those before it. Raises KorbertError where a worker is killed.
    """
    if workers <= 1:
        yield from map(make(*arguments), items)
        return
    chunks = _Chunks(iter(items), chunk)
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(make, arguments))
    is_done = False
    try:
        # Chunks are handed out a few at a time, or all items would be read ahead of slow workers.
        pending = [executor.submit(_work_on, part) for part in itertools.islice(chunks, workers + 1)]
        while pending:
            yield from pending.pop(0).result()
            pending += [executor.submit(_work_on, part) for part in itertools.islice(chunks, 1)]
        is_done = True
    except BrokenProcessPool as error:
        problem = "a worker process was killed, maybe because memory ran out: try with fewer (runtime.workers)"
        raise KorbertError(problem) from error
    finally:
        if not is_done:  # an error, or Ctrl-C: nobody will take what is begun, which may take minutes
            for process in list((executor._processes or {}).values()):
                process.terminate()
        executor.shutdown(cancel_futures=True)
    if chunks.error is not None:
        raise chunks.error


class _Chunks:
    """Items in lists; an error ends them, and is kept."""

    def __init__(self, items: Iterator[Any], size: int) -> None:
        self._items, self._size = items, size
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        chunk: list[Any] = []
        while self.error is None and len(chunk) < self._size:
            try:
                chunk.append(next(self._items))
            except StopIteration:
                break
            except Exception as error:
                self.error = error
        if not chunk:
            raise StopIteration
        return chunk


def _start(make: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any]) -> None:
    global _work, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work = make(*arguments)
    except Exception as error:  # is told with the first result, as without workers
        _failure = error


def _end_with_parent() -> None:
    """A worker waits for work for ever where the process that would send it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def own_place() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun has put it into the environment; 0 of 1 without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def megabytes() -> tuple[float, float]:
    """Memory of this process, now and at most so far; where the system does not tell, the latter twice."""
    try:
        # Not what getrusage tells: there, a new process begins with the most that its parent has had.
        lines = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        )
        now, most = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        now = most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024**2 if sys.platform == "darwin" else 1024
        )
    return round(now, 1), round(most, 1)


def allow_open_files(count: int) -> None:
    """Raise this process's own limit of open files, where it can be, for `count` more of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(list(Path("/dev/fd").iterdir())) + count + _OTHER_FILES
    wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft not in (resource.RLIM_INFINITY, -1) and wanted > soft:
        with contextlib.suppress(ValueError, OSError):  # macOS has a limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _work_on(chunk: list[Any]) -> list[Any]:
    if _failure is not None:
        raise _failure
    assert _work is not None
    return [_work(item) for item in chunk]
