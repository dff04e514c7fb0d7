"""One request: what its answer means, and that nothing secret is shown."""

import base64
from pathlib import Path

import pytest
from rigs.kafka import free_ports
from rigs.target import Receiver, receiving
from tocsin.detector.forward_target import Verdict, judged, pause_s, post, target_of
from tocsin.errors import SettingsError


@pytest.fixture
def receiver():
    with receiving(Receiver()) as one:
        yield one


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.ACCEPTED, (200, 202, 204)),
        (Verdict.REFUSED, (400, 405, 409, 410, 413, 415, 422, 451)),
        (Verdict.AGAIN, (301, 302, 307, 401, 403, 404, 407, 408, 429, 500, 502, 503, 504)),
    ],
)
def test_what_a_status_means(verdict: Verdict, statuses: tuple[int, ...]) -> None:
    for status in statuses:
        assert judged(status, "").verdict is verdict, status


def test_a_target_that_asks_to_be_left_alone_is_for_a_bounded_time() -> None:
    assert judged(429, "", "7").wait_s == 7
    assert judged(503, "", "86400").wait_s == 300
    assert judged(503, "", "Wed, 21 Oct 2015 07:28:00 GMT").wait_s == 0


def test_pauses_double_up_to_a_bound_and_half_of_each_is_chance() -> None:
    assert [pause_s(n, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert [pause_s(n, 0.0) for n in (1, 2, 3, 1000)] == [0.5, 1, 2, 30]


def test_an_alertmanager_is_asked_at_its_api_wherever_it_lies() -> None:
    for url in ("http://am:9093", "http://am:9093/", "http://am:9093/api/v2/alerts"):
        assert target_of(url, "alertmanager", 5).url == "http://am:9093/api/v2/alerts"
    assert target_of("https://x/am/", "alertmanager", 5).url == "https://x/am/api/v2/alerts"
    assert target_of("https://x/hook?a=b", "webhook", 5).url == "https://x/hook?a=b"


@pytest.mark.parametrize(
    "url", ["http://", "http://:80/", "http://x:port/", "http://[::1/", "http://x/ä", "http://x/\x7f"]
)
def test_what_cannot_be_an_address_is_refused_without_being_shown(url: str) -> None:
    said = "[forward] url is no address that can be posted to. Write http://HOST:PORT/PATH, in ASCII."
    with pytest.raises(SettingsError) as fault:
        target_of(url, "webhook", 5)
    assert str(fault.value) == said


def test_credentials_and_headers_travel_and_are_known_as_secrets(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# for the proxy\n\nX-Api-Key: k3y-of-the-proxy\n")
    url = receiver.url.replace("http://", "http://ada:p%40ss@") + "/hooks/T0KEN"
    target = target_of(url, "webhook", 5, str(file))
    assert post(target, b"{}").verdict is Verdict.ACCEPTED
    sent = receiver.posts[0]
    assert sent.path == "/hooks/T0KEN"
    assert sent.headers["authorization"] == f"Basic {base64.b64encode(b'ada:p@ss').decode()}"
    assert sent.headers["x-api-key"] == "k3y-of-the-proxy"
    assert sent.headers["content-type"] == "application/json"
    assert target.shown == receiver.url
    for secret in (
        "p@ss",
        "ada:p%40ss",
        "/hooks/T0KEN",
        "k3y-of-the-proxy",
        sent.headers["authorization"],
        url,
    ):
        assert secret in target.secrets


@pytest.mark.parametrize(
    "line", ["no colon s3cret", ": s3cret", "X-Key: s3\x00cret", "X Key: s3cret", "X-Key: s3crét"]
)
def test_a_line_that_is_no_header_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / "headers"
    file.write_text(f"A: b\n{line}\n")
    with pytest.raises(SettingsError, match=r"headers:2: is no header") as fault:
        target_of("http://x", "webhook", 5, str(file))
    assert "cr" not in str(fault.value).partition(":2:")[2]
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        target_of("http://x", "webhook", 5, str(tmp_path / "missing"))


def test_a_redirect_is_not_followed_and_its_address_not_shown(receiver: Receiver) -> None:
    receiver.reply = lambda content: (302, {"Location": f"{receiver.url}/login?token=t0ken"})
    answer = post(target_of(receiver.url, "webhook", 5), b"{}")
    assert (answer.verdict, len(receiver.posts)) == (Verdict.AGAIN, 1)
    assert answer.why == "status 302: a redirect, which is not followed"


def test_nobody_there_and_no_such_name_are_outages() -> None:
    (port,) = free_ports(1)
    for host in (f"127.0.0.1:{port}", "no-such-host.invalid"):
        answer = post(target_of(f"http://{host}", "webhook", 5), b"{}")
        assert answer.verdict is Verdict.AGAIN
        assert "cannot be reached" in answer.why


def test_the_reason_of_a_refusal_is_given(receiver: Receiver) -> None:
    receiver.reply = lambda content: 400
    answer = post(target_of(receiver.url, "webhook", 5), b"{}")
    assert (answer.verdict, answer.why) == (Verdict.REFUSED, "status 400: because of the test")
