"""Files that are complete or absent: atomic writing, locks, and reading whose errors name the place."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import hashlib
import json
import logging
import os
import re
import reprlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from korbert.errors import ConfigError, DataError, WriteError
from korbert.text import LONE_SURROGATE

log = logging.getLogger(__name__)
_GLIMPSE = reprlib.Repr()
_GLIMPSE.maxlevel = 1  # an object's own texts and numbers, nothing of what is in its objects and lists

_UMASK = os.umask(0)
os.umask(_UMASK)
_BLOCK = 1 << 20
_GLANCE, _BLINK = 0.2, 0.002  # seconds between two looks at a lock that another process has, for long or a moment
_SEAL = "checksum"
# In a run's folder: what was asked for, what marks it as begun, and as finished; how training went; what it answered.
CONFIG, SESSIONS, RECORD, METRICS = "config.json", "sessions.jsonl", "record.json", "metrics.jsonl"
PREDICTIONS, NBEST = "predictions.json", "nbest.json"
FAILURE = "failure.json"  # in the folder of a sweep's job that failed
HUGGING_FACE = "hf:"  # before the name or folder of a model of Hugging Face's, where a run would be named
_TEMPORARY = ".korbert-tmp"  # at the end of the names of files that are being written, and of no user's files
_LEFTOVER = re.compile(rf"\..+\.[a-z0-9_]{{8}}{re.escape(_TEMPORARY)}")  # mkstemp puts eight letters in between
# Of what the user can put right: a full disk, a quota, a file system or folder that only can be read, a file where a
# folder is to be; what mkdir says of that depends on how deep below the file it is.
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)
_UNWRITABLE = (
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    *_NO_FOLDER,
)


@contextlib.contextmanager
def atomic_file(path: Path, scratch: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write that becomes `path` when it is whole and on the disk; after any crash, `path` is as it was.

    scratch: a folder of the same file system for what is not whole yet; else it lies beside `path`. Raises WriteError
    where it cannot be written, see `raise_unwritable`.
    """
    folder = path.parent if scratch is None else scratch
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=_TEMPORARY)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files that only their owner can read
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise_unwritable(path, error)
        raise


def raise_unwritable(path: Path | str, error: OSError) -> None:
    """Raise WriteError where `error` says that `path` has no room or no folder, or that nobody may write it."""
    if error.errno in _UNWRITABLE:
        reason = os.strerror(errno.ENOTDIR) if error.errno in _NO_FOLDER else error.strerror
        problem = f"cannot be written ({reason}); what was finished before is kept"
        raise WriteError(path, "file", problem) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of `path`: raises WriteError naming it where it cannot be written, see `raise_unwritable`."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(path)):  # else it is about another file
            raise_unwritable(path, error)
        raise


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON Lines; where a crash has cut the last one off, on a line of its own."""
    with writing(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value).encode() + b"\n")


def appended_json(path: Path) -> list[dict[str, Any]]:
    """The objects that `append_json` has written, without lines that a crash has cut off."""
    objects = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                objects.append(value)
    return objects


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`, where nobody else can be writing now."""
    for path in folder.glob(".*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether it is a file that `atomic_file` has begun: by its whole name, because other hidden files are a user's."""
    return bool(_LEFTOVER.fullmatch(path.name)) and not path.is_dir()


def _sync_folder(folder: Path) -> None:
    """Let a new name outlast a power failure, where the file system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def under(folder: Path, name: str) -> list[Path]:
    """Files of that name, or pattern, in a folder and all below it, in order.

    Links to folders are followed where they lead to what is not below it; so a file goes by its own name, and once.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        links = []
        for place, folders, files in os.walk(waiting.pop(0)):
            if (real := Path(place).resolve()) in seen:
                folders.clear()
                continue
            seen.add(real)
            links += [Path(place, inner) for inner in folders if Path(place, inner).is_symlink()]
            found += [Path(place, file) for file in fnmatch.filter(files, name)]
        waiting += sorted(links)
    return sorted(found)


def matching(pattern: str) -> list[Path]:
    """Files and folders of a name in which `*`, `?`, `[…]` and `**` stand for others, in order of their names.

    As far as the name is that of something that is there, as of `a[1].txt`, it is taken as it is.
    """
    parts = Path(pattern).parts
    known = next((n for n in range(len(parts), 0, -1) if os.path.lexists(Path(*parts[:n]))), 0)
    there = Path(*parts[:known])
    if known == len(parts):
        return [there] if parts else []
    rest = str(Path(*parts[known:]))
    return sorted(there / name for name in glob.glob(rest, root_dir=there, recursive=True))


def write_bytes_atomically(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Write `content` so that `path` holds either its old content or all of the new, even after a crash.

    scratch: see `atomic_file`.
    """
    with atomic_file(path, scratch) as file:
        file.write(content)


def write_text_atomically(path: Path, text: str, scratch: Path | None = None) -> None:
    """Write UTF-8 text as `write_bytes_atomically` does."""
    write_bytes_atomically(path, text.encode("utf-8", "surrogatepass"), scratch)


def write_json_atomically(path: Path, value: Any, scratch: Path | None = None) -> None:
    """Write readable JSON (UTF-8, indented) atomically."""
    write_text_atomically(path, json_text(value, indent=2) + "\n", scratch)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as readable JSON; half of a surrogate pair, which no UTF-8 file can hold, is an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return LONE_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises DataError for a file that is missing (says so) or not UTF-8 (names the byte).
    """
    try:
        found = path.is_file()
    except OSError as error:  # such as a name that is too long
        raise DataError(path, "file", f"cannot be looked for ({error.strerror})") from None
    if not found:
        raise DataError(path, "file", "not found")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(path, f"byte {error.start}", f"not UTF-8 ({error.reason})") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError as `json_value` does, and where the file holds something else."""
    value = json_value(path, read_text(path))
    if not isinstance(value, dict):
        raise DataError(path, "top level", f"wanted a JSON object, found {type(value).__name__}")
    return value


def json_value(path: Path, text: str, line: int | None = None) -> Any:
    """The value of a file of JSON, of which `text` is all; given a line's number, of that line of JSON Lines.

    Raises DataError naming line and column where it is broken, and where numbers are too long or brackets too deep to
    be read. In a file a key that an object has twice is one too: Python would take the last one and lose the others.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys(path) if line is None else None)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno} column {error.colno}"
        raise DataError(path, where, f"broken JSON ({error.msg})") from None
    except RecursionError:
        problem = "brackets within brackets, deeper than can be read"
    except ValueError as error:  # Python reads no integer of thousands of digits
        problem = f"a number that cannot be read ({str(error).partition(';')[0]})"
    raise DataError(path, "content" if line is None else f"line {line}", problem)


