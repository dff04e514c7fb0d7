"""docker-compose.yml: valid, pinned, closed to the network, and all that it mounts and names is there.

No container engine runs where these tests do: the images themselves are not run. What their services run is, by
test_stack.py.
"""

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import yaml
from rigs.deployed import DEPLOY, IMAGE_OF_OURS, compose, services
from rigs.source import ROOT
from tocsin.detector.cli import load_command
from tocsin.detector.http_access import access_of
from tocsin.detector.settings import load

SERVICES = services()
OURS = [name for name, one in SERVICES.items() if one["image"].startswith(IMAGE_OF_OURS)]
PINNED = re.compile(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}")
LISTENS = {
    "kafka": {"19092"},
    "tocsin": {"9469"},
    "prometheus": {"9090"},
    "alertmanager": {"9093"},
    "grafana": {"3000"},
}
"""Ports that each service has inside."""

each = pytest.mark.parametrize("name", SERVICES)


def test_it_obeys_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@each
def test_its_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert PINNED.fullmatch(image) or image == f"{IMAGE_OF_OURS}{version}"


def test_one_service_builds_our_image_and_the_others_wait_for_it() -> None:
    builds = [name for name in OURS if "build" in SERVICES[name]]
    assert builds == ["topics"]
    for name in OURS:
        if name not in builds:
            assert SERVICES[name]["pull_policy"] == "never"
            assert SERVICES[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_the_kafka_is_the_one_of_the_tests() -> None:
    pom = ElementTree.parse(ROOT / "tests" / "kafka" / "pom.xml")
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        one.findtext("m:artifactId", "", space): one.findtext("m:version", "", space)
        for one in pom.iterfind(".//m:dependency", space)
    }
    [version] = [version for name, version in versions.items() if name.startswith("kafka")]
    assert SERVICES["kafka"]["image"].startswith(f"apache/kafka:{version}@")


@each
def test_its_ports_are_open_on_the_loopback_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


@each
def test_it_may_do_little(name: str) -> None:
    one = SERVICES[name]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices", "user"} & one.keys()
    assert one.get("read_only", False) or name in ("kafka", "grafana")


@each
def test_what_it_mounts_is_there(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in compose()["volumes"]


def test_every_volume_is_used() -> None:
    mounts = [mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", [])]
    assert {source for source in mounts if not source.startswith(".")} == set(compose()["volumes"])


@each
def test_its_health_is_looked_at(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    if name == "tocsin":
        assert check is None, "the image's own"
    elif check == {"disable": True}:
        assert name in OURS, "these serve nothing that could be asked"
    else:
        assert check is not None
        assert check["test"][0] == "CMD"


@each
def test_what_it_waits_for_can_come_true(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "on-failure"


def settings_of(value: Any) -> list[tuple[str, str]]:
    """Names and values, however deep."""
    if isinstance(value, dict):
        deep = [pair for one in value.values() for pair in settings_of(one)]
        return deep + [(str(k), v) for k, v in value.items() if isinstance(v, str)]
    if isinstance(value, list):
        return [pair for one in value for pair in settings_of(one)]
    return []


def test_there_are_no_secrets() -> None:
    content: list[Any] = [compose()]
    content += [yaml.safe_load(path.read_text()) for path in DEPLOY.rglob("*.yml")]
    content += [tomllib.loads(path.read_text()) for path in DEPLOY.rglob("*.toml")]
    for name, value in settings_of(content):
        assert not re.search(r"(?i)(password|secret|token|api_?key)$", name), name
        assert "PRIVATE KEY" not in value, name


@pytest.mark.parametrize("name", [name for name in OURS if "entrypoint" not in SERVICES[name]])
def test_its_command_exists_with_its_options(name: str) -> None:
    words = list(SERVICES[name]["command"])
    command = load_command(words.pop(0))
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", {}), words
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known
    targets = [mount.split(":")[1] for mount in SERVICES[name]["volumes"]]
    assert words[words.index("--config") + 1] in targets


def test_the_configuration_is_valid_and_lies_in_the_volume() -> None:
    settings = load(DEPLOY / "tocsin" / "tocsin.toml", environ={})
    assert settings.stream().topics == ("hosts",)
    assert access_of(settings.http).allows(None)  # as the health check and Prometheus ask
    targets = [mount.split(":")[1] for mount in SERVICES["tocsin"]["volumes"]]
    for path in (settings.registry.path, settings.registry.private_key):
        assert str(path).startswith(tuple(f"{target}/" for target in targets))


def test_every_address_is_a_service_that_listens_there() -> None:
    texts = [path.read_text() for path in (*DEPLOY.rglob("*.yml"), *DEPLOY.rglob("*.toml"))]
    texts += [str(one.get("command", "")) for one in SERVICES.values()]
    found = {
        (host, port)
        for text in texts
        for host, port in re.findall(r"(?<![\w.])([a-z]+):(\d{4,5})\b", text)
        if host != "localhost"
    }
    assert found
    for host, port in found - {("a", "9469"), ("b", "9469"), ("c", "9469")}:  # of the rules' tests
        assert port in LISTENS[host], f"{host}:{port}"
