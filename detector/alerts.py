"""Alerts out: one typed JSON message per opening, update and resolution of an incident.

`alert_id` is the first 32 hexadecimal digits of the SHA-256 of four UTF-8 texts joined by one NUL byte:
stream, entity, kind, and the event time in microseconds since 1970 (decimal) of the record that left the
normal state. It is never revised: a repeat under at-least-once delivery and a replay of the same records
give the same one.

Labels are the identity and stay as they were at the opening; annotations say what is known now. Keys are
entities, so the alerts of one entity stay in order. Headers follow the CloudEvents binary mode for Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from .wire import (
    RFC3339_PATTERN,
    Headers,
    Message,
    decode_json,
    stated_version,
    version_of,
)

SCHEMA_VERSION = "1.2"
CLOUD_EVENT_TYPE = "tocsin.alert"
SCHEMA_ID = "urn:tocsin:alert:1"
CONTENT_TYPE = b"application/json"
TOP_FEATURES = 5

Time = Annotated[str, Meta(pattern=RFC3339_PATTERN, description="RFC 3339, UTC, microseconds.")]
AlertId = Annotated[
    str, Meta(pattern="^[0-9a-f]{32}$", description="Stable name of the incident; see the module's text.")
]


class Status(StrEnum):
    """Whether the incident is open."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Kind(StrEnum):
    """What happened: one incident, a digest of those beyond an entity's daily cap, or nothing but a test.

    Absence, lateness and partial are about how an entity's records come, whatever they hold.
    """

    ANOMALY = "anomaly"
    DIGEST = "digest"
    ABSENCE = "absence"
    LATENESS = "lateness"
    PARTIAL = "partial"
    TEST = "test"


class Severity(StrEnum):
    """Fixed at opening. Critical: the score was so far beyond the threshold that it opened at once.

    A digest is always a warning, whatever it holds.
    """

    WARNING = "warning"
    CRITICAL = "critical"


class Resolution(StrEnum):
    """Why an incident ended."""

    RECOVERED = "recovered"
    GONE = "gone"
    LEVEL_CHANGE = "level_change"
    OPERATOR = "operator"


class Basis(StrEnum):
    """What the p-value stands on: counted scores, the tail fitted beyond them, or the pooled prior."""

    EMPIRICAL = "empirical"
    EXTRAPOLATED = "extrapolated"
    PRIOR = "prior"


ALERT_NAMES = {kind: f"Tocsin{kind.value.capitalize()}" for kind in Kind}
TEST_ENTITY = "tocsin-test"


class Feature(msgspec.Struct, frozen=True):
    """A feature responsible, in the units of the input; null where it was missing."""

    name: str
    observed: float | None
    expected: float | None
    share: Annotated[float, Meta(ge=0, le=1, description="Its part of the anomaly; all features sum to 1.")]


class Labels(msgspec.Struct, frozen=True):
    """Identity, as Alertmanager understands it."""

    alertname: str
    stream: str
    entity: str
    group: str
    severity: Severity


class Expected(msgspec.Struct, frozen=True):
    """Up to which event time the entity's incidents are expected, and by which change of the control topic."""

    until: Time
    change: Annotated[int, Meta(ge=0)]


class Annotations(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the incident at this message."""

    summary: Annotated[str, Meta(description="One line for people.")]
    score: Annotated[
        float | None, Meta(description="Score of the record behind this message; 0 is ordinary.")
    ]
    p_value: Annotated[float | None, Meta(description="Chance that a normal record scores this high.")]
    threshold: Annotated[float | None, Meta(description="The rolling threshold at that record.")]
    peak: Annotated[float | None, Meta(description="The highest score of the incident so far.")]
    reach: Annotated[
        float | None, Meta(description="The highest fixed level at which it has opened: feedback goes by it.")
    ] = None
    features: tuple[Feature, ...]
    reason: Annotated[Resolution | None, Meta(description="Why it ended; null while firing.")]
    basis: Basis
    conservative: Annotated[
        str | None, Meta(description="Why the threshold is set carefully (short_history), else null.")
    ]
    model_version: str
    calibration_version: str
    topic: str
    partition: int
    first_offset: Annotated[int, Meta(description="Offset of the record that left the normal state.")]
    last_offset: Annotated[int, Meta(description="Offset of the record behind this message.")]
    escalation: Annotated[
        Severity | None,
        Meta(description="What the incident has become beyond its severity, which is fixed at opening."),
    ]
    held: Annotated[int, Meta(ge=0, description="Incidents that a digest holds; 0 for others.")]
    held_onsets: Annotated[
        tuple[Time, ...], Meta(description="When the one that this message adds to a digest began.")
    ]
    in_a_row: Annotated[
        int,
        Meta(
            ge=0,
            description="Which incident in a row it is, each begun soon after the recovery before it; 0: another kind.",
        ),
    ] = 0
    expected: Annotated[
        Expected | None,
        Meta(description="It opened while the entity's incidents were expected: wake nobody."),
    ] = None
    late: Annotated[bool, Meta(description="The data was older than the configured age when it was judged.")]
    runbook: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the alert topic."""

    schema_version: str
    alert_id: AlertId
    kind: Kind
    status: Status
    labels: Labels
    annotations: Annotations
    starts_at: Annotated[Time, Meta(description="Event time of the record that left the normal state.")]
    ends_at: Annotated[Time | None, Meta(description="Event time of the end; null while firing.")]
    event_time: Annotated[Time, Meta(description="Event time of the record behind this message.")]


_DECODER = msgspec.json.Decoder(Alert)
_ENCODER = msgspec.json.Encoder()


def alert_id(stream: str, entity: str, kind: str, onset_us: int) -> str:
    """The incident's name: see the module's text for the exact bytes."""
    text = "\0".join((stream, entity, str(kind), str(int(onset_us))))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def event_id(alert: Alert) -> str:
    """CloudEvents id: one per distinct message of an incident, the same for a repeat of it."""
    held = f"-{alert.annotations.held}" if alert.kind is Kind.DIGEST else ""
    return f"{alert.alert_id}-{alert.status.value}{held}"


def message_of(alert: Alert) -> Message:
    """Key (the entity), value (JSON) and CloudEvents headers."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id(alert).encode()),
        ("ce_source", f"/tocsin/{quote(alert.labels.stream)}".encode()),
        ("ce_type", f"{CLOUD_EVENT_TYPE}.{alert.status.value}".encode()),
        ("ce_time", alert.event_time.encode()),
        ("content-type", CONTENT_TYPE),
    ]
    return Message(alert.labels.entity.encode(), _ENCODER.encode(alert), headers)


def decode(value: bytes | None, what: str = "the alert") -> Alert:
    """An alert out of JSON. DataError, naming `what`, where it is none or of a newer major."""
    return decode_json(_DECODER, value, what, 1)


def is_newer(value: bytes) -> bool:
    """Whether a message says that it was written to a later schema than `SCHEMA_VERSION`."""
    found, known = stated_version(value), version_of(SCHEMA_VERSION)
    return found is not None and known is not None and found > known


def latest(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """The last message of every incident, in the order in which the incidents were first seen."""
    found: dict[str, Alert] = {}
    for alert in alerts:
        found[alert.alert_id] = alert
    return found


def alert_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an alert, from the types above."""
    schema = msgspec.json.schema(Alert)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Tocsin alert",
        **schema,
    }
