"""The entity study in one command for a GPU machine that has neither analysers nor a network.

`prepare`, on any machine, makes a folder of token shards, annotations and questions. `run`, in minutes, pretrains and
fine-tunes each arm over seeds and folds, several side by side because one does not keep a GPU busy, checks the
unpadded path against the padded one, and measures its speed beside Hugging Face's. A second call goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import re
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from korbert.config import EntitiesConfig, GpuStudyConfig, as_override, as_overrides, compose_config
from korbert.errors import ConfigError, check_known
from korbert.files import RECORD, read_json, write_text_atomically
from korbert.study.collection import read_record
from korbert.study.page import table
from korbert.study.protocols import split_fold
from korbert.tasks import layouts
from korbert.tasks.benchmark import benchmark
from korbert.tasks.finetune import finetune_korquad
from korbert.tasks.gpu_study_archive import NO_ANNOTATOR, Prepared, prepare_study
from korbert.tasks.pretrain import pretrain
from korbert.tasks.side_by_side import Bench, Unit
from korbert.training.settings import CHECKPOINT

log = logging.getLogger(__name__)
_CHECK, _BENCHMARK = "check", "benchmark"
_TABLE = "study.md"


def gpu_study(config: GpuStudyConfig) -> None:
    """Prepare or run, as `config.stage` says. Raises ConfigError for an arm that conf/arm has not."""
    check_known("stage", config.stage, ("prepare", "run"))
    if config.stage == "prepare":
        prepare_study(config, {arm: _entities(arm, "prepared_arms") for arm in config.prepared_arms})
    else:
        run_study(config)


def _entities(arm: str, key: str) -> EntitiesConfig:
    """How conf/arm has it; one that has no entities needs no annotator. `key` is for the error's message."""
    try:
        entities: EntitiesConfig = compose_config("pretrain", [as_override("arm", arm)]).entities
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    is_plain = not entities.entity_input().mode.cuts
    return dataclasses.replace(entities, annotator=NO_ANNOTATOR) if is_plain else entities


def run_study(config: GpuStudyConfig) -> None:
    """Work through the units until all are done or the time is over, and write the table of what there is.

    `side_by_side` processes at a time, each of which does one unit; when the time is over they are told to stop, and
    go on where they were when the command is given again.
    """
    output = Path(config.output)
    study = _Study.read(config)
    every = study.units()
    if config.unit is not None:
        by_name = {unit.name: unit for unit in every}
        check_known("unit", config.unit, by_name)
        by_name[config.unit].work()
        return
    study.pretraining(config.arms[0], config.seeds[0])  # a wrong override is told before all else
    study.finetuning(config.arms[0], config.seeds[0], config.folds[0])
    output.mkdir(parents=True, exist_ok=True)
    todo = [unit for unit in every if not study.is_done(unit)]
    bench = Bench(
        output, [sys.executable, *sys.argv], config.side_by_side, config.minutes, study.is_done,
        on_end=lambda: write_table(config, bench.failed()),
    )  # fmt: skip
    write_table(config, bench.failed())  # of what is there, whatever follows
    for unit in every:
        if unit not in todo:
            log.info("%s: finished before, skipped", unit.name)
    if todo:
        study.prepared.unpack()
        left = bench.work_through(todo)
        if left:
            log.info("not done; the same command goes on with: %s", ", ".join(left))
            return
    log.info("nothing is left: %s", output / _TABLE)


