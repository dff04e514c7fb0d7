"""`tocsin alerts feedback` against a broker: what it publishes, tells beforehand, refuses, and where it is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tocsin.detector.alerts import Alert, Kind, Resolution, Severity, Status, message_of
from tocsin.detector.changelog import encode_snapshot
from tocsin.detector.changes import BudgetChange, Feedback, Revert, Versioned
from tocsin.detector.changes import message_of as change_message
from tocsin.detector.control import Artefacts, read_all
from tocsin.detector.happenings import Context, Happening, alert_of
from tocsin.detector.state import StreamState
from tocsin.pipelines.brokers import Broker, open_broker
from tocsin.pipelines.schema import FeatureSchema
from tocsin.thresholds.constants import DAY_US, LEVELS
from versions import STAMP

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
Run = Callable[..., tuple[int, str, str]]


def alert(entity: str, status: Status = Status.RESOLVED, **more: Any) -> Alert:
    stream, epoch = more.pop("stream", "servers"), more.pop("epoch", 3)
    what = Happening(
        more.pop("kind", Kind.ANOMALY),
        status,
        more.pop("severity", Severity.WARNING),
        entity,
        START,
        START + 90 * SECOND,
        41,
        44,
        3.0,
        0.01,
        2.0,
        3.5,
        Resolution.RECOVERED if status is Status.RESOLVED else None,
        reach=2.0,
        **more,
    )
    return alert_of(what, Context(stream, "web", "servers", 0, "v0001", f"v0001.{epoch}"))


TOLD = {
    "weak": alert("host-1"),
    "strong": alert("host-2", severity=Severity.CRITICAL),
    "old": alert("host-3", epoch=1),
    "unknown": alert("host-9"),
    "digest": alert("host-1", kind=Kind.DIGEST, held=2),
    "stranger": alert("host-1", stream="clients"),
    "expected": alert("host-4", Status.FIRING, expected=(START + 3600 * SECOND, 7)),
}


def snapshot(broker: Broker) -> None:
    """What a daemon would have written of three entities: the level 1.0, below which there is no room."""
    state = StreamState(FeatureSchema(("cpu",), ()), 16, 1)
    part = state.part("servers", 0)
    state.rulings[part] = SimpleNamespace(note=lambda: {"change": 0, "model": "v0001"})
    slots = state.table.intern_all(part, ["host-1", "host-2", "host-3"])
    state.reserve()
    state.assigned.owner[slots] = part
    core = state.decision.core
    core["epoch"][slots], core["level"][slots], core["anchor"][slots], core["share"][slots] = 3, 1.0, 1.0, 1.0
    core["span_us"][slots] = DAY_US
    state.decision.openings[slots] = np.array([9.0] * 7 + [1.0] * 9 + [0.0] * (LEVELS - 16), np.float32)
    pairs, _ = encode_snapshot("servers", 0, state.snapshot(part, 50), None, 1, 0)
    producer = broker.producer()
    for key, value in pairs:
        producer.produce("servers.changelog", value, key, 0)
    producer.flush(10)
    producer.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    admin, producer = found.admin(), found.producer()
    for name in ("alerts", "control", "changelog"):
        admin.create(f"servers.{name}", 1)
    for one in map(message_of, TOLD.values()):
        producer.produce("servers.alerts", one.value, one.key, 0, one.headers)
    first = change_message(BudgetChange(budget="1/day per entity", **STAMP))
    producer.produce("servers.control", first.value, first.key, 0)
    producer.flush(10)
    snapshot(found)
    yield found
    found.close()


def published(broker: Broker) -> list[Any]:
    def never(data: bytes, signature: bytes, what: str) -> None:
        raise AssertionError

    found = read_all(broker, "servers.control", Artefacts(Path("/nowhere"), never))
    return [one.change for one in found if isinstance(one, Versioned)][1:]


def name(what: str) -> str:
    return TOLD[what].alert_id


def test_it_tells_what_it_does_and_with_dry_run_does_nothing(tocsin: Run, broker: Broker) -> None:
    code, out, err = tocsin("alerts", "feedback", name("strong")[:12], "--false", "--dry-run")
    assert (code, err) == (0, "nothing was published (--dry-run)\n")
    assert out.splitlines() == [
        f"incident {name('strong')} of host-2: a false alarm",
        "counts against the budget: no -> yes, at the fixed levels up to 2",
        "level 1.000 -> 2.125",
    ]
    assert published(broker) == []
    code, out, _ = tocsin("alerts", "feedback", name("strong"), "--false", "--dry-run", "--json")
    assert json.loads(out) == {
        "change": None,
        "alert_id": name("strong"),
        "entity": "host-2",
        "verdict": "false",
        "until": None,
        "reach": 2.0,
        "known": True,
        "counted_before": False,
        "counted_after": True,
        "level_before": 1.0,
        "level_after": 2.125,
        "ends": False,
        "remark": "",
    }


def test_what_is_said_is_published_shown_and_taken_back(tocsin: Run, broker: Broker) -> None:
    given = ("--reason", "disk was full", "--author", "ada")
    code, out, _ = tocsin("alerts", "feedback", name("weak")[:10], "--true", *given)
    assert code == 0
    assert out.splitlines()[-1] == "published as change 1; `tocsin alerts feedback --revert 1` takes it back"
    (change,) = published(broker)
    assert isinstance(change, Feedback)
    assert (change.alert_id, change.entity, change.topic, change.partition) == (
        name("weak"),
        "host-1",
        "servers",
        0,
    )
    assert (change.verdict, change.until, change.author, change.reason) == (
        "true",
        None,
        "ada",
        "disk was full",
    )
    assert (change.epoch, change.reach, change.counted, change.starts_at) == (
        3,
        2.0,
        True,
        TOLD["weak"].starts_at,
    )

    code, out, _ = tocsin("alerts", "feedback", name("weak"), "--expected", "2h")
    assert code == 0
    until = "2023-11-15T00:13:20.000000Z"
    assert "until now: real, by ada in change 1" in out
    assert f"incidents of host-1 up to {until} are expected and wake nobody" in out
    assert "counts against the budget: no -> no (it did not count)" in out

    code, out, _ = tocsin("alerts", "list", "--json")
    said = {one["alert_id"]: one["feedback"] for one in json.loads(out)}
    assert said[name("strong")] is None
    assert (said[name("weak")]["verdict"], said[name("weak")]["until"], said[name("weak")]["change"]) == (
        "expected",
        until,
        2,
    )
    code, out, _ = tocsin("alerts", "list")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert " expected " in lines[name("weak")[:8]]
    assert " expected " in lines[name("expected")[:8]]
    assert " expected " not in lines[name("strong")[:8]]
    code, out, _ = tocsin("alerts", "show", name("weak"))
    assert f"expected until {until} (change 2," in out
    code, out, _ = tocsin("alerts", "show", name("expected"))
    assert "expected until 2023-11-14T23:13:20.000000Z (change 7)" in out
    code, out, _ = tocsin("alerts", "explain", name("weak"))
    assert "says by change 2 that it was expected" in out
    code, out, _ = tocsin("alerts", "explain", name("expected"))
    assert "by change 7 incidents of host-4 are, up to 2023-11-14T23:13:20.000000Z" in out

    code, out, _ = tocsin("alerts", "feedback", "--revert", "2")
    assert code == 0
    assert f"incident {name('weak')} of host-1: real" in out
    assert isinstance(published(broker)[-1], Revert)
    code, out, _ = tocsin("alerts", "show", name("weak"))
    assert "true (change 1, ada: disk was full)" in out
    code, out, _ = tocsin("audit", "list")
    assert code == 0
    shown = [line.strip() for line in out.splitlines() if "feedback: " in line and "->" in line]
    assert shown == [
        "feedback: none -> true",
        f"feedback: true -> expected until {until}",
        f"feedback: expected until {until} -> true",
    ]
    assert f"feedback, alert {name('weak')} of host-1 (in force)" in out
    code, out, _ = tocsin("alerts", "feedback", "--revert", "1")
    assert f"incident {name('weak')} of host-1: nothing is said of it any more" in out
    assert "counts against the budget: no -> yes" in out
    code, out, _ = tocsin("recalibrate", "--revert", "4")  # the way in which all other changes are taken back
    assert code == 0
    code, out, _ = tocsin("alerts", "show", name("weak"))
    assert "true (change 1, ada: disk was full)" in out


def test_what_changes_nothing_says_why(tocsin: Run) -> None:
    code, out, _ = tocsin("alerts", "feedback", name("old"), "--true", "--dry-run")
    assert code == 0
    why = "it was counted in epoch 1 of the entity's calibration, which is in epoch 3 now"
    assert f"counts against the budget: yes -> yes ({why})" in out
    assert "level 1.000 -> 1.000" in out
    code, out, _ = tocsin("alerts", "feedback", name("unknown"), "--true", "--dry-run")
    assert code == 0
    assert "not known here: no snapshot of servers/0 holds host-9" in out


def test_what_cannot_be_said_is_refused(tocsin: Run, broker: Broker) -> None:
    weak = name("weak")
    for args in (
        (),
        (weak,),
        (weak, "--true", "--false"),
        (weak, "--true", "--expected", "2h"),
        (weak, "--revert", "1"),
        ("--true",),
        ("--revert", "1", "--true"),
    ):
        code, _, err = tocsin("alerts", "feedback", *args)
        assert (code, "say one thing of one incident" in err) == (2, True), args
    code, _, err = tocsin("alerts", "feedback", weak, "--expected", "soon")
    assert (code, "write a duration from the incident's onset" in err) == (2, True)
    for what, why in (
        ("digest", "is a digest: it holds 2 incidents of host-1"),
        ("stranger", "--stream clients"),
    ):
        code, _, err = tocsin("alerts", "feedback", name(what), "--true")
        assert (code, why in err) == (1, True), err
    code, _, err = tocsin("alerts", "feedback", "zz", "--true")
    assert (code, "has an id that begins with 'zz'" in err) == (1, True)
    for version in ("0", "9"):
        code, _, err = tocsin("alerts", "feedback", "--revert", version)
        assert (code, f"change {version} is no feedback" in err) == (1, True)
    assert published(broker) == []


def test_what_is_expected_is_nothing_to_look_at(tocsin: Run) -> None:
    code, out, _ = tocsin("alerts", "rank", "--json")
    assert code == 0
    assert [one["alert"]["alert_id"] for one in json.loads(out)] == []
