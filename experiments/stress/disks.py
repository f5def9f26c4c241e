"""Small disks that become full, and folders that only can be read: an error that names the place, and then the same."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commands import Command, Material, kill
from kills import Whole, tail
from nursery import REPOSITORY
from outcomes import differences, outcome

_LEAST, _MOST = 16 << 10, 1 << 30  # bytes: hardly any room, and enough
_SHORT = (0.02, 0.97)  # share of what a command needs, that there is room for


@dataclass
class Case:
    """A disk of so many bytes, or one that only can be read (0). refusal: what the command said; problem: or ""."""

    bytes: int
    refusal: str = ""
    problem: str = ""


def why_not(folder: Path) -> str:
    """Why no disk can be made here, "" where one can."""
    try:
        with disk(folder, _LEAST):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        return f"no disk of memory can be mounted ({said.decode(errors='replace').strip()}); root may do so on Linux"


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own, in memory, at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "korbert-faults", str(folder))
    try:
        yield
    finally:
        _call("umount", "--lazy", str(folder))


def _again(folder: Path, options: str) -> None:
    _call("mount", "-o", f"remount,{options}", str(folder))


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def full_disk(
    rng: random.Random, command: Command, whole: Whole, place: Path, material: Material, output: Path
) -> Case:
    """Too little room for a command; then enough of it."""
    size = max(_LEAST, int(whole.bytes * rng.uniform(*_SHORT)))
    case = Case(size)
    with disk(place, size):
        status = command.run(place, material, output)
        if status == 0:
            case.refusal = "none: it was enough"
        else:
            case.refusal, case.problem = judge(place, status, output)
        _again(place, f"size={_MOST}")
        return _ended(case, command, whole, place, material, output)


def read_only(
    rng: random.Random, command: Command, whole: Whole, place: Path, material: Material, output: Path
) -> Case:
    """Nothing can be written, from the start or since some of it was; then it can."""
    case = Case(0)
    with disk(place, _MOST):
        if rng.random() < 0.5:
            process = command.start(place, material, output)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(whole.begin, whole.begin + whole.work))
            kill(process, alone=False)
        begun = differences({}, outcome(place)) == differences({}, whole.outcome)
        _again(place, "ro")
        status = command.run(place, material, output)
        if status == 0 and begun:
            case.refusal = "none: it was finished"
        else:
            case.refusal, case.problem = judge(place, status, output)
        _again(place, "rw")
        return _ended(case, command, whole, place, material, output)


def judge(place: Path, status: int, output: Path) -> tuple[str, str]:
    """What a command said that could not write, and what is wrong with that, if anything."""
    said = output.read_text("utf-8", "replace")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    names = (str(place), str(place.relative_to(REPOSITORY)) if place.is_relative_to(REPOSITORY) else str(place))
    refusal = next((line for line in errors if any(name in line for name in names)), "")
    if status != 1:
        return refusal, f"exit status {status}: {tail(output)}"
    if "Traceback" in said:
        return refusal, f"a traceback: {tail(output)}"
    return refusal, "" if refusal else f"no error that names a place in {place}: {tail(output)}"


def _ended(case: Case, command: Command, whole: Whole, place: Path, material: Material, output: Path) -> Case:
    """Run it again, now that it can write, and compare."""
    if not case.problem:
        status = command.run(place, material, output)
        if status != 0:
            case.problem = f"then, exit status {status}: {tail(output)}"
        elif changed := differences(whole.outcome, outcome(place)):
            case.problem = f"then, not as undisturbed: {', '.join(changed)}"
    return case
