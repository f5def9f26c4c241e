"""Ctrl-C and SIGTERM as requests that are honoured where a run can be taken up again."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from korbert.errors import KorbertError


class Interrupted(KorbertError):
    """A run was asked to stop, and stopped with its state saved; who ran it says which command goes on."""


class StopAtOnce(Exception):
    """Ends work in its middle that can be done again."""


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a request that the loop honours when it can."""

    def __init__(self) -> None:
        self.requested = False
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
        self.requested = True
        self._restore()  # a second signal acts at once
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
