"""Logs: one object per line where nobody looks, no secrets in any field, and no flood."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
from tocsin.detector.logs import HIDDEN, REPEAT_S, REPEATS, configure, for_stream
from tocsin.detector.settings import Log, load, secrets


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


log = for_stream(logging.getLogger("tocsin.test"), "hosts")


def lines(output: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_json_where_nobody_looks() -> None:
    output = io.StringIO()
    configure(Log(), output=output)
    log.warning("refused %d records", 3, extra={"topic": "in", "partition": 2, "why": {"a": 1}})
    log.debug("not said")
    [line] = lines(output)
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "tocsin.test",
        "message": "refused 3 records",
        "stream": "hosts",
        "topic": "in",
        "partition": 2,
        "why": "{'a': 1}",
    }


def test_text_on_a_terminal_unless_told_otherwise() -> None:
    output = Terminal()
    configure(Log(), output=output)
    log.error("stopped", extra={"code": 3})
    assert output.getvalue()[8:] == " error hosts: stopped (code=3)\n"
    output = Terminal()
    configure(Log(format="json"), output=output)
    log.error("stopped")
    assert lines(output)[0]["message"] == "stopped"


def test_secrets_are_shown_nowhere() -> None:
    settings = load(
        None,
        {
            "TOCSIN__STREAM__NAME": "a",
            "HOME": "/nowhere",
            "TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD": 'hunt"er22',
            "TOCSIN__KAFKA__LIBRDKAFKA__SSL_KEY_PASSWORD": "zebra-99",
        },
    )
    for kind in ("json", "text"):
        output = io.StringIO()
        configure(Log(format=kind), secrets(settings), output=output)
        try:
            raise RuntimeError('login with hunt"er22 failed')
        except RuntimeError:
            log.exception(
                "login with %s failed", 'hunt"er22', extra={"detail": "zebra-99", "more": ["zebra-99"]}
            )
        log.info("client got sasl.password=other-secret and ssl.key.password: 'x1y2'")
        text = output.getvalue()
        assert HIDDEN in text
        for secret in ('hunt"er22', 'hunt\\"er22', "er22", "zebra", "other-secret", "x1y2"):
            assert secret not in text


def test_repeats_are_rationed_and_counted() -> None:
    output, clock = io.StringIO(), Clock()
    configure(Log(), output=output, clock=clock)
    for number in range(100):
        log.warning("bad record %d", number)
    for_stream(logging.getLogger("tocsin.test"), "other").warning("bad record %d", 0)
    assert len(lines(output)) == REPEATS + 1
    clock.now += REPEAT_S
    log.warning("bad record %d", 100)
    last = lines(output)[-1]
    assert (last["message"], last["suppressed"]) == ("bad record 100", 100 - REPEATS)
    assert "suppressed" not in lines(output)[0]


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(Log(), output=first)
    configure(Log(level="debug"), output=second)
    log.debug("once")
    assert (first.getvalue(), len(lines(second))) == ("", 1)


def test_warnings_of_libraries_are_log_lines() -> None:
    output = io.StringIO()
    configure(Log(), output=output)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old habit", stacklevel=1)
    assert "old habit" in str(lines(output)[0]["message"])
