"""Alerts: one id for ever, a schema that every one meets, headers that say what it is."""

import hashlib
import json
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
import tocsin.detector
from hypothesis import given
from hypothesis import strategies as st
from tocsin.detector import events
from tocsin.detector.alerts import (
    Alert,
    Basis,
    Kind,
    Resolution,
    Severity,
    Status,
    alert_id,
    alert_schema,
    decode,
    event_id,
    is_newer,
    latest,
    message_of,
)
from tocsin.detector.happenings import Context, Happening, alert_of, top_features
from tocsin.errors import DataError
from tocsin.thresholds.constants import NO_TIME, Reason
from tocsin.thresholds.constants import Kind as Code
from tocsin.thresholds.constants import Severity as Grade
from tocsin.thresholds.state import EVENT

ONSET = 1_700_000_000_123_456
CONTEXT = Context("servers", "web", "metrics", 3, "v0001", "v0001", "https://wiki/runbook")


def happening(**changes: Any) -> Happening:
    base = Happening(
        Kind.ANOMALY,
        Status.FIRING,
        Severity.WARNING,
        "host-1",
        ONSET,
        ONSET + 5,
        41,
        44,
        3.25,
        0.001,
        2.5,
        3.5,
    )
    return base._replace(**changes)


def test_the_id_is_pinned() -> None:
    """Others recompute it: these bytes are a promise."""
    text = b"servers\0host-1\0anomaly\x001700000000123456"
    expected = hashlib.sha256(text).hexdigest()[:32]
    assert alert_id("servers", "host-1", "anomaly", ONSET) == expected == "b7f13b54235984f63c8e48d773f9355e"
    assert alert_of(happening(), CONTEXT).alert_id == expected


def test_the_id_is_never_revised() -> None:
    first = alert_of(happening(), CONTEXT)
    later = happening(
        status=Status.RESOLVED,
        reason=Resolution.RECOVERED,
        severity=Severity.CRITICAL,
        time_us=ONSET + 9_000_000,
        offset=99,
        score=0.1,
        peak=9.0,
        basis=Basis.PRIOR,
    )
    other = CONTEXT._replace(model_version="v0002", calibration_version="9", group="db", partition=7)
    last = alert_of(later, other, top_features(["cpu"], [1], [2], [1]), late=True)
    assert last.alert_id == first.alert_id
    assert last.starts_at == first.starts_at


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)), st.integers(0, 2**62), st.integers(0, 2**62))
def test_different_incidents_have_different_ids(entities: tuple[str, str], one: int, two: int) -> None:
    a, b = (
        alert_id("s", entity, "anomaly", onset) for entity, onset in zip(entities, (one, two), strict=True)
    )
    assert (a == b) == (entities[0] == entities[1] and one == two)


def test_the_whole_message() -> None:
    features = top_features(["cpu", "mem", "disk"], [0.93, np.nan, 1], [0.25, 3, 1], [0.7, 0.3, 0])
    message = message_of(alert_of(happening(), CONTEXT, features))
    assert message.key == b"host-1"
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"b7f13b54235984f63c8e48d773f9355e-firing",
        "ce_source": b"/tocsin/servers",
        "ce_type": b"tocsin.alert.firing",
        "ce_time": b"2023-11-14T22:13:20.123461Z",
        "content-type": b"application/json",
    }
    assert json.loads(message.value or b"") == {
        "schema_version": "1.2",
        "alert_id": "b7f13b54235984f63c8e48d773f9355e",
        "kind": "anomaly",
        "status": "firing",
        "labels": {
            "alertname": "TocsinAnomaly",
            "stream": "servers",
            "entity": "host-1",
            "group": "web",
            "severity": "warning",
        },
        "annotations": {
            "summary": "host-1: score 3.25, threshold 2.50; cpu 0.93 (expected 0.25), mem missing "
            "(expected 3)",
            "score": 3.25,
            "p_value": 0.001,
            "threshold": 2.5,
            "peak": 3.5,
            "reach": None,
            "features": [
                {"name": "cpu", "observed": 0.93, "expected": 0.25, "share": 0.7},
                {"name": "mem", "observed": None, "expected": 3.0, "share": 0.3},
            ],
            "reason": None,
            "basis": "empirical",
            "conservative": None,
            "model_version": "v0001",
            "calibration_version": "v0001",
            "topic": "metrics",
            "partition": 3,
            "first_offset": 41,
            "last_offset": 44,
            "escalation": None,
            "held": 0,
            "held_onsets": [],
            "in_a_row": 0,
            "expected": None,
            "late": False,
            "runbook": "https://wiki/runbook",
        },
        "starts_at": "2023-11-14T22:13:20.123456Z",
        "ends_at": None,
        "event_time": "2023-11-14T22:13:20.123461Z",
    }


