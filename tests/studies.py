"""Folders of runs as the doors leave them, without training: records with the real schema, chosen predictions."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_dir

from korbert.config import ReportConfig, compose_config
from korbert.data.korquad import KorquadDataset, fold_split, read_korquad, read_predictions, write_predictions
from korbert.files import read_json, write_json_atomically
from korbert.metrics import score_per_question
from korbert.study.collection import find_records
from korbert.study.grouping import Table, make_tables
from korbert.study.lineage import describe_runs
from korbert.study.results import make_record
from korbert.tasks.finetune import score_results
from korbert.tasks.report import make_report

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE = REPOSITORY / "data" / "sample" / "KorQuAD_sample_dev.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@cache
def composed(door: str, *overrides: str) -> Any:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose_config(door, [*overrides, "run_dir=?"])


@cache
def asked(fold: int | None) -> KorquadDataset:
    whole = read_korquad(SAMPLE)
    return whole if fold is None else fold_split(whole, fold)[1]


def write_run(folder: Path, door: str, task: str, config: Any, results: dict[str, Any]) -> None:
    """A finished run of a door."""
    record = make_record(task, json.loads(json.dumps(asdict(config))), results)
    record |= {"date": f"2026-01-0{1 + config.seed % 9}T03:04:05+00:00", "commit": COMMIT, "sessions": [{}]}
    record |= {
        "command": f"python experiments/{door}.py run_dir={folder.name}",
        "hardware": {"device": "a computer", "threads": 1},
    }
    record["versions"] = {"torch": "2"}
    write_json_atomically(folder / "config.json", record["config"])
    write_json_atomically(folder / "record.json", record)


def pretrained(folder: Path, *overrides: str, seed: int = 1, loss: float = 2.0) -> Path:
    """A pretraining with a curve; returns its folder."""
    config = copy.deepcopy(composed("pretrain", "corpus=sample", "model=tiny", "train.steps=40", *overrides))
    config.seed, config.run_dir = seed, str(folder)
    results = {"mlm_loss_per_character": loss, "mlm_loss": 2 * loss, "steps": 40, "tokens": 3960, "seconds": 20.0}
    write_run(folder, "pretrain", "pretrain", config, results)
    rows: list[dict[str, float]] = [{"step": n, "loss": 9 / n + loss, "seconds": 0.5 * n} for n in range(1, 41)]
    rows += [{"step": step, "validation/mlm_loss_per_character": 3 - step / 40} for step in (20, 40)]
    rows.sort(key=lambda row: row["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def finetuned(
    folder: Path,
    right: float,
    *overrides: str,
    seed: int = 1,
    fold: int | None = None,
    init: Path | str | None = None,
    chance: int = 0,
) -> Path:
    """A fine-tuning that answers about that share of the sample's questions, by `seed` and `chance`; its folder."""
    config = copy.deepcopy(composed("finetune_korquad", "task=korquad_sample", "entities=none", *overrides))
    config.seed, config.run_dir, config.init = seed, str(folder), None if init is None else str(init)
    config.task.fold, config.task.test = fold, str(SAMPLE)
    rng = np.random.default_rng([seed, chance])
    dataset = asked(fold)
    predictions = {
        key: texts[0] if (draw := rng.random()) < right else texts[0] + "쪽" if draw < 0.5 + right / 2 else "딴것"
        for key, texts in dataset.gold().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.json", predictions)
    results = {**score_results(dataset, predictions, config.task), "steps": 40, "seconds": 20.0}
    write_run(folder, "finetune_korquad", "finetune_korquad", config, results)
    return folder


def job(
    folder: Path,
    base: Path,
    right: float,
    *overrides: str,
    seed: int = 1,
    pretraining_seed: int = 1,
    fold: int | None = None,
) -> Path:
    """A job of `experiments/pipeline.py`: a fine-tuning of `base` in its folder, and its own record; the folder."""
    entities = [one for one in overrides if one.startswith("entities")]
    run = finetuned(folder / "finetune", right, *entities, seed=seed, fold=fold, init=base)
    config = copy.deepcopy(composed("pipeline", "corpus=sample", *overrides))
    config.seed, config.pretraining_seed, config.fold, config.run_dir = seed, pretraining_seed, fold, str(folder)
    config.pretraining = ["model=tiny", "train.steps=40", f"runtime.threads={seed}"]
    results = read_json(run / "record.json")["results"] | {"pretraining": {"run": str(base), "mlm_loss": 2.0}}
    write_run(folder, "pipeline", "pipeline", config, results)
    write_json_atomically(
        folder / "record.json", read_json(folder / "record.json") | {"stages": [str(base), "finetune"]}
    )
    return folder


def study(root: Path, seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Two tokenizers, without and with entities, with as many pretrainings as seeds."""
    for number, (tokenizer, mode) in enumerate((t, m) for t in ("syllable", "mecab_bpe") for m in ("none", "both")):
        entities = ("entities=none",) if mode == "none" else ("entities=mecab", f"entities.mode={mode}")
        for seed in seeds:
            arm = root / f"{tokenizer}-{mode}-{seed}"
            pretrained(arm / "pretrain", f"tokenizer={tokenizer}", *entities, seed=seed, loss=2 - 0.1 * number)
            right = 0.3 + 0.1 * number + 0.03 * seed
            finetuned(arm / "finetune", right, *entities, seed=seed, init=arm / "pretrain", chance=number)
    return root


def report(folder: Path, *places: Path, **values: Any) -> dict[str, str]:
    """The three files by their endings."""
    make_report(ReportConfig(runs=[str(place) for place in places], folder=str(folder), **values))
    return {ending: (folder / f"report.{ending}").read_text("utf-8") for ending in ("md", "tex", "html")}


def rows_of(markdown: str, title: str) -> list[dict[str, str]]:
    """The table below the first heading that begins so."""
    part = markdown[re.search(rf"^#+ {title}.*$", markdown, re.MULTILINE).end() :]  # type: ignore[union-attr]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)[0].splitlines()  # type: ignore[index]
    head, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    head = [
        f"{head[i - 1]}, interval" if name == "95 % interval" and "difference" not in head else name
        for i, name in enumerate(head)
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def tables_of(*places: Path) -> list[Table]:
    """The report's tables of the runs in these places."""
    return make_tables(describe_runs(find_records([str(place) for place in places]), {}))


def set_results(run: Path, **values: Any) -> None:
    """Change numbers of a run's results."""
    record = read_json(run / "record.json")
    for key, value in values.items():
        record["results"][key] = value
    write_json_atomically(run / "record.json", record)


def set_record(run: Path, **changes: Any) -> None:
    """Change parts of a run's record."""
    write_json_atomically(run / "record.json", read_json(run / "record.json") | changes)


def scores_by_hand(run: Path, key: str) -> list[float]:
    """Of each question of the sample, in percent: `exact_match` or `f1`."""
    gold = asked(None).gold()
    return [
        100 * getattr(s, key) for s in score_per_question(gold, read_predictions(run / "predictions.json")).values()
    ]
