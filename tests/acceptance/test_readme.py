"""The README's way with one's own Kafka, taken line by line as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rigs.daemon import Home, until
from rigs.kafka import free_ports
from telemetry import generate, keys, messages

pytestmark = pytest.mark.kafka

README = Path(__file__).resolve().parents[2] / "README.md"
HEADING = "## With your own Kafka"
TOPIC = "web"
HELD, LIVE = 1050, 150
RUN, TAIL = "tocsin run", "tocsin alerts tail"
FORWARD = "tocsin alerts forward --to alertmanager --url http://localhost:9093"


def steps() -> list[str]:
    """The commands under the heading, in order."""
    section = README.read_text().split(HEADING, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^ {8}(tocsin .*)$", section, re.MULTILINE)


def test_a_strangers_first_ten_minutes(
    make_home: Callable[..., Home],
    followed: Callable[[Home, list[str], list[str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOCSIN__HTTP__PORT", str(free_ports(1)[0]))
    monkeypatch.setenv("TOCSIN__TRAIN__STEPS", "40")  # a tenth of a minute in the place of one
    home = make_home("readme", untrained=True)
    home.config.unlink(missing_ok=True)
    now_us = time.time_ns() // 1000
    fleet = generate(
        seed=3, entities=4, records=HELD + LIVE, features=6, start_us=now_us - (HELD + LIVE) * 10_000_000
    )
    held = np.argsort(fleet.time_us, kind="stable")[: 4 * HELD]
    rest = np.argsort(fleet.time_us, kind="stable")[4 * HELD :]
    struck = rest[(fleet.entity[rest] == 1)][60:75]
    fleet.values[struck] *= 3.0
    values, names = messages(fleet), keys(fleet)
    admin = home.broker.admin()
    admin.create(TOPIC, 4)
    admin.close()
    produce(home, [values[i] for i in held], [names[i] for i in held])

    commands = steps()
    assert commands[0] == f"tocsin init --bootstrap localhost:9092 --topic {TOPIC}"
    assert set(commands) > {RUN, TAIL, FORWARD}
    said: dict[str, str] = {}
    tail: list[str] = []

    def heard(word: str) -> bool:
        return any(word in line for line in tail)

    for command in commands:
        arguments = shlex.split(command.replace("localhost:9092", home.broker.bootstrap))[1:]
        if command == RUN:
            home.start(live=False).ready(wait_s=240)
        elif command == TAIL:
            followed(home, arguments, tail)
            until(lambda: heard("following"), "the command to follow", 60)
            produce(home, [values[i] for i in rest], [names[i] for i in rest])
            until(lambda: heard("firing"), "the fault's alert", 60)
        elif command == FORWARD:
            followed(home, arguments, tail)
            until(lambda: heard("forwarding"), "the command to forward", 60)
        else:
            if command == "tocsin status":  # a person takes longer than the second after which it is told
                until(
                    lambda: home.daemons[0].metric("tocsin_calibration_version") > 0,
                    "the recalibration to act",
                )
            brief = ["--for", "1s"] if command == "tocsin alerts test" else []
            done = home.run(*arguments, *brief, wait_s=240)
            said[command] = done.stdout + done.stderr
    assert "features  6: " in said[commands[0]]
    assert "host: 4 of them" in said[commands[0]]
    assert "ts, in " in said[commands[0]]
    assert f"made topic {TOPIC}.alerts" in said["tocsin check --connect --create-topics"]
    assert heard(fleet.names[1])
    recalibrated = [command for command in commands if command.startswith("tocsin recalibrate")]
    assert ["--dry-run" in command for command in recalibrated] == [True, False]
    assert "published as change" in said[recalibrated[1]]
    assert "budget 1/week per entity over 4 entities" in said["tocsin status"]
    assert all(name in said["tocsin entities list"] for name in fleet.names)
    home.daemons[-1].stop()


def produce(home: Home, values: list[bytes], names: list[bytes]) -> None:
    producer = home.broker.producer()
    for value, name in zip(values, names, strict=True):
        producer.produce(TOPIC, value, name)
    producer.flush(60)
    producer.close()


@pytest.fixture
def followed() -> Iterator[Callable[[Home, list[str], list[str]], None]]:
    """Starts a command whose lines are collected while it runs; it ends with the test."""
    children = []

    def follow(home: Home, arguments: list[str], lines: list[str]) -> None:
        command = [sys.executable, "-m", "tocsin.detector.cli", *arguments]
        child = subprocess.Popen(
            command, cwd=home.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        children.append(child)
        assert child.stdout is not None
        threading.Thread(target=lambda: lines.extend(child.stdout or ()), daemon=True).start()

    yield follow
    for child in children:
        child.kill()
        child.communicate()
