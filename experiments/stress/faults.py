"""Disturb korbert's commands as clusters do: python experiments/stress/faults.py kills=200 run_dir=runs/faults

kill -9 at random moments, disks that are full or only can be read, bytes that are lost: afterwards the same command
comes to the very same end, or is refused by an error that names the file. What was found is added to the run's
`cases.jsonl`; the same command with the same run_dir goes on. One case again: case=kills/pretrain/3
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import disks
import hydra
from commands import COMMANDS, Command, Material, pretrain, slow_server
from damage import attempt
from hydra.core.config_store import ConfigStore
from keeps import kept_files
from kills import Whole, kill_round, undisturbed
from nursery import Nursery
from omegaconf import DictConfig

from korbert.config import RunConfig, run_door, start
from korbert.errors import KorbertError, check_all_known
from korbert.files import append_json, appended_json
from korbert.tasks.runs import finish_run, start_run

log = logging.getLogger(__name__)
FAULTS = ("kills", "full", "readonly", "damage")
_CHUNK = 75  # damages that a process does before another case is written down
_CASES = "cases.jsonl"
_TRIES = 20  # starts of a command that may have ended before they are killed
_BEGIN_WITH_MODEL = ("finetune", "model")


@dataclass
class FaultsConfig(RunConfig):
    """faults: which kinds. targets: commands, see commands.py. stores: what is damaged, see keeps.py, null: all.

    kills: in all, kills_at_once: at most of one start of a command from nothing; disks: full disks of each command, and
    as many that only can be read; damages: of each store. case: the name of the one case to do.
    """

    faults: list[str] = field(default_factory=lambda: list(FAULTS))
    targets: list[str] = field(default_factory=lambda: list(COMMANDS))
    stores: list[str] | None = None
    kills: int = 200
    kills_at_once: int = 8
    disks: int = 3
    damages: int = 75
    case: str | None = None


ConfigStore.instance().store(name="faults_schema", node=FaultsConfig)


class Harness:
    """Does the cases of a run that are not done yet. Each is made from its name and the run's seed alone."""

    def __init__(self, config: FaultsConfig, folder: Path, port: int, nursery: Nursery) -> None:
        self.config, self.folder, self.nursery = config, folder.resolve(), nursery
        # Always the same place, because some files hold its name.
        self.place, self.output = self.folder / "place", self.folder / "output.txt"
        self.material = Material(self.folder / "material", port)
        path = self.folder / _CASES
        self.cases = {case["case"]: case for case in appended_json(path)} if path.exists() else {}
        self._whole: dict[str, Whole] = {}
        self.material.write()

    def run(self) -> None:
        """All that is asked for."""
        if self.config.case is not None:
            self.cases.pop(self.config.case, None)
            self._do(self.config.case)
            return
        if "kills" in self.config.faults:
            self._kill_enough()
        for fault in ("full", "readonly"):
            if fault in self.config.faults and (reason := disks.why_not(self.folder / "disk")):
                log.warning("%s: skipped, %s", fault, reason)
                self.cases[f"{fault}/skipped/0"] = {"problem": "", "skipped": reason}
            elif fault in self.config.faults:
                for number, target in itertools.product(range(self.config.disks), self.config.targets):
                    self._do(f"{fault}/{target}/{number}")
        if "damage" in self.config.faults:
            stores = list(kept_files(self.material)) if self.config.stores is None else self.config.stores
            for store, first in itertools.product(stores, range(0, self.config.damages, _CHUNK)):
                self._do(f"damage/{store}/{first}")

    def _kill_enough(self) -> None:
        """Rounds of kills, the command with the fewest so far first, by its weight, until there are enough.

        Raises KorbertError for a command that cannot be caught.
        """
        while True:
            counts, rounds = Counter(dict.fromkeys(self.config.targets, 0)), Counter[str]()
            for name, case in self.cases.items():
                fault, target, _ = name.split("/")
                if fault == "kills":
                    counts[target] += sum(case["kills"].values())
                    rounds[target] += 1
            if counts.total() >= self.config.kills:
                return
            target = min(self.config.targets, key=lambda name: (counts[name] / COMMANDS[name].weight, rounds[name]))
            if rounds[target] > _TRIES + counts[target]:
                raise KorbertError(f"{target} is always faster than the kills")
            self._do(f"kills/{target}/{rounds[target]}")

    def _do(self, name: str) -> None:
        """One case, unless it was done before."""
        if name in self.cases:
            return
        fault, target, number = name.split("/")
        if target in _BEGIN_WITH_MODEL:
            self._pretrained()
        rng, began = random.Random(f"{self.config.seed}/{name}"), time.perf_counter()
        if fault == "damage":
            found = self._damage(rng, target, min(_CHUNK, self.config.damages - int(number)))
        else:
            given = (rng, COMMANDS[target], self._undisturbed(target), self.place, self.material, self.output)
            if fault == "kills":
                found = asdict(kill_round(*given, self.config.kills_at_once, self.nursery))
            else:
                found = asdict((disks.full_disk if fault == "full" else disks.read_only)(*given))
        self.cases[name] = {"case": name, **found, "seconds": round(time.perf_counter() - began, 1)}
        append_json(self.folder / _CASES, self.cases[name])
        log.info("%s: %s", name, found["problem"] or "as it should be")

    def _damage(self, rng: random.Random, store: str, count: int) -> dict[str, Any]:
        """In a process of its own: what reads damaged files may die of it."""
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                given = (store, self.material, self.folder / "damage", rng.random(), count)
                return pool.submit(damages, *given).result()
            except BrokenProcessPool:
                return {"ends": {"crashed": 1}, "problem": "the process that read it died"}

    def _pretrained(self) -> None:
        """Make the model that some begin with, if it is not there. Raises KorbertError where that fails."""
        if not self.material.base.exists():
            command = Command("base", lambda place, material: pretrain(place, material, steps=8), ())
            shutil.rmtree(self.place, ignore_errors=True)
            if command.run(self.place, self.material, self.output) != 0:
                raise KorbertError(f"no model can be pretrained, see {self.output}")
            (self.place / "run").rename(self.material.base)

    def _undisturbed(self, target: str) -> Whole:
        if target not in self._whole:
            whole = self._whole[target] = undisturbed(COMMANDS[target], self.place, self.material, self.output)
            log.info("%s: %.1f s to its first file, then %.1f s", target, whole.begin, whole.work)
        return self._whole[target]


