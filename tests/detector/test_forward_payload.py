"""What a forwarder sends: Alertmanager's form, its times, and alerts of other versions."""

import json
from typing import Any

import msgspec
import pytest
from tocsin.detector import forward_payload as payload
from tocsin.detector.alerts import Kind, Resolution, Severity, Status, message_of
from tocsin.detector.happenings import Context, Happening, alert_of, top_features, trial_alert, trial_over
from tocsin.detector.wire import rfc3339
from tocsin.errors import DataError, NewerSchema

ONSET = 1_700_000_000_000_000
SECOND = 1_000_000
NOW = ONSET + 60 * SECOND
RULES = payload.Rules(600 * SECOND)


def told(status: Status = Status.FIRING, end_us: int = ONSET + 20 * SECOND, **changes: Any) -> dict[str, Any]:
    reason = Resolution.RECOVERED if status is Status.RESOLVED else None
    what = Happening(
        Kind.ANOMALY,
        status,
        Severity.WARNING,
        "host-1",
        ONSET,
        end_us,
        41,
        44,
        3.25,
        1e-12,
        2.5,
        3.5,
        reason,
    )
    features = top_features(["cpu", "mem"], [0.93, float("nan")], [0.25, 3], [0.7, 0.3])
    alert = alert_of(what, Context("servers", "web", "metrics", 3, "v1", "v1.1", "https://wiki/r"), features)
    content: dict[str, Any] = json.loads(message_of(alert).value or b"")
    return {**content, **changes}


def sent(content: dict[str, Any], now_us: int = NOW, rules: payload.Rules = RULES) -> dict[str, Any]:
    return payload.alertmanager(payload.decode(json.dumps(content).encode(), "it"), now_us, rules)


def test_an_open_incident_has_its_identity_as_labels_and_the_rest_as_text() -> None:
    content = told()
    assert sent(content) == {
        "labels": {
            "alertname": "TocsinAnomaly",
            "stream": "servers",
            "entity": "host-1",
            "group": "web",
            "severity": "warning",
            "alert_id": content["alert_id"],
        },
        "annotations": {
            "summary": "host-1: score 3.25, threshold 2.50; cpu 0.93 (expected 0.25), mem missing (expected 3)",
            "score": "3.25",
            "p_value": "1e-12",
            "threshold": "2.5",
            "peak": "3.5",
            "features": "cpu 0.93 (expected 0.25, share 70%); mem missing (expected 3, share 30%)",
            "basis": "empirical",
            "model_version": "v1",
            "calibration_version": "v1.1",
            "topic": "metrics",
            "partition": "3",
            "first_offset": "41",
            "last_offset": "44",
            "held": "0",
            "in_a_row": "0",
            "late": "false",
            "runbook_url": "https://wiki/r",
            "event_time": rfc3339(ONSET + 20 * SECOND),
        },
        "startsAt": rfc3339(ONSET),
        "endsAt": rfc3339(NOW + 600 * SECOND),
    }


def test_a_resolved_one_ends_when_it_ended_and_never_later_than_now() -> None:
    found = sent(told(Status.RESOLVED))
    assert (found["startsAt"], found["endsAt"]) == (rfc3339(ONSET), rfc3339(ONSET + 20 * SECOND))
    assert found["annotations"]["reason"] == "recovered"
    ahead = sent(told(Status.RESOLVED, ONSET + 500 * SECOND))
    assert ahead["endsAt"] == rfc3339(NOW), "event time ahead of the clock must not keep it open"


def test_event_times_that_lie_ahead_give_a_span_that_is_one() -> None:
    for status in Status:
        found = sent(told(status, ONSET + 30 * SECOND), now_us=ONSET - SECOND)
        assert found["startsAt"] == rfc3339(ONSET - SECOND) <= found["endsAt"]


def test_the_same_incident_has_the_same_labels_and_another_other_ones() -> None:
    first, last = sent(told()), sent(told(Status.RESOLVED))
    assert first["labels"] == last["labels"]
    assert sent(told(alert_id="0" * 32))["labels"] != first["labels"]


def test_a_link_to_the_source_is_filled_in_and_quoted() -> None:
    rules = RULES._replace(source_url="https://g/d/x?var={entity}&s={stream}&id={alert_id}&k={kept}")
    content = told()
    content["labels"]["entity"] = "a b&c/{stream}"
    link = sent(content, rules=rules)["generatorURL"]
    assert link == f"https://g/d/x?var=a%20b%26c%2F%7Bstream%7D&s=servers&id={content['alert_id']}&k={{kept}}"


def test_a_newer_minor_is_passed_on_with_what_it_has_added() -> None:
    content = told(schema_version="1.99", kind="storm", added={"a": 1})
    content["labels"]["site"] = "eu"
    content["annotations"] |= {"flapping": True, "shape": {"x": [1]}, "names": ["a", "b"], "none": None}
    found = sent(content)
    assert found["labels"]["site"] == "eu"
    shown = found["annotations"]
    assert (shown["flapping"], shown["shape"], shown["names"]) == ("true", '{"x":[1]}', "a, b")
    assert "none" not in shown


def test_a_newer_major_is_told_apart_from_what_is_no_alert() -> None:
    with pytest.raises(NewerSchema, match=r"2\.0, newer than the"):
        payload.decode(json.dumps(told(schema_version="2.0")).encode(), "it")
    for value in (b"", None, b"{}", b"\xff", b'{"schema_version":"1.0"}'):
        with pytest.raises(DataError) as fault:
            payload.decode(value, "it")
        assert not isinstance(fault.value, NewerSchema)


def test_a_trial_says_that_it_is_one() -> None:
    alert = trial_alert("servers", Severity.CRITICAL, ONSET, "https://wiki/r")
    found = sent(msgspec.to_builtins(alert))
    assert found["labels"]["alertname"] == "TocsinTest"
    assert found["labels"]["severity"] == "critical"
    assert "nothing is wrong" in found["annotations"]["summary"]
    assert not {"score", "p_value", "threshold", "model_version"} & found["annotations"].keys()
    over = sent(msgspec.to_builtins(trial_over(alert, ONSET + 5)))
    assert (over["labels"], over["endsAt"]) == (found["labels"], rfc3339(ONSET + 5))


def test_a_group_has_its_own_identity_and_no_other() -> None:
    group = {
        "schema_version": "1.0",
        "group_id": "a" * 32,
        "status": "firing",
        "labels": {"alertname": "TocsinGroup", "stream": "servers", "group": "web", "severity": "critical"},
        "annotations": {"summary": "3 entities", "entities": 3, "open": 2, "escalation": None},
        "members": [{"alert_id": "b" * 32}],
        "starts_at": rfc3339(ONSET),
        "ends_at": None,
        "updated_at": rfc3339(ONSET),
    }
    found = sent(group, rules=RULES._replace(source_url="https://g/{entity}/{alert_id}"))
    assert found["labels"] == {**group["labels"], "group_id": "a" * 32}
    assert found["annotations"] == {"summary": "3 entities", "entities": "3", "open": "2"}
    assert found["startsAt"] == rfc3339(ONSET)
    assert found["generatorURL"] == f"https://g//{'a' * 32}"
    del group["group_id"]
    with pytest.raises(DataError, match="neither alert_id nor group_id"):
        sent(group)
