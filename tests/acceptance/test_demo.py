"""`tocsin demo` from outside: a fresh daemon learns this machine, finds a real fault, leaves nothing behind.

What is watched is the machine that the tests run on. Other work that comes or goes on it in these minutes is
an anomaly too, and is found as one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

TOCSIN = [sys.executable, "-m", "tocsin.detector.cli", "demo", "--json"]
CAUSES = ("cpu_", "memory_")

pytestmark = [pytest.mark.slow, pytest.mark.demo, pytest.mark.timeout(300)]


class Story(NamedTuple):
    """What a demo told."""

    seconds: float
    events: list[dict[str, Any]]

    def only(self, kind: str) -> dict[str, Any]:
        (event,) = [event for event in self.events if event["event"] == kind]
        return event

    def alerts(self, status: str) -> list[dict[str, Any]]:
        """The alert events in this state."""
        found = [event for event in self.events if event["event"] == "alert"]
        return [event for event in found if event["alert"]["status"] == status]


def of_host(event: dict[str, Any]) -> bool:
    return event["alert"]["labels"]["stream"] == "hosts"


def tell(*flags: str) -> Story:
    begun = time.monotonic()
    done = subprocess.run([*TOCSIN, *flags], capture_output=True, text=True, timeout=280, check=False)
    seconds = time.monotonic() - begun
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return Story(seconds, [json.loads(line) for line in done.stdout.splitlines()])


@pytest.fixture(scope="module")
def story() -> Story:
    return tell()


def test_it_is_over_in_three_minutes(story: Story) -> None:
    assert story.seconds < 180
    assert story.events[-1]["event"] == "done"


def test_its_configuration_sets_no_rules(story: Story) -> None:
    import tomllib

    settings = tomllib.loads(story.only("configuration")["text"].split("\n", 1)[1])
    assert settings.pop("thresholds") == {"budget": "20/hour"}
    assert settings.pop("train") == {"min_records": 120}
    assert set(settings.pop("kafka")) == {"bootstrap"}
    assert set(settings.pop("registry")) == {"path", "private_key"}
    assert set(settings.pop("http")) == {"port"}
    assert settings == {"streams": {"hosts": {}, "processes": {}}}


def test_half_a_minute_of_ordinary_life_is_scored_and_nothing_fires(story: Story) -> None:
    live, fault = story.only("live")["at"], story.only("fault_started")["at"]
    assert fault - live >= 15.0
    assert story.only("watched")["seconds"] >= 30.0
    assert [event["text"] for event in story.alerts("firing") if event["at"] < fault] == []


def test_the_fault_is_found_at_once_with_its_cause_first(story: Story) -> None:
    fault, found = story.only("fault_started"), story.only("found")
    assert found["at"] - fault["at"] <= 20.0
    (alert,) = [e["alert"] for e in story.alerts("firing") if e["alert"]["alert_id"] == found["alert_id"]]
    assert alert["labels"]["stream"] == "hosts"
    assert alert["annotations"]["features"][0]["name"].startswith(CAUSES)
    assert fault["cores"] >= 1
    assert fault["memory_bytes"] <= 512 << 20


def test_at_most_one_other_incident(story: Story) -> None:
    found = story.only("found")["alert_id"]
    others = [event for event in story.alerts("firing") if event["alert"]["alert_id"] != found]
    assert len({event["alert"]["alert_id"] for event in others}) <= 1, [event["text"] for event in others]


def test_the_incident_is_over_within_a_minute_of_the_fault(story: Story) -> None:
    found = story.only("found")["alert_id"]
    (over,) = [e for e in story.alerts("resolved") if e["alert"]["alert_id"] == found]
    assert over["at"] - story.only("fault_stopped")["at"] <= 60.0
    assert over["alert"]["annotations"]["reason"] == "recovered"


def test_a_recalibration_takes_effect_in_the_running_daemon(story: Story) -> None:
    told = story.only("recalibrated")
    assert told["after"] != told["before"]
    assert story.only("recalibration")["text"]


def test_nothing_is_left_behind(story: Story) -> None:
    folder = Path(story.only("configuration")["path"]).parent
    assert not folder.exists()
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if mentions(p, str(folder))]
    assert left == []
    assert not psutil.pid_exists(story.only("fault_started")["pid"])


def test_without_the_fault_nothing_fires_on_the_host() -> None:
    quiet = tell("--no-fault")
    assert quiet.events[-1]["event"] == "done"
    assert [event["text"] for event in quiet.alerts("firing") if of_host(event)] == []


def test_an_interrupt_leaves_nothing_behind() -> None:
    demo = subprocess.Popen(TOCSIN, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    folder = Path(json.loads(demo.stdout.readline())["path"]).parent
    time.sleep(2.0)
    children = psutil.Process(demo.pid).children(recursive=True)
    assert len(children) >= 2  # the fault's process, waiting, and the daemon
    os.kill(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert not folder.exists()
    assert psutil.wait_procs(children, timeout=10)[1] == []


def mentions(process: psutil.Process, folder: str) -> bool:
    return any(folder in word for word in process.info["cmdline"] or ())
