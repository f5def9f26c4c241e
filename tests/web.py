"""Requests to the demo's server, pages taken apart, and texts whose characters are easily counted wrong."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, cast

from korbert.demo import DemoServer

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


class Page(HTMLParser):
    """What a page says; its tags, which have to be closed in order; ids and addresses."""

    VOID = ("meta", "path", "use", "rect", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "action")]
        assert not any(key.startswith("on") for key, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)
