"""Units of work in processes: how many at once, what ends them, and what is said of those that fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from korbert.files import read_json
from korbert.tasks import side_by_side
from korbert.tasks.side_by_side import Bench, Unit

# A unit's process notes when it began and ended; by its name it fails, sleeps, or does not listen to SIGTERM.
WORKER = """
import pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2].removeprefix("unit=")
if "deaf" in name:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / f"{name}.began").write_text(str(time.monotonic()))
if "fails" in name:
    sys.exit("error: no luck")
time.sleep(60 if "long" in name else 0.3)
(folder / f"{name}.done").write_text(str(time.monotonic()))
"""


def make_bench(folder: Path, at_a_time: int, minutes: float = 5.0, on_end: Callable[[], object] = int) -> Bench:
    def is_done(unit: Unit) -> bool:
        return (folder / f"{unit.name}.done").exists()

    return Bench(folder, [sys.executable, "-c", WORKER, str(folder)], at_a_time, minutes, is_done, on_end)


def unit(name: str, alone: bool = False) -> Unit:
    return Unit(name, {}, lambda: None, alone)


def spans(folder: Path) -> dict[str, tuple[float, float]]:
    found = {}
    for path in folder.glob("*.done"):
        began = path.with_suffix(".began")
        found[path.stem] = (float(began.read_text()), float(path.read_text()))
    return found


def test_so_many_at_once_and_one_alone_at_the_end(tmp_path: Path) -> None:
    ended: list[int] = []
    bench = make_bench(tmp_path, at_a_time=2, on_end=lambda: ended.append(1))
    assert bench.work_through([unit("a"), unit("b"), unit("c"), unit("d", alone=True)]) == []
    found = spans(tmp_path)
    assert set(found) == {"a", "b", "c", "d"}
    at_once = [sum(begin < other < end for other, _ in found.values()) + 1 for begin, end in found.values()]
    assert max(at_once) == 2
    assert found["d"][0] > max(end for name, (_, end) in found.items() if name != "d")
    assert len(ended) == 4
    assert bench.failed() == []


def test_one_that_fails_does_not_cost_the_others(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, at_a_time=1)
    assert bench.work_through([unit("fails"), unit("b")]) == ["fails"]
    assert set(spans(tmp_path)) == {"b"}
    assert bench.failed() == ["fails"]
    assert read_json(tmp_path / "failed-fails.json") == {"error": "error: no luck"}
    assert "error: no luck" in (tmp_path / "logs" / "fails.txt").read_text("utf-8")
    (tmp_path / "fails.done").touch()  # done by its next try, whose exit status is still bad
    assert bench.work_through([unit("fails")]) == []
    assert bench.failed() == []


def test_when_time_is_over_all_are_told_and_none_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not listen is killed after a while, and no unit that was stopped counts as failed."""
    monkeypatch.setattr(side_by_side, "_GRACE_SECONDS", 0.5)
    bench = make_bench(tmp_path, at_a_time=2, minutes=1.5 / 60)
    began = time.monotonic()
    left = bench.work_through([unit("long"), unit("long-deaf"), unit("c")])
    assert sorted(left) == ["c", "long", "long-deaf"]
    assert time.monotonic() - began < 30
    assert not (tmp_path / "c.began").exists()
    assert bench.failed() == []


def test_a_signal_ends_it_as_time_does(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, at_a_time=1)

    def tell() -> None:
        deadline = time.monotonic() + 30
        while not (tmp_path / "long.began").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    assert bench.work_through([unit("long"), unit("b")]) == ["long", "b"]
    teller.join()


def test_an_error_leaves_no_process_behind(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_bench(tmp_path, at_a_time=2, on_end=fail).work_through([unit("a"), unit("long")])
    deadline = time.monotonic() + 10
    while _is_running("unit=long", tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running("unit=long", tmp_path)


def _is_running(word: str, folder: Path) -> bool:
    """Whether a process has these words in its command; a zombie has none."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if word in command and str(folder) in command:
            return True
    return False
