"""The demo's server refuses what it should refuse, keeps secret what is typed, and does one thing at a time."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from web import TEXTS, ask, send

from korbert.demo import DemoServer, Limits, Playground, open_server
from korbert.entities import make_annotator
from korbert.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_limits(demo_server: DemoServer) -> None:
    limits = Limits()
    for call, values, field, limit in (
        ("answer", {"text": "가" * (limits.text + 1), "question": "누구?"}, "text", limits.text),
        ("answer", {"text": "가", "question": "누" * (limits.question + 1)}, "question", limits.question),
        ("cut", {"text": "👍" * (limits.cut + 1), "marked": True}, "text", limits.cut),
        ("fill", {"text": "[MASK]" * limits.cut}, "text", limits.cut),
    ):
        reply = send(demo_server, "POST", f"/api/{call}", values)
        error = reply.json["error"]
        assert (reply.status, error["code"], error["field"], error["limit"]) == (413, "too_long", field, limit)
        assert reply.headers["content-type"] == "application/json"
    # The longest that is allowed, in its longest form, is read.
    assert ask(demo_server, "cut", text="가" * limits.cut, marked=False)["rows"]
    assert ask(demo_server, "answer", text="😀" * (limits.text - 2) + "서울", question="어디")["answers"]
    for values in ({"text": " \n", "question": "누구?"}, {"text": "세종", "question": "?"}):
        assert send(demo_server, "POST", "/api/answer", values).code == "blank"
    with pytest.raises(ConfigError, match=r"limits\.text: wanted 1 or more"):
        Limits(text=0)


def test_a_body_that_is_too_long_is_refused_and_the_refusal_arrives(demo_server: DemoServer) -> None:
    reply = send(demo_server, "POST", "/api/cut", raw=b'{"text": "' + b"x" * 5_000_000)
    assert (reply.status, reply.code) == (413, "too_long")
    assert reply.json["error"]["limit"] == demo_server.most_bytes
    # One that is only announced is not waited for.
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", demo_server.server_port)) as connection:
        connection.sendall(
            b"POST /api/cut HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999999999999\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 403, "host"),
        ({"Host": "127.0.0.1.evil.example:8000"}, 403, "host"),
        ({"Host": "192.0.2.1"}, 403, "host"),
        ({"Host": "[::bad"}, 403, "host"),
        ({"Host": ""}, 403, "host"),
        ({"Origin": "http://evil.example"}, 403, "origin"),
        ({"Origin": "null"}, 403, "origin"),
        ({"Origin": "http://[bad"}, 403, "origin"),
        ({"Content-Type": "text/plain"}, 415, "type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "type"),
        ({"Transfer-Encoding": "chunked"}, 411, "length"),
        ({"Content-Length": "-1"}, 411, "length"),
        ({"Content-Length": "٣"}, 411, "length"),
    ],
)
def test_requests_of_other_pages_and_other_kinds(
    demo_server: DemoServer, headers: dict[str, str], status: int, code: str
) -> None:
    encoded = {key: value.encode("utf-8").decode("latin-1") for key, value in headers.items()}
    reply = send(demo_server, "POST", "/api/cut", {"text": "서울", "marked": False}, encoded)
    assert (reply.status, reply.code) == (status, code)
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:9", "[::1]:9000"])
def test_names_of_this_machine(demo_server: DemoServer, host: str) -> None:
    """Whatever the port: it may be forwarded."""
    assert send(demo_server, "GET", "/", headers={"Host": host}).status == 200
    own = {"Host": host, "Origin": f"http://{host}"}
    assert send(demo_server, "POST", "/api/cut", {"text": "서울", "marked": False}, own).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"\xff\xfe{}", b"[]", b'"text"', b"[" * 60_000, b"1" * 9_000, b"NaN",
        b'{"text": "a"}', b'{"text": 1, "marked": true}', b'{"text": "a", "marked": 1}',
        b'{"text": "a", "marked": true, "more": 1}', b'{"text": null, "marked": false}',
    ],
)  # fmt: skip
def test_wrong_json(demo_server: DemoServer, raw: bytes) -> None:
    reply = send(demo_server, "POST", "/api/cut", raw=raw)
    assert (reply.status, reply.code) == (400, "json")


def test_paths_and_methods(demo_server: DemoServer) -> None:
    for path in ("/nothing", "/../../etc/passwd", "/%2e%2e/server.py", "/api", "/page/index.html"):
        assert send(demo_server, "GET", path).status == 404
    assert send(demo_server, "GET", "/api/cut").status == 405
    assert send(demo_server, "POST", "/api/none", {}).status == 404
    for method in ("PUT", "OPTIONS", "DELETE", "<b>"):
        reply = send(demo_server, method, "/api/cut")
        assert reply.status == 501
        assert reply.code == "request"
        assert b"<b>" not in reply.content
    head = send(demo_server, "HEAD", "/")
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(send(demo_server, "GET", "/?lang=en").content)


def test_page_names_nothing_from_elsewhere(demo_server: DemoServer) -> None:
    index = send(demo_server, "GET", "/").content.decode()
    fetched = re.findall(r'(?:src|href)="([^"#]+)"', index)
    assert sorted(fetched) == ["/demo.css", "/demo.js", "/icon.svg"]
    imported = {
        name
        for path in ("/demo.js", "/draw.js", "/results.js")
        for name in re.findall(r'from "([^"]+)"', send(demo_server, "GET", path).content.decode())
    }
    assert imported == {"/draw.js", "/results.js", "/words.js"}
    for path in ("/", *fetched, *imported):
        reply = send(demo_server, "GET", path)
        assert reply.status == 200
        assert not re.search(rb"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(", reply.content), path
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    # Text gets into the page as text alone, and no script stands in it.
    scripts = b"".join(send(demo_server, "GET", path).content for path in ("/demo.js", *imported))
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", scripts)
    assert not re.search(r"<script(?![^>]* src=)|<style| on[a-z]+=| style=", index)


class Stub(Playground):
    """Cannot answer; cutting waits until it may go on."""

    gate = threading.Event()

    def answer(self, text: str, question: str) -> dict[str, Any]:
        raise ValueError(f"cannot read {text!r}")

    def cut(self, text: str, marked: bool) -> dict[str, Any]:
        assert self.gate.wait(30)
        return {"text": text}


@pytest.fixture
def stub_server() -> Iterator[DemoServer]:
    with open_server(Stub({}, (), make_annotator("none"), "none"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        Stub.gate.set()
        server.shutdown()
        thread.join()


def test_nothing_of_the_text_is_logged(
    stub_server: DemoServer,
    demo_server: DemoServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    secret = "비밀스러운 이름"
    ask(demo_server, "answer", text=f"{secret}은 서울에 산다.", question=f"{secret}은 어디에 사는가?")
    assert send(demo_server, "POST", "/api/answer", {"text": secret, "question": ""}).status == 400
    send(demo_server, "GET", "/secret")
    send(demo_server, "secret", "/")
    assert not caplog.records
    reply = send(stub_server, "POST", "/api/answer", {"text": secret, "question": secret})
    assert (reply.status, reply.code) == (500, "broken")
    assert secret not in reply.content.decode("unicode_escape")
    logged = caplog.text + "".join(capfd.readouterr())
    assert "ValueError" in logged
    assert "test_demo_server.py" in logged  # where it happened
    assert secret not in logged
    assert ascii(secret)[1:-1] not in logged
    assert "secret" not in logged


def test_one_at_a_time_and_not_too_many(stub_server: DemoServer) -> None:
    Stub.gate.clear()
    body = {"text": "서울", "marked": False}
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(send, stub_server, "POST", "/api/cut", body) for _ in range(20)]
        deadline = time.monotonic() + 30
        while sum(reply.done() for reply in waiting) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        Stub.gate.set()
        replies = [reply.result() for reply in waiting]
    assert sorted(reply.status for reply in replies) == [200] * 8 + [503] * 12
    assert {reply.code for reply in replies if reply.status == 503} == {"busy"}


def test_many_at_once_say_the_same(demo_server: DemoServer) -> None:
    values = [{"text": text, "question": "언제?"} for text in TEXTS]
    alone = [send(demo_server, "POST", "/api/answer", value).json["answers"] for value in values]
    with ThreadPoolExecutor(len(values)) as pool:
        together = list(pool.map(lambda value: send(demo_server, "POST", "/api/answer", value).json["answers"], values))
    for a, b in zip(alone, together, strict=True):
        assert [{**x, "seconds": 0} for x in a] == [{**x, "seconds": 0} for x in b]
