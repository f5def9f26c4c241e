"""Ctrl-C and SIGTERM as requests that are honoured where a run can be taken up again."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from korbert.errors import KorbertError


class Interrupted(KorbertError):
    """The run was asked to stop, and stopped with its state saved."""


class StopSignal:
    """Turns the first SIGINT or SIGTERM into a request that the loop honours when it can."""

    def __init__(self) -> None:
        self.requested = False
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

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
