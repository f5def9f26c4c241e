"""Give korbert more than anybody has, and see what it takes: python experiments/stress/load.py run_dir=runs/load

Every case of loads.py runs in a process of its own, at half of its size and at the whole: `growth` is how many times as
many seconds of the processor the whole took, 2 where time grows with size. A case in which it seems to be too much is
run again, and the fastest counts: other programs cost a process time, and give it none. Memory is the process's
highest. scale=0.01 takes minutes; interrupted, the same command with run_dir=… goes on, also from what was measured
there with other cases=….
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import loads
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from korbert.config import RunConfig, run_door, start
from korbert.errors import KorbertError, check_all_known
from korbert.tasks.runs import finish_run, kept, start_run

log = logging.getLogger(__name__)
_SHORT = 1.0  # seconds; the growth of less says nothing
_TOO_MUCH = 3.0  # times longer for twice the size: it takes more than its size
_GROWTH = "takes more than its size"
_TIMES = 4  # that a case is run at most


@dataclass
class LoadConfig(RunConfig):
    """cases: see loads.py; those that need data.root are left out without it. scale: share of the full size.

    seconds: that one process of a case may take.
    """

    cases: list[str] = field(default_factory=lambda: list(loads.CASES))
    scale: float = 1.0
    seconds: float = 900.0


ConfigStore.instance().store(name="load_schema", node=LoadConfig)


class Failure(Exception):
    """Why a case ended before its end."""


def measure(config: LoadConfig, case: str, scale: float, time: int = 0) -> dict[str, Any]:
    """What a case took at a size, kept if the load was begun before; or why it failed, which is not kept."""
    try:
        alone = replace(config, cases=[case])  # whatever else is measured, before or by another process
        return kept(alone, [case, scale, time], lambda: _run(config, case, scale))
    except Failure as failure:
        return {"failure": str(failure)}


def _run(config: LoadConfig, case: str, scale: float) -> dict[str, Any]:
    """Seconds and sizes by part, and megabytes. Raises Failure."""
    command = [sys.executable, str(Path(__file__).with_name("loads.py")), case, str(scale), config.data.root or ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=config.seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {config.seconds:.0f} s") from None
    if done.returncode:
        raise Failure(f"exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fastest(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each part of a case that was run several times the fastest, with the highest memory of all; or a failure."""
    if any("failure" in one for one in found):
        return next(one for one in found if "failure" in one)
    parts = {name: min((one["parts"][name] for one in found), key=_seconds) for name in found[0]["parts"]}
    return {"parts": parts, "megabytes": max(one["megabytes"] for one in found)}


def _seconds(part: dict[str, Any]) -> float:
    return float(part["cpu_seconds"])


def measured(config: LoadConfig, case: str) -> list[dict[str, Any]]:
    """A case's rows; `runs`: how many times it was run."""
    halves: list[dict[str, Any]] = []
    wholes: list[dict[str, Any]] = []
    for time in range(_TIMES):
        halves.append(measure(config, case, 0.5 * config.scale, time))
        wholes.append(measure(config, case, config.scale, time))
        rows = rows_of(case, fastest(halves), fastest(wholes))
        if all(row["failure"] != _GROWTH for row in rows):
            break
    return [{**row, "runs": len(wholes)} for row in rows]


def rows_of(case: str, half: dict[str, Any], whole: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each part of a case."""
    if failure := whole.get("failure") or half.get("failure"):
        return [{"case": case, "part": "", "failure": failure}]
    rows = []
    for name, part in whole["parts"].items():
        before, now = (both["parts"].get(name, {}).get("cpu_seconds", 0.0) for both in (half, whole))
        growth = round(now / before, 2) if before >= _SHORT / 2 and now >= _SHORT else None
        failure = _GROWTH if growth is not None and growth > _TOO_MUCH else ""
        memory = {"megabytes": whole["megabytes"], "megabytes_at_half": half["megabytes"]}
        rows.append({"case": case, "part": name, **part, "growth": growth, **memory, "failure": failure})
    return rows


def load(config: LoadConfig) -> dict[str, Any]:
    """Run all cases, write the record, and fail where one failed."""
    check_all_known("cases", config.cases, loads.CASES)
    folder = start_run(config, again="load")
    rows: list[dict[str, Any]] = []
    left_out = [name for name in config.cases if name in loads.REAL and not config.data.root]
    for case in (name for name in config.cases if name not in left_out):
        for row in measured(config, case):
            rows.append(row)
            if row["failure"]:
                log.error("%s %s: %s", case, row["part"], row["failure"])
            if "seconds" in row:
                said = (row["seconds"], row["cpu_seconds"], row["growth"] or "", row["megabytes"])
                log.info(
                    "%-22s %-30s %12s %7.1f s, of the processor %7.1f s  growth %4s  %6.0f MB",
                    case, row["part"], f"{row['size']:,}", *said,
                )  # fmt: skip
    failures = sum(bool(row["failure"]) for row in rows)
    results = {"scale": config.scale, "parts": rows, "failures": failures, "left_out": left_out}
    record = finish_run(folder, "load", config, results)
    if failures:
        raise KorbertError(f"{failures} failures, see {folder / 'record.json'}")
    return record


@hydra.main(version_base="1.3", config_path="../../conf", config_name="load")
def main(config: DictConfig) -> None:
    """Run the door. SIGTERM ends it as Ctrl-C does, and with it the process of the case."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_door(load, config)


if __name__ == "__main__":
    start(main)
