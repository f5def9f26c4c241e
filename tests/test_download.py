"""Downloads against a local server that breaks off, ignores ranges, or sends the wrong file."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from korbert.data.download import KORQUAD_DEV, KORQUAD_TRAIN, RemoteFile, fetch, verify
from korbert.errors import DataError, KorbertError

CONTENT = bytes(range(256)) * 20_000  # more than one block
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(HTTPServer):
    """Serves CONTENT at every path; the switches say how it misbehaves."""

    content = CONTENT
    ranges = True
    stop_after: int | None = None  # bytes of a response after which the connection is cut
    log: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.log.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if self.path == "/missing":
            self.send_error(404)
            return
        if start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.stop_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.log = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def remote(server: Server, checksum: str = SHA256, path: str = "/file.bin") -> RemoteFile:
    return RemoteFile("file.bin", f"http://127.0.0.1:{server.server_port}{path}", checksum, len(CONTENT))


def test_fetch_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(remote(server), tmp_path / "deep" / "folder", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert fetch(remote(server), path.parent) == path
    assert len(server.log) == 1  # the second time it is there


def test_of_two_at_once_one_downloads(server: Server, tmp_path: Path) -> None:
    begun = threading.Event()

    def first() -> None:
        fetch(remote(server), tmp_path, lambda done, total: (begun.set(), time.sleep(0.05))[1])

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    thread.join()
    assert len(server.log) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_the_connection_broke(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.stop_after, server.ranges = 1_500_000, ranges
    with pytest.raises(KorbertError, match="Run the same command again to go on"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "file.bin").exists()
    have = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < have <= 1_500_000
    server.stop_after = None
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.log == [None, f"bytes={have}-"]
    assert not (tmp_path / "file.bin.part").exists()


def test_part_that_was_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT[:-1]])
def test_wrong_content_is_thrown_away(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(DataError, match="the download was thrown away: wanted"):
        fetch(remote(server), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".file.bin.lock"]


def test_wrong_file_that_is_there_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"file\.bin: size: wanted 5,120,000 bytes, found 4"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"


def test_server_that_cannot_be_reached(server: Server, tmp_path: Path) -> None:
    with pytest.raises(KorbertError, match="404"):
        fetch(remote(server, path="/missing"), tmp_path)
    closed = RemoteFile("file.bin", "http://127.0.0.1:9/file.bin", SHA256)
    with pytest.raises(KorbertError, match=r"put the file at .*file\.bin yourself"):
        fetch(closed, tmp_path)
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(KorbertError, match="only https"):
        fetch(RemoteFile("file.bin", (tmp_path / "secret").as_uri(), SHA256), tmp_path)


def test_git_checksum_is_git_s_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    done = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True)
    verify(path, RemoteFile("file", "", f"git-blob-sha1:{done.stdout.strip()}"))
    with pytest.raises(DataError, match="checksum: wanted git-blob-sha1:"):
        verify(path, KORQUAD_TRAIN)


def test_official_dev_file(data_root: Path) -> None:
    verify(data_root / "korquad" / KORQUAD_DEV.name, KORQUAD_DEV)
