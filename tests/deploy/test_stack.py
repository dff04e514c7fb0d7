"""What the containers run, run here without containers: their commands, files and environment, on loopback ports.

Only what belongs to a container is put in its place: addresses, folders, and times, so that it takes a minute.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from rigs.daemon import COMMAND, until
from rigs.deployed import DEPLOY, instructions, panels, plain, rules, services
from rigs.kafka import Node, free_ports
from rigs.source import ROOT

pytestmark = [pytest.mark.kafka, pytest.mark.prometheus, pytest.mark.alertmanager, pytest.mark.slow]

SERVICES = services()
QUICK = {"TRAIN__MIN_RECORDS": "200", "TRAIN__STEPS": "20", "STATE__SNAPSHOT_EVERY": "1s"}
PRODUCER = [
    "--hosts",
    "6",
    "--period",
    "0.2",
    "--history",
    "0.02",
    "--fault-every",
    "100",
    "--fault-length",
    "40",
]
JAVA = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Programs:
    """Processes of a test, each with a log; all end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], **environment: str) -> None:
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [*guard, *command], cwd=self.folder, env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def alive(self) -> None:
        for name, process in self.running.items():
            assert process.poll() is None, f"{name} has ended:\n{self.log(name)[-3000:]}"

    def close(self) -> None:
        for process in reversed(self.running.values()):
            process.kill()
            process.wait()


class Stack(NamedTuple):
    programs: Programs
    bootstrap: str
    properties: dict[str, str]
    """Kafka's, as its container would write them."""
    url: dict[str, str]
    environment: dict[str, str]
    forward: list[str]
    """The command of that service, which one test starts."""


def properties(environment: Mapping[str, str]) -> dict[str, str]:
    """server.properties, as the image makes them of KAFKA_…."""
    kept = {
        name: value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in kept.items()}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def serves(bootstrap: str) -> bool:
    try:
        return bool(
            AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=5).brokers
        )
    except KafkaException:
        return False


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