@dataclasses.dataclass(frozen=True)
class _Study:
    """The runs of a study: what there is to do, and with which configurations."""

    config: GpuStudyConfig
    prepared: Prepared
    arms: dict[str, EntitiesConfig]

    @classmethod
    def read(cls, config: GpuStudyConfig) -> _Study:
        """Raises ConfigError for an arm that was not prepared for."""
        prepared = Prepared.read(Path(config.folder), Path(config.output) / "unpacked")
        arms = {arm: _entities(arm, "arms") for arm in config.arms}
        missing = {arm for arm, entities in arms.items() if entities.annotator not in prepared.annotators}
        if missing:
            raise ConfigError(
                f"arms: {config.folder} was prepared without {', '.join(sorted(missing))}; prepared_arms says for which"
            )
        return cls(config, prepared, arms)

    def units(self) -> list[Unit]:
        """The most telling first; speed, which wants the GPU for itself, last."""
        output = Path(self.config.output)
        check = functools.partial(
            layouts.check_layouts, self.prepared.tokenizer, self.prepared.shards(NO_ANNOTATOR), self.config.runtime,
            output / _CHECK,
        )  # fmt: skip
        found = [Unit(_CHECK, {_CHECK: layouts.TASK}, check)]
        for seed, arm in itertools.product(self.config.seeds, self.arms):
            finetuned = [_finetuned(arm, fold, seed) for fold in self.config.folds]
            runs = {_pretrained(arm, seed): "pretrain"} | dict.fromkeys(finetuned, "finetune_korquad")
            found.append(Unit(f"{arm}-seed{seed}", runs, functools.partial(self._train, arm, seed)))
        found.append(Unit(_BENCHMARK, {_BENCHMARK: "benchmark"}, self._measure, alone=True))
        return found

    def is_done(self, unit: Unit) -> bool:
        """Whether all its runs are finished.

        Raises ConfigError for another run in the place of one, DataError for a damaged record.
        """
        done = True
        for name, task in unit.runs.items():
            run = Path(self.config.output) / name
            found = read_record(run, name)
            if found is not None and found.record["task"] != task:
                raise ConfigError(
                    f"output: in {run} is a run of the task {found.record['task']!r}; choose another folder"
                )
            done = done and found is not None
        return done

    def _train(self, arm: str, seed: int) -> None:
        """One pretraining, and a model fine-tuned from it for each fold; what is finished is left as it is."""
        pretrain(self.pretraining(arm, seed))
        for fold in self.config.folds:
            finetune_korquad(self.finetuning(arm, seed, fold))
            (Path(self.config.output) / _finetuned(arm, fold, seed) / CHECKPOINT).unlink(missing_ok=True)

    def _measure(self) -> None:
        overrides = self._overrides({
            "tokenizer.path": self.prepared.tokenizer,
            "corpus.files": [str(self.prepared.paragraphs)],
            "run_dir": Path(self.config.output) / _BENCHMARK,
        })  # fmt: skip
        benchmark(compose_config("benchmark", [*self.config.benchmark, *overrides]))

    def pretraining(self, arm: str, seed: int) -> Any:
        entities = self.arms[arm]
        overrides = self._overrides({
            "arm": arm,
            "entities.annotator": entities.annotator,
            "seed": seed,
            "tokenizer.path": self.prepared.tokenizer,
            "corpus.shards": self.prepared.shards(entities.annotator),
            "run_dir": Path(self.config.output) / _pretrained(arm, seed),
            # The annotator's own files, which the root would lead to, are not asked for.
            "data.root": self.config.folder,
        })  # fmt: skip
        return compose_config("pretrain", [*self.config.pretraining, *overrides])

    def finetuning(self, arm: str, seed: int, fold: int) -> Any:
        annotator, output, prepared = self.arms[arm].annotator, Path(self.config.output), self.prepared
        overrides = self._overrides({
            "task": "korquad_5fold",
            "task.fold": fold,
            "task.train": [str(prepared.questions(name)) for name in prepared.train],
            "task.test": prepared.questions(prepared.test),
            "seed": seed,
            "init": output / _pretrained(arm, seed),
            "run_dir": output / _finetuned(arm, fold, seed),
            "data.root": self.config.folder,
            "entities.store": None if annotator == NO_ANNOTATOR else prepared.store(annotator),  # it has all texts
        })  # fmt: skip
        return compose_config("finetune_korquad", [*self.config.finetuning, *overrides])

    def _overrides(self, values: dict[str, Any]) -> list[str]:
        given = (as_override(key, str(value) if isinstance(value, Path) else value) for key, value in values.items())
        return [*given, *as_overrides("runtime", self.config.runtime)]


def _pretrained(arm: str, seed: int) -> str:
    return f"pretrain-{arm}-seed{seed}"


def _finetuned(arm: str, fold: int, seed: int) -> str:
    return f"{arm}-fold{fold}-seed{seed}"


def write_table(config: GpuStudyConfig, failed: list[str]) -> None:
    """Write `study.md`: scores by fold and arm of all fine-tunings that are finished in the folder, speed, the check.

    Means over folds are `experiments/report.py`'s: an arm that has not all folds yet would have another mean.
    """
    output = Path(config.output)
    found: dict[tuple[int, int, str], list[tuple[dict[str, Any], int]]] = {}
    arms = list(dict.fromkeys([*config.arms, *config.prepared_arms]))
    for path in sorted(output.glob(f"*-fold*-seed*/{RECORD}")):
        match, record = re.fullmatch(r"(.+)-fold(\d+)-seed(\d+)", path.parent.name), read_json(path)
        if match and record.get("task") == "finetune_korquad":
            order = arms.index(match[1]) if match[1] in arms else len(arms)
            found.setdefault((int(match[2]), order, match[1]), []).append((record["results"], int(match[3])))
    scored = []
    for (fold, _, arm), runs in sorted(found.items()):
        spreads = (_spread([results[key] for results, _ in runs]) for key in ("exact_match", "f1"))
        losses = _results(output, [_pretrained(arm, seed) for _, seed in runs])
        scored.append(
            [str(fold), arm, str(len(runs)), *spreads, _spread([loss["mlm_loss_per_character"] for loss in losses])]
        )
    protocols = sorted({split_fold(result["protocol"])[0] for runs in found.values() for result, _ in runs})
    measured_on = "; ".join(protocols) or "nothing is scored yet"
    all_runs = shlex.quote(as_override("runs", [str(output)]))
    report = f"python experiments/report.py {all_runs} focus=entities.mode:both"
    lines = [
        "# GPU study", "", f"Protocol: {measured_on}. Mean and standard deviation over seeds, each of a "
        f"pretraining of its own; over folds, with tests: `{report}`.", "",
        *table(["fold", "arm", "seeds", "EM (%)", "F1 (%)", "held-out masked-LM loss (nats a character)"], scored),
    ]  # fmt: skip
    if (output / _BENCHMARK / RECORD).exists():
        rows = read_json(output / _BENCHMARK / RECORD)["results"]["steps"]
        lines += table(rows[0], (map(_cell, row.values()) for row in rows))
    if (output / _CHECK / RECORD).exists():
        results = read_json(output / _CHECK / RECORD)["results"]
        lines += table(["packed against padded", ""], ([key, f"{error:.1e}"] for key, error in results.items()))
    lines += (f"failed: {name}" for name in failed)
    write_text_atomically(output / _TABLE, "\n".join(lines).rstrip() + "\n")


def _results(output: Path, names: list[str]) -> list[dict[str, Any]]:
    """What came out in the runs of these names that are finished."""
    return [read_json(output / name / RECORD)["results"] for name in names if (output / name / RECORD).exists()]


def _spread(values: list[float]) -> str:
    """Mean and standard deviation, the latter of two values or more."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
