"""A process that has imported what commands import, and forks: a start takes no seconds, a kill hits the work itself.

Run as a script it is that process: a request a line on its standard input, and on its output the number of the child,
and then how it ended.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
_IMPORTED = ("pretrain", "finetune", "pipeline", "build_corpus", "annotate", "prepare")  # of korbert.tasks


class Child:
    """What `subprocess.Popen` is, for a child of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        if self.returncode is None and self._nursery.says(0):
            self.returncode = self._nursery.read()["status"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not self._nursery.says(timeout):
            raise subprocess.TimeoutExpired("child", timeout or 0)
        found = self.poll()
        assert found is not None
        return found


class Nursery:
    """Starts commands of Python's, one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def start(self, line: Sequence[str], environment: Mapping[str, str], output: Path) -> Child:
        """Start a command line, in a session of its own, which has to be over before the next one."""
        assert self._process.stdin is not None
        request = {"line": list(line), "environment": dict(environment), "output": str(output)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return Child(self, self.read()["pid"])

    def says(self, timeout: float | None) -> bool:
        """Whether it says something within so many seconds."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def read(self) -> dict[str, Any]:
        """What it says."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> dict[str, Any] | None:
    """Answer requests until there are no more; in a child, return its own."""
    import importlib

    from hydra.core.plugins import Plugins

    for name in _IMPORTED:
        importlib.import_module(f"korbert.tasks.{name}")
    Plugins.instance()
    while request := _line():
        pid = os.fork()
        if pid == 0:
            return json.loads(request)
        os.write(1, json.dumps({"pid": pid}).encode() + b"\n")
        _, status = os.waitpid(pid, 0)
        os.write(1, json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
    return None


def _line() -> bytes:
    """A line of standard input, without reading on: a child would inherit what was read ahead."""
    found = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        found += byte
    return found


def become(request: Mapping[str, Any]) -> None:
    """Run a command line as its own process would."""
    os.setsid()
    for handle, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o666)
        os.dup2(opened, handle)
        os.close(opened)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["line"][1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if (own := serve()) is not None:
        become(own)
