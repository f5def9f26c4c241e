"""Finished runs → the committed records and the page that shows them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from korbert.config import PublishConfig
from korbert.data.korquad import read_predictions
from korbert.errors import DataError, KorbertError
from korbert.files import plain_name, read_json, read_text, write_text_atomically
from korbert.lines import json_line
from korbert.study.answers import PREDICTIONS, QuestionScores, question_file, scored_dataset
from korbert.study.collection import QUESTION_SCORES, read_records
from korbert.study.page import curve, draw, render, replace_records

log = logging.getLogger(__name__)


def publish_results(config: PublishConfig) -> None:
    """Add `runs` to PAGE.jsonl (a run that is there is replaced); write PAGE.svg and the records' part of PAGE.md.

    Files that a run made for its readers are copied beside the page. Of answers the page keeps the scores of each
    question, so that a report of it can draw questions, too; where the question file is not at hand it says so.
    """
    folder = Path(config.folder)
    page, store = folder / f"{config.page}.md", folder / f"{config.page}.jsonl"
    records = read_records(store) if store.exists() else {}
    for run in config.runs:
        record = _record(Path(run), config.root)
        records[record["name"]] = record
        for name in record.get("files", []):
            write_text_atomically(page.parent / name, read_text(_own_file(Path(run), name)))
    text = replace_records(page, read_text(page), render(list(records.values())))
    lines = "".join(map(json_line, records.values()))
    write_text_atomically(store, lines)
    write_text_atomically(page, text)
    draw(page.with_suffix(".svg"), list(records.values()))
    log.info("%s: %d records", page, len(records))


def _own_file(run: Path, name: object) -> Path:
    """A file of the run's own folder, for a name in its record: no other file of this machine is published."""
    path = run / plain_name(run / "record.json", "files", name)
    if not path.resolve().is_relative_to(run.resolve()):
        raise DataError(path, "file", f"is a link to {path.resolve()}, outside of the run's folder")
    return path


def _record(run: Path, root: str | None) -> dict[str, Any]:
    path = run / "record.json"
    if not path.exists():
        raise DataError(path, "file", "not found: only a finished run can be published")
    record = read_json(path)
    if record["commit"].endswith("+changes") or record["commit"] == "unknown":
        raise DataError(path, "commit", f"is {record['commit']!r}: publish runs of committed code only")
    path = run / "metrics.jsonl"
    metrics = [json.loads(line) for line in read_text(path).splitlines()] if path.exists() else []
    return {"name": run.name, **record, "curve": curve(metrics), **_question_scores(run, record, root)}


def _question_scores(run: Path, record: dict[str, Any], root: str | None) -> dict[str, Any]:
    """What a page keeps of a run's answers; {} of a run without answers, or without their questions."""
    config = record.get("config", {})
    path, named = run / PREDICTIONS, config.get("task", {}).get("test")
    if not path.exists() or named is None:
        return {}
    try:
        dataset = scored_dataset(question_file(named, config, root), config["task"].get("fold"))
    except KorbertError as error:
        log.warning("%s: the page keeps no scores of single questions: %s; give root=FOLDER", run, error)
        return {}
    return {QUESTION_SCORES: QuestionScores.of(dataset, read_predictions(path)).kept()}
