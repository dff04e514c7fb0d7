"""The HTTP side: reads only, bounded, and honest about health."""

import gzip
import http.client
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from rigs.certificates import Authority
from tocsin.detector import client
from tocsin.detector import http as module
from tocsin.detector.client import Unanswered
from tocsin.detector.http import Heartbeat, NotNow, Server, Sources
from tocsin.detector.http_access import access_of, hash_of
from tocsin.detector.metric_defs import RECORDS_SCORED
from tocsin.detector.metrics import Metrics
from tocsin.detector.settings import Http, Settings, load, redacted, secrets
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


TOKEN = f"token-{uuid.uuid4().hex}"
PAGES = ["/metrics", "/api/v1/status", "/api/v1/entities", "/api/v1/entities/host1", "/no/such/page"]


@contextmanager
def serving(world: World, settings: Http) -> Iterator[Server]:
    server = Server("localhost", 0, CollectorRegistry(), world.sources(), access_of(settings))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_with_tokens_only_a_viewer_reads(world: World) -> None:
    other = f"sha256:{hash_of('another-token-of-a-viewer')}"
    with serving(world, Http(token=TOKEN, viewer_hashes=(other,))) as server:
        for path in PAGES:
            code, headers, body = ask(server, path)
            assert (code, headers["www-authenticate"]) == (401, "Bearer"), path
            assert json.loads(body) == {"error": "a viewer's bearer token is needed"}
            for wrong in (
                f"Bearer {TOKEN}x",
                f"Bearer {TOKEN[:-1]}",
                "Bearer",
                f"Basic {TOKEN}",
                TOKEN,
                "Bearer \xff",
            ):
                assert ask(server, path, Authorization=wrong)[0] == 401, wrong
        for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", "Bearer another-token-of-a-viewer"):
            codes = [ask(server, path, Authorization=right)[0] for path in PAGES]
            assert codes == [200, 200, 200, 200, 404]
        assert ask(server, "/-/healthy")[0] == 200
        assert ask(server, "/-/ready")[0] == 503


def test_over_tls_with_a_token_as_commands_ask(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = map(str, authority.issue("localhost"))
    daemon = Http(host="localhost", token=TOKEN, tls_cert=certificate, tls_key=key)
    with serving(world, daemon) as server:
        port = server.address[1]

        def asked(**more: Any) -> Any:
            there = Http(host="localhost", port=port, tls_ca=str(authority.file))
            return client.ask(
                Settings(streams=(), http=msgspec.structs.replace(there, **more)), "/api/v1/status"
            )

        assert server.url == f"https://127.0.0.1:{port}"
        assert asked(token=TOKEN)["streams"] == ["hosts"]
        with pytest.raises(SettingsError, match=f"the daemon at https://localhost:{port} wants a token"):
            asked()
        with pytest.raises(SettingsError, match="does not know the token") as caught:
            asked(token="the-token-of-somebody-else")
        assert "somebody" not in str(caught.value)
        with pytest.raises(SettingsError, match=r"certificate of https://127\.0\.0\.1:\d+ cannot be trusted"):
            asked(token=TOKEN, host="127.0.0.1")
        with pytest.raises(SettingsError, match="cannot be trusted"):
            asked(token=TOKEN, tls_ca=str(Authority(tmp_path, "other").file))
        with pytest.raises(SettingsError, match="tls_ca = '/no/such' cannot be used: No such file"):
            asked(token=TOKEN, tls_ca="/no/such")
        # Who does not shake hands holds up nobody, and hears nothing in the clear.
        with socket.create_connection(server.address, timeout=10) as silent:
            with socket.create_connection(server.address, timeout=10) as plain:
                plain.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert b"tocsin" not in plain.recv(1000)
            assert asked(token=TOKEN)["streams"] == ["hosts"]
            silent.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_loopback_it_takes_tokens_or_a_word(host: str) -> None:
    with pytest.raises(
        SettingsError, match=r"lets others than this machine read.*viewer_hashes.*open = true"
    ):
        access_of(Http(host=host))
    assert access_of(Http(host=host, open=True)).allows(None)
    assert not access_of(Http(host=host, open=True, token=TOKEN)).allows(None)
    assert not access_of(Http(host=host, viewer_hashes=("0" * 64,))).allows("Bearer x")
    for near in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert access_of(Http(host=near)).allows(None)


def test_a_certificate_and_key_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate, key = map(str, Authority(tmp_path).issue("localhost"))
    other = str(Authority(tmp_path / "b").issue("localhost")[1])
    with pytest.raises(SettingsError, match="tls_cert and tls_key go together"):
        access_of(Http(tls_cert=certificate))
    with pytest.raises(SettingsError, match=r"tls_key = '/no/such' cannot be used \(No such file"):
        access_of(Http(tls_cert=certificate, tls_key="/no/such"))
    with pytest.raises(SettingsError, match="cannot be used"):
        access_of(Http(tls_cert=certificate, tls_key=other))
    access_of(Http(tls_cert=certificate, tls_key=key))


def test_the_token_is_a_secret_and_its_files_stand_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "tocsin.toml").write_text(
        '[stream]\nname = "s"\n[http]\ntls_cert = "c.pem"\ntls_key = "k.pem"\n'
    )
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    environment = {"TOCSIN__HTTP__TOKEN_FILE": str(tmp_path / "token"), "HOME": "/nowhere"}
    settings = load(tmp_path / "tocsin.toml", environment)
    assert (settings.http.token, settings.http.tls_cert) == (TOKEN, str(tmp_path / "c.pem"))
    assert TOKEN in secrets(settings)
    assert TOKEN not in json.dumps(redacted(settings))
    with pytest.raises(SettingsError) as caught:
        load(None, {"TOCSIN__STREAM__NAME": "s", "TOCSIN__HTTP__TOKEN": "short-secret", "HOME": "/nowhere"})
    assert "short-secret" not in str(caught.value)
