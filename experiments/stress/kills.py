"""kill -9 at random moments, the same command again, and what came out compared with what comes out undisturbed."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from commands import Command, Material, Running, kill
from nursery import Nursery
from outcomes import differences, left_over, outcome

_LOOK = 0.004  # seconds between two looks at the files
_AT_START, _BY_TIME = 0.12, 0.55  # shares of the kills during start-up, and at any time; the rest follow a write


@dataclass
class Whole:
    """An undisturbed run: what came out of it, seconds before its first file and behind it, and changes of files."""

    outcome: dict[str, str]
    begin: float
    work: float
    changes: int
    bytes: int


@dataclass
class Round:
    """Kills of one command, one after another, and what its end came to. problem: "" where all is as it should be."""

    kills: dict[str, int] = field(default_factory=dict)
    half_written: int = 0
    problem: str = ""


class Watch:
    """Sees files appear and change below a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.changes = 0
        self._seen = self._look()

    def _look(self) -> dict[str, int]:
        found = {}
        for path in self.place.rglob("*"):
            if path.name not in ("log.txt", "hydra") and path.parent.name != "hydra":
                try:
                    found[str(path)] = path.stat().st_mtime_ns
                except OSError:
                    continue
        return found

    def look(self) -> int:
        """Changes so far."""
        now = self._look()
        self.changes += len(now.items() - self._seen.items())
        self._seen = now
        return self.changes


def undisturbed(command: Command, place: Path, material: Material, output: Path) -> Whole:
    """Run a command from nothing to its end. Raises RuntimeError where it fails."""
    _empty(place)
    began, first = time.monotonic(), 0.0
    watch = Watch(place)
    process = command.start(place, material, output)
    while process.poll() is None:
        if watch.look() and not first:
            first = time.monotonic() - began
        time.sleep(5 * _LOOK)
    if process.returncode != 0:
        raise RuntimeError(f"{command.name} fails undisturbed:\n{tail(output)}")
    size = sum(path.stat().st_blocks * 512 for path in place.rglob("*") if path.is_file())
    return Whole(outcome(place), first, time.monotonic() - began - first, watch.look(), size)


def kill_round(
    rng: random.Random,
    command: Command,
    whole: Whole,
    place: Path,
    material: Material,
    output: Path,
    most: int,
    nursery: Nursery,
) -> Round:
    """Start a command anew, kill it up to `most` times, let it come to its end, and compare."""
    _empty(place)
    done = Round()
    left = 1.0  # of the work, about
    wanted = rng.randint(1, most)
    status: int | None = None
    for _ in range(wanted):
        kind = rng.random()
        watch = Watch(place)
        process = command.start(place, material, output, None if kind < _AT_START else nursery)
        begun = _wait_for_moment(rng, kind, process, whole, watch, left)
        status = process.poll()
        if status is not None:  # it was faster
            break
        kill(process, alone=command.spared and rng.random() < 0.5)
        stage = command.stage(place) if begun else "start-up"
        done.kills[stage] = done.kills.get(stage, 0) + 1
        done.half_written += bool([name for name in left_over(place) if "/build/" not in name])
        left *= 0.75
        if stage == command.stages[-1][0]:  # what there is to come to is there
            break
    if status is None:
        status = command.run(place, material, output)
    if status != 0:
        done.problem = f"exit status {status}: {tail(output)}"
    elif changed := differences(whole.outcome, outcome(place)):
        done.problem = f"not as undisturbed: {', '.join(changed)}"
    elif left_behind := [name for name in left_over(place) if name.startswith(command.tidy)]:
        done.problem = f"left behind: {', '.join(left_behind)}"
    return done


def _wait_for_moment(
    rng: random.Random, kind: float, process: Running, whole: Whole, watch: Watch, left: float
) -> bool:
    """Wait until it is to be killed, or has ended; whether it had begun to work."""
    if kind < _AT_START:
        _sleep(process, rng.uniform(0, whole.begin))
        return bool(watch.look())
    while process.poll() is None and not watch.look():
        time.sleep(_LOOK)
    if kind < _AT_START + _BY_TIME:
        _sleep(process, rng.uniform(0, whole.work * left))
        return True
    wanted = rng.randrange(1, max(2, int(whole.changes * left)))
    while process.poll() is None and watch.look() < wanted:
        time.sleep(_LOOK)
    _sleep(process, rng.uniform(0, 0.01))
    return True


def _sleep(process: Running, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _empty(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def tail(output: Path, characters: int = 1500) -> str:
    """The end of what a command has said."""
    return output.read_text("utf-8", "replace")[-characters:]
