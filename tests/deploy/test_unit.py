"""The unit for systemd: valid, shut in, and for a command that exists. It is not run where these tests are."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rigs.deployed import DEPLOY
from tocsin.detector.cli import load_command

UNIT = DEPLOY / "systemd" / "tocsin.service"
pytestmark = pytest.mark.systemd


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_systemd_understands_it(tmp_path: Path) -> None:
    program = tmp_path / "tocsin"  # without spaces, wherever Python stands
    program.symlink_to(sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/tocsin/bin/tocsin", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_may_do_little() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]
    given = service()
    for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert given[name] == "yes"
    assert (given["ProtectSystem"], given["StateDirectory"]) == ("strict", "tocsin")


def test_its_command_exists() -> None:
    words = shlex.split(service()["ExecStart"])
    assert words[:2] == ["/opt/tocsin/bin/tocsin", "run"]
    known = {option for one in load_command("run").params for option in one.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_it_waits_as_long_as_a_stop_may_take() -> None:
    assert service()["TimeoutStopSec"] == "20s"
    assert service()["RestartPreventExitStatus"] == "2"
