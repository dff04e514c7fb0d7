"""Telemetry of a small web fleet, for trying Tocsin out: made up, but as a function of the seed and of the time alone.

    python deploy/producer.py --bootstrap localhost:9092 --topic hosts

Whatever it is asked for a moment, it says the same, whether it was restarted in between or not. A topic that is empty
gets some hours of quiet history first, so that there is something to train on; then come records as time passes, and
now and then a fault, which it names as it begins and ends.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEATURES = ("requests", "cpu", "memory", "latency_ms", "disk_busy", "net_in", "net_out", "errors")
FAULTS = ("overload", "leak", "slow database", "lost traffic")
DAY_S = 86_400.0
WAVES_S = (2_221.0, 6_067.0, 15_791.0)  # slow swings beside the day; periods that do not meet again
ECHO = np.array([0.5, 0.3, 0.15, 0.05])  # how noise of this step and of the three before it mixes


class Fleet(NamedTuple):
    """What stays as it is: the habits of each host (axis 0)."""

    names: tuple[str, ...]
    level: Floats
    """[hosts, 6] requests/s, processor per request, memory, latency in ms, disk, bytes per request."""
    phase: Floats
    """[hosts, 4] of the day and of the slow waves, in radians."""
    swing: Floats
    """[hosts, 4] how far each moves the load."""
    seed: int


class Fault(NamedTuple):
    """What is wrong with one host for some steps."""

    host: int
    kind: str
    progress: float
    """0 where it begins, up to 1."""


def fleet(seed: int, hosts: int) -> Fleet:
    """The habits of `hosts` hosts."""
    rng = np.random.default_rng(seed)
    level = rng.lognormal(np.log([60, 0.0045, 0.42, 25, 0.16, 14_000]), 0.25, (hosts, 6))
    phase = np.concatenate(
        [
            rng.normal(0.0, 0.3, (hosts, 1)),
            rng.uniform(0, 2 * np.pi, (1, 3)) + rng.normal(0, 0.4, (hosts, 3)),
        ],
        axis=1,
    )
    swing = rng.uniform([0.3, 0.08, 0.08, 0.06], [0.5, 0.2, 0.2, 0.15], (hosts, 4))
    return Fleet(tuple(f"web-{number:02d}" for number in range(1, hosts + 1)), level, phase, swing, seed)


def noise(seed: int, step: int, hosts: int) -> Floats:
    """[hosts, 8], standard deviation about 0.6, each step a little like the ones before it."""
    fresh = [
        np.random.default_rng((seed, step - back)).normal(size=(hosts, len(FEATURES)))
        for back in range(len(ECHO))
    ]
    return np.tensordot(ECHO, np.array(fresh), axes=1)


def values(fleet: Fleet, step: int, period_s: float, fault: Fault | None = None) -> Floats:
    """[hosts, 8] the features of every host at a step, in the order of FEATURES."""
    hosts = len(fleet.names)
    n = noise(fleet.seed, step, hosts)
    turn = 2 * np.pi * step * period_s / np.array([DAY_S, *WAVES_S])
    waves = np.sin(turn + fleet.phase) * fleet.swing
    slow = waves[:, 1:].sum(axis=1)
    requests_s, per_request, memory, latency, disk, size = fleet.level.T
    requests = requests_s * np.exp(waves.sum(axis=1) + 0.08 * n[:, 0])
    busy = np.zeros(hosts)
    slower = np.ones(hosts)
    grown = np.zeros(hosts)
    failing = np.full(hosts, 0.002)
    if fault:
        at = fault.host
        if fault.kind == "overload":
            busy[at] = 0.45
        elif fault.kind == "leak":
            grown[at] = 0.1 + 0.4 * fault.progress
        elif fault.kind == "slow database":
            slower[at], failing[at] = 5.0, 0.08
        else:
            requests[at] *= 0.04
    cpu = np.clip(0.04 + requests * per_request * np.exp(0.06 * n[:, 1]) + busy, 0.01, 0.99)
    used = np.clip(memory * (1 + 0.15 * slow + 0.01 * n[:, 2]) + grown, 0.05, 0.98)
    wait = latency * slower * (1 + 0.8 * cpu**2 / (1.05 - cpu)) * np.exp(0.08 * n[:, 3])
    disk_busy = np.clip(disk * (requests / requests_s) ** 0.6 * np.exp(0.1 * n[:, 4]), 0.0, 1.0)
    net_in = requests * size / 12 * np.exp(0.06 * n[:, 5])
    net_out = requests * size * np.exp(0.06 * n[:, 6])
    errors = requests * failing * np.exp(0.3 * n[:, 7])
    return np.stack([requests, cpu, used, wait, disk_busy, net_in, net_out, errors], axis=1)


def fault_at(seed: int, hosts: int, step: int, every: int, length: int) -> Fault | None:
    """The fault of a step: one of `length` steps in the midst of each `every` of them, on one host."""
    number, within = divmod(step, every)
    begin = (every - length) // 2
    if not begin <= within < begin + length:
        return None
    host = int(np.random.default_rng((seed, 1, number)).integers(hosts))
    return Fault(host, FAULTS[number % len(FAULTS)], (within - begin) / length)


def records(
    fleet: Fleet, step: int, period_s: float, fault: Fault | None = None
) -> Iterable[tuple[bytes, bytes, int]]:
    """Key, value and time in ms of each host's record of a step."""
    for host, (name, row) in enumerate(
        zip(fleet.names, values(fleet, step, period_s, fault).tolist(), strict=True)
    ):
        time_ms = round(step * period_s * 1000) + host  # hosts do not report at the same instant
        content = {
            "ts": time_ms,
            "host": name,
            **{k: float(f"{v:.5g}") for k, v in zip(FEATURES, row, strict=True)},
        }
        yield name.encode(), msgspec.json.encode(content), time_ms


