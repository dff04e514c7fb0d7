"""`tocsin alerts` and `tocsin audit` against a broker."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tocsin.detector.alert_topic import publish_alert
from tocsin.detector.alerts import Alert, Kind, Resolution, Severity, Status
from tocsin.detector.alerts import message_of as alert_message
from tocsin.detector.changelog import Decision, encode_decision
from tocsin.detector.changes import BudgetChange, Resolve, Versioned, message_of
from tocsin.detector.control import Artefacts, read_all
from tocsin.detector.happenings import Context, Happening, alert_of, top_features, trial_alert
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


def test_decisions_are_listed_by_time_with_what_was_done(tocsin: Run, broker: Broker) -> None:
    _, out, _ = tocsin("audit", "decisions")
    assert out == "no decision was ever taken: servers.changelog holds none\n"
    admin, producer = broker.admin(), broker.producer()
    admin.create("servers", 2)
    admin.create("servers.changelog", 2)
    decisions = [
        Decision(
            partition=1,
            offset=70,
            kind="drift",
            of="score",
            time_us=START + 60 * SECOND,
            what="model_stale",
            action="propose_training",
            values={"before": 0.1, "after": 0.5, "blocks": 30.0},
        ),
        Decision(partition=0, offset=9, kind="level_change", of="host-1", time_us=START),
    ]
    for one in decisions:
        key, value = encode_decision("servers", one)
        producer.produce("servers.changelog", value, key, one.partition)
    producer.flush(10)
    code, out, _ = tocsin("audit", "decisions")
    assert code == 0
    assert out.splitlines() == [
        "2023-11-14 22:13:20  servers/0@9  level_change of host-1: recorded",
        "2023-11-14 22:14:20  servers/1@70  model_stale of score: propose_training (before 0.1, after 0.5, blocks 30)",
    ]
    _, out, _ = tocsin("audit", "decisions", "--json")
    assert [one["decision"]["kind"] for one in json.loads(out)] == ["level_change", "drift"]


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

    code, out, _ = tocsin("alerts", "resolve", wanted[:10], "--rebase")
    assert (code, "and take what it shows for its new ordinary" in out) == (0, True)
    *_, change = read_all(broker, "servers.control", Artefacts(Path("/nowhere"), never))
    assert isinstance(change, Versioned)
    assert isinstance(change.change, Resolve)
    assert change.change.rebase

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
    assert f"alert {wanted} of host-2, whose new ordinary this is" in out
    assert "budget: as configured -> 1/day" in out
    code, out, _ = tocsin("audit", "list", "--json")
    entries: list[dict[str, Any]] = json.loads(out)
    assert [entry["kind"] for entry in entries] == ["resolve", "resolve", "budget"]
    assert (entries[2]["author"], entries[2]["reason"], entries[2]["after"]) == (
        "bob",
        "less noise",
        {"budget": "1/day"},
    )


def test_explain_says_why_in_words_and_as_json(tocsin: Run) -> None:
    wanted = alert("host-1", 1).alert_id
    code, out, _ = tocsin("alerts", "explain", wanted[:8])
    assert code == 0
    assert "scored 3.00, 1.00 above the entity's rolling threshold of 2.00" in out
    assert "Responsible: cpu 0.9 where 0.2 was expected (100%)." in out
    assert "Opened once 2 of the last 3 records were anomalous" in out
    assert "It lasted 1m39s of event time" in out
    assert "Ended (recovered): 5 records in a row lay below the threshold less 0.1." in out
    code, out, _ = tocsin("alerts", "explain", wanted, "--json")
    found = json.loads(out)
    assert (found["alert_id"], found["opened_by"], found["above"], found["lasted_s"]) == (
        wanted,
        "k_of_m",
        1.0,
        99.0,
    )
    assert (found["reason"], found["model_version"], found["late"]) == ("recovered", "v0001", False)
    code, _, err = tocsin("alerts", "explain", "zz")
    assert code == 1
    assert "No alert on 'servers.alerts' has an id that begins with 'zz'" in err


def test_a_test_alert_is_marked_and_ends(tocsin: Run) -> None:
    code, out, _ = tocsin("alerts", "test", "--for", "0s", "--severity", "critical", "--json")
    assert code == 0
    first, last = map(json.loads, out.splitlines())
    assert (first["kind"], first["labels"]["alertname"], first["labels"]["severity"]) == (
        "test",
        "TocsinTest",
        "critical",
    )
    assert (first["status"], last["status"], last["alert_id"]) == ("firing", "resolved", first["alert_id"])
    assert last["ends_at"] >= last["starts_at"] == first["starts_at"]
    code, out, _ = tocsin("alerts", "explain", first["alert_id"])
    assert "no record is behind it and nothing is wrong" in out
    assert "`tocsin alerts test` ended it" in out
    code, out, _ = tocsin("alerts", "show", first["alert_id"])
    assert code == 0
    assert "test" in out
    for wrong in (("--for", "5"), ("--severity", "loud")):
        code, _, err = tocsin("alerts", "test", *wrong)
        assert (code, "allowed are warning or critical" in err) == (2, True)


def test_a_test_alert_that_was_left_open_can_be_closed(tocsin: Run, broker: Broker) -> None:
    left = trial_alert("servers", Severity.WARNING, START)
    publish_alert(broker, "servers.alerts", left)
    code, _, err = tocsin("alerts", "resolve", left.alert_id, "--rebase")
    assert (code, "is of kind test: --rebase is for an anomaly" in err) == (1, True)
    code, out, _ = tocsin("alerts", "resolve", left.alert_id[:12], "--json")
    assert code == 0
    assert json.loads(out)["status"] == "resolved"
    code, _, err = tocsin("alerts", "resolve", left.alert_id)
    assert code == 1
    assert "is already resolved (operator" in err


def test_forward_says_what_is_missing_or_wrong_and_nothing_secret(tocsin: Run, tmp_path: Path) -> None:
    code, _, err = tocsin("alerts", "forward")
    assert (code, "--to alertmanager|webhook and --url" in err) == (2, True)
    for args in (
        ("--to", "pager", "--url", "http://x"),
        ("--to", "webhook", "--url", "ftp://ada:s3cret@x"),
        ("--to", "webhook", "--url", "http://ada:s3cret@[::1"),
        ("--to", "webhook", "--url", "http://ada:s3cret@x", "--header-file", "missing"),
    ):
        code, out, err = tocsin("alerts", "forward", *args)
        assert code == 2, args
        assert "s3cret" not in out + err
    with (tmp_path / "tocsin.toml").open("a") as file:
        file.write('[forward]\nresend = "4m"\nhold = "5m"\n')
    code, _, err = tocsin("alerts", "forward")
    assert (code, "hold = 5m is less than twice resend = 4m" in err) == (2, True)


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
        code, out, _ = tocsin("alerts", "tail", "--count", "2", "--entity", "*-9")
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
