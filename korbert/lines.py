"""Lines of text files, compressed or not, with errors that name file and line."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from korbert.errors import DataError, KorbertError
from korbert.files import json_text, json_value


def _open_zst(path: Path, mode: str) -> Any:
    """As in the standard library since Python 3.14, which notices a file that is cut off."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise KorbertError("reading .zst needs a package: pip install -e '.[corpus]'") from None
    return cast("Any", zstd).open(path, mode)


_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": _open_zst}


def kind_of(path: Path) -> str:
    """The file's format by its name, ".txt" of "a.txt" and of "a.txt.gz"; "" without one."""
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in _OPENERS:
        suffixes = suffixes[:-1]
    return suffixes[-1] if suffixes else ""


def open_binary(path: Path) -> IO[bytes]:
    """Open a file to read its bytes; .gz, .xz, .bz2 and .zst are unpacked."""
    opener = _OPENERS.get(path.suffix)
    return cast("IO[bytes]", opener(path, "rb") if opener else path.open("rb"))


@contextlib.contextmanager
def open_gzip(path: Path) -> Iterator[IO[str]]:
    """A .gz file to write text into; unlike the library's own, it is the same for the same text at any time."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as text,
    ):
        yield text


def is_damage(error: Exception) -> bool:
    """Whether an error of reading says that the file is missing, cut off or damaged."""
    # Zstandard's error is known by its name, because its module may not be installed.
    return isinstance(error, OSError | EOFError | lzma.LZMAError | zlib.error) or type(error).__name__ == "ZstdError"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Stream the lines of a UTF-8 file with their numbers, from 1; .gz, .xz, .bz2 and .zst are unpacked.

    Raises DataError, naming file and line, for a file that is missing, a damaged archive, or text that is not UTF-8.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    problem = (
                        f"not UTF-8 at byte {error.start} of the line ({error.reason}); convert it, e.g. with iconv"
                    )
                    raise DataError(path, f"line {number}", problem) from None
                yield number, line
    except FileNotFoundError:
        raise DataError(path, "file", "not found") from None
    except Exception as error:
        if not is_damage(error):
            raise
        raise DataError(path, f"after line {number}", f"cannot be read on ({error})") from error


def json_line(value: Any) -> str:
    """A value as a line of JSON."""
    return f"{json_text(value)}\n"


def parse_json(path: Path, number: int, line: str) -> Any:
    """A line's JSON value. Raises DataError as `json_value` does."""
    return json_value(path, line, number)
