"""Records of finished runs: found in folders and on committed pages."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from korbert.errors import DataError
from korbert.files import FAILURE, METRICS, RECORD, SESSIONS, read_json, read_text, under
from korbert.lines import parse_json

QUESTION_SCORES = "question_scores"
_SHOWN = 200  # characters of an error
_ADDED = ("name", "curve", QUESTION_SCORES)  # to a record by its page


@dataclass(frozen=True)
class Found:
    """A record and where it is from. folder: the run's own; None for one on a page. path: of the file."""

    name: str
    path: Path
    folder: Path | None
    record: Mapping[str, Any]
    where: str = ""  # in the file


def read_records(store: Path) -> dict[str, dict[str, Any]]:
    """The records of a page by the name of their run. Raises DataError naming a line that is not one."""
    records = {}
    # Unlike splitlines, at line feeds alone: a text may hold other ends of lines.
    for number, line in enumerate(io.StringIO(read_text(store)), start=1):
        try:
            record = json.loads(line)
            records[record["name"]] = record
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise DataError(store, f"line {number}", f"is no record ({error})") from None
    return records


def find_records(places: Sequence[str]) -> list[Found]:
    """All records of the places, by name: folders, with every run and every page in them, and pages' .jsonl files.

    A run that is found twice, on a page too, say, counts once; one that is made of others is left to the last of them
    where that has its own record. No two have the same name. Raises DataError for a place that is not there, or a
    record that is damaged.
    """
    found = [one for place in places for one in _find(Path(place))]
    for one in found:
        _check(one)
    kept: dict[str, Found] = {}
    # A folder has more to say than a page; what is found by its own name has that one.
    for one in map(_last_stage, sorted(found, key=lambda f: (f.folder is None, _stage_in(f) is not None))):
        own = {key: value for key, value in one.record.items() if key not in _ADDED}
        kept.setdefault(json.dumps(own, sort_keys=True), one)
    named = _named_apart([*kept.values()])
    return sorted(named, key=lambda one: (_natural(one.name), str(one.path)))


def _stage_in(found: Found) -> str | None:
    """The name that the last stage of a run, such as a pipeline's fine-tuning, has in its folder; None without any."""
    stages = found.record.get("stages")
    return str(stages[-1]) if found.folder is not None and isinstance(stages, list) and stages else None


def _last_stage(found: Found) -> Found:
    """The run's last stage; itself where it has none with a record of its own."""
    stage = _stage_in(found)
    if found.folder is None or stage is None:
        return found
    return read_record(found.folder / stage, f"{found.name}/{stage}") or found


def whole_of(found: Found) -> Found | None:
    """The run that this one is the last stage of, in whose folder it lies; None where there is none."""
    around = None if found.folder is None else read_record(found.folder.parent, found.name)
    is_whole = around is not None and found.folder is not None and _stage_in(around) == found.folder.name
    return around if is_whole else None


def _named_apart(found: Sequence[Found]) -> list[Found]:
    """Each under a name of its own: where two have the same, what is around them is put in front, as far as needed."""
    alike: dict[str, list[Found]] = {}
    for one in found:
        alike.setdefault(one.name, []).append(one)
    named = []
    for one in found:
        parts, others = _way(one), [_way(other) for other in alike[one.name] if other is not one]
        count = len(Path(one.name).parts)
        while count < len(parts) and any(parts[-count:] == other[-count:] for other in others):
            count += 1
        named.append(replace(one, name="/".join(parts[-count:])) if others else one)
    return named


def _way(found: Found) -> tuple[str, ...]:
    """The folders, or the page, that lead to a run, with its name at the end."""
    return found.folder.resolve().parts if found.folder else (*found.path.resolve().parts, *Path(found.name).parts)


def read_record(folder: Path, name: str) -> Found | None:
    """A run's record; None where it has none. Raises DataError where it is damaged."""
    path = folder / RECORD
    if not path.is_file():
        return None
    found = Found(name, path, folder, read_json(path))
    _check(found)
    return found


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run has written of its training; [] where it has trained nothing. Raises DataError for a damaged line."""
    path = folder / METRICS
    if not path.exists():
        return []
    rows = [parse_json(path, n, line) for n, line in enumerate(read_text(path).splitlines(), start=1)]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise DataError(path, f"line {number}", "wanted an object with a step")
        if not all(isinstance(value, int | float) for value in row.values()):
            raise DataError(path, f"line {number}", "wanted numbers alone")
    return rows


def unfinished_runs(places: Sequence[str]) -> list[str]:
    """Names of the runs in folders that were begun and have no record, without those of jobs that failed."""
    failed = [path.parent for _, path in _without_record(places, FAILURE)]
    return [
        name for name, path in _without_record(places, SESSIONS)
        if not any(path.is_relative_to(job) for job in failed)
    ]  # fmt: skip


def failed_jobs(places: Sequence[str]) -> dict[str, str]:
    """Why jobs of sweeps in folders have no record, by their names: what the first line of their error says."""
    found = {}
    for name, path in _without_record(places, FAILURE):
        try:
            lines = str(read_json(path).get("error", "")).splitlines() or ["?"]
        except DataError as error:  # of a disk that was full, say
            lines = [f"what it says of that cannot be read: {error}"]
        found[name] = lines[0] if len(lines[0]) <= _SHOWN else f"{lines[0][:_SHOWN]}…"
    return found


def _without_record(places: Sequence[str], file: str) -> Iterator[tuple[str, Path]]:
    """Names of the runs in folders that have this file and no record, and the file."""
    for place in map(Path, places):
        for path in under(place, file) if place.is_dir() else ():
            if not (path.parent / RECORD).exists():
                yield _name_below(place, path.parent), path


def _name_below(place: Path, folder: Path) -> str:
    """What a run is called that was found in a place."""
    return folder.name if folder == place else folder.relative_to(place).as_posix()


def _find(place: Path) -> Iterator[Found]:
    if place.is_dir():
        for path in under(place, RECORD):
            yield Found(_name_below(place, path.parent), path, path.parent, read_json(path))
        pages = (path for path in under(place, "*.jsonl") if path.with_suffix(".md").exists())
        for page in pages:
            yield from _of_page(page)
    elif place.name == RECORD:
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
