"""Work on a stream in several processes: in order, and never far ahead of what is taken."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_CHUNK = 32  # items sent to a worker at a time
_work: Callable[[Any], Any] | None = None


def ordered_map(
    make: Callable[..., Callable[[T], R]], arguments: Sequence[Any], items: Iterable[T], workers: int
) -> Iterator[R]:
    """Results of `make(*arguments)` for each item, in order; each process makes its own.

    workers: processes, 1 for none beside this one. They are spawned, because a JVM does not survive a fork. `make`,
    its arguments and the items are pickled. The order of the results does not depend on `workers`, and memory not on
    the number of items. An error among the items comes behind the results of those before it.
    """
    if workers <= 1:
        yield from map(make(*arguments), items)
        return
    chunks = _Chunks(iter(items))
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_start, initargs=(make, arguments)) as pool:
        # Chunks are handed out a few at a time: imap alone would read all items ahead of slow workers.
        pending = [pool.apply_async(_work_on, (chunk,)) for chunk in itertools.islice(chunks, 2 * workers)]
        while pending:
            yield from pending.pop(0).get()
            pending += [pool.apply_async(_work_on, (chunk,)) for chunk in itertools.islice(chunks, 1)]
    if chunks.error is not None:
        raise chunks.error


class _Chunks:
    """Items in lists; an error ends them, and is kept."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        chunk: list[Any] = []
        while self.error is None and len(chunk) < _CHUNK:
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
    global _work
    _work = make(*arguments)


def _work_on(chunk: list[Any]) -> list[Any]:
    assert _work is not None
    return [_work(item) for item in chunk]
