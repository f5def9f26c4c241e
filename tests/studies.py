"""Folders of runs as the doors leave them, without training: records with the real schema, chosen predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data.korquad import fold_split, read_korquad, write_predictions
from korbert.files import write_json_atomically
from korbert.study.results import make_record
from korbert.tasks.finetune import score_results

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE = REPOSITORY / "data" / "sample" / "KorQuAD_sample_dev.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def compose(door: str, overrides: Sequence[str]) -> Any:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose_config(door, overrides)


def write_run(folder: Path, door: str, task: str, overrides: list[str], results: dict[str, Any]) -> dict[str, Any]:
    """A finished run of a door with these overrides; `run_dir` and seeds are part of the configuration."""
    config = asdict(compose(door, [*overrides, f"run_dir={folder}"]))
    record = make_record(task, json.loads(json.dumps(config)), results)
    record |= {"date": f"2026-01-0{1 + config['seed'] % 9}T03:04:05+00:00", "commit": COMMIT, "sessions": [{}]}
    record |= {"command": f"python experiments/{door}.py run_dir={folder.name}", "hardware": {"device": "a computer"}}
    record["versions"] = {"torch": "2"}
    write_json_atomically(folder / "config.json", record["config"])
    write_json_atomically(folder / "record.json", record)
    rows = [{"step": step, "loss": 9 / step, "seconds": 0.5 * step, "tokens": 99 * step} for step in range(1, 41)]
    rows += [{"step": step, "validation/mlm_loss_per_character": 3 - step / 40} for step in (20, 40)]
    rows.sort(key=lambda row: row["step"])
    if task != "lexical_baseline":
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return record


def pretrained(folder: Path, *overrides: str, seed: int = 1, loss: float = 2.0) -> Path:
    """A pretraining."""
    results = {"mlm_loss_per_character": loss, "mlm_loss": 2 * loss, "steps": 40, "tokens": 3960, "seconds": 20.0}
    chosen = ["corpus=sample", "model=tiny", "train.steps=40", f"seed={seed}", *overrides]
    write_run(folder, "pretrain", "pretrain", chosen, results)
    return folder


def finetuned(
    folder: Path, right: float, *overrides: str, seed: int = 1, fold: int | None = None, chance: int = 0
) -> dict[str, Any]:
    """A fine-tuning whose predictions are right on about that share of the questions, by `seed` and `chance`."""
    dataset = read_korquad(SAMPLE)
    if fold is not None:
        dataset = fold_split(dataset, fold)[1]
    rng = np.random.default_rng([seed, chance])
    predictions = {key: texts[0] if rng.random() < right else "딴것" for key, texts in dataset.gold().items()}
    chosen = ["task=korquad_sample", f"task.test={SAMPLE}", "entities=none", f"seed={seed}", *overrides]
    chosen += [] if fold is None else [f"task.fold={fold}"]
    config = compose("finetune_korquad", [*chosen, f"run_dir={folder}"])
    results = {**score_results(dataset, predictions, config.task), "steps": 40, "seconds": 20.0}
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / "predictions.json", predictions)
    return write_run(folder, "finetune_korquad", "finetune_korquad", chosen, results)