floats = st.floats(allow_nan=True, allow_infinity=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
happenings = st.builds(
    Happening,
    kind=st.sampled_from(Kind),
    status=st.sampled_from(Status),
    severity=st.sampled_from(Severity),
    entity=texts,
    onset_us=st.integers(-(2**63), 2**63 - 1),
    time_us=st.integers(-(2**63), 2**63 - 1),
    first_offset=st.integers(-1, 2**63 - 1),
    offset=st.integers(0, 2**63 - 1),
    score=floats,
    p_value=floats,
    threshold=floats,
    peak=floats,
    reason=st.sampled_from(Resolution) | st.none(),
    basis=st.sampled_from(Basis),
    conservative=st.none() | texts,
    held=st.integers(0, 10_000),
    held_onsets_us=st.lists(st.integers(0, 2**60), max_size=3),
    escalated=st.booleans(),
    in_a_row=st.integers(0, 255),
    reach=floats,
    expected=st.none() | st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31)),
)
shares = st.lists(st.tuples(texts, floats, floats, st.floats(0, 1)), max_size=8)
VALIDATOR = jsonschema.Draft202012Validator(alert_schema())


@given(happenings, shares, st.booleans())
def test_every_alert_meets_the_schema_and_comes_back(
    what: Happening, rows: list[tuple[str, float, float, float]], late: bool
) -> None:
    names, observed, expected, parts = zip(*rows, strict=True) if rows else ((), (), (), ())
    alert = alert_of(what, CONTEXT, top_features(names, observed, expected, parts), late)
    value = message_of(alert).value or b""
    VALIDATOR.validate(json.loads(value))
    assert decode(value) == alert


def test_the_schema_refuses_what_is_no_alert() -> None:
    good = json.loads(message_of(alert_of(happening(), CONTEXT)).value or b"")
    assert VALIDATOR.is_valid({**good, "added_later": 1})
    for name, wrong in (("alert_id", "xyz"), ("starts_at", "today"), ("status", "open"), ("labels", {})):
        assert not VALIDATOR.is_valid({**good, name: wrong})
    for name in good:
        assert not VALIDATOR.is_valid({key: value for key, value in good.items() if key != name})


def test_the_schema_in_the_package_is_current() -> None:
    """`make docs` writes it."""
    jsonschema.Draft202012Validator.check_schema(alert_schema())
    shipped = files(tocsin.detector).joinpath("schemas/alert.schema.json").read_text()
    assert shipped == json.dumps(alert_schema(), indent=2, ensure_ascii=False) + "\n"


def test_alerts_are_immutable_through_and_through() -> None:
    alert = alert_of(
        happening(kind=Kind.DIGEST, held_onsets_us=[ONSET]), CONTEXT, top_features(["a"], [1], [2], [1])
    )
    assert {alert, decode(message_of(alert).value)} == {alert}
    with pytest.raises(AttributeError):
        alert.annotations.score = 0.0  # type: ignore[misc]


def test_a_newer_version_is_recognised_in_whatever_message() -> None:
    for version, newer in (
        ("1.0", False),
        ("1.1", False),
        ("1.2", False),
        ("1.3", True),
        ("2.0", True),
        ("0.9", False),
        ("x", False),
    ):
        assert is_newer(json.dumps({"schema_version": version, "status": 7}).encode()) is newer
    assert not is_newer(b"no JSON")