def damages(store: str, material: Material, place: Path, seed: float, count: int) -> dict[str, Any]:
    """Damage what is kept in `store` so many times; how often it ended in which way."""
    logging.disable(logging.WARNING)
    kept, rng = kept_files(material)[store], random.Random(seed)
    shutil.rmtree(place, ignore_errors=True)
    whole, copy = place / "whole", place / "copy"
    whole.mkdir(parents=True)
    kept.make(whole)
    shutil.copytree(whole, copy)
    expected = kept.read(copy)
    found = [attempt(rng, kept, whole, expected, copy) for _ in range(count)]
    wrong = [f"{one.file}, {one.kind}: {one.end}: {one.said}" for one in found if one.end in ("silent", "crashed")]
    return {
        "ends": Counter(one.end for one in found),
        "files": Counter(f"{Path(one.file).name} {one.end}" for one in found),
        "problem": "\n".join(wrong),
    }


def summary(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts for the record: of each fault, and in rows of each of its targets."""
    totals: dict[str, Any] = {}
    rows: dict[tuple[str, str], Counter[str]] = {}
    stages: dict[tuple[str, str], Counter[str]] = {}
    for name, case in cases.items():
        fault, target, _ = name.split("/")
        if "skipped" in case:
            totals[fault] = {"skipped": case["skipped"]}
            continue
        row = rows.setdefault((fault, target), Counter())
        row.update(cases=1, problems=int(bool(case["problem"])))
        if fault == "kills":
            stages.setdefault((fault, target), Counter()).update(case["kills"])
            row.update(kills=sum(case["kills"].values()), half_written=case["half_written"])
        elif fault == "damage":
            row.update(case["ends"])
        else:
            row.update(refused=int(case["refusal"].startswith("error: ")))
    for (fault, _), row in rows.items():
        totals.setdefault(fault, Counter()).update(row)
    shown = []
    for (fault, target), row in rows.items():
        at = ", ".join(f"{stage} {count}" for stage, count in stages.get((fault, target), Counter()).most_common())
        shown.append({"fault": fault, "target": target, **row, **({"killed_at": at} if at else {})})
    return {**{fault: dict(counts) for fault, counts in totals.items()}, "targets": shown}


def faults(config: FaultsConfig) -> dict[str, Any]:
    """Do the cases, write the record, and fail where there was a problem."""
    check_all_known("faults", config.faults, FAULTS)
    check_all_known("targets", config.targets, COMMANDS)
    folder = start_run(config, again="faults")
    nursery = Nursery()
    with slow_server() as port:
        harness = Harness(config, folder, port, nursery)
        harness.run()
    nursery.close()
    problems = {name: case["problem"] for name, case in harness.cases.items() if case["problem"]}
    record = finish_run(folder, "faults", config, {**summary(harness.cases), "problems": problems})
    if problems:
        raise KorbertError(f"{len(problems)} cases are not as they should be, see {folder / _CASES}")
    return record


@hydra.main(version_base="1.3", config_path="../../conf", config_name="faults")
def main(config: DictConfig) -> None:
    """Run the door."""
    run_door(faults, config)


if __name__ == "__main__":
    start(main)
