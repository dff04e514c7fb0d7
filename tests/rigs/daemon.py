"""`tocsin` as a user runs it: a home with a configuration, commands, and the daemon as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from prometheus_client.parser import text_string_to_metric_families
from telemetry import Fleet
from tocsin.detector.cli import main
from tocsin.pipelines.brokers.base import Batch, Headers, Part
from tocsin.pipelines.brokers.kafka import KafkaBroker

COMMAND = [sys.executable, "-m", "tocsin.detector.cli"]
WAIT_S = 90.0

Sample = tuple[str, frozenset[tuple[str, str]]]


class Message(NamedTuple):
    """One message of a topic, as a consumer sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.value or b"null")
        return content

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.headers if key == name and value), None)


def until(true: Callable[[], Any], what: str, wait_s: float = WAIT_S, every_s: float = 0.05) -> Any:
    """The first true answer; fails naming `what` where none came in time."""
    give_up = time.monotonic() + wait_s
    while True:
        if answer := true():
            return answer
        assert time.monotonic() < give_up, f"waited {wait_s:.0f} s in vain for {what}"
        time.sleep(every_s)


def alter(home: Home, role: str, name: str, value: str) -> None:
    """Change a setting of a topic."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, home.topic(role), incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": home.broker.bootstrap})
    client.incremental_alter_configs([resource])[resource].result(10)


def write_files(fleet: Fleet, rows: Any, path: Path) -> Path:
    """Rows of a fleet as a Parquet file that `train` and `replay` read."""
    columns = {"ts": pa.array(fleet.time_us[rows], pa.timestamp("us", "UTC"))}
    columns["host"] = pa.array([fleet.names[i] for i in fleet.entity[rows]])
    columns |= {name: fleet.values[rows][:, i] for i, name in enumerate(fleet.features)}
    pq.write_table(pa.table(columns), path)
    return path


def toml(content: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Lines of TOML; JSON of strings, numbers and lists is TOML too."""
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    if name:
        yield f"[{name}]"
    yield from (
        f"{json.dumps(key)} = {json.dumps(value)}" for key, value in content.items() if key not in tables
    )
    for key, table in tables.items():
        yield from toml(table, f"{name}.{key}" if name else key)


