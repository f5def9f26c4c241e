"""Annotations on disk, by text: no text is annotated twice, and a machine without the analyser can read them.

One SQLite file for each annotator. Several processes may read and write it at once, and what was written before a
crash is there afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from korbert.entities.base import EntityAnnotator, NoEntities, annotated_by
from korbert.entities.morphology import COMPOUND, NOUN, PROPER
from korbert.entities.types import COMMON_TYPES
from korbert.entities.union import merged
from korbert.errors import DataError, KorbertError, WriteError
from korbert.files import checksum, raise_unwritable, read_text, text_checksum, write_text_atomically
from korbert.text import AnnotatedText, Span

FORMAT = 2
_MOST_AT_ONCE = 500  # keys in one question to the data base
_PATIENCE = 60.0  # seconds to wait for another process that writes
_GLANCE = 0.01  # seconds until looking again
_DIGITS = 8  # of an entry's checksum
_MAKING = ".making"  # behind the name of a store that is not whole yet
_SHOWN = 40  # characters of a text in a message
_MOST_LABELS = 10  # in a message
_UNTYPED = ("", PROPER, NOUN, COMPOUND)  # that promise no type
# In SQLite's messages.
_READ_ONLY = ("readonly database", "unable to open")
_UNWRITABLE = ("disk is full", "disk I/O error", *_READ_ONLY)
_TABLES = """
CREATE TABLE IF NOT EXISTS annotator (format INTEGER, name TEXT, fingerprint TEXT);
CREATE TABLE IF NOT EXISTS spans (text BLOB PRIMARY KEY, found TEXT) WITHOUT ROWID;
"""
log = logging.getLogger(__name__)


class AnnotationFile:
    """Spans by text, and whose they are. Raises DataError where the file is damaged or not such a file.

    can_write: whether it was opened to be written, and can be; one that only can be read is read.
    """

    def __init__(self, path: Path, name: str = "", fingerprint: str = "") -> None:
        """Open a file; given a fingerprint, make it where it does not exist, for several processes to write."""
        self.path = path
        if not fingerprint and not path.is_file():
            raise DataError(path, "file", "not found")
        self.can_write = bool(fingerprint)
        self._whose = (FORMAT, name, fingerprint)
        try:
            self._opened = self._open()
            found = self._opened.execute("SELECT format, name, fingerprint FROM annotator").fetchone()
        except (sqlite3.Error, ValueError) as error:  # the latter where SQLite's own message is damaged
            raise self._unusable(error) from error
        self._process = os.getpid()
        if found is None or found[0] != FORMAT:
            raise DataError(path, "format", f"wanted a store of annotations of format {FORMAT}")
        self.name, self.fingerprint = str(found[1]), str(found[2])
        if fingerprint and self.fingerprint != fingerprint:
            raise DataError(path, "fingerprint", f"these are annotations of {self.fingerprint}, wanted {fingerprint}")

    def _open(self) -> sqlite3.Connection:
        if self.can_write:
            try:
                return _writable(self.path, self._whose)
            except (sqlite3.Error, WriteError) as error:
                is_read_only = isinstance(error, WriteError) or any(reason in str(error) for reason in _READ_ONLY)
                if not is_read_only or not self.path.is_file():
                    raise
                log.warning("%s: only can be read (%s): what is new is not kept", self.path, error)
            self.can_write = False
        return _readable(self.path)

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            _INHERITED.append(self._opened)  # a connection must not be used, nor closed, behind a fork
            self._opened, self._process = self._open(), os.getpid()
        return self._opened

    def read(self, texts: Iterable[str]) -> dict[str, tuple[Span, ...]]:
        """Those of `texts` that are here, with their spans."""
        keys = {_key(text): text for text in texts}
        found = {}
        wanted = list(keys)
        try:
            for first in range(0, len(wanted), _MOST_AT_ONCE):
                part = wanted[first : first + _MOST_AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT text, found FROM spans WHERE text IN ({marks})", part)
                for key, spans in rows:
                    found[keys[key]] = _from_row(key, spans)
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            raise self._unusable(error) from error
        return found

    def add(self, annotated: Iterable[AnnotatedText]) -> None:
        """Keep these with what is there already: of a text that occurs again, the entities of all its occurrences.

        Of those that overlap, the one of the earlier occurrence.
        """
        occurrences: dict[str, list[AnnotatedText]] = {}
        for text in annotated:
            occurrences.setdefault(text.text, []).append(text)
        known = self.read(occurrences)
        self.write(merged([AnnotatedText(text, known.get(text, ())), *found]) for text, found in occurrences.items())

    def write(self, annotated: Iterable[AnnotatedText]) -> None:
        """Keep these, all or none of them, instead of what is there of the same texts."""
        rows = [_as_row(text) for text in annotated]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO spans VALUES (?, ?)", rows)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, ValueError) as error:
            with contextlib.suppress(sqlite3.Error):  # where there is none, there is nothing to take back
                self._connection.execute("ROLLBACK")
            raise self._unusable(error) from error

    def __len__(self) -> int:
        """Number of texts."""
        (count,) = self._connection.execute("SELECT COUNT(*) FROM spans").fetchone()
        return int(count)

    def close(self) -> None:
        """Bring everything into the one file, so that it can be copied."""
        self._connection.close()

    def seal(self) -> None:
        """Close it for good, and leave a checksum beside it, as sha256sum writes it."""
        try:
            self._connection.execute("PRAGMA journal_mode=DELETE")  # or a folder that only can be read would not do
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self.close()
        _write_seal(self.path)

    def _unusable(self, error: Exception) -> DataError:
        if any(reason in str(error) for reason in _UNWRITABLE):
            return WriteError(self.path, "file", f"cannot be written ({error}); what was finished before is kept")
        return DataError(self.path, "content", f"cannot be used as a store of annotations ({error})")


_INHERITED: list[sqlite3.Connection] = []


def _writable(path: Path, whose: tuple[int, str, str]) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _seal(path).unlink(missing_ok=True)
    except OSError as error:
        raise_unwritable(path, error)
        raise
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    begun = time.monotonic()
    while True:
        try:
            connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
            break
        except sqlite3.OperationalError as error:
            # For another process that also turns the new file into one with a log, SQLite itself does not wait.
            if "locked" not in str(error) or time.monotonic() - begun > _PATIENCE:
                raise
            time.sleep(_GLANCE)
    connection.execute("INSERT INTO annotator SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM annotator)", whose)
    return connection


def _readable(path: Path) -> sqlite3.Connection:
    """Where SQLite may write nothing beside a file that others could write, it is taken as it is."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, timeout=_PATIENCE, uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM annotator")
    except sqlite3.OperationalError:
        connection.close()
        return sqlite3.connect(f"{address}&immutable=1", uri=True, check_same_thread=False)
    return connection


