"""The demo's server: it says what the library says, and refuses what it should refuse."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import EVIL
from hypothesis import given
from hypothesis import strategies as st

import korbert
from korbert.config import DemoConfig, DemoLimits
from korbert.demo import DemoServer, Limits, Playground, Refusal, open_server
from korbert.demo import server as server_module
from korbert.entities import make_annotator
from korbert.errors import ConfigError
from korbert.study.calibration import confidence, shares
from korbert.tasks import demo as module
from korbert.tasks.demo import prepare_demo
from korbert.text import AnnotatedText
from korbert.tokenizers import load_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
# Astral characters, NFD, zero-width characters, and both ends of line, before and among what can be an answer.
TEXTS = [
    "세종(世宗, 1397년~1450년)은 조선의 제4대 국왕이다.",
    "👍🏽👨‍👩‍👧 𠮷野家는 1899년 도쿄에서 시작했다.",
    "\u1109\u1166\u110c\u1169\u11bc\u110b\u1173\u11ab 1443년 훈민정음을 만들었다.",
    "이순\u200b신은\ufeff 1545년\r\n한성에서\n\r\n태어났다.",
    "\ud800 서울 \udfff㈜한빛 ①번",
]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        return cast(str, self.json["error"]["code"])


def send(
    server: DemoServer,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    raw: bytes = b"",
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    content = raw or (b"" if body is None else json.dumps(body).encode())
    given = {"Content-Type": "application/json"} if method == "POST" else {}
    connection.request(method, path, content or None, given | (headers or {}))
    reply = connection.getresponse()
    found = Reply(reply.status, {key.lower(): value for key, value in reply.getheaders()}, reply.read())
    connection.close()
    return found


def ask(server: DemoServer, call: str, **values: Any) -> Any:
    reply = send(server, "POST", f"/api/{call}", values)
    assert reply.status == 200, reply.content
    return reply.json


# ---- what it says ----


def test_what_there_is_to_choose(demo_server: DemoServer, demo_config: DemoConfig, sample: Path) -> None:
    setup = send(demo_server, "GET", "/api/setup").json
    assert [(r["name"], r["mode"], r["annotator"]) for r in setup["readers"]] == [
        ("plain", "none", "none"),
        (EVIL, "both", "mecab"),
    ]
    assert setup["cutters"] == ["plain", EVIL, "syllables"]
    assert setup["local"] is True
    examples = setup["examples"]
    dev = [example for example in examples if example["trained_on"]]
    assert 0 < len(dev) < len(examples)
    assert {q["text"] for e in dev for q in e["questions"]} < set(
        re.findall(r'"question": "(.*)"', (sample / "KorQuAD_sample_dev.json").read_text("utf-8"))
    )
    assert all(q["gold"] in e["text"] for e in examples for q in e["questions"])


@pytest.mark.parametrize("text", TEXTS)
def test_answers_are_the_librarys(demo_server: DemoServer, demo_config: DemoConfig, text: str) -> None:
    question = "언제 어디에서 😀?"
    answers = ask(demo_server, "answer", text=text, question=question)["answers"]
    assert [answer["name"] for answer in answers] == ["plain", EVIL]
    for run, answer in zip(demo_config.runs, answers, strict=True):
        wanted = korbert.load(run).answer(question, text)
        assert (answer["start"], answer["end"], answer["text"]) == (wanted.start, wanted.end, wanted.text)
        assert answer["confidence"] == pytest.approx(wanted.confidence, rel=1e-5)
        assert [(c["start"], c["end"]) for c in answer["nbest"]] == [(c.start, c.end) for c in wanted.nbest]
        assert answer["nbest"][0]["share"] == pytest.approx(answer["confidence"])
        assert sum(c["share"] for c in answer["nbest"]) == pytest.approx(1)
        for found in (answer, *answer["nbest"]):
            assert text[found["start"] : found["end"]] == found["text"] != ""
    assert answers[0]["entities"] == []
    found = make_annotator("mecab").annotate(text).entities
    assert [(e["start"], e["end"]) for e in answers[1]["entities"]] == [(e.start, e.end) for e in found]


def test_shares_by_hand() -> None:
    assert shares([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert shares([2.0, 0.0], 2.0)[0] == pytest.approx(1 / (1 + 2.718281828**-1))
    assert shares([-1e9, 1e9]).tolist() == [0.0, 1.0]
    assert confidence([0.0, 1.0, 0.0]) == shares([0.0, 1.0, 0.0])[1]
    assert confidence([]) == 0


@pytest.mark.parametrize("text", TEXTS)
def test_cuts_are_the_tokenizers(demo_server: DemoServer, demo_config: DemoConfig, text: str) -> None:
    unmarked, marked = (ask(demo_server, "cut", text=text, marked=marked) for marked in (False, True))
    tokenizer = load_tokenizer(demo_config.tokenizers[0])
    tokens = tokenizer.encode(text)
    row = unmarked["rows"][2]
    assert (row["name"], row["vocabulary"], row["entities"]) == ("syllables", len(tokenizer), [])
    assert [t["id"] for t in row["tokens"]] == tokens.ids.tolist()
    assert [t["start"] for t in row["tokens"]] == tokens.starts.tolist()
    assert [t["end"] for t in row["tokens"]] == tokens.ends.tolist()
    assert [t["piece"] for t in row["tokens"]] == [tokenizer.vocabulary[i] for i in tokens.ids]
    assert [t["kind"] == "unknown" for t in row["tokens"]] == (tokens.ids == tokenizer.special.unk).tolist()
    annotated = make_annotator("expressions-mecab+mecab").annotate(text)
    edges = [(e.start, e.end) for e in annotated.entities]
    assert [(e["start"], e["end"]) for e in marked["entities"]] == edges
    # Markers around exactly the entities; the models' rows do not depend on the switch.
    row = marked["rows"][2]
    assert [t["start"] for t in row["tokens"] if t["kind"] == "open"] == [start for start, _ in edges]
    assert [t["start"] for t in row["tokens"] if t["kind"] == "close"] == [end for _, end in edges]
    assert unmarked["rows"][:2] == marked["rows"][:2]
    assert {t["kind"] for t in marked["rows"][0]["tokens"]} <= {"text", "unknown"}


@given(text=st.text(max_size=40), marked=st.booleans())
def test_tokens_can_be_drawn_in_any_text(playground: Playground, text: str, marked: bool) -> None:
    """In order, without overlap, inside the text: drawing them and what lies between gives the text."""
    try:
        rows = playground.cut(text, marked)["rows"]
    except Refusal:  # blank
        assert not any(map(str.isalnum, text))
        return
    for row in rows:
        drawn, at = "", 0
        for token in row["tokens"]:
            assert token["start"] >= at or token["start"] == token["end"]
            drawn += text[at : token["end"]]
            at = max(at, token["end"])
        assert drawn + text[at:] == text
        AnnotatedText(text, make_annotator("none").annotate(text).entities)


@pytest.fixture(scope="module")
def playground(demo_config: DemoConfig) -> Iterator[Playground]:
    tokenizer = load_tokenizer(demo_config.tokenizers[0])
    cutters = [
        korbert.demo.Cutter("free", tokenizer, korbert.encoding.EntityInput()),
        korbert.demo.Cutter("own", tokenizer, korbert.encoding.EntityInput(), make_annotator("mecab")),
    ]
    return Playground({}, cutters, make_annotator("expressions-mecab+mecab"), "both")


def test_masked_words_are_the_librarys(demo_server: DemoServer, demo_config: DemoConfig) -> None:
    text = "👍 세종은 [MASK]의 제4대 [MASK]이다."
    places = ask(demo_server, "fill", text=text)["places"]
    wanted = korbert.load(str(demo_config.pretrain)).fill_mask(text)
    assert [[p["piece"] for p in place] for place in places] == [[f.token for f in place] for place in wanted]
    for place, librarys in zip(places, wanted, strict=True):
        assert len(place) == 5
        assert [p["probability"] for p in place] == pytest.approx([f.probability for f in librarys], rel=1e-5)
        assert all(p["text"] for p in place)
    assert send(demo_server, "POST", "/api/fill", {"text": "세종은 왕이다."}).code == "no_mask"
    assert send(demo_server, "POST", "/api/fill", {"text": "가" * 900 + "[MASK]"}).code == "model"


# ---- what it refuses ----


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
        for path in ("/demo.js", "/draw.js")
        for name in re.findall(r'from "([^"]+)"', send(demo_server, "GET", path).content.decode())
    }
    assert imported == {"/draw.js", "/words.js"}
    for path in ("/", *fetched, *imported):
        reply = send(demo_server, "GET", path)
        assert reply.status == 200
        assert not re.search(rb"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(", reply.content), path
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    # Text gets into the page as text alone, and no script stands in it.
    scripts = b"".join(send(demo_server, "GET", path).content for path in ("/demo.js", "/draw.js", "/words.js"))
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
    assert "test_demo.py" in logged  # where it happened
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


# ---- start and end ----


def test_what_cannot_be_started(demo_config: DemoConfig, demo_server: DemoServer, tmp_path: Path) -> None:
    plain, base = demo_config.runs[0], str(demo_config.pretrain)
    for wrong, message in (
        (replace(demo_config, runs=[str(tmp_path / "none")]), "none holds no trained model: run `make quickstart`"),
        (replace(demo_config, pretrain=str(tmp_path)), "run `make quickstart` first"),
        (replace(demo_config, runs=[base]), "was not fine-tuned for questions"),
        (replace(demo_config, pretrain=plain), "wanted a pretraining run"),
        (replace(demo_config, runs=[], tokenizers=[]), "there is nothing to show"),
        (replace(demo_config, port=1 << 16), "port=65536: wanted 0 to 65535"),
        (replace(demo_config, host=""), "host: wanted an address"),
        (replace(demo_config, host="192.0.2.1"), "host=192.0.2.1 is no address of this machine"),
        (replace(demo_config, port=demo_server.server_port), "something listens there already"),
        (replace(demo_config, limits=DemoLimits(cut=0)), "limits.cut: wanted 1 or more"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            prepare_demo(wrong)


def test_tokenizers_alone_and_names_that_are_the_same(
    demo_config: DemoConfig, caplog: pytest.LogCaptureFixture
) -> None:
    missing = str(Path(demo_config.tokenizers[0]).parent / "missing" / "vocab.txt")
    config = replace(demo_config, runs=[], pretrain=None, tokenizers=[*demo_config.tokenizers, missing])
    with prepare_demo(config) as server:
        assert json.loads(server.files["/api/setup"][0])["masked"] is None
        assert json.loads(server.files["/api/setup"][0])["cutters"] == ["syllables"]
        work, _ = server.calls["/api/fill"]
        with pytest.raises(Refusal, match="no pretraining run was given"):
            work("[MASK]")
    assert "vocab.txt is left out" in caplog.text
    # The same run twice: told apart by their paths as given, its tokenizer shown once.
    run = demo_config.runs[0]
    with prepare_demo(replace(demo_config, runs=[run, f"{run}/../plain"], pretrain=None)) as server:
        setup = json.loads(server.files["/api/setup"][0])
    assert [reader["name"] for reader in setup["readers"]] == [run, f"{run}/../plain"]
    assert setup["cutters"] == [run, "syllables"]


def test_another_host_is_warned_of(
    demo_config: DemoConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def no_names(*_: object) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", no_names)
    monkeypatch.setattr(DemoServer, "run", lambda self: None)
    module.demo(demo_config)
    assert "warning" not in caplog.text
    assert re.search(r"korbert demo: http://127\.0\.0\.1:\d+ ", capsys.readouterr().out)
    module.demo(replace(demo_config, host="0.0.0.0"))
    assert "host=0.0.0.0 lets other machines in, and there is no password" in caplog.text


def test_hosts_of_an_open_server() -> None:
    playground = Playground({}, (), make_annotator("none"), "none")
    with open_server(playground, "0.0.0.0", 0) as server:
        assert not server.is_local
        assert json.loads(server.files["/api/setup"][0])["local"] is False
        assert server.allows("192.0.2.7:8000")  # an address cannot be pointed elsewhere
        assert server.allows(socket.gethostname())
        assert not server.allows("evil.example")
    assert server_module._is_ip("::1")


def test_a_user_starts_and_ends_it(repository: Path, demo_config: DemoConfig, tmp_path: Path) -> None:
    """As a process: the address is printed, only this machine is listened to, Ctrl-C ends it at once and in order."""
    command = [
        sys.executable, "experiments/demo.py", f"runs=[{demo_config.runs[0]}]", f"pretrain={demo_config.pretrain}",
        f"tokenizers=[{demo_config.tokenizers[0]},nothing@10]", "port=0", f"data.cache={tmp_path}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"korbert demo: http://127\.0\.0\.1:(\d+)  \(Ctrl-C ends it\)\n", said)
        assert found, said + process.communicate(timeout=120)[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=30)
        connection.request("GET", "/api/setup")
        setup = json.loads(connection.getresponse().read())
        assert setup["cutters"] == ["plain", "syllables"]
        assert len(setup["masked_examples"]) == 3
        # The connection is still open: it must not hold up the end.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "nothing@10 is left out" in err
    assert out == ""
    missing = subprocess.run(
        [sys.executable, "experiments/demo.py", f"runs=[{tmp_path}]"], cwd=repository, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert missing.returncode == 1
    assert "run `make quickstart` first" in missing.stderr
    assert "Traceback" not in missing.stderr
