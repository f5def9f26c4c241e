"""Finished runs as a report reads them: found in folders and on committed pages, with the settings they came from."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from korbert.errors import DataError
from korbert.files import read_json, read_text
from korbert.lines import parse_json
from korbert.study.page import curve

_RECORD = "record.json"
# Settings that do not tell two runs apart: what is repeated, where things lie, how they are computed and shown.
_FREE = ("run_dir", "seed", "runtime", "tracker", "data", "task.fold", "train.log_every", "train.checkpoint_every")
_LINKS = ("init", "run")  # settings that name an earlier run
_FOLD = re.compile(r", fold (\d+)$")


@dataclass(frozen=True)
class Found:
    """A record and where it is from. folder: the run's own; None for one on a page. path: of the file."""

    name: str
    path: Path
    folder: Path | None
    record: Mapping[str, Any]
    where: str = ""  # in the file


@dataclass(frozen=True)
class Run:
    """A finished run.

    settings: dotted keys of its configuration and of the runs it came from, without what `seed` and `fold` say.
    origin: the earlier run that its weights are from; its seed is pretraining_seed. protocol: without the fold.
    """

    found: Found
    task: str
    settings: Mapping[str, Any]
    seed: int | None
    pretraining_seed: int | None
    origin: str | None
    fold: int | None
    protocol: str
    warnings: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """Its folder below the one that was searched, or its name on a page."""
        return self.found.name

    @property
    def results(self) -> Mapping[str, Any]:
        """What came out."""
        return self.found.record["results"]

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration."""
        return self.found.record.get("config", {})

    def score(self, key: str) -> float | None:
        """A number of the results; None where it was not measured, or is none.

        Raises DataError where something else stands in its place.
        """
        value = self.results.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(self.found.path, f"{self.found.where}results.{key}", f"wanted a number, found {value!r}")
        return float(value) if math.isfinite(value) else None

    def curve(self) -> list[dict[str, Any]]:
        """Points of its training, see `korbert.study.page.curve`. Raises DataError for a damaged metrics.jsonl."""
        if self.found.folder is None:
            return list(self.found.record.get("curve", []))
        path = self.found.folder / "metrics.jsonl"
        if not path.exists():
            return []
        rows = [parse_json(path, n, line) for n, line in enumerate(read_text(path).splitlines(), start=1)]
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise DataError(path, f"line {number}", "wanted an object with a step")
            if not all(isinstance(value, int | float) for value in row.values()):
                raise DataError(path, f"line {number}", "wanted numbers alone")
        return curve(rows)

    def tokenizer(self) -> str | None:
        """The fingerprint of its model's tokenizer, where its record says it or its folder has a model."""
        said = self.found.record.get("tokenizer")
        if isinstance(said, dict) and "fingerprint" in said:
            return str(said["fingerprint"])
        path = None if self.found.folder is None else self.found.folder / "model" / "model.json"
        return str(read_json(path)["tokenizer"]) if path is not None and path.exists() else None


def read_records(store: Path) -> dict[str, dict[str, Any]]:
    """The records of a page by the name of their run. Raises DataError naming a line that is not one."""
    records = {}
    for number, line in enumerate(read_text(store).splitlines(), start=1):
        try:
            record = json.loads(line)
            records[record["name"]] = record
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise DataError(store, f"line {number}", f"is no record ({error})") from None
    return records


def find_records(places: Sequence[str]) -> list[Found]:
    """All records of the places, by name: folders, with every run and every page in them, and pages' .jsonl files.

    A run that is found twice, on a page too, say, counts once. Raises DataError for a place that is not there, or a
    record that is damaged.
    """
    found = [one for place in places for one in _find(Path(place))]
    for one in found:
        _check(one)
    kept: dict[str, Found] = {}
    for one in sorted(found, key=lambda f: f.folder is None):  # a folder has more to say than a page
        own = {key: value for key, value in one.record.items() if key not in ("name", "curve")}  # added by a page
        kept.setdefault(json.dumps(own, sort_keys=True), one)
    return sorted(kept.values(), key=lambda one: (_natural(one.name), str(one.path)))


def _find(place: Path) -> Iterator[Found]:
    if place.is_dir():
        for path in sorted(place.rglob(_RECORD)):
            folder = path.parent
            name = folder.name if folder == place else folder.relative_to(place).as_posix()
            yield Found(name, path, folder, read_json(path))
        pages = (path for path in sorted(place.rglob("*.jsonl")) if path.with_suffix(".md").exists())
        for page in pages:
            yield from _of_page(page)
    elif place.name == _RECORD:
        yield Found(place.parent.name, place, place.parent, read_json(place))
    else:
        yield from _of_page(place)