class CachedAnnotator(EntityAnnotator):
    """Another annotator, each text only once; its file lies in `folder`. `made`: texts that were not found there.

    What is found in a folder that only can be read is used, and what is not is not kept; one in which there is nothing
    of this annotator raises WriteError.
    """

    def __init__(self, base: EntityAnnotator, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.made = 0

    @property
    def can_write(self) -> bool:
        """Whether what is new is kept."""
        return self._file.can_write

    @cached_property
    def _file(self) -> AnnotationFile:
        name = text_checksum(self.fingerprint)[:16]
        return AnnotationFile(self.folder / f"{name}.sqlite", fingerprint=self.fingerprint)

    @property
    def fingerprint(self) -> str:
        """That of the other annotator."""
        return self.base.fingerprint

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its entities."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, in their order; those that are new are written down together."""
        known = self._file.read(texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            made = annotated_by(self.base, new)
            if self.can_write:
                self._file.write(made)
            self.made += len(new)
            known.update((annotated.text, annotated.entities) for annotated in made)
        return [AnnotatedText(text, known[text]) for text in texts]


class StoredAnnotator(EntityAnnotator):
    """Gives stored annotations; a text that is not stored is annotated by `make`, where that can be had.

    make: None for texts outside the store that have no entities, because nobody can tell; the store must be finished
    then. Raises DataError where the file is not a store, not finished, or one of another annotator than `name`.
    """

    def __init__(self, path: Path, name: str, make: Callable[[], EntityAnnotator] | None) -> None:
        _check_seal(path, must_exist=make is None)
        self._file, self._make = AnnotationFile(path), make
        if _without_folders(self._file.name) != _without_folders(name):
            raise DataError(path, "annotator", f"these are annotations of {self._file.name!r}, wanted {name!r}")
        self._contents = "" if make is not None else f"/{_sealed(path)[:16]}"  # verified above
        self._other: EntityAnnotator | None = None
        self._asked = self._missing = 0  # texts

    @property
    def fingerprint(self) -> str:
        """That of the annotator whose annotations these are, and, where it makes no others, which ones there are."""
        return f"{self._file.fingerprint}{self._contents}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its entities."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, in their order."""
        known = self._file.read(texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new and self._make is not None:
            made = annotated_by(self._annotator(self._make), new)
            known.update((annotated.text, annotated.entities) for annotated in made)
        elif self._make is None:
            self._count(len(texts), new)
        return [AnnotatedText(text, known.get(text, ())) for text in texts]

    def _count(self, asked: int, missing: list[str]) -> None:
        """Warn of texts that nobody has annotated: of the first one, and whenever there are ten times as many."""
        before = self._missing
        self._asked, self._missing = self._asked + asked, self._missing + len(missing)
        if len(str(self._missing)) > len(str(before)) or (missing and not before):
            log.warning(
                "%s: %d of %d texts so far are not in it, to the letter, and are taken to have no entity, e.g. %r",
                self._file.path, self._missing, self._asked, missing[0][:_SHOWN],
            )  # fmt: skip

    def _annotator(self, make: Callable[[], EntityAnnotator]) -> EntityAnnotator:
        if self._other is None:
            other = make()
            if other.fingerprint != self.fingerprint:
                problem = f"is {self.fingerprint}, but the annotator here is {other.fingerprint}"
                raise DataError(self._file.path, "fingerprint", f"{problem}: texts would be annotated in two ways")
            self._other = other
        return self._other


def write_store(path: Path | str, name: str, annotator: EntityAnnotator, texts: Iterable[str]) -> int:
    """Annotate every text and write a file for `StoredAnnotator`; the number of different texts.

    A file of before stays as it is until the new one is whole. A warning where labels are no types that
    `entities.typed=true` tells apart. Memory grows by sixteen bytes or so a text. Raises KorbertError for what an
    annotator must not give, see `annotated_by`.
    """
    path = Path(path)
    if not isinstance(annotator.fingerprint, str) or not annotator.fingerprint:
        raise KorbertError(f"annotator: its fingerprint is {annotator.fingerprint!r}, wanted text")
    making, labels = path.with_name(f"{path.name}{_MAKING}"), set[str]()
    for suffix in ("", "-wal", "-shm"):  # of a call that was killed
        making.with_name(f"{making.name}{suffix}").unlink(missing_ok=True)
    file = AnnotationFile(making, name, annotator.fingerprint)
    for part in _in_parts(texts):
        annotated = annotated_by(annotator, part)
        labels.update(entity.label for text in annotated for entity in text.entities)
        file.write(annotated)
    count = len(file)
    file.seal()
    for seal in (_seal(making), _seal(path)):
        seal.unlink(missing_ok=True)
    making.replace(path)
    _write_seal(path)
    if untold := sorted(labels - {*COMMON_TYPES, *_UNTYPED}):
        shown = ", ".join(untold[:_MOST_LABELS]) + (" …" if len(untold) > _MOST_LABELS else "")
        log.warning(
            "%s: labels %s are none of %s: with entities.typed=true they are all entities of one kind, without a type",
            path, shown, ", ".join(COMMON_TYPES),
        )  # fmt: skip
    return count


def _in_parts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Every text once, some at a time."""
    seen: set[bytes] = set()
    part: list[str] = []
    for text in texts:
        if (key := _key(text)) not in seen:
            seen.add(key)
            part.append(text)
            if len(part) == _MOST_AT_ONCE:
                yield part
                part = []
    yield part


def with_cache(annotator: EntityAnnotator, cache: Path | str | None) -> EntityAnnotator:
    """The annotator, with its annotations kept below the folder `cache`, if there is one."""
    if cache is None or isinstance(annotator, NoEntities):
        return annotator
    return CachedAnnotator(annotator, Path(cache) / "annotations")


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_seal(path: Path) -> None:
    write_text_atomically(_seal(path), f"{checksum(path)}  {path.name}\n")


def _sealed(path: Path) -> str:
    """The checksum that a finished store was written with, as it says beside it; "" where it says none."""
    return next(iter(read_text(_seal(path)).split()), "")


def _check_seal(path: Path, must_exist: bool) -> None:
    """Raises DataError where a finished store is not what was written; older ones have no checksum beside them."""
    if must_exist and path.is_file() and not _seal(path).is_file():
        problem = (
            f"not finished, or copied without {_seal(path).name}, which was written beside it: give the command that "
            "wrote it again, which goes on where it was, or copy both"
        )
        raise DataError(path, "checksum", problem)
    if path.is_file() and _seal(path).is_file() and _sealed(path) != checksum(path):
        raise DataError(path, "checksum", f"damaged: this is not what was written, says {_seal(path).name} beside it")


def _without_folders(name: str) -> str:
    """An annotator's name with the files that it reads by their names alone: they may lie elsewhere on this machine."""
    return re.sub(r"(?<=[:,])[^:,+]*/", "", name)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _as_row(text: AnnotatedText) -> tuple[bytes, str]:
    """Key and spans of a text, with a checksum of both behind them."""
    key = _key(text.text)
    spans = [[entity.start, entity.end, entity.label] for entity in text.entities]
    found = json.dumps(spans, ensure_ascii=False, separators=(",", ":"))
    return key, f"{found}{_checksum(key, found)}"


def _from_row(key: bytes, found: str) -> tuple[Span, ...]:
    """Raises ValueError where they are not what was written."""
    if not found.endswith("]"):  # older ones have no checksum
        found, check = found[:-_DIGITS], found[-_DIGITS:]
        if check != _checksum(key, found):
            raise ValueError("an entry is not what was written")
    return tuple(Span(*span) for span in json.loads(found))


def _checksum(key: bytes, found: str) -> str:
    return f"{zlib.crc32(found.encode('utf-8', 'surrogatepass'), zlib.crc32(key)):0{_DIGITS}x}"
