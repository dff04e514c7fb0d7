"""A real Prometheus that scrapes a daemon on a real Kafka: what it answers is what a replay computes."""

from __future__ import annotations

import bisect
import itertools
import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer
from rigs.daemon import Daemon, Home, replayed, until
from rigs.kafka import free_ports
from telemetry import keys, messages
from tocsin.detector import replay_setup, view
from tocsin.detector.metric_defs import SCORE
from tocsin.detector.settings import load

pytestmark = [pytest.mark.kafka, pytest.mark.prometheus]

QUANTILES = (0.01, 0.25, 0.5, 0.9, 0.99)
CONFIG = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
  - job_name: tocsin
    static_configs: [{targets: ["%s"]}]
"""


class Prometheus:
    """The Debian binary, with a configuration that scrapes one address."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG % target)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Labels (without the target's) -> value, of an instant query."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.loads(answer.read())["data"]["result"]
        except OSError:
            return {}
        hidden = ("__name__", "job", "instance")
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in hidden)): float(one["value"][1])
            for one in found
        }

    def number(self, query: str) -> float:
        return next(iter(self.ask(query).values()), math.nan)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


class Watched(NamedTuple):
    home: Home
    daemon: Daemon
    prometheus: Prometheus
    rows: dict[tuple[int, int], dict[str, Any]]
    alerts: list[dict[str, Any]]


@pytest.fixture(scope="module")
def watched(make_home: Callable[..., Home], trained: Any) -> Iterator[Watched]:
    home = make_home("prometheus")
    home.write()
    home.make_topics()
    values, names = messages(trained.live), keys(trained.live)
    daemon = home.start()
    prometheus = Prometheus(home.folder / "prometheus", daemon.url.removeprefix("http://"))
    try:
        home.send(values[:10_000], names[:10_000])
        home.caught_up()
        home.send(values[10_000:], names[10_000:])
        end_with_a_transaction(home)
        count = len(values) + len(home.parts())
        until(lambda: sum(home.committed().values()) == count, "all records to be committed")
        rows, alerts = replayed(home)
        until(lambda: prometheus.number("tocsin_records_consumed_total") == count, "the last scrape")
        until(lambda: prometheus.number("sum(tocsin_alerts_total)") == len(alerts), "the last alert's scrape")
        yield Watched(home, daemon, prometheus, rows, alerts)
    finally:
        prometheus.close()


def end_with_a_transaction(home: Home) -> None:
    """One more record in each partition, behind it the mark of its transaction, which no consumer is ever shown."""
    producer = Producer(
        {"bootstrap.servers": home.broker.bootstrap, "transactional.id": home.name, "linger.ms": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for topic, partition in home.parts():
        value = {"ts": 1_704_110_000_000, "host": f"extra-{partition}", "f00": 1.0}
        producer.produce(topic, json.dumps(value), partition=partition)
    producer.commit_transaction(30)


def test_the_text_is_what_promtool_wants(watched: Watched) -> None:
    text = watched.daemon.get("/metrics")[1]
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_records_and_alerts_are_counted_as_replay_counts_them(watched: Watched) -> None:
    ask = watched.prometheus.number
    rows = watched.rows.values()
    assert ask("tocsin_records_consumed_total") == len(rows)
    assert ask("tocsin_records_scored_total") == sum(row["score"] is not None for row in rows)
    assert ask("tocsin_records_anomalous_total") == sum(row["anomalous"] for row in rows)
    for reason, count in Counter(row["null_reason"] for row in rows if row["null_reason"]).items():
        assert ask(f'tocsin_records_unscored_total{{verdict="{reason}"}}') == count
    alerts = Counter((one["labels"]["severity"], one["status"]) for one in watched.alerts)
    told = watched.prometheus.ask("sum by (severity, status) (tocsin_alerts_total)")
    assert {(dict(k)["severity"], dict(k)["status"]): v for k, v in told.items() if v} == alerts
    assert alerts


def quantile(q: float, values: list[float]) -> float:
    """As `histogram_quantile` finds it in the buckets: linear within the one that holds it."""
    counts = [0] * (len(SCORE) + 1)
    for value in values:
        counts[bisect.bisect_left(SCORE, value)] += 1
    total = list(itertools.accumulate(counts))
    rank = q * len(values)
    index = bisect.bisect_left(total, rank)
    if index == len(SCORE):
        return SCORE[-1]
    if index == 0:
        return SCORE[0]
    return SCORE[index - 1] + (SCORE[index] - SCORE[index - 1]) * (rank - total[index - 1]) / counts[index]


@pytest.mark.parametrize("name", ["score", "threshold"])
def test_quantiles_are_those_of_a_replay(watched: Watched, name: str) -> None:
    values = [row[name] for row in watched.rows.values() if row[name] is not None]
    for q in QUANTILES:
        told = watched.prometheus.number(f"histogram_quantile({q}, tocsin_{name}_bucket)")
        assert told == pytest.approx(quantile(q, values), abs=1e-9), q


def test_drift_statistics_are_those_of_a_replay(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = []
    make = replay_setup.make_chain
    monkeypatch.setattr(replay_setup, "make_chain", lambda *given: chains.append(make(*given)) or chains[-1])
    home = watched.home
    settings = load(home.config, {"XDG_CONFIG_HOME": str(home.folder / "config"), "HOME": str(home.folder)})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home.folder / "config"))
    with replay_setup.prepare(
        settings, settings.stream(), [], since="start", until=None, changes=None, model=None
    ) as prepared:
        for _ in prepared.steps():
            pass
        state = chains[0].state
        shown = view.gauges(state, {part: state.part(*part) for part in home.parts()}, chains[0].lags)
    for which, name in enumerate(("tocsin_drift_block_mean", "tocsin_drift_estimate")):
        told = {
            (dict(labels)["partition"], dict(labels)["signal"]): value
            for labels, value in watched.prometheus.ask(name).items()
        }
        expected = {
            (str(partition), signal): values[which]
            for (_, partition), one in shown.parts.items()
            for signal, values in one.drift.items()
        }
        assert expected
        assert told == pytest.approx(expected, rel=1e-12)


def test_every_acknowledged_alert_has_a_latency(watched: Watched) -> None:
    ask = watched.prometheus.number
    assert ask("tocsin_alert_latency_seconds_count") == len(watched.alerts)
    assert ask("sum(tocsin_alerts_total)") == len(watched.home.read("alerts"))
    assert ask('tocsin_alert_latency_seconds_bucket{le="+Inf"}') == len(watched.alerts)


def test_lag_is_end_minus_committed(watched: Watched) -> None:
    home = watched.home
    ends, committed = home.ends(), home.committed()
    told = {
        int(dict(labels)["partition"]): value
        for labels, value in watched.prometheus.ask("tocsin_consumer_lag_records").items()
    }
    assert told == {part: ends[topic, part] - committed[topic, part] for topic, part in ends}
    # The mark of the transaction is an offset too: an admin client counts it, and so does the gauge.
    assert set(told.values()) == {1}
