"""`tocsin alerts` and `tocsin audit` against a broker."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tocsin.detector.alerts import (
    Alert,
    Context,
    Happening,
    Kind,
    Resolution,
    Severity,
    Status,
    alert_of,
    top_features,
)
from tocsin.detector.alerts import message_of as alert_message
from tocsin.detector.changes import BudgetChange, Resolve, Versioned, message_of
from tocsin.detector.cli import main
from tocsin.detector.control import Artefacts, read_all
from tocsin.pipelines.brokers import Broker, open_broker

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
Run = Callable[..., tuple[int, str, str]]


def alert(entity: str, seconds: int, status: Status = Status.FIRING) -> Alert:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    end = START + (100 if reason else seconds) * SECOND
    what = Happening(
        Kind.ANOMALY,
        status,
        Severity.WARNING,
        entity,
        START + seconds * SECOND,
        end,
        41,
        44,
        3.0,
        0.01,
        2.0,
        3.5,
        reason,
    )
    features = top_features(["cpu"], [0.9], [0.2], [1.0])
    return alert_of(what, Context("servers", "web", "servers", 0, "v0001", "v0001"), features)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    admin, producer = found.admin(), found.producer()
    admin.create("servers.alerts", 2)
    admin.create("servers.control", 1)
    messages = [alert("host-1", 1), alert("host-2", 2), alert("host-1", 1, Status.RESOLVED)]
    for one in map(alert_message, messages):
        partition = int((one.key or b"")[-1:] == b"2")
        producer.produce("servers.alerts", one.value, one.key, partition, one.headers)
    producer.produce("servers.alerts", b"no alert", b"k", 1)
    producer.flush(10)
    yield found
    found.close()


@pytest.fixture
def tocsin(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tocsin.toml").write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[stream]\nname = "servers"\n'
    )

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(args)
        done = capsys.readouterr()
        return int(left.value.code or 0), done.out, done.err

    return run


def test_list_shows_the_last_of_each_incident(tocsin: Run) -> None:
    code, out, err = tocsin("alerts", "list", "--json")
    assert code == 0
    assert "skipped 1 messages that are no alerts" in err
    found = json.loads(out)
    assert [(a["labels"]["entity"], a["status"]) for a in found] == [
        ("host-1", "resolved"),
        ("host-2", "firing"),
    ]
    code, out, _ = tocsin("alerts", "list", "--firing")
    assert code == 0
    assert "host-2" in out
    assert "host-1" not in out
    code, out, _ = tocsin("alerts", "list", "--json", "--entity", "*-1")
    assert [a["labels"]["entity"] for a in json.loads(out)] == ["host-1"]


def test_show_takes_a_beginning_of_the_id(tocsin: Run) -> None:
    wanted = alert("host-1", 1).alert_id
    code, out, _ = tocsin("alerts", "show", wanted[:8])
    assert code == 0
    assert out.count(wanted) == 2
    assert "servers[0] 41 to 44" in out
    code, out, _ = tocsin("alerts", "show", wanted, "--json")
    assert [a["status"] for a in json.loads(out)] == ["firing", "resolved"]
    code, _, err = tocsin("alerts", "show", "zz")
    assert code == 1
    assert "No alert on 'servers.alerts' has an id that begins with 'zz'" in err


def test_resolve_publishes_a_change_and_audit_shows_it(tocsin: Run, broker: Broker) -> None:
    wanted = alert("host-2", 2).alert_id
    code, out, _ = tocsin("alerts", "resolve", wanted[:10], "--reason", "maintenance", "--author", "ada")
    assert code == 0
    assert f"change 0: resolve {wanted} of host-2" in out

    def never(data: bytes, signature: bytes, what: str) -> None:
        raise AssertionError

    (change,) = read_all(broker, "servers.control", Artefacts(Path("/nowhere"), never))
    assert isinstance(change, Versioned)
    assert isinstance(change.change, Resolve)
    assert (change.change.alert_id, change.change.partition, change.change.author) == (wanted, 0, "ada")

    code, _, err = tocsin("alerts", "resolve", alert("host-1", 1).alert_id)
    assert code == 1
    assert "is already resolved (recovered" in err

    budget = BudgetChange(id="b", author="bob", reason="less noise", created_at="x", budget="1/day")
    message = message_of(budget)
    producer = broker.producer()
    producer.produce("servers.control", message.value, message.key, 0)
    producer.flush(10)
    code, out, _ = tocsin("audit", "list")
    assert code == 0
    assert f"alert {wanted} of host-2" in out
    assert "budget: as configured -> 1/day" in out
    code, out, _ = tocsin("audit", "list", "--json")
    entries: list[dict[str, Any]] = json.loads(out)
    assert [entry["kind"] for entry in entries] == ["resolve", "budget"]
    assert (entries[1]["author"], entries[1]["reason"], entries[1]["after"]) == (
        "bob",
        "less noise",
        {"budget": "1/day"},
    )


def test_tail_prints_what_comes(tocsin: Run, broker: Broker) -> None:
    stop = threading.Event()

    def produce() -> None:
        producer = broker.producer()
        message = alert_message(alert("host-9", 9))
        while not stop.is_set():
            producer.produce("servers.alerts", message.value, message.key, 0, message.headers)
            producer.flush(10)
            time.sleep(0.1)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        code, out, _ = tocsin("alerts", "tail", "--json", "--count", "1")
        assert code == 0
        assert json.loads(out)["labels"]["entity"] == "host-9"
        code, out, _ = tocsin("alerts", "tail", "--count", "2")
        assert out.count("host-9: score 3.00, threshold 2.00; cpu 0.9 (expected 0.2)") == 2
    finally:
        stop.set()
        thread.join()


def test_a_missing_topic_says_how_to_make_it(tocsin: Run, tmp_path: Path, broker: Broker) -> None:
    config = tmp_path / "other.toml"
    config.write_text(f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[stream]\nname = "other"\n')
    code, _, err = tocsin("alerts", "list", "-c", str(config))
    assert code == 1
    assert "The alert topic 'other.alerts' does not exist" in err
    assert "check --connect --create-topics" in err
