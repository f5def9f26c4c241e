"""Official data files over the network: encrypted, resumed where it broke off, checked before it counts as there."""

from __future__ import annotations

import contextlib
import hashlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from korbert.errors import DataError, KorbertError
from korbert.files import checksum, exclusive, raise_unwritable
from korbert.redaction import redacted

_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that has one right content.

    checksum: "sha256:HEX", or "git-blob-sha1:HEX", the name that git gives the content; size: bytes, if known.
    """

    name: str
    url: str
    checksum: str
    size: int | None = None


_OFFICIAL = "https://korquad.github.io/dataset"
# KorQuAD 1.0, CC BY-ND 2.0 KR. Of the training file only the name that git gives it was published.
KORQUAD_TRAIN = RemoteFile(
    "KorQuAD_v1.0_train.json",
    f"{_OFFICIAL}/KorQuAD_v1.0_train.json",
    "git-blob-sha1:82e3c5939e5e61a1c4ae94e42676800e88ec52a6",
)
KORQUAD_DEV = RemoteFile(
    "KorQuAD_v1.0_dev.json",
    f"{_OFFICIAL}/KorQuAD_v1.0_dev.json",
    "sha256:25ffeb51e6c51ec02c071b60a10188e10005c144110f0d876b26079d80a35bdf",
    size=3_881_058,
)


def verify(path: Path, remote: RemoteFile) -> None:
    """Check that `path` has the right content. Raises DataError naming wanted and found size or checksum."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise DataError(path, "size", f"wanted {remote.size:,} bytes, found {size:,}: not the file of {remote.url}")
    found = _checksum(path, remote.checksum.partition(":")[0])
    if found != remote.checksum:
        raise DataError(path, "checksum", f"wanted {remote.checksum}, found {found}: not the file of {remote.url}")


def _checksum(path: Path, kind: str) -> str:
    if kind == "sha256":
        digest = hashlib.sha256()
    elif kind == "git-blob-sha1":  # git hashes a header before the content
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        raise ValueError(f"checksum kind {kind!r} is unknown, wanted sha256 or git-blob-sha1")
    return f"{kind}:{checksum(path, digest)}"


def fetch(remote: RemoteFile, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Download `remote` into `folder`, or find it there, and return its path; its content is right.

    What has come lies in `NAME.part` until it is whole and checked, so a broken download goes on where it stopped. Of
    several processes that want it one downloads. `progress` is called with bytes done and bytes in all (0 if the server
    does not say). Raises DataError for a file there or from the server with the wrong content, KorbertError where the
    server cannot be reached.
    """
    path, part = folder / remote.name, folder / f"{remote.name}.part"
    if path.exists():
        verify(path, remote)
        return path
    _check_address(remote.url)
    with contextlib.ExitStack() as stack:
        lock = folder / f".{remote.name}.lock"
        try:
            stack.enter_context(exclusive(lock, path))
        except OSError as error:
            raise_unwritable(part, error)
            raise
        if path.exists():  # another process has brought it in the meantime
            verify(path, remote)
        else:
            _fetch(remote, path, part, progress)
        lock.unlink(missing_ok=True)  # whoever still waits for it finds the file
    return path


def _fetch(remote: RemoteFile, path: Path, part: Path, progress: Callable[[int, int], None]) -> None:
    try:
        _download(remote, part, progress)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        if isinstance(error, OSError):
            raise_unwritable(part, error)
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise KorbertError(
            f"{remote.url} cannot be downloaded ({reason}). Run the same command again to go on; or, on a machine "
            f"without a network, put the file at {path} yourself"
        ) from error
    try:
        verify(part, remote)
    except DataError as error:
        part.unlink()
        raise DataError(path, error.where, f"the download was thrown away: {error.problem}") from None
    part.replace(path)


def _check_address(url: str) -> None:
    """Raise KorbertError for what is not encrypted on its way; a server on this machine need not be."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_MACHINE):
        raise KorbertError(f"{redacted(url)}: only https addresses are fetched")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To where a download may go as well."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request for the new address."""
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(remote: RemoteFile, part: Path, progress: Callable[[int, int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT) as response:
            if response.status != _PARTIAL_CONTENT:
                have = 0  # the server sends the whole file again
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else 0
            with part.open("ab" if have else "wb") as file:
                _copy(response, file, have, total, progress)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        # Nothing is left to send: `part` is whole already (or wrong, which its checksum will tell).


def _copy(source: IO[bytes], file: IO[bytes], done: int, total: int, progress: Callable[[int, int], None]) -> None:
    while block := source.read(_BLOCK):
        file.write(block)
        done += len(block)
        progress(done, total)
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
