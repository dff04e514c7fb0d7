"""The HTTP side: reads only, bounded, and honest about health."""

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from tocsin.detector import client
from tocsin.detector import http as module
from tocsin.detector.client import Unanswered
from tocsin.detector.http import Heartbeat, NotNow, Server, Sources
from tocsin.detector.metric_defs import RECORDS_SCORED
from tocsin.detector.metrics import Metrics
from tocsin.detector.settings import Http, Settings
from tocsin.errors import SettingsError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class World:
    """What the sources see, for a test to change."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.heartbeat = Heartbeat(self.clock, 30)
        self.not_ready: str | None = "collecting records: 12 of 1000"
        self.gate: threading.Event | None = None

    def status(self) -> object:
        if self.gate:
            self.gate.wait(10)
        return {"streams": ["hosts"], "score": float("nan")}

    def entity(self, stream: str | None, name: str) -> object:
        if name == "broken":
            raise RuntimeError("s3cret")
        if name == "busy":
            raise NotNow("stream hosts is busy")
        return {"name": name, "stream": stream} if name.startswith("host") else None

    def sources(self) -> Sources:
        return Sources(
            healthy=self.heartbeat.reason,
            ready=lambda: self.not_ready,
            status=self.status,
            entities=lambda stream, limit, after: [stream, limit, after],
            entity=self.entity,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    metrics = Metrics(CollectorRegistry())
    metrics.start_stream("hosts")
    metrics.add(RECORDS_SCORED, 7, "hosts")
    server = Server("127.0.0.1", 0, metrics.registry, world.sources())
    server.start()
    yield server
    server.stop()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_metrics_in_both_formats_and_compressed(server: Server) -> None:
    code, headers, body = ask(server, "/metrics")
    assert (code, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert b'tocsin_records_scored_total{stream="hosts"} 7.0' in body
    accept = "application/openmetrics-text; version=1.0.0"
    _, headers, body = ask(server, "/metrics", Accept=accept)
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    _, headers, body = ask(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert b"tocsin_build_info" in gzip.decompress(body)


def test_healthy_means_that_the_loop_moves(server: Server, world: World) -> None:
    assert ask(server, "/-/healthy")[0] == 200
    world.clock.now += 31
    code, _, body = ask(server, "/-/healthy")
    assert (code, body) == (503, b"the loop has not moved for 31 s\n")
    world.heartbeat.beat()
    assert ask(server, "/-/healthy")[0] == 200


def test_ready_says_why_not(server: Server, world: World) -> None:
    code, _, body = ask(server, "/-/ready")
    assert (code, body) == (503, b"collecting records: 12 of 1000\n")
    world.not_ready = None
    assert ask(server, "/-/ready")[0] == 200


def test_json_pages(server: Server) -> None:
    assert json.loads(ask(server, "/api/v1/status")[2]) == {"streams": ["hosts"], "score": None}
    assert json.loads(ask(server, "/api/v1/entities")[2]) == [None, 100, ""]
    assert json.loads(ask(server, "/api/v1/entities?stream=a&limit=5&after=h%201")[2]) == ["a", 5, "h 1"]
    assert json.loads(ask(server, "/api/v1/entities/host%2F1?stream=a")[2]) == {
        "name": "host/1",
        "stream": "a",
    }
    assert ask(server, "/api/v1/entities/nobody")[0] == 404
    assert ask(server, "/secret")[0] == 404


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "9" * 5000, "²"])
def test_a_wrong_limit_is_refused(server: Server, limit: str) -> None:
    code, _, body = ask(server, f"/api/v1/entities?limit={limit.encode().hex() if limit == '²' else limit}")
    assert (code, json.loads(body)["error"]) == (400, "limit is a number from 1 to 10000")


def test_head_has_no_body(server: Server) -> None:
    for path in ("/metrics", "/-/healthy", "/api/v1/status"):
        code, headers, body = ask(server, path, "HEAD")
        assert (code, body) == (200, b"")
        assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_no_other_method_is_answered(server: Server, method: str) -> None:
    code, headers, _ = ask(server, "/-/ready", method)
    assert (code, headers["allow"]) == (405, "GET, HEAD")


def test_every_answer_has_the_security_headers(server: Server) -> None:
    for path, method in (("/metrics", "GET"), ("/nowhere", "GET"), ("/", "POST")):
        _, headers, _ = ask(server, path, method)
        assert module.HEADERS.items() <= {k: headers.get(k.lower()) for k in module.HEADERS}.items()
        assert headers["server"].strip() == "tocsin"


def test_a_fault_tells_the_log_and_not_the_client(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    code, _, body = ask(server, "/api/v1/entities/broken")
    assert code == 500
    assert b"s3cret" not in body
    assert "s3cret" in caplog.text


def test_requests_at_once_are_bounded(server: Server, world: World) -> None:
    world.gate = threading.Event()
    waiting = [socket.create_connection(server.address, timeout=10) for _ in range(module.MOST_REQUESTS)]
    for connection in waiting:
        connection.sendall(b"GET /api/v1/status HTTP/1.0\r\n\r\n")
    refused = 0
    for _ in range(50):
        refused = ask(server, "/-/healthy")[0]
        if refused == 503:
            break
    assert refused == 503
    world.gate.set()
    for connection in waiting:
        assert connection.recv(12).startswith(b"HTTP/1.0 200")
        connection.close()


def test_garbage_is_answered_with_an_error(server: Server) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
        assert b"Bad HTTP/0.9 request" in connection.recv(1000)
    assert ask(server, "/-/healthy")[0] == 200


def test_a_port_in_use_names_the_setting(server: Server, world: World) -> None:
    second = Server(*server.address, CollectorRegistry(), world.sources())
    with pytest.raises(SettingsError, match=r"\[http\] host = '127.0.0.1', port = \d+: cannot listen there"):
        second.start()


def test_a_stream_that_is_busy_says_so_to_whoever_asks(server: Server) -> None:
    code, _, body = ask(server, "/api/v1/entities/busy")
    assert (code, json.loads(body)) == (503, {"error": "stream hosts is busy"})
    host, port = server.address
    with pytest.raises(
        Unanswered, match=f"the daemon at http://{host}:{port} cannot tell now: stream hosts is busy"
    ):
        client.ask(Settings(streams=(), http=Http(host=host, port=port)), "/api/v1/entities/busy")


def test_stopping_frees_the_port_and_may_be_repeated(world: World) -> None:
    server = Server("127.0.0.1", 0, CollectorRegistry(), world.sources())
    server.start()
    address = server.address
    server.stop()
    server.stop()
    again = Server(*address, CollectorRegistry(), world.sources())
    again.start()
    assert again.url == f"http://127.0.0.1:{address[1]}"
    again.stop()
