"""The daemon as a user runs it: a settings file, its topics, `tocsin run` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tocsin.detector.settings import Settings, load
from tocsin.detector.settings_sections import State
from tocsin.detector.topics import check
from tocsin.pipelines.brokers.kafka import KafkaBroker

from .feed import LARGEST_MESSAGE, PARTITIONS, Shape, Size
from .limit import FIRST, LAST

STREAM = "fleet"
TOPIC = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(LARGEST_MESSAGE)}
READY_S = 180.0
POLL_S = 0.5
DAEMON, EAGER = "tocsin.detector.cli", "benchmarks.eager"
BUDGET = "20/day"
WINDOW, LEAST = 16, 100

SETTINGS = """\
[kafka]
bootstrap = "{bootstrap}"
[registry]
path = "{folder}/registry"
private_key = "{folder}/signing-key.pem"
[stream]
name = "{stream}"
topics = ["{topic}"]
entity = "host"
time = "ts"
features = {features}
format = "{shape.format}"
profile = "{shape.profile}"
lags = {shape.lags}
window = {window}
start = "earliest"
group_id = "{run}"
alerts = "{run}.alerts"
dead_letter = "{run}.dead-letters"
changelog = "{run}.changelog"
control = "{run}.control"
[thresholds]
budget = "{budget}"
[train]
min_records = {min_records}
steps = {steps}
[http]
port = 0
[log]
format = "json"
[state]
{state}
"""


def settings_of(
    folder: Path, bootstrap: str, topic: str, run: str, size: Size, shape: Shape, state: str = ""
) -> Settings:
    """Settings of a fresh group `run` on `topic`, with topics of its own; everything on, ordinary rules.

    `state` is the section of that name.
    """
    path = folder / f"{run}.toml"
    path.write_text(
        SETTINGS.format(
            bootstrap=bootstrap,
            folder=folder,
            stream=STREAM,
            topic=topic,
            run=run,
            budget=BUDGET,
            shape=shape,
            window=max(WINDOW, shape.lags),
            features=json.dumps(shape.names),
            min_records=min(LEAST, size.trained),
            steps=size.steps,
            state=state,
        )
    )
    return load(path)


def make_topic(bootstrap: str, topic: str) -> None:
    """A topic of the usual number of partitions whose records bear the broker's time."""
    broker = KafkaBroker(bootstrap)
    admin = broker.admin()
    admin.create(topic, PARTITIONS, TOPIC)
    broker.close()


def most_entities(count: int) -> str:
    """The section of settings by which so many entities are held of a partition, where that can be set."""
    return f"max_entities = {count}" if "max_entities" in State.__struct_fields__ else ""


class Reading(NamedTuple):
    """The daemon's own counters at a moment."""

    at: float
    consumed: float
    scored: float
    alerts: float
    compiled: float
    """Shapes that the scorer was compiled for."""
    stages: dict[str, float]
    """Seconds spent, by stage."""
    cpu_s: float
    rss: int


class Service:
    """A running daemon."""

    def __init__(
        self, settings: Settings, log: Path, environment: Mapping[str, str], program: str = DAEMON
    ) -> None:
        self.settings = settings
        self._log = log
        self.ready_s = float("nan")
        self._begun = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, "run", "--config", str(settings.file)],
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        self._seen = psutil.Process(self._process.pid)
        self._url = ""

    def wait(self) -> None:
        """Until it is ready."""
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                break
            self._url = self._url or self._said_url()
            if self._url and self._ready():
                self.ready_s = time.perf_counter() - self._begun
                return
            time.sleep(0.05)
        raise RuntimeError(f"the daemon is not ready: {self._log.read_text()[-3000:]}")

    def _said_url(self) -> str:
        for line in self._log.read_text().splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                if url := json.loads(line).get("url"):
                    return str(url)
        return ""

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def read(self) -> Reading:
        """Its counters now."""
        at = time.perf_counter()
        sums: dict[str, float] = {}
        stages: dict[str, float] = {}
        for sample in self._samples():
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            if sample.name == "tocsin_stage_duration_seconds_sum":
                stages[sample.labels["stage"]] = sample.value
        times = self._seen.cpu_times()
        return Reading(
            at,
            sums["tocsin_records_consumed_total"],
            sums["tocsin_records_scored_total"],
            sums.get("tocsin_alerts_total", 0.0),
            sums["tocsin_scorer_compilations"],
            stages,
            times.user + times.system,
            self._seen.memory_info().rss,
        )

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        return sum(sample.value for sample in self._samples() if sample.name == name)

    def partitions(self) -> list[int]:
        """The partitions that it says it owns, at most a second ago."""
        with urllib.request.urlopen(f"{self._url}/api/v1/status", timeout=10) as answer:
            (stream,) = json.loads(answer.read())["streams"]
        return sorted(one["partition"] for one in stream["partitions"])

    def _samples(self) -> list[Sample]:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def through(self, records: int, timeout_s: float = 600.0) -> list[Reading]:
        """Wait until it has consumed and committed so many; what its counters said along the way."""
        readings, give_up = [self.read()], time.monotonic() + timeout_s
        while readings[-1].consumed < records:
            if time.monotonic() > give_up or self._process.poll() is not None:
                raise RuntimeError(f"the daemon stands still: {self._log.read_text()[-3000:]}")
            time.sleep(POLL_S)
            readings.append(self.read())
        return readings

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def running(
    settings: Settings, environment: Mapping[str, str] | None = None, program: str = DAEMON
) -> Iterator[Service]:
    """Make the topics of the settings and run a daemon until the end of the block."""
    stream = settings.streams[0]
    make_topic(settings.kafka.bootstrap, stream.alerts)
    broker = KafkaBroker(settings.kafka.bootstrap)
    report = check(broker, settings, settings.streams, create=True)
    broker.close()
    if not report.good:
        raise RuntimeError(str(report.findings))
    service = Service(settings, Path(str(settings.file)).with_suffix(".log"), environment or {}, program)
    try:
        service.wait()
        yield service
    finally:
        service.stop()


class Rate(NamedTuple):
    """What a run over a filled topic showed, between a tenth and 95 % of its messages."""

    records_per_s: float
    cpu_us: float
    """CPU time of the daemon's process per record."""
    stages_us: dict[str, float]
    """Wall time per record, by stage."""
    rss: int
    """Most that was seen, in bytes."""
    compiled: int
    """Shapes that the scorer was compiled for after those that were told first: before that it tells none."""
    alerts: int
    scored: int


def rate(readings: list[Reading], records: int, before: int = 0) -> Rate:
    """The steady part of a run over `records`, of which the first so many are not looked at."""
    begin, end = (before + share * (records - before) for share in (FIRST, LAST))
    steady = [one for one in readings if begin <= one.consumed <= end]
    if len(steady) < 2:  # over before it could be watched
        steady = [readings[0], readings[-1]]
    first, last = steady[0], steady[-1]
    count = last.consumed - first.consumed
    return Rate(
        count / (last.at - first.at),
        (last.cpu_s - first.cpu_s) / count * 1e6,
        {name: (last.stages[name] - first.stages[name]) / count * 1e6 for name in last.stages},
        max(one.rss for one in readings),
        int(last.compiled - next((one.compiled for one in readings if one.compiled), 0.0)),
        int(readings[-1].alerts),
        int(readings[-1].scored),
    )
