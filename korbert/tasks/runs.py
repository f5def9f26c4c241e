"""What every run does around its work: folder, lock, configuration, cost, record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from korbert.config import BaseConfig, DataConfig, PretrainConfig, RunConfig, decisive
from korbert.data.selection import RULES as SELECTION_RULES
from korbert.data.shardfiles import EOJEOL_UNITS
from korbert.errors import ConfigError, KorbertError
from korbert.files import (
    CONFIG,
    METRICS,
    NBEST,
    PREDICTIONS,
    RECORD,
    SESSIONS,
    append_json,
    appended_json,
    checksum,
    digest,
    exclusive,
    read_json,
    remove_leftovers,
    write_json_atomically,
)
from korbert.parallel import own_place
from korbert.redaction import redacted_values
from korbert.study.records import keep_record
from korbert.study.results import Meter, add_costs, make_record, make_stamp
from korbert.tasks.inputs import changed_files, input_files
from korbert.tokenizers import Tokenizer
from korbert.training.settings import CHECKPOINT, RuntimeConfig, differences

_WITH_A_MODEL = {"train", "pretraining", "decoding"}  # keys of a configuration whose task computes with one
log = logging.getLogger(__name__)
C = TypeVar("C", bound=RunConfig)
R = TypeVar("R")
# SESSIONS has a line for each time the run was started: it may have moved to other hardware. A line with its cost where
# it ended without a record, unless it was killed.
_meters: dict[Path, Meter] = {}  # of the runs that this process is at work on
_INPUTS = "inputs.json"  # checksums of the files that the run was begun with
_WORK = (CHECKPOINT, "kept")  # what a run goes on with, in its folder
_REFERRED = (PREDICTIONS, NBEST, METRICS)  # what a record refers to, where it is there


def run_once(task: Callable[[C], dict[str, Any]]) -> Callable[[C], dict[str, Any]]:
    """Make a task one that is done once in a run's folder.

    A finished run is not made again: its record is returned. One process at a time works in the folder; another one
    waits, and then finds the run finished, or, where the first was killed, goes on with it. Of torchrun's processes the
    first has the folder; it does not wait, because the others could not know for how long. Raises ConfigError for a
    run that is finished with another configuration, or from files that have changed since.
    """

    @functools.wraps(task)
    def run(config: C) -> dict[str, Any]:
        folder = Path(config.run_dir)
        asked = as_dict(config)  # tasks fill in what is inherited
        rank, size = own_place()
        if rank > 0:
            return task(config) if finished(folder, asked, config.data) is None else {}
        with exclusive(folder / ".lock", folder, wait=size == 1):
            record = finished(folder, asked, config.data)
            if record is not None:
                log.info("%s: finished before, skipped", folder)
                warn_of_another_runtime(folder, record, config.runtime)
                keep_record(config.data.records, folder, record)  # if the store does not have it yet
                return record
            for place in (folder, folder / "model"):
                remove_leftovers(place)
            _refuse_other_configuration(folder, asked)
            write_json_atomically(folder / CONFIG, asked)
            try:
                return task(config)
            finally:
                if meter := _meters.pop(folder, None):
                    with contextlib.suppress(
                        KorbertError, OSError
                    ):  # where the disk is full, that is what is to be said
                        append_json(folder / SESSIONS, {"cost": meter.read()})

    return run


def by_ranks(task: Callable[[C], dict[str, Any]]) -> Callable[[C], dict[str, Any]]:
    """Mark a task as one that torchrun's processes do together; `run_door` refuses to start others so."""
    task.by_ranks = True  # type: ignore[attr-defined]
    return task


def finished(folder: Path, asked: Mapping[str, Any], data: DataConfig) -> dict[str, Any] | None:
    """The record of a finished run, None for one that is not. Raises ConfigError where it is not what was asked for."""
    if not (folder / RECORD).exists():
        return None
    changed = differences(decisive(read_json(folder / CONFIG)), decisive(asked))
    if changed:
        raise ConfigError(
            f"run_dir={folder}: this run is finished, with another configuration; choose another folder: "
            + "; ".join(changed)
        )
    record = read_json(folder / RECORD)
    if changed_inputs := changed_files(record.get("inputs", {}), asked, data):
        raise ConfigError(
            f"run_dir={folder}: this run is finished, but since then what it was made from has changed; choose another "
            "folder: " + ", ".join(changed_inputs)
        )
    if record.get("results", {}).get("missing"):  # packages that may be there now
        return None
    return record


def warn_of_another_runtime(folder: Path, record: Mapping[str, Any], runtime: RuntimeConfig) -> None:
    """Say so where a finished run is not made anew, although its model computed in another way than is asked for now.

    "auto" asks for none; of a run made with it, its cost says what it was on.
    """
    config = record.get("config", {})
    made = config.get("runtime", {}) if _WITH_A_MODEL & config.keys() else {}
    on_gpu = "gpu_seconds" in record.get("cost", {})
    for key, by_itself in (("precision", ("fp32", "bf16")), ("layout", ("padded", "packed"))):
        asked, then = getattr(runtime, key), made.get(key)
        then = by_itself[on_gpu] if then == "auto" else then
        if asked != "auto" and then not in (None, asked):
            log.warning(
                "%s: it was made with runtime.%s=%s, not with %s, and is not made again for that; another folder makes "
                "another run", folder, key, then, asked,
            )  # fmt: skip


