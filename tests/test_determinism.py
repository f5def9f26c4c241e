"""Every door twice, with other hash seeds and numbers of workers: what they make is the same, bit for bit."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from every_door import CALLS, OTHERS
from test_wikidump import dump

from korbert.training.state import load_tensors

REPOSITORY = Path(__file__).resolve().parents[1]
# What is measured, and when, where and by how many it was made: parts of the names of keys.
_MEASURED = (
    "date", "seconds", "megabytes", "memory", "cost", "sessions", "hardware", "workers", "per_second", "device",
    "command", "waiting", "trained s",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders in which all doors have run, at the same time."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    processes = []
    for workers, folder in enumerate(folders, start=1):
        (folder / "data").mkdir()
        (folder / "data" / "sample").symlink_to(REPOSITORY / "data" / "sample")
        (folder / "wiki.xml").write_text(dump(), "utf-8")
        # torch's own threads are set by the doors; those of libraries would differ with the machine's load.
        environment = os.environ | {
            "PYTHONHASHSEED": str(workers),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("KORBERT_DATA", None)
        environment["KORBERT_RECORDS"] = "records.sqlite"
        command = [sys.executable, str(REPOSITORY / "tests" / "every_door.py"), str(workers)]
        processes.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
        )
    for process in processes:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    return folders


def test_every_door_is_known() -> None:
    assert {path.stem for path in (REPOSITORY / "experiments").glob("*.py")} == CALLS.keys() | OTHERS.keys()
    assert not CALLS.keys() & OTHERS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("door", CALLS)
def test_twice_the_same(made: tuple[Path, Path], door: str) -> None:
    one, two = (contents(folder / "runs", door) for folder in made)
    assert one
    assert one.keys() == two.keys()
    for name, content in one.items():
        assert content == two[name], name


def contents(runs: Path, door: str) -> dict[str, Any]:
    """What every file of a door says, without what was measured."""
    found: dict[str, Any] = {}
    for path in sorted((runs / door).rglob("*")):
        name = str(path.relative_to(runs / door))
        if path.is_file() and not name.endswith((".lock", "-wal", "-shm", "memory.jsonl", "sessions.jsonl")):
            found[name] = content(path)
    said = (runs / f"{door}.txt").read_text("utf-8")
    return {**found, **({} if door == "evaluate_annotators" else {"printed": said})}  # which prints speeds


def content(path: Path) -> Any:
    """A file, in a form that can be compared."""
    if path.name == "checkpoint.safetensors":
        tensors, state = load_tensors(path)
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, without_measures(state)
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as connection:
            return sorted(connection.execute("SELECT * FROM spans"))
    if path.suffix in (".json", ".jsonl"):
        lines = [path.read_text("utf-8")] if path.suffix == ".json" else path.read_text("utf-8").splitlines()
        return [without_measures(json.loads(line)) for line in lines]
    if path.suffix in (".html", ".md", ".csv", ".tex"):
        return plain(path.read_text("utf-8"))
    return path.read_bytes()


def without_measures(value: Any) -> Any:
    """JSON without the keys that are measured."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not any(part in key for part in _MEASURED)}
        return {key: without_measures(inner) for key, inner in kept.items()}
    return [without_measures(inner) for inner in value] if isinstance(value, list) else value


def plain(page: str) -> str:
    """A page without the times it was made at, what its runs took, its curves by time, and its runs' command."""
    page = re.sub(r"\d{4}-\d\d-\d\d(T[\d:+]+)?", "DATE", page)
    page = re.sub(r"(every_door\.py) \d", r"\1", page)
    page = re.sub(
        r"(?s)<h2 id=\"(cost|curves)\">.*?(?=<h2)|## What it took.*?\n## |\\caption\{Cost.*?\\end\{table\}", "", page
    )
    if "Tokenizers for Korean" in page:  # the last column is that of training's seconds
        page = re.sub(r"<td data-value=[^\n]*</td></tr>\n", "", page)
    return page


def test_what_is_compared_would_differ(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Another seed shows in what is compared."""
    weights = "pretrain/model/model.safetensors"
    tensors, state = load_tensors(made[0] / "runs" / weights)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert content(made[0] / "runs" / weights) != content(made[0] / "runs" / "finetune_korquad/model/model.safetensors")
    (tmp_path / "record.json").write_text(json.dumps({"a": [{"seconds": 1, "f1": 2}], "date": 3}))
    assert content(tmp_path / "record.json") == [{"a": [{"f1": 2}]}]
    assert isinstance(state, dict)