def ask(stack: Stack, expr: str) -> list[Any]:
    found = get(f"{stack.url['prometheus']}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
    assert found["status"] == "success"
    return list(found["data"]["result"])


def rewritten(text: str, ports: Mapping[str, int]) -> str:
    """Names of services as loopback addresses."""
    for address, port in ports.items():
        text = text.replace(address, f"127.0.0.1:{port}")
    return text


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    programs = Programs(folder)
    inside, outside, controller, http, prometheus, alertmanager = free_ports(6)
    ports = {"tocsin:9469": http, "alertmanager:9093": alertmanager, "localhost:9090": prometheus}
    try:
        node = Node(1, folder / "kafka", JAVA)
        given = properties(SERVICES["kafka"]["environment"])
        moved = {
            "log.dirs": str(node.directory / "data"),
            "listeners": f"INSIDE://127.0.0.1:{inside},OUTSIDE://127.0.0.1:{outside},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"INSIDE://127.0.0.1:{inside},OUTSIDE://127.0.0.1:{outside}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        assert moved.keys() <= given.keys()
        node.write({**given, **moved})
        assert node.format(SERVICES["kafka"]["environment"]["CLUSTER_ID"]).wait(60) == 0, node.tail()
        node.start()
        bootstrap = f"127.0.0.1:{inside}"
        until(lambda: serves(bootstrap), "Kafka")

        config = str(DEPLOY / "tocsin" / "tocsin.toml")
        environment = {
            "TOCSIN__KAFKA__BOOTSTRAP": bootstrap,
            "TOCSIN__REGISTRY__PATH": str(folder / "registry"),
            "TOCSIN__REGISTRY__PRIVATE_KEY": str(folder / "signing-key.pem"),
            "TOCSIN__HTTP__HOST": "127.0.0.1",
            "TOCSIN__HTTP__PORT": str(http),
            **{f"TOCSIN__{name}": value for name, value in QUICK.items()},
        }

        def ours(name: str) -> list[str]:
            words = [word.replace("/etc/tocsin/tocsin.toml", config) for word in SERVICES[name]["command"]]
            return [*COMMAND, *(rewritten(word, ports) for word in words)]

        made = subprocess.run(
            ours("topics"), env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr
        words = [word.replace("kafka:19092", bootstrap) for word in SERVICES["producer"]["command"]]
        programs.start("producer", [sys.executable, str(DEPLOY / "producer.py"), *words, *PRODUCER])

        (folder / "prometheus").mkdir()
        text = rewritten((DEPLOY / "prometheus" / "prometheus.yml").read_text(), ports)
        (folder / "prometheus" / "prometheus.yml").write_text(text.replace("15s", "1s"))
        text = re.sub(r"\bfor: \d+[mh]", "for: 2s", (DEPLOY / "prometheus" / "rules.yml").read_text())
        (folder / "prometheus" / "rules.yml").write_text(text)
        for name, port in (("prometheus", prometheus), ("alertmanager", alertmanager)):
            target = str(folder / "prometheus") if name == "prometheus" else str(DEPLOY / "alertmanager")
            words = [word.replace(f"/etc/{name}", target) for word in SERVICES[name]["command"]]
            words = [re.sub(rf"=/{name}$", f"={folder / 'data' / name}", word) for word in words]
            program = "prometheus-alertmanager" if name == "alertmanager" else name
            programs.start(name, [program, *words, f"--web.listen-address=127.0.0.1:{port}"])
        programs.start("tocsin", ours("tocsin"), **environment)
        url = {
            "tocsin": f"http://127.0.0.1:{http}",
            "prometheus": f"http://127.0.0.1:{prometheus}",
            "alertmanager": f"http://127.0.0.1:{alertmanager}",
        }
        until(lambda: programs.alive() or answers(f"{url['alertmanager']}/-/ready"), "Alertmanager")
        until(lambda: programs.alive() or answers(f"{url['prometheus']}/-/ready"), "Prometheus")
        until(lambda: programs.alive() or answers(f"{url['tocsin']}/-/ready"), "a model, and readiness", 200)
        yield Stack(programs, bootstrap, given, url, environment, ours("forward"))
    finally:
        programs.close()
        node.stop(kill=True)


def test_kafka_understands_every_property(stack: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap, "log_level": 0})
    [future] = admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")]).values()
    known = future.result(30)
    for name, value in stack.properties.items():
        assert name in known, name
        moved = name.endswith("listeners") or name in ("log.dirs", "controller.quorum.voters")
        assert moved or known[name].value == value, name


def test_the_image_s_health_check_says_yes(stack: Stack) -> None:
    [check] = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    command = [
        sys.executable,
        *(word.replace("http://127.0.0.1:9469", stack.url["tocsin"]) for word in command[1:]),
    ]
    assert subprocess.run(command, check=False).returncode == 0
    wrong = [word.replace("/-/healthy", "/-/nothing") for word in command]
    assert subprocess.run(wrong, check=False, capture_output=True).returncode != 0


def test_prometheus_scrapes_and_has_the_rules(stack: Stack) -> None:
    until(lambda: {one["value"][1] for one in ask(stack, "up")} == {"1"}, "every target to be up")
    assert {one["metric"]["job"] for one in ask(stack, "up")} == {"tocsin", "prometheus"}
    groups = get(f"{stack.url['prometheus']}/api/v1/rules")["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == [
        rule["alert"] for rule in rules()
    ]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}


def test_a_fault_is_found(stack: Stack) -> None:
    until(lambda: "begins" in stack.programs.log("producer"), "a fault")
    until(lambda: stack.programs.alive() or ask(stack, "sum(tocsin_alerts_total) > 0"), "an alert")


def test_an_alert_comes_to_those_it_concerns(stack: Stack) -> None:
    """By `forward`, to Alertmanager, and on."""
    stack.programs.start("forward", stack.forward, **stack.environment)

    def arrived() -> list[Any]:
        stack.programs.alive()
        alerts = get(f"{stack.url['alertmanager']}/api/v2/alerts")
        return [one for one in alerts if one["labels"].get("entity")]

    first = until(arrived, "an alert")[0]
    assert first["labels"]["stream"] == "hosts"
    assert first["labels"]["entity"].startswith("web-")
    assert [one["name"] for one in first["receivers"]] == ["owners"]


def test_prometheus_answers_every_query_of_the_dashboard(stack: Stack) -> None:
    silent = set()
    time.sleep(3)  # a rate needs two scrapes
    for panel in panels():
        found = [ask(stack, plain(target["expr"])) for target in panel["targets"]]
        if not any(found):
            silent.add(panel["title"])
    # What has not happened has no series yet: nothing was refused, no broker was away, no block of drift is full.
    assert silent <= {
        "Dead letters",
        "Dead letters, last hour",
        "Records lost, ever",
        "Errors of the Kafka client",
        "Drift",
        "First model",
    }


def test_a_daemon_that_is_stopped_is_reported_with_what_to_do(stack: Stack) -> None:
    process = stack.programs.running.pop("tocsin")
    process.send_signal(signal.SIGTERM)
    assert process.wait(int(SERVICES["tocsin"]["stop_grace_period"].rstrip("s"))) == 0

    def down() -> list[Any]:
        alerts = get(f"{stack.url['alertmanager']}/api/v2/alerts")
        return [one for one in alerts if one["labels"]["alertname"] == "TocsinDown"]

    found = until(down, "TocsinDown")[0]
    assert found["labels"]["severity"] == "critical"
    assert [one["name"] for one in found["receivers"]] == ["operators"]
    page, _, anchor = found["annotations"]["runbook"].partition("#")
    assert (ROOT / page).exists()
    assert anchor == "tocsindown"