def _refuse_other_configuration(folder: Path, asked: Mapping[str, Any]) -> None:
    """Before the configuration is written over that of a training which only its own can go on with, or of no run."""
    path = folder / CONFIG
    if not path.exists():
        return
    before = read_json(path)
    if "run_dir" not in before:
        raise ConfigError(f"run_dir={folder}: {path} is not a run's, and would be written over; choose another folder")
    if (folder / CHECKPOINT).exists() and (changed := differences(decisive(before), decisive(asked))):
        raise ConfigError(
            f"run_dir={folder}: this training was begun with another configuration and cannot go on with this one; "
            "choose another folder: " + "; ".join(changed)
        )


def start_run(config: RunConfig, again: str | None = None) -> Path:
    """Note that the run is started, after what can be checked beforehand, and return its folder.

    again: a task that is done anew over its own record; other records are left alone. Raises ConfigError where there is
    one; and where the run was begun before, and a file that it is made from has changed since: half of its work would
    be of the one, half of the other.
    """
    folder = Path(config.run_dir)
    if (folder / RECORD).exists():
        task = read_json(folder / RECORD).get("task")
        if again is None or task != again:
            raise ConfigError(f"run_dir={folder}: a run is finished there, of the task {task!r}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _note_inputs(folder, config)
    append_json(folder / SESSIONS, make_stamp())
    _meters[folder] = Meter(alone=not _meters)
    log.info("run folder: %s", folder)
    return folder


def _note_inputs(folder: Path, config: RunConfig) -> None:
    path, asked = folder / _INPUTS, as_dict(config)
    if path.exists() and any((folder / name).exists() for name in _WORK):
        before = read_json(path)
        if changed := changed_files(before, asked, config.data, must_exist=True):
            raise ConfigError(
                f"run_dir={folder}: this run was begun before, and since then what it is made from has changed; choose "
                "another folder, or remove this one to begin anew: " + ", ".join(changed)
            )
    else:
        write_json_atomically(path, input_files(asked, config.data))


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON-able values, without secrets of the environment."""
    return redacted_values(json.loads(json.dumps(dataclasses.asdict(config))))


def fixed_config(config: BaseConfig, **identities: str) -> dict[str, Any]:
    """The part of the configuration that decides results, with the identities (fingerprints) of what it names."""
    return {**decisive(as_dict(config)), **identities}


def fixed_pretraining(config: PretrainConfig, **identities: str) -> dict[str, Any]:
    """As `fixed_config`, with what decides masks and questions beside the configuration.

    That is the analyser that "mecab" is here, and the rules by which places to ask for are found.
    """
    fixed: dict[str, Any] = fixed_config(config, **identities)
    if "selection" in config.task.objectives():
        fixed["task"]["selection"]["rules"] = SELECTION_RULES
    if config.task.masking.flags not in ("", EOJEOL_UNITS):
        fixed["task"]["masking"]["analyser"] = config.task.masking.flags
    return fixed


def finish_run(
    folder: Path,
    task: str,
    config: RunConfig,
    results: Mapping[str, Any],
    files: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Write `record.json`, which marks the run as finished, add it to the store of records, and return it.

    files: are published beside the run's page. more: what else the record says, by name.
    """
    meter = _meters.pop(folder)
    weights = folder / "model" / "model.safetensors"  # by which what is made from them knows its origin
    sessions = _sessions(folder)
    sessions[-1]["cost"] = meter.read()
    record = {
        **make_record(task, as_dict(config), results),
        "cost": add_costs([session["cost"] for session in sessions if "cost" in session]),
        "sessions": sessions,
        "inputs": read_json(folder / _INPUTS),
        **({"weights": checksum(weights)} if weights.is_file() else {}),
        "refers_to": [name for name in _REFERRED if (folder / name).exists()],
        **({"files": list(files)} if files else {}),
        **more,
    }
    write_json_atomically(folder / RECORD, record)
    keep_record(config.data.records, folder, record)
    return record


def kept(config: RunConfig, what: object, measure: Callable[[], R]) -> R:
    """What `measure` returns, JSON-able, or returned in this run before it was interrupted; `what` tells it apart."""
    path = Path(config.run_dir) / "kept" / f"{digest([what, decisive(as_dict(config))])}.json"
    if path.exists():
        return read_json(path)["result"]
    result = measure()
    write_json_atomically(path, {"what": what, "result": result})
    return result


def described(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a record says of the run's tokenizer, which it may have from the run that it began with."""
    return {"kind": tokenizer.kind, "vocabulary": len(tokenizer), "fingerprint": tokenizer.fingerprint}


def _sessions(folder: Path) -> list[dict[str, Any]]:
    """When, and where, the run was started, each with its cost where that is known."""
    sessions: list[dict[str, Any]] = []
    for entry in appended_json(folder / SESSIONS):
        if "date" in entry:
            sessions.append(entry)
        elif sessions:
            sessions[-1] |= entry
    return sessions
