"""Metrics, health and status over HTTP or HTTPS: read-only, loopback by default, in a thread of its own.

    GET /metrics                  Prometheus
    GET /-/healthy                200 while the loop moves, else 503 with the reason
    GET /-/ready                  200 once assigned, restored and the model warm, else 503 with the reason
    GET /api/v1/status            what is going on, as JSON
    GET /api/v1/entities          ?stream=NAME&limit=100&after=ENTITY
    GET /api/v1/entities/ENTITY   ?stream=NAME

Nothing here can change anything. Where tokens are set, all but the two in /-/ needs one. What is told is what the loop
last left; only for entities the loop is asked, which answers between two batches, or else the answer is 503.
"""

from __future__ import annotations

import gzip
import json
import logging
import math
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from ..errors import SettingsError, TocsinError
from .http_access import EVERYBODY, Access

log = logging.getLogger(__name__)

MOST_REQUESTS = 32  # at once; a scraper and a few people need less, and more could starve the chain
TIMEOUT_S = 10.0  # for a client to send its request or take its answer
MOST_ENTITIES = 10_000  # in one answer
OPEN = ("/-/healthy", "/-/ready")
"""For who watches the process and not the data: they need no token."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class NotNow(TocsinError):
    """The answer would have to wait for too long."""


class Heartbeat:
    """Whether a loop still moves, by a monotonic clock that is handed in."""

    def __init__(self, clock: Callable[[], float], limit_s: float = 60.0) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._last = clock()

    def beat(self) -> None:
        """Say that the loop came round."""
        self._last = self._clock()

    def reason(self) -> str | None:
        """None while the loop moves, else how long it has stood still."""
        still = self._clock() - self._last
        return None if still <= self._limit_s else f"the loop has not moved for {still:.0f} s"


class Sources(NamedTuple):
    """Where answers come from. All are called from other threads than the chain's."""

    healthy: Callable[[], str | None]
    """None, or why not."""
    ready: Callable[[], str | None]
    """None, or why not yet."""
    status: Callable[[], Any]
    entities: Callable[[str | None, int, str], Any]
    """(stream, how many at most, names after this one) -> anything that JSON can say."""
    entity: Callable[[str | None, str], Any]
    """(stream, name) -> the same, None for an unknown one."""


class Server:
    """The HTTP server. `start` binds and serves; `address` tells the port that was found."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        sources: Sources,
        access: Access = EVERYBODY,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._sources = sources
        self._access = access
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve. Raises SettingsError where the address cannot be had."""
        try:
            self._server = _Server(self._host, self._port, self._registry, self._sources, self._access)
        except OSError as fault:
            raise SettingsError(
                f"[http] host = {self._host!r}, port = {self._port}: cannot listen there: "
                f"{fault.strerror or fault}. "
                "Another daemon may run; choose another port, or 0 for any free one."
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="http", args=(0.1,), daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are served."""
        if self._server is None:
            raise RuntimeError("the server is not started")
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """The address as a person would type it."""
        host, port = self.address
        scheme = "https" if self._access.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def stop(self) -> None:
        """Stop serving and free the port; a second call does nothing."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is not None and thread is not None:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, sources: Sources, access: Access
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry = registry
        self.sources = sources
        self.access = access
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # The inherited one asks DNS for its own name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        request, client_address = super().get_request()
        if self.access.tls is not None:
            # The handshake waits for its client, so the request's own thread makes it, at its first read.
            request = self.access.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        try:
            if self.access.tls is None:  # else it would have to be agreed on first
                request.sendall(
                    b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
                )
        except OSError:
            log.debug("a refused client did not wait for the answer")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("an HTTP client went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = TIMEOUT_S
    server_version = "tocsin"
    sys_version = ""

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def _respond(self) -> None:
        try:
            parts = urlsplit(self.path)
            self._route(parts.path, {key: values[-1] for key, values in parse_qs(parts.query).items()})
        except (ConnectionError, TimeoutError):
            raise
        except NotNow as fault:
            self._json(503, {"error": str(fault)})
        except ValueError as fault:
            self._json(400, {"error": str(fault)})
        except Exception:
            log.exception("an HTTP request failed", extra={"path": self.path[:200]})
            self._json(500, {"error": "the request failed; the daemon's log says why"})

    def _route(self, path: str, query: Mapping[str, str]) -> None:
        sources = self.server.sources
        stream = query.get("stream")
        if path not in OPEN and not self.server.access.allows(self.headers.get("Authorization")):
            self._json(401, {"error": "a viewer's bearer token is needed"}, {"WWW-Authenticate": "Bearer"})
        elif path == "/metrics":
            self._metrics()
        elif path == "/-/healthy":
            self._state(sources.healthy(), "healthy")
        elif path == "/-/ready":
            self._state(sources.ready(), "ready")
        elif path == "/api/v1/status":
            self._json(200, sources.status())
        elif path == "/api/v1/entities":
            limit = query.get("limit", "100")
            if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_ENTITIES:
                raise ValueError(f"limit is a number from 1 to {MOST_ENTITIES}")
            self._json(200, sources.entities(stream, int(limit), query.get("after", "")))
        elif path.startswith("/api/v1/entities/"):
            name = unquote(path.removeprefix("/api/v1/entities/"))
            found = sources.entity(stream, name)
            if found is None:
                self._json(404, {"error": f"there is no entity {name!r} here"})
            else:
                self._json(200, found)
        else:
            self._json(404, {"error": "there is no such page"})

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.server.registry)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send(
                200, content_type, gzip.compress(body, compresslevel=1, mtime=0), {"Content-Encoding": "gzip"}
            )
        else:
            self._send(200, content_type, body)

    def _state(self, reason: str | None, good: str) -> None:
        self._send(
            200 if reason is None else 503, "text/plain; charset=utf-8", f"{reason or good}\n".encode()
        )

    def _json(self, code: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(_finite(content), ensure_ascii=False, default=str).encode() + b"\n"
        self._send(code, "application/json", body, headers or {})

    def _send(
        self, code: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(code)
        for name, value in {**HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, in our form; a method that it does not find is not allowed."""
        self.close_connection = True
        if code == 501:
            self._json(405, {"error": "only GET and HEAD are answered"}, {"Allow": "GET, HEAD"})
        else:
            self._json(code, {"error": message or self.responses.get(code, ("refused",))[0]})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the name is inherited
        log.debug(format, *args)


def _finite(value: Any) -> Any:
    """The same with NaN and infinities as null, which JSON has no word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
