"""Ctrl-C and SIGTERM as requests that are honoured where a run can be taken up again."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from korbert.errors import KorbertError


class Interrupted(KorbertError):
    """A run was asked to stop, and stopped with its state saved; who ran it says which command goes on."""


class StopAtOnce(Exception):
    """Ends work in its middle that can be done again."""


_ECHO = 2.0  # seconds in which further signals are the first one's: torchrun, Slurm and a terminal each pass it on


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a request that the loop honours when it can; a later one acts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._requested_at = 0.0
        self._at_once = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not the main thread: signals are somebody else's
                break
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if time.monotonic() - self._requested_at >= _ECHO:
                self._restore()
                signal.raise_signal(number)
            return
        self.requested, self._requested_at = True, time.monotonic()
        if self._at_once:
            raise StopAtOnce

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise StopAtOnce for a request of before, and for one that comes in the meantime, wherever the work is."""
        if self.requested:
            raise StopAtOnce
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, *_: object) -> None:
        self._restore()


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without further ado: a library's own loop would let Python know of it minutes later.

    For work that leaves nothing half-done; where somebody else handles the signal, it is left to them.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