def test_top_features_are_ordered_bounded_and_without_zeros() -> None:
    names = list("abcdefgh")
    found = top_features(names, range(8), range(8), [0.1, 0.2, 0.2, 0, 0.1, 0.1, 0.1, 0.2])
    assert [feature.name for feature in found] == ["b", "c", "h", "a", "e"]
    assert top_features(["a"], [1], [1], [0]) == []


def test_a_digest_counts_and_its_messages_are_told_apart() -> None:
    digests = [
        alert_of(happening(kind=Kind.DIGEST, held=n, held_onsets_us=(ONSET + n,)), CONTEXT) for n in (1, 2)
    ]
    assert digests[0].alert_id == digests[1].alert_id != alert_of(happening(), CONTEXT).alert_id
    assert [event_id(digest).split("-")[1:] for digest in digests] == [["firing", "1"], ["firing", "2"]]
    assert digests[0].annotations.summary.startswith("host-1: 1 more incident than its daily cap")
    assert digests[0].labels.alertname == "TocsinDigest"


def test_resolved_alerts_say_why_and_when() -> None:
    alert = alert_of(happening(status=Status.RESOLVED, reason=Resolution.GONE), CONTEXT)
    assert alert.ends_at == alert.event_time
    assert alert.annotations.reason is Resolution.GONE
    assert alert.annotations.summary == "host-1: ended (gone), peak score 3.50"
    assert alert_of(happening(reason=Resolution.GONE), CONTEXT).annotations.reason is None


def test_the_latest_of_each() -> None:
    first = alert_of(happening(), CONTEXT)
    other = alert_of(happening(entity="host-2"), CONTEXT)
    last = alert_of(happening(status=Status.RESOLVED), CONTEXT)
    assert list(latest([first, other, last]).values()) == [last, other]


@given(st.binary(max_size=40))
def test_other_bytes_are_data_errors(value: bytes) -> None:
    with pytest.raises(DataError, match="the alert at 7"):
        decode(value, "the alert at 7")


def event(**fields: Any) -> np.void:
    row = np.zeros(1, EVENT)
    values = {
        "kind": Code.OPENED,
        "severity": Grade.CRITICAL,
        "alert": ONSET,
        "onset": ONSET + 7,
        "onset_offset": 41,
        "time_us": ONSET + 9,
        "offset": 44,
        "score": 3.0,
        "p": 0.01,
        "threshold": 2.0,
        "peak": 3.0,
        "rebased": np.nan,
        "reach": 2.25,
        "until": NO_TIME,
        "held": 2,
        "flaps": 2,
    }
    for name, value in {**values, **fields}.items():
        row[name] = value
    return row[0]


def test_events_of_the_machine() -> None:
    opened = events.happening_of(event(), "e", Basis.PRIOR, "short_history")
    assert opened is not None
    assert opened[:8] == (Kind.ANOMALY, Status.FIRING, Severity.CRITICAL, "e", ONSET, ONSET + 9, 41, 44)
    assert opened[8:] == (
        3.0,
        0.01,
        2.0,
        3.0,
        None,
        Basis.PRIOR,
        "short_history",
        0,
        (),
        False,
        2,
        2.25,
        None,
    )
    resolved = events.happening_of(event(kind=Code.RESOLVED, reason=Reason.OPERATOR), "e")
    assert resolved is not None
    assert (resolved.status, resolved.reason) == (Status.RESOLVED, Resolution.OPERATOR)
    stronger = event(kind=Code.RESOLVED, reason=Reason.RECOVERED, severity=Grade.WARNING, strong=True)
    for happened, escalation in ((stronger, Severity.CRITICAL), (event(strong=True), None)):
        found = events.happening_of(happened, "e")
        assert found is not None
        assert alert_of(found, CONTEXT).annotations.escalation is escalation
    digest = events.happening_of(event(kind=Code.DIGEST_UPDATED, strong=True), "e")
    assert digest is not None
    assert (digest.kind, digest.held, digest.held_onsets_us) == (Kind.DIGEST, 2, (ONSET + 7,))
    assert digest.severity is Severity.WARNING
    assert not digest.escalated
    assert digest.onset_us == ONSET


