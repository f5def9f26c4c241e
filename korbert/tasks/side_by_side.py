"""Units of work in processes side by side, for so many minutes: what a machine that is lent for minutes is used for."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from korbert.files import write_json_atomically
from korbert.training.interrupt import StopSignal

log = logging.getLogger(__name__)
_GRACE_SECONDS = 60  # for a process that was told to stop to write its checkpoint


@dataclass(frozen=True, slots=True)
class Unit:
    """What one process does: a pretraining and what is fine-tuned from it, or another job."""

    name: str
    runs: Mapping[str, str]  # its folders below the output, and the task of each one's record
    work: Callable[[], object]
    alone: bool = False  # whether nothing may run beside it


@dataclass(frozen=True, slots=True)
class Bench:
    """Where units are worked on: how many at a time, for how long; `output` is for their logs and failures.

    command: starts a unit when its name is added as `unit=NAME`. is_done: whether a unit is finished. on_end: called
    whenever one has ended.
    """

    output: Path
    command: Sequence[str]
    at_a_time: int
    minutes: float
    is_done: Callable[[Unit], bool]
    on_end: Callable[[], object]

    def work_through(self, units: Sequence[Unit]) -> list[str]:
        """Start the units in order, each in a process of its own, and return the names of those that are not done.

        When the minutes are over, or this process is told to stop, so are the processes, and none begins.
        """
        waiting, running = list(units), dict[str, subprocess.Popen[bytes]]()
        started, left = time.perf_counter(), list[str]()
        is_over, told = False, 0.0
        (self.output / "logs").mkdir(exist_ok=True)
        with StopSignal() as stop, _none_left_behind(running):
            while running or (waiting and not is_over):
                passed = time.perf_counter() - started
                if not is_over and (stop.requested or passed > 60 * self.minutes):
                    is_over, told = True, passed
                    for process in running.values():
                        process.terminate()
                while waiting and not is_over and self._has_room(waiting[0], running):
                    unit = waiting.pop(0)
                    log.info("%s: begins after %.0f s, writes to %s", unit.name, passed, self._log(unit))
                    running[unit.name] = self._start(unit)
                for name, process in list(running.items()):
                    if process.poll() is None:
                        if is_over and passed > told + _GRACE_SECONDS:
                            process.kill()
                        continue
                    del running[name]
                    unit = next(unit for unit in units if unit.name == name)
                    if not self._has_ended_well(unit, process.returncode, is_over):
                        left.append(name)
                    self.on_end()
                time.sleep(0.1)
        return [*left, *(unit.name for unit in waiting)]

    def failed(self) -> list[str]:
        """The units that failed when they were last tried."""
        return [path.stem.removeprefix("failed-") for path in sorted(self.output.glob("failed-*.json"))]

    def _has_room(self, unit: Unit, running: Mapping[str, object]) -> bool:
        """Whether `unit` may begin now; behind one that is alone nothing begins, for it is the last."""
        return not running if unit.alone else len(running) < self.at_a_time

    def _log(self, unit: Unit) -> Path:
        return self.output / "logs" / f"{unit.name}.txt"

    def _start(self, unit: Unit) -> subprocess.Popen[bytes]:
        """Its output goes to a file: of several at once nobody could read it."""
        with self._log(unit).open("ab") as stream:
            return subprocess.Popen([*self.command, f"unit={unit.name}"], stdout=stream, stderr=stream)

    def _has_ended_well(self, unit: Unit, status: int, is_over: bool) -> bool:
        """Say what became of a unit; one that failed does not cost the others."""
        failure = self.output / f"failed-{unit.name}.json"
        failure.unlink(missing_ok=True)
        if self.is_done(unit):
            log.info("%s: finished", unit.name)
            return True
        if not is_over:
            lines = self._log(unit).read_text("utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines else ""
            log.error("%s failed, exit status %d: %s", unit.name, status, said)
            write_json_atomically(failure, {"error": said or f"exit status {status}"})
        return False


@contextlib.contextmanager
def _none_left_behind(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Tell the processes to stop where an error ends this one."""
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()
