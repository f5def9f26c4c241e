"""Doors as a user runs them, each in a process of its own; all are forked from one that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_SECONDS = 300
# Importing torch and hydra takes longer than most of what is tested here.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["hydra", "korbert.tasks.pretrain", "korbert.tasks.finetune"])


def run_door(name: str, *overrides: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run an experiment script; ok: whether it is to end well. It shows no traceback either way."""
    given = {key: value for key, value in os.environ.items() if key != "KORBERT_DATA"}
    arguments = [f"experiments/{name}.py", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / "out", Path(folder) / "err"]
        process = _SERVER.Process(target=_run, args=(arguments, given, *map(str, streams)))
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (path.read_text("utf-8") for path in streams)
    assert (process.exitcode == 0) == ok, f"{' '.join(arguments)}: {process.exitcode}\n{out}\n{err}"
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(arguments, process.exitcode or 0, out, err)


def _run(arguments: list[str], environment: dict[str, str], out: str, err: str) -> None:
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = arguments
    sys.orig_argv = [sys.executable, *arguments]
    sys.path.insert(0, str(REPOSITORY / "experiments"))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
