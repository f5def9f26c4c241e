"""Give korbert hostile input for a while: python experiments/stress/fuzz.py run_dir=runs/fuzz seconds=60

Every case is made from its own seed. A crash is written to the run's folder with its seed, and `only=SEED` makes just
that case again: python experiments/stress/fuzz.py targets=[spans] only=42:1234
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import random
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import hydra
import targets
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from korbert.config import RunConfig, run_door, start
from korbert.errors import KorbertError, check_all_known
from korbert.files import write_text_atomically
from korbert.tasks.runs import finish_run, start_run

log = logging.getLogger(__name__)
_CRASHES = 5  # of a target, kept by each process; more would say the same


@dataclass
class FuzzConfig(RunConfig):
    """targets: see targets.py. Each is given `seconds` in each of `processes`, or as many cases as `cases` says.

    only: the seed of one case to make again, as a crash's file names it.
    """

    targets: list[str] = field(default_factory=lambda: list(targets.TARGETS))
    seconds: float = 20.0
    cases: int | None = None
    processes: int = 2
    only: str | None = None


ConfigStore.instance().store(name="fuzz_schema", node=FuzzConfig)


@dataclass
class Outcome:
    """Cases of a target that a process has made, the seconds it took, and seed → traceback of those that crashed."""

    target: str
    cases: int
    seconds: float
    crashes: dict[str, str]


def work(target: str, seed: str, seconds: float, cases: int | None) -> Outcome:
    """Make cases until the time is over, or so many."""
    began = time.perf_counter()
    crashes: dict[str, str] = {}
    done = 0
    for number in itertools.count():
        if (number >= cases) if cases is not None else (time.perf_counter() - began >= seconds):
            break
        if (crash := attempt(target, f"{seed}:{number}")) is not None and len(crashes) < _CRASHES:
            crashes[f"{seed}:{number}"] = crash
        done += 1
    targets.forget()
    return Outcome(target, done, time.perf_counter() - began, crashes)


def attempt(target: str, seed: str) -> str | None:
    """Make one case; its traceback where it breaks a law."""
    try:
        targets.TARGETS[target](random.Random(f"{target}:{seed}"))
    except Exception:
        return traceback.format_exc()
    return None


def fuzz(config: FuzzConfig) -> dict[str, Any]:
    """Fuzz every target, write the crashes and the record, and fail where there was one."""
    check_all_known("targets", config.targets, targets.TARGETS)
    if config.only is not None:
        found = {name: attempt(name, config.only) for name in config.targets}
        for name, crash in found.items():
            print(f"{name} {config.only}: {crash or 'holds'}")
        return {}
    folder = start_run(config, again="fuzz")
    jobs = [
        (name, f"{config.seed}.{process}", config.seconds, config.cases)
        for name in config.targets
        for process in range(config.processes)
    ]
    with multiprocessing.get_context("spawn").Pool(config.processes) as pool:
        outcomes = pool.starmap(work, jobs, chunksize=1)
    rows = []
    made = crashed = 0
    for name in config.targets:
        mine = [outcome for outcome in outcomes if outcome.target == name]
        crashes = {seed: crash for outcome in mine for seed, crash in outcome.crashes.items()}
        for seed, crash in crashes.items():
            write_text_atomically(folder / "crashes" / f"{name}-{seed.replace(':', '-')}.txt", f"{seed}\n{crash}")
        cases, seconds = sum(outcome.cases for outcome in mine), sum(outcome.seconds for outcome in mine)
        made, crashed = made + cases, crashed + len(crashes)
        rows.append({"target": name, "cases": cases, "seconds": round(seconds, 1), "crashes": len(crashes)})
        log.info("%-15s %10s cases  %6.1f s  %d crashes", name, f"{cases:,}", seconds, len(crashes))
    record = finish_run(folder, "fuzz", config, {"cases": made, "crashes": crashed, "targets": rows})
    if crashed:
        raise KorbertError(f"{crashed} crashes, see {folder / 'crashes'}")
    return record


@hydra.main(version_base="1.3", config_path="../../conf", config_name="fuzz")
def main(config: DictConfig) -> None:
    """Run the door."""
    run_door(fuzz, config)


if __name__ == "__main__":
    start(main)