def _of_page(page: Path) -> Iterator[Found]:
    for name, record in read_records(page).items():
        yield Found(name, page, None, record, f"record {name!r}: ")


def _check(found: Found) -> None:
    for key, kind in (("task", str), ("results", dict)):
        if not isinstance(found.record.get(key), kind):
            wanted = "a string" if kind is str else "an object"
            raise DataError(found.path, f"{found.where}{key}", f"wanted {wanted}: this is no record of a run")
    if not isinstance(found.record.get("config", {}), dict):
        raise DataError(found.path, f"{found.where}config", "wanted an object")


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Names with numbers in the order of the numbers: run2 before run10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def describe_runs(found: Sequence[Found], defaults: Mapping[str, Mapping[str, Any]]) -> list[Run]:
    """Runs with their settings. defaults: by task, for settings that are younger than a record.

    What a run was begun with is followed to that run's record, among `found` or where it lies.
    """
    by_place: dict[str, Found] = {}
    for one in found:
        for place in _places(one):
            by_place.setdefault(place, one)
    return [_describe(one, by_place, defaults) for one in found]


def _places(found: Found) -> Iterator[str]:
    """Names under which later runs may refer to a run."""
    if run_dir := found.record.get("config", {}).get("run_dir"):
        yield os.path.normpath(str(run_dir))
    if found.folder is not None:
        yield os.path.normpath(found.folder)
        yield str(found.folder.resolve())


def _describe(found: Found, by_place: Mapping[str, Found], defaults: Mapping[str, Mapping[str, Any]]) -> Run:
    results = found.record["results"]
    settings = _settings(found, defaults)
    warnings = []
    seeds = {found.record["task"]: found.record.get("seed")}
    origin = None
    passed = [found.record]
    while (link := next((key for key in _LINKS if isinstance(settings.get(key), str)), None)) is not None:
        named = str(settings[link])
        origin = origin or named
        if named.startswith("hf:"):
            break
        earlier = by_place.get(os.path.normpath(named)) or by_place.get(str(Path(named).resolve())) or _on_disk(named)
        if earlier is None or earlier.record in passed:
            warnings.append(f"{found.name}: {link}={named} has no record here; its seed and settings are not known")
            break
        del settings[link]
        passed.append(earlier.record)
        task = earlier.record["task"]
        seeds.setdefault(task, earlier.record.get("seed"))
        origin = named if task == "pretrain" else origin
        for key, value in _settings(earlier, defaults).items():
            while key in settings:
                key = f"{task}.{key}"
            settings[key] = value
    protocol = str(results.get("protocol", ""))
    fold = _FOLD.search(protocol)
    task = "finetune_korquad" if "finetune_korquad" in seeds else found.record["task"]  # predicting draws nothing
    return Run(
        found=found,
        task=found.record["task"],
        settings=settings,
        seed=seeds[task],
        pretraining_seed=seeds.get("pretrain") if found.record["task"] != "pretrain" else None,
        origin=origin,
        fold=int(fold[1]) if fold else None,
        protocol=_FOLD.sub("", protocol) or _pretraining_protocol(settings, found.record["task"]),
        warnings=warnings,
    )


def _on_disk(run: str) -> Found | None:
    path = Path(run) / _RECORD
    if not path.is_file():
        return None
    found = Found(run, path, path.parent, read_json(path))
    _check(found)
    return found


def _pretraining_protocol(settings: Mapping[str, Any], task: str) -> str:
    """What a pretraining's held-out loss was measured on: that of other documents is no comparison."""
    if task != "pretrain":
        return ""
    files = settings.get("corpus.shards") or settings.get("corpus.files") or "?"
    named = ", ".join(map(str, files)) if isinstance(files, list) else str(files)
    count = settings.get("task.validation_examples")
    share = float(settings.get("corpus.holdout") or 0)
    documents = settings.get("corpus.max_documents")
    return (
        f"held-out {share:.1%} of {named}" + (f" (first {documents:,} documents)" if documents else "")
        + f", {count or '?'} sequences of {settings.get('task.validation_length') or '?'} tokens"
    )  # fmt: skip


def _settings(found: Found, defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    task = found.record["task"]
    config = _fill(found.record.get("config", {}), defaults.get(task, {}))
    flat = _flat("", config)
    return {key: value for key, value in flat if not any(f"{key}.".startswith(f"{free}.") for free in _FREE)}


def _fill(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the default values of the keys it lacks; "???" is none."""
    filled = {key: value for key, value in defaults.items() if key not in config and value != "???"}
    for key, value in config.items():
        default = defaults.get(key)
        filled[key] = _fill(value, default if isinstance(default, dict) else {}) if isinstance(value, dict) else value
    return filled


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
