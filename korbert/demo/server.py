"""The page's web server: the standard library's, for one machine, with every request checked before it is read.

Against other pages in the user's browser: the Host header must name this machine (DNS rebinding), requests must be
JSON and of the page's own origin (forged requests), and answers forbid scripts, styles and frames from elsewhere. No
request is logged, and of an error nothing that could hold the user's text.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import logging
import socket
import socketserver
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from korbert.demo.playground import Playground
from korbert.demo.refusal import Refusal
from korbert.errors import ConfigError

log = logging.getLogger(__name__)
# Requests that may wait for the one that is computed.
_WAITING = 8
_SECONDS = 30  # without a byte from the other side
_ESCAPED = 12  # bytes at most of a character in JSON: two escaped surrogates
_UNREAD = 64 << 20  # bytes that are still taken from the other side after a refusal
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/results.js": ("results.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Serves one playground; computes one answer at a time."""

    daemon_threads = True
    request_queue_size = 128  # with Python's 5, some of twenty that come at once are reset instead of answered

    def __init__(self, playground: Playground, host: str, port: int) -> None:
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        limits = playground.limits
        self.most_bytes = _ESCAPED * (limits.text + limits.question) + 1024
        self.calls: Mapping[str, tuple[Callable[..., Any], dict[str, type]]] = {
            "/api/answer": (playground.answer, {"text": str, "question": str}),
            "/api/cut": (playground.cut, {"text": str, "marked": bool}),
            "/api/fill": (playground.fill, {"text": str}),
        }
        folder = resources.files("korbert.demo").joinpath("page")
        self.files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        self.files["/api/setup"] = (_as_json(playground.setup() | {"local": self.is_local}), "application/json")
        self._room = threading.BoundedSemaphore(_WAITING)
        # One thread for all that is computed: models and analysers are not made for several.
        self._worker = ThreadPoolExecutor(1)
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def allows(self, host: str) -> bool:
        """Whether a Host header can be meant for this server.

        Names that an attacker could point here are refused; an address cannot be pointed anywhere.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if _is_ip(name):
            return not self.is_local or ipaddress.ip_address(name).is_loopback
        return name in {"localhost", self.host.lower()} or (not self.is_local and name == socket.gethostname().lower())

    def compute(self, work: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """One thing after the other. Raises Refusal where too many wait already."""
        if not self._room.acquire(blocking=False):
            raise Refusal(503, "busy", "too many requests at once: try again in a moment")
        try:
            return self._worker.submit(work, **values).result()
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection broke off in an unexpected way; a browser that went away is no error."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            _report(error)

    def run(self) -> None:
        """Serve until Ctrl-C."""
        try:
            self.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            log.info("stopped")

    def server_close(self) -> None:
        """Close, and let what is being computed end."""
        super().server_close()
        self._worker.shutdown(cancel_futures=True)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: DemoServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "korbert", ""
    timeout = _SECONDS

    def do_GET(self) -> None:  # the name is http.server's
        """Send a file of the page, or what there is to choose from."""
        self._answer(self._file)

    def do_HEAD(self) -> None:
        """The same without its content."""
        self._answer(self._file)

    def do_POST(self) -> None:
        """Compute something."""
        self._answer(self._computed)

    def _answer(self, make: Callable[[], tuple[bytes, str]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_host()
            content, kind = make()
        except Refusal as refusal:
            status, content, kind = HTTPStatus(refusal.status), _as_json(refusal.as_json()), "application/json"
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            _report(error)
            broken = Refusal(500, "broken", "korbert failed at this; the terminal says where")
            status, content, kind = HTTPStatus(500), _as_json(broken.as_json()), "application/json"
        self._send(status, content, kind)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_HEADERS}.items():
            self.send_header(name, value)
        if status >= 400:  # part of the request may be unread
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if status >= 400:
            self._linger()

    def _linger(self) -> None:
        """Take what is still being sent for a moment: a connection closed on unread bytes loses the answer."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            left = _UNREAD
            while left > 0 and (taken := len(self.rfile.read1(1 << 16))):
                left -= taken

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self.server.allows(hosts[0]):
            raise Refusal(403, "host", f"this server answers to {self.server.url} alone")
        origin = self.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != hosts[0]:
            raise Refusal(403, "origin", "requests from other pages are refused")

    def _file(self) -> tuple[bytes, str]:
        path = self.path.partition("?")[0]
        if path in self.server.files:
            return self.server.files[path]
        if path in self.server.calls:
            raise Refusal(405, "method", "wanted POST")
        raise Refusal(404, "path", "there is nothing here")

    def _computed(self) -> tuple[bytes, str]:
        body = self._body()
        if self.path not in self.server.calls:
            raise Refusal(404, "path", "there is nothing here")
        work, wanted = self.server.calls[self.path]
        return _as_json(self.server.compute(work, _read(body, wanted))), "application/json"

    def _body(self) -> bytes:
        if self.headers.get_content_type() != "application/json":
            raise Refusal(415, "type", "wanted Content-Type: application/json")
        given = self.headers.get("Content-Length", "")
        if not (given.isascii() and given.isdecimal()) or self.headers.get("Transfer-Encoding"):
            raise Refusal(411, "length", "wanted Content-Length, a number of bytes")
        length, most = int(given[:20]), self.server.most_bytes
        if length > most:
            message = f"{length:,} bytes are too many, wanted at most {most:,}"
            raise Refusal(413, "too_long", message, field="body", limit=most, found=length)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the other side went away")
        return body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request at all, as JSON too, and without repeating it."""
        self.close_connection = True
        status = HTTPStatus(code)
        self.command = getattr(self, "command", None) or "GET"
        if getattr(self, "request_version", "HTTP/0.9") == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
        self._send(status, _as_json(Refusal(code, "request", status.phrase).as_json()), "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _read(body: bytes, wanted: Mapping[str, type]) -> dict[str, Any]:
    """A JSON object with exactly the keys and types that are wanted."""
    try:
        values = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refusal(400, "json", "wanted JSON in UTF-8") from None
    keys = ", ".join(f"{key} ({kind.__name__})" for key, kind in wanted.items())
    if not isinstance(values, dict) or {key: type(value) for key, value in values.items()} != dict(wanted):
        raise Refusal(400, "json", f"wanted a JSON object of {keys}")
    return values


def _as_json(value: Any) -> bytes:
    # In ASCII, so that lone surrogates arrive too.
    return json.dumps(value).encode("ascii")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _report(error: BaseException | None) -> None:
    """Where an error happened; its message may hold the user's text, and stays unsaid."""
    if error is not None:
        places = "".join(traceback.format_tb(error.__traceback__))
        log.error("a request failed with %s (its message is not shown, for privacy):\n%s", type(error).__name__, places)


def open_server(playground: Playground, host: str, port: int) -> DemoServer:
    """Listen at `host` and `port` (0: any that is free). Raises ConfigError where that cannot be."""
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"port={port}: wanted 0 to 65535")
    if not host:
        raise ConfigError("host: wanted an address of this machine, such as 127.0.0.1")
    try:
        return DemoServer(playground, host, port)
    except OSError as error:
        why = {
            errno.EADDRINUSE: f"something listens there already, perhaps another demo; give port={port + 1}",
            errno.EACCES: "not allowed; give a port from 1024 on",
        }.get(error.errno or 0, f"host={host} is no address of this machine ({error.strerror})")
        raise ConfigError(f"port={port}: {why}") from None
