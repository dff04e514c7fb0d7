"""The real collectd publishes this host; `init` configures from what it finds, and the daemon goes live on it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from acceptance.conftest import MakeHome
from rigs.collectd import collectd
from rigs.daemon import Home, until
from tocsin.detector.settings import load

pytestmark = [pytest.mark.kafka, pytest.mark.collectd, pytest.mark.slow]


@pytest.fixture(params=["true", "false"])
def home(request: pytest.FixtureRequest, make_home: MakeHome) -> Iterator[Home]:
    """A home whose input a collectd fills, with rates of its own or with raw counters."""
    home = make_home(f"collectd-{request.param}", untrained=True)
    home.make_topic("input", 3)
    with collectd(
        home.folder,
        home.broker.bootstrap,
        home.topic("input"),
        host="web-1",
        interval_s=0.2,
        rates=request.param == "true",
    ):
        yield home


def configure(home: Home) -> None:
    """`init` from the topic, and what a test wants quicker."""
    until(lambda: sum(home.ends().values()) > 500, "collectd to publish")
    home.config.unlink(missing_ok=True)
    home.run(
        "init", "--bootstrap", home.broker.bootstrap, "--topic", home.topic("input"), "--name", home.name
    )
    text = home.config.read_text()
    for section, line in (
        ("[train]", "min_records = 100\nsteps = 10"),
        ("[http]", "port = 0"),
        ("[state]", 'snapshot_every = "1s"'),
        ("[stream]", f'scores = "{home.topic("scores")}"\nalerts = "{home.topic("alerts")}"'),
    ):
        text = text.replace(f"\n{section}\n", f"\n{section}\n{line}\n")
    home.config.write_text(text)


def test_what_collectd_publishes_is_scored(home: Home) -> None:
    configure(home)
    stream = load(home.config, {}).stream()
    assert (stream.format, stream.rekey, str(stream.period)) == ("collectd", True, "200ms")
    assert {"cpu-0/cpu-user/value", "load/load/shortterm", "memory/memory-free/value"} <= set(stream.features)
    raw = "false" in home.name
    assert ("cpu-0/cpu-user/value" in stream.counters) is raw
    home.run("check", "--create-topics")
    described = home.run("describe").stdout
    assert f"{home.topic('input')}, to {stream.rekeyed}, by entity" in described
    daemon = home.start(live=False)
    daemon.ready(wait_s=240)
    until(lambda: daemon.metric("tocsin_records_scored_total") > 20, "records to be scored")
    shown = home.run("entities", "show", "web-1", TOCSIN__HTTP__PORT=daemon.url.rpartition(":")[2]).stdout
    assert "cpu-0/cpu-user/value" in shown
    assert daemon.metric("tocsin_dead_letters_total") == 0
    assert daemon.metric("tocsin_entities_torn") == 0
    until(lambda: daemon.metric("tocsin_entities") == 1, "the gauges, which are set once a second")
    daemon.stop()
    scores = [message.json() for message in home.read("scores")]
    assert {one["entity"] for one in scores} == {"web-1"}
    assert abs(time.time() - scores[-1]["time"] / 1e6) < 120
