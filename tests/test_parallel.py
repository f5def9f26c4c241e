"""Work in several processes: the order, errors, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from korbert.errors import DataError, KorbertError
from korbert.parallel import ordered_map


def make_squares() -> Callable[[int], int]:
    return lambda number: number * number


def make_nothing(message: str) -> Callable[[int], int]:
    raise KorbertError(message)


def make_suicide() -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


def broken() -> Iterator[int]:
    yield from range(70)
    raise DataError("some.txt", "line 71", "damaged")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_in_order_and_the_error_behind_them(workers: int) -> None:
    found = []
    with pytest.raises(DataError, match=r"some\.txt: line 71"):
        found += [found.append(n) for n in ordered_map(make_squares, (), broken(), workers)]
    assert found == [n * n for n in range(70)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_made_is_said(workers: int) -> None:
    with pytest.raises(KorbertError, match="no analyser"):
        list(ordered_map(make_nothing, ("no analyser",), range(3), workers))


def test_a_killed_worker_is_an_error() -> None:
    with pytest.raises(KorbertError, match="a worker process was killed"):
        list(ordered_map(make_suicide, (), range(20), 2, chunk=1))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time, pathlib\n"
        "from korbert.parallel import ordered_map\n"
        "def make(folder):\n"
        "    def work(n):\n"
        "        (pathlib.Path(folder) / f'{os.getpid()}.pid').touch()\n"
        "        time.sleep(600)\n"
        "    return work\n"
        "if __name__ == '__main__':\n"
        f"    list(ordered_map(make, ({str(tmp_path)!r},), range(500), 2, chunk=1))\n",
        "utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True, text=True,
        # As from a terminal: what a shell starts in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(workers := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(workers) == 2
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # as a terminal does
    assert process.stderr is not None
    assert process.stderr.read().count("Traceback") <= 1  # workers have nothing to say
    assert process.wait() != 0
    while any(is_running(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # one that has ended and that nobody has asked about


def test_files_may_be_open_that_a_corpus_has() -> None:
    """As many again, each time; a limit of the system's own is not for us to raise."""
    script = """
import resource
from korbert.parallel import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))
kept = []
for count in (10, 700, 700, 10_000):
    allow_open_files(count)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    kept += [open("/dev/null") for _ in range(count)] if count < 1000 else []
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    limits = [int(line) for line in done.stdout.split()]
    assert 256 <= limits[0] < 700 < limits[1] < 1400 < limits[2] < limits[3] == 2000
