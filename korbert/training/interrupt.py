"""Ctrl-C and SIGTERM as requests that are honoured where a run can be taken up again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from korbert.errors import KorbertError


class Interrupted(KorbertError):
    """The run was asked to stop, and stopped with its state saved."""


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