class Home:
    """A folder with tocsin.toml, a registry and keys, and a stream with topics of its own on a broker."""

    def __init__(self, folder: Path, broker: KafkaBroker, caches: Path) -> None:
        self.folder = folder
        self.broker = broker
        self.name = folder.name
        self.config = folder / "tocsin.toml"
        self.daemons: list[Daemon] = []
        self._environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONFAULTHANDLER": "1",  # so that a process that does not end can be made to say where it is
            # What was compiled once is compiled for all processes of a test session.
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(caches)),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def topic(self, role: str) -> str:
        return f"{self.name}.{role}"

    def stream(self, **more: object) -> dict[str, Any]:
        """The table of a stream named hosts, with topics that are this home's alone."""
        topics = {
            role: self.topic(role) for role in ("alerts", "scores", "dead_letter", "changelog", "control")
        }
        own = {"topics": [self.topic("input")], "group_id": self.topic("group"), **topics}
        return {"name": "hosts", "entity": "host", "time": "ts", "profile": "shared", **own, **more}

    def write(self, stream: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]) -> None:
        """Write tocsin.toml; what a section leaves out is made for quick tests."""
        content: dict[str, Mapping[str, Any]] = {
            "kafka": {"bootstrap": self.broker.bootstrap, "partitions": 3},
            "registry": {"path": str(self.folder / "registry")},
            "thresholds": {"budget": "6/day per entity"},
            "train": {"min_records": 100, "steps": 10},
            "state": {"snapshot_every": "1s"},
            "http": {"port": 0},
        }
        if "streams" not in sections:
            content["stream"] = self.stream() if stream is None else stream
        for name, section in sections.items():
            content[name] = {**content.get(name, {}), **section}
        self.config.write_text("\n".join(toml(content)))

    def run(
        self, *arguments: str, code: int = 0, wait_s: float = 120.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A command to its end, with the exit code that is expected."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=wait_s,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def call(self, *arguments: str) -> None:
        """A command that must do well, in this process: one import of XLA less."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("XDG_CONFIG_HOME", self._environment["XDG_CONFIG_HOME"])
            with pytest.raises(SystemExit) as left:
                main(arguments)
        assert not left.value.code

    def make_topics(self, inputs: int | None = None) -> None:
        """All topics of the configuration, the input with so many partitions."""
        if inputs is not None:
            self.make_topic("input", inputs)
        self.run("check", "--create-topics")

    def make_topic(self, role: str, partitions: int) -> None:
        admin = self.broker.admin()
        admin.create(self.topic(role), partitions)
        admin.close()

    def start(self, *, live: bool = True) -> Daemon:
        """The daemon; with `live` only once it is ready."""
        daemon = self.background("run")
        if live:
            daemon.ready()
        return daemon

    def background(self, *arguments: str, **environment: str) -> Daemon:
        """A command that goes on until it is stopped."""
        daemon = Daemon(self.folder, {**self._environment, **environment}, len(self.daemons), arguments)
        self.daemons.append(daemon)
        return daemon

    def send(self, values: Iterable[bytes | None], keys: Iterable[bytes | None], role: str = "input") -> None:
        """Produce to a topic; keys choose the partition."""
        producer = self.broker.producer()
        for value, key in zip(values, keys, strict=True):
            producer.produce(self.topic(role), value, key)
        producer.flush(60)
        producer.close()

    def parts(self, role: str = "input") -> list[Part]:
        admin = self.broker.admin()
        topic = self.topic(role)
        found = [(topic, number) for number in range(admin.topics()[topic].partitions)]
        admin.close()
        return found

    def ends(self, role: str = "input") -> dict[Part, int]:
        consumer = self.broker.consumer()
        found = consumer.end_offsets(self.parts(role))
        consumer.close()
        return found

    def committed(self) -> dict[Part, int]:
        """The group's next offsets; 0 where there is none."""
        found = self.broker.committed(self.topic("group"), self.parts())
        return {part: offset or 0 for part, offset in found.items()}

    def caught_up(self, wait_s: float = WAIT_S) -> None:
        """Wait until the group has committed all that the input holds now."""
        ends = self.ends()

        def done() -> bool:
            assert all(d.code is None or d.forgiven for d in self.daemons), self.daemons[-1].tail()
            return self.committed() == ends

        until(done, f"all of {ends} to be committed ({self.committed()})", wait_s, 0.2)

    def batches(self, role: str, *, headers: bool = True) -> Iterator[Batch]:
        """Everything that a topic holds, in the order of each partition."""
        consumer = self.broker.consumer(headers=headers)
        try:
            ends = {part: end for part, end in consumer.end_offsets(self.parts(role)).items() if end}
            consumer.assign([(*part, 0) for part in ends])
            give_up = time.monotonic() + 30
            at: dict[Part, int] = {}
            while any(at.get(part, -1) < end for part, end in ends.items()):
                if batch := consumer.consume(10_000, 0.2):
                    yield batch
                    give_up = time.monotonic() + 30
                at = consumer.position()
                assert time.monotonic() < give_up, f"{role}: {at} of {ends}"
        finally:
            consumer.close()

    def read(self, role: str) -> list[Message]:
        """The same as messages."""
        found: list[Message] = []
        for batch in self.batches(role):
            assert batch.headers is not None
            found += map(Message, *batch[1:6], [list(one or ()) for one in batch.headers])
        return found

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.kill()


class Daemon:
    """`tocsin run`, or another long-running command, in a process of its own; it ends with the test."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], number: int, arguments: Iterable[str] = ("run",)
    ) -> None:
        self.log_file = folder / f"daemon-{number}.log"
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self.forgiven = False
        """Its end is part of the test."""
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*guard, *COMMAND, *arguments], cwd=folder, env=dict(environment), stdout=log, stderr=log
            )

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged; a line that is no JSON has only a `text`."""
        found = []
        for line in self.log_file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"text": line})
        return found

    def said(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        return [line for line in self.lines() if line.get("message") == message]

    def tail(self) -> str:
        return f"{self.log_file.name}:\n{self.log_file.read_text()[-8000:]}"

    @property
    def url(self) -> str:
        def listening() -> str | None:
            assert self.code is None, self.tail()
            return next((str(line["url"]) for line in self.said("listening")), None)

        return str(until(listening, "the address"))

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self, wait_s: float = WAIT_S) -> None:
        url = self.url
        assert url

        def good() -> bool:
            assert self.code is None, self.tail()
            with contextlib.suppress(OSError):
                return self.get("/-/ready")[0] == 200
            return False

        until(good, f"readiness; {self.tail()}", wait_s)

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.get("/api/v1/status")[1])
        return content

    def metrics(self) -> dict[Sample, float]:
        """Name and labels -> value of every sample."""
        text = self.get("/metrics")[1]
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that bear these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.metrics().items() if found == name and wanted <= has)

    def signal(self, how: signal.Signals) -> None:
        self.process.send_signal(how)

    def end(self, wait_s: float = 60.0) -> int:
        """Wait for its end; returns the exit code."""
        self.forgiven = True
        return self.process.wait(wait_s)

    def stop(self, wait_s: float = 10.0) -> None:
        """SIGTERM: it must end well within `wait_s`."""
        self.forgiven = True
        self.signal(signal.SIGTERM)
        try:
            code = self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"still there {wait_s:.0f} s after SIGTERM: {self.tail()}") from None
        assert code == 0, self.tail()

    def kill(self) -> None:
        """SIGKILL."""
        self.forgiven = True
        self.process.kill()
        self.process.wait()


def replayed(
    home: Home, *arguments: str
) -> tuple[dict[tuple[int, int], dict[str, Any]], list[dict[str, Any]]]:
    """`replay --since start`: its rows by partition and offset, and its alerts."""
    home.call(
        "replay", "--since", "start", "--out", "scores.parquet", "--alerts", "alerts.ndjson", *arguments
    )
    rows = pq.read_table(home.folder / "scores.parquet").to_pylist()
    alerts = [json.loads(line) for line in (home.folder / "alerts.ndjson").read_text().splitlines()]
    return {(row["partition"], row["offset"]): row for row in rows}, alerts


def scored(messages: Iterable[Message]) -> dict[tuple[int, int], dict[str, Any]]:
    """Partition and offset -> score record; a record that was told twice must have been told the same."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for message in messages:
        record = message.json()
        place = (record["partition"], record["offset"])
        assert found.setdefault(place, record) == record
    return found


def assert_same(
    live: Mapping[tuple[int, int], dict[str, Any]], rows: Mapping[tuple[int, int], dict[str, Any]]
) -> None:
    """The scores topic and a replay: the same records, bit-equal numbers, the same incidents."""
    assert live.keys() == rows.keys()
    for place, row in rows.items():
        one = live[place]
        found = (one.get("score"), one.get("p"), one.get("threshold"), one.get("anomalous", False))
        assert found == (row["score"], row["p_value"], row["threshold"], row["anomalous"]), place
        assert (one.get("incident"), one.get("reason")) == (row["incident"], row["null_reason"]), place
