"""Batches made ahead of the device, by worker processes where asked for, in stages; the place can be saved and set."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from korbert.data.batching import Batch, BatchStream, Source
from korbert.errors import KorbertError

E = TypeVar("E")
Collate = Callable[[Sequence[E]], Batch]


class _Maker(Dataset, Generic[E]):
    """Requests → batch; all that a worker process has."""

    def __init__(self, source: Source[E], collate: Collate[E]) -> None:
        self.source, self.collate = source, collate

    def __getitem__(self, requests: list[Any]) -> Batch:
        return self.collate([self.source.make(request) for request in requests])


class BatchLoader(Generic[E]):
    """Gives the batches of a stream, or of several that follow each other as training goes on.

    stages: (share, stream) in order, each of which begins at that share of the run; the first at 0. workers: processes
    that make batches ahead, 0 makes each when it is asked for; they change nothing but speed. `waited`: seconds that
    `next_step` has taken.
    """

    def __init__(
        self, stages: Sequence[tuple[float, BatchStream[E]]], collate: Collate[E], workers: int = 0, pin: bool = False
    ) -> None:
        shares = [share for share, _ in stages]
        if not stages or shares[0] != 0 or shares != sorted(set(shares)) or shares[-1] >= 1:
            raise ValueError(f"stages: wanted rising shares from 0 to below 1, got {shares}")
        self.stages, self.collate, self.workers, self.pin = list(stages), collate, workers, pin
        self.stage = 0
        self.waited = 0.0
        self._mine = range(1)  # of a step's batches, the numbers of those that this process makes
        self._per_step = 1
        self._batches: Iterator[Batch] | None = None
        self._ahead: deque[dict[str, int]] = deque()  # the stream's states behind steps not yet taken
        self._state = self.stream.state()

    @property
    def stream(self) -> BatchStream[E]:
        """The current stage's order of batches."""
        return self.stages[self.stage][1]

    @property
    def epoch(self) -> int:
        """Epoch of the current stage, from 0."""
        return self._state["epoch"]

    def deal(self, per_step: int, rank: int = 0, ranks: int = 1) -> None:
        """Give `per_step` batches to each step, of which this process makes every one of its turn.

        What the ranks have between them is what one process alone would have.
        """
        self._per_step, self._mine = per_step, range(rank, per_step, ranks)

    def advance(self, progress: float) -> None:
        """Go to the stage that share `progress` of the run belongs to."""
        stage = max(number for number, (share, _) in enumerate(self.stages) if share <= progress)
        if stage != self.stage:
            self.restore({"stage": stage, "epoch": 0, "position": 0})

    def next_step(self) -> list[tuple[int, Batch]]:
        """The next step's batches of this process, each with its number in the step."""
        started = time.perf_counter()
        if not self._mine:
            self._plan_step()
        elif self._batches is None:
            self._batches = self._open()
        batches = [(number, next(self._batches)) for number in self._mine if self._batches is not None]
        self._state = self._ahead.popleft()
        self.waited += time.perf_counter() - started
        return batches

    def state(self) -> dict[str, int]:
        """Stage, epoch, and batches of it that were taken."""
        return {"stage": self.stage, **self._state}

    def restore(self, state: dict[str, int]) -> None:
        """Go to where `state` was taken; what was made ahead is dropped."""
        self.close()
        self.stage = state["stage"]
        self.stream.restore(state)
        self._state = self.stream.state()

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Let the workers go at the end, however it comes. Raises KorbertError where one of them is killed."""
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            # torch says it wherever this process is at the time, which may have lost the connection before.
            was_killed = self.close() and not isinstance(error, RuntimeError)
            if not was_killed and not _is_of_worker(error):
                raise
            problem = "a worker process was killed, maybe because memory ran out: try with fewer"
            raise KorbertError(f"{problem} (runtime.loader_workers={self.workers})") from error
        finally:
            self.close()

    def close(self) -> bool:
        """Let the workers go; whether one of them had been killed."""
        # Not left to the garbage: an error keeps the frames that know of it, and Python, before it exits, waits for
        # ever for workers that do not listen to signals.
        shut_down = getattr(self._batches, "_shutdown_workers", None)
        workers = getattr(self._batches, "_workers", ())
        self._batches = None
        self._ahead.clear()
        if shut_down is not None:
            try:
                shut_down()
            except RuntimeError as error:
                if not _is_of_worker(error):
                    raise
        return any(worker.exitcode not in (None, 0, -signal.SIGTERM) for worker in workers)

    def _open(self) -> Iterator[Batch]:
        maker = _Maker(self.stream.source, self.collate)
        if self.workers == 0:
            return map(maker.__getitem__, self._requests())
        return iter(
            DataLoader(
                maker, batch_size=None, sampler=self._requests(), num_workers=self.workers, pin_memory=self.pin,
                prefetch_factor=4, multiprocessing_context="fork", worker_init_fn=_quiet_worker,
                generator=torch.Generator(),  # its own, so that workers draw nothing from the model's random numbers
            )
        )  # fmt: skip

    def _requests(self) -> Iterator[list[Any]]:
        while True:
            yield from self._plan_step()

    def _plan_step(self) -> list[list[Any]]:
        """Requests for this process's batches of the step that comes after those planned so far."""
        planned = [self.stream.next() for _ in range(self._per_step)]
        self._ahead.append(self.stream.state())
        return [planned[number] for number in self._mine]


def _is_of_worker(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def _quiet_worker(number: int) -> None:
    """One thread a worker; Ctrl-C, and a signal to stop that all processes get, are for the main process alone."""
    torch.set_num_threads(1)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