def test_which_incident_in_a_row_it_is_is_said_from_the_second_on() -> None:
    said = [alert_of(happening(in_a_row=row), CONTEXT).annotations for row in (1, 2)]
    assert [one.in_a_row for one in said] == [1, 2]
    assert [" in a row" in one.summary for one in said] == [False, True]
    end = happening(status=Status.RESOLVED, reason=Resolution.RECOVERED, in_a_row=4)
    assert alert_of(end, CONTEXT).annotations.summary.endswith("peak score 3.50 (incident 4 in a row)")


@pytest.mark.parametrize(
    ("code", "over", "name", "said"),
    [
        (Code.ABSENT, Code.PRESENT, "TocsinAbsence", "no record since 2023-11-14T22:13:20.123456Z"),
        (
            Code.BEHIND,
            Code.CAUGHT_UP,
            "TocsinLateness",
            "records behind the newest of its partition since 2023",
        ),
        (Code.PARTIAL, Code.COMPLETE, "TocsinPartial", "no disk, net since 2023-11-14T22:13:20.123456Z"),
    ],
)
def test_how_records_come_is_told_under_names_of_its_own(
    code: Code, over: Code, name: str, said: str
) -> None:
    nothing = {"score": np.nan, "p": np.nan, "threshold": np.nan, "peak": np.nan, "held": 0, "flaps": 0}
    begun = events.happening_of(event(kind=code, severity=Grade.WARNING, **nothing), "host-1")
    ended = events.happening_of(
        event(kind=over, severity=Grade.WARNING, reason=Reason.RECOVERED, **nothing), "host-1"
    )
    assert begun is not None
    assert ended is not None
    missing = top_features(["disk", "net"], [np.nan, np.nan], [1, 2], [0.5, 0.5])
    first, last = alert_of(begun, CONTEXT, missing), alert_of(ended, CONTEXT)
    assert first.alert_id == last.alert_id == alert_id("servers", "host-1", first.kind, ONSET)
    assert first.labels.alertname == name
    assert first.annotations.summary.startswith(f"host-1: {said}")
    assert last.annotations.summary.endswith("again")
    assert (first.annotations.score, first.annotations.peak, first.annotations.in_a_row) == (None, None, 0)
    jsonschema.validate(json.loads(message_of(first).value or b""), alert_schema())


def test_a_level_change_is_a_decision_and_no_alert() -> None:
    change = event(kind=Code.LEVEL_CHANGE, rebased=1.5)
    assert events.happening_of(change, "e") is None
    decision = events.decision_of(change, "e", 3, "web")
    assert decision is not None
    assert (decision.kind, decision.of, decision.offset, decision.partition) == ("level_change", "e", 44, 3)
    assert decision.values == {"slow_average": 1.5, "peak": 3.0}
    assert events.decision_of(event(), "e", 3, "web") is None


def test_a_shift_is_a_decision_and_no_alert() -> None:
    shift = event(kind=Code.SHIFT, before=0.1, after=0.9)
    assert events.happening_of(shift, "e") is None
    decision = events.decision_of(shift, "e", 3, "web")
    assert decision is not None
    assert (decision.kind, decision.of, decision.offset, decision.partition) == ("shift", "e", 44, 3)
    assert decision.values == {"before": 0.1, "after": 0.9}
    assert (decision.what, decision.action) == ("shift", "refresh")


@pytest.mark.parametrize(("code", "action"), [(Code.FREEZE, "freeze"), (Code.THAW, "thaw")])
def test_an_outage_is_a_decision_of_the_partition(code: Code, action: str) -> None:
    decision = events.decision_of(event(kind=code), "e", 3, "web")
    assert decision is not None
    assert (decision.kind, decision.of, decision.what, decision.action) == ("outage", "", "outage", action)
    assert events.happening_of(event(kind=code), "e") is None


@pytest.mark.parametrize("code", [code for code in Code if code < Code.LEVEL_CHANGE])
@pytest.mark.parametrize("reason", [reason for reason in Reason if reason])
def test_every_event_makes_a_valid_alert(code: Code, reason: Reason) -> None:
    found = events.happening_of(event(kind=code, reason=reason, score=np.nan, p=np.nan), "e")
    assert found is not None
    alert: Alert = alert_of(found, CONTEXT)
    VALIDATOR.validate(json.loads(message_of(alert).value or b""))