def is_empty(bootstrap: str, topic: str) -> bool:
    """Whether no partition of a topic has ever held a record."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tocsin-producer"})
    try:
        found = consumer.list_topics(topic, timeout=30).topics[topic]
        if found.error or not found.partitions:
            sys.exit(
                f"topic {topic}: {found.error or 'has no partition'}; make it with `tocsin check --create-topics`"
            )
        parts = [TopicPartition(topic, number) for number in found.partitions]
        return all(consumer.get_watermark_offsets(part, timeout=30)[1] == 0 for part in parts)
    finally:
        consumer.close()


def delivered(error: KafkaError | None, message: Message) -> None:
    """End where a record was refused for good: whoever started this starts it again."""
    if error is not None:
        sys.exit(f"a record of {message.topic()} could not be delivered: {error}")


def say(text: str) -> None:
    """A line for whoever follows the log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(given: argparse.Namespace) -> None:
    """Records until the process is ended."""
    whole = fleet(given.seed, given.hosts)
    producer = Producer({"bootstrap.servers": given.bootstrap, "linger.ms": 50, "enable.idempotence": True})
    now = int(time.time() / given.period)
    first = (
        now - round(given.history * 3600 / given.period) if is_empty(given.bootstrap, given.topic) else now
    )
    if first < now:
        say(f"{given.topic} is empty: {given.history:g} h of quiet history of {given.hosts} hosts first")
    before: Fault | None = None
    try:
        for step in itertools.count(first):
            time.sleep(max(step * given.period - time.time(), 0.0))
            fault = None
            if step > now:
                fault = fault_at(given.seed, given.hosts, step, given.fault_every, given.fault_length)
            for one, word in ((before, "is over"), (fault, "begins")):
                if one and (before is None) != (fault is None):
                    say(f"{whole.names[one.host]}: {one.kind} {word}")
            before = fault
            for key, value, time_ms in records(whole, step, given.period, fault):
                producer.produce(given.topic, value, key, timestamp=time_ms, on_delivery=delivered)
            producer.poll(0)
    finally:
        producer.flush(5)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options; times in steps are multiples of the period."""
    parser = argparse.ArgumentParser(
        description="Made-up telemetry of a web fleet, with a fault now and then."
    )
    add: Any = parser.add_argument
    add("--bootstrap", default="localhost:9092", help="Kafka, host:port")
    add("--topic", default="hosts")
    add("--seed", type=int, default=1)
    add("--hosts", type=int, default=12)
    add("--period", type=float, default=10.0, metavar="S", help="seconds between two records of a host")
    add("--history", type=float, default=4.0, metavar="H", help="hours of history for a topic that is empty")
    add("--fault-every", type=int, default=180, metavar="N", help="steps from one fault to the next")
    add("--fault-length", type=int, default=30, metavar="N", help="steps that a fault takes")
    return parser.parse_args(given)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(arguments())
