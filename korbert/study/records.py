"""All runs' records in one SQLite file, which several processes write at once and no crash damages.

A run's own `record.json` is what counts: the store can be made again from the folders at any time.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korbert.errors import DataError
from korbert.files import RECORD, digest, exclusive, read_json, under

log = logging.getLogger(__name__)
_PATIENCE = 120.0  # seconds to wait for other processes that write
_TABLE = """CREATE TABLE IF NOT EXISTS runs
    (id TEXT PRIMARY KEY, folder TEXT, task TEXT, date TEXT, record TEXT, folder_sum INTEGER)"""
_INSERT = """INSERT INTO runs (id, folder, task, date, record, folder_sum) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET folder = excluded.folder, folder_sum = excluded.folder_sum"""
_ORDER = "ORDER BY date, rowid"  # of one second, as they came
_COLUMNS = "id, folder, task, date, record, folder_sum"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A record and the folder of its run. id: a digest of the record, which stays when the folder is moved.

    superseded: a later run has the same folder, in which this one's files are no more.
    """

    id: str
    folder: Path
    record: dict[str, Any]
    superseded: bool = False


class RecordStore:
    """Raises DataError where the file is damaged or none of this kind."""

    def __init__(self, path: Path, must_exist: bool = False) -> None:
        """Open the file; make it where it does not exist, unless it must."""
        self.path = path
        if must_exist and not (path.is_file() and path.stat().st_size):  # SQLite takes an empty file for a new one
            problem = "empty" if path.is_file() else "not found"
            raise DataError(path, "file", f"{problem}; `experiments/runs.py scan FOLDER` makes it from run folders")
        try:
            # Two processes that both turn a new file into one with a log disturb each other.
            with exclusive(path.with_name(f"{path.name}.lock")):
                self._connection = self._connect()
        except (sqlite3.Error, ValueError) as error:
            raise self._unusable(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_TABLE)
        if not any(column[1] == "folder_sum" for column in connection.execute("PRAGMA table_info(runs)")):
            connection.execute("ALTER TABLE runs ADD COLUMN folder_sum INTEGER")  # older ones are without
        return connection

    def add(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Keep a record; one that is there stays, at the place where its folder is now."""
        text = json.dumps(record)
        identity = digest(json.loads(text))  # of what will be read
        place = self._relative(folder)
        row = (identity, place, record.get("task"), record.get("date"), text, _sum(place))
        try:
            self._connection.execute(_INSERT, row)
        except (sqlite3.Error, ValueError) as error:
            raise self._unusable(error) from error

    def runs(self) -> Iterator[StoredRun]:
        """All of them, the oldest first."""
        try:
            (said,) = self._connection.execute("PRAGMA integrity_check").fetchone()
            if said != "ok":
                raise ValueError(said)
            # Which is the last of its folder is asked first: rows that another process adds in between are later.
            last = dict(self._connection.execute(f"SELECT folder, id FROM runs {_ORDER}").fetchall())
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM runs {_ORDER}")
            for identity, folder, task, date, record, folder_sum in rows:
                found = json.loads(record)
                written = (digest(found), found.get("task"), found.get("date"))
                if written != (identity, task, date) or folder_sum not in (None, _sum(folder)):
                    raise ValueError(f"the row of {folder} is not what was written")
                superseded = last.get(folder, identity) != identity
                yield StoredRun(identity, self.path.parent / folder, found, superseded)
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Bring everything into the one file, if no other process has it open."""
        self._connection.close()

    def _relative(self, folder: Path) -> str:
        """Below the store's own folder by its name there: both can then be moved together."""
        folder, here = folder.resolve(), self.path.parent.resolve()
        return os.path.relpath(folder, here) if folder.is_relative_to(here) else str(folder)

    def _unusable(self, error: Exception) -> DataError:
        remedy = "without it, `experiments/runs.py scan runs` makes it again"
        return DataError(self.path, "content", f"cannot be used as a store of records ({error}); {remedy}")


def _sum(folder: str) -> int:
    return zlib.crc32(folder.encode("utf-8", "surrogatepass"))


def keep_record(path: str | None, folder: Path, record: Mapping[str, Any]) -> None:
    """Add the record of a finished run to the store `path`, if there is one; what goes wrong does not cost the run."""
    if path is None:
        return
    try:
        store = RecordStore(Path(path))
        store.add(folder, record)
        store.close()
    except (DataError, OSError) as error:
        log.warning("the record is in %s, but not in the store: %s", folder / RECORD, error)


def scan(store: RecordStore, roots: Iterable[Path]) -> tuple[int, list[str]]:
    """Add the records of all run folders below `roots`; how many there are, and what could not be read."""
    count, problems = 0, []
    for root in roots:
        if not root.is_dir():
            raise DataError(root, "folder", "not found")
        for path in under(root, RECORD):
            try:
                record = read_json(path)
                if "task" not in record or "results" not in record:
                    raise DataError(path, "top level", "wanted task and results: no record of a run")
                store.add(path.parent, record)
                count += 1
            except DataError as error:
                problems.append(str(error))
    return count, problems
