"""Run records: what was run, where, on which code, and what came out. Every published number comes from one."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "sentencepiece", "hydra-core", "python-mecab-ko", "kiwipiepy", "konlpy")


def make_record(task: str, config: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a finished run: command, commit, date, hardware, versions, seed, configuration and results."""
    return {
        "task": task,
        **make_stamp(),
        "command": shlex.join([Path(sys.executable).name, *_relative(sys.argv)]),
        "versions": {"python": platform.python_version(), **_versions()},
        "seed": config.get("seed"),
        "results": dict(results),
        "config": dict(config),
    }


def make_stamp() -> dict[str, Any]:
    """When, on which code and on what hardware something runs."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else _processor()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def commit() -> str:
    """The checkout's commit, with "+changes" where tracked files differ from it; "unknown" outside git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=here, check=False).returncode != 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if dirty else "")


def _relative(arguments: list[str]) -> list[str]:
    """The command line with paths below the working directory as relative ones."""
    here = f"{Path.cwd()}/"
    return [argument.replace(here, "") for argument in arguments]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
