"""What every training run does around its loop: folder, configuration, record."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from korbert.config import BaseConfig, RunConfig
from korbert.errors import ConfigError
from korbert.files import read_text, write_json_atomically
from korbert.study.results import make_record, make_stamp

log = logging.getLogger(__name__)
# May differ when a run goes on: where things lie, how they are computed and shown, not what is computed.
_FREE = ("run_dir", "runtime", "tracker", "data")
_FREE_TRAIN = ("log_every", "checkpoint_every")
_SESSIONS = "sessions.jsonl"  # a line for each time the run was started: it may have moved to other hardware


def start_run(config: RunConfig) -> Path:
    """Make the run's folder and write `config.json`; refuse a finished run's folder with another configuration."""
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "record.json"
    if path.exists():
        raise ConfigError(f"run_dir={folder}: this run is finished (it has a record.json); choose another folder")
    write_json_atomically(folder / "config.json", as_dict(config))
    with (folder / _SESSIONS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(make_stamp()) + "\n")
    log.info("run folder: %s", folder)
    return folder


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON-able values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def fixed_config(config: BaseConfig, **identities: str) -> dict[str, Any]:
    """The part of the configuration that decides results, with the identities (fingerprints) of what it names."""
    fixed = {key: value for key, value in as_dict(config).items() if key not in _FREE}
    fixed["train"] = {key: value for key, value in fixed["train"].items() if key not in _FREE_TRAIN}
    return {**fixed, **identities}


def finish_run(
    folder: Path, task: str, config: RunConfig, results: Mapping[str, Any], files: Sequence[str] = ()
) -> dict[str, Any]:
    """Write `record.json`, which marks the run as finished, and return it; `files` are published beside its page."""
    record = make_record(task, as_dict(config), results) | ({"files": list(files)} if files else {})
    record["sessions"] = [json.loads(line) for line in read_text(folder / _SESSIONS).splitlines()]
    write_json_atomically(folder / "record.json", record)
    return record