def _unique_keys(path: Path) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            problem = f"occurs twice in one object, {_GLIMPSE.repr(value)}, where only one can be meant"
            raise DataError(path, f"key {twice!r}", problem)
        return value

    return unique


def write_sealed_json(path: Path, value: Mapping[str, Any], scratch: Path | None = None) -> None:
    """Write a JSON object as `write_json_atomically` does, with a checksum of itself that `check_seal` compares."""
    plain = json.loads(json.dumps(value))
    write_json_atomically(path, {**plain, _SEAL: digest(plain)}, scratch)


def check_seal(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed, of the object that `path` holds; one that never was is taken as it is.

    Raises DataError where it is not what was written.
    """
    plain = {key: inner for key, inner in value.items() if key != _SEAL}
    if _SEAL in value and value[_SEAL] != digest(plain):
        raise DataError(path, _SEAL, "damaged, or changed by hand: this is not what was written")
    return plain


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Read what `write_sealed_json` wrote. Raises DataError where it is missing, broken, or not what was written."""
    return check_seal(path, read_json(path))


def plain_name(path: Path, where: str, name: object) -> str:
    """`name`, if it is one of a file in a folder, and leads nowhere else; `path` is the file that has it.

    What a file says was written by whoever wrote the file. Raises DataError for `../x`, `/x` and anything else.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise DataError(path, where, f"{name!r} is no name of a file in this folder")
    return name


def checksum(path: Path, digest: hashlib._Hash | None = None) -> str:
    """Hexadecimal SHA-256 of a file of any size, or what `digest` makes of it."""
    digest = hashlib.sha256() if digest is None else digest
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def text_checksum(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8, which may have half a surrogate pair."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plain_paths(value: Any) -> Any:
    """A JSON-able value with the same text for paths that mean the same: `runs/x/`, `./runs/x` and `$PWD/runs/x`.

    Whether they are there makes no difference, or one and the same value would have another text later. All other text
    stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: plain_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_paths(inner) for inner in value]
    here = f"{Path.cwd()}/"
    if isinstance(value, str) and (value.startswith((here, "./")) or value.endswith("/")) and value.strip("/"):
        return str(Path(value.removeprefix(here)))
    return value


def digest(value: object) -> str:
    """Sixteen hexadecimal digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def exclusive(path: Path, what: object = None, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` against other processes; while another one has it, wait, or else raise ConfigError.

    what: is being made, to be named then; None for what takes a moment. The operating system gives the lock back with
    the process that had it, however that ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise ConfigError(f"{what}: another process is at work on it") from None
        if what is not None:
            log.info("%s: another process is at work on it; waiting", what)
        lock.acquire(poll_interval=_BLINK if what is None else _GLANCE)
    try:
        yield
    finally:
        lock.release()
