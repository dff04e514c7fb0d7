"""Many alerts in one message: what grouping reads of an alert, and what it publishes of many.

`group_id` is the first 32 hexadecimal digits of the SHA-256 of three UTF-8 texts joined by one NUL byte: stream, group
and the `alert_id` of the alert that was published first of all in it. It is never revised. Keys are groups, so the
messages about one group stay in order. Headers follow the CloudEvents binary mode for Kafka.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from ..errors import NewerSchema
from .alerts import CONTENT_TYPE, AlertId, Severity, Status, Time
from .wire import Headers, Message, decode_json

SCHEMA_VERSION = "1.0"
CLOUD_EVENT_TYPE = "tocsin.group"
SCHEMA_ID = "urn:tocsin:group:1"
ALERT_NAME = "TocsinGroup"
MAJOR = ALERT_MAJOR = 1


class WordLabels(msgspec.Struct, frozen=True):
    """The labels of an alert that grouping goes by."""

    stream: str
    entity: str
    group: str
    severity: str


class WordNotes(msgspec.Struct, frozen=True):
    """The annotations of an alert that ranking goes by."""

    score: float | None = None
    p_value: float | None = None
    basis: str = ""
    expected: dict[str, Any] | None = None


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, of which no more is demanded than grouping needs: one of a newer minor version is read too."""

    schema_version: str
    alert_id: AlertId
    kind: str
    status: str
    labels: WordLabels
    annotations: WordNotes
    starts_at: Time
    ends_at: Time | None = None
    event_time: str = ""


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """An incident in a group, with what its alert said at the opening."""

    alert_id: AlertId
    entity: str
    severity: str
    status: Status
    starts_at: Annotated[Time, Meta(description="Event time of the record that left the normal state.")]
    score: float | None
    p_value: float | None
    basis: Annotated[str, Meta(description="What the p-value stands on.")]
    discovery: Annotated[
        bool,
        Meta(
            description="It is open, and its p-value is small among those of all that are open in the stream."
        ),
    ]


class GroupLabels(msgspec.Struct, frozen=True):
    """Identity, as Alertmanager understands it; fixed when the group opens."""

    alertname: str
    stream: str
    group: str
    severity: Annotated[
        Severity, Meta(description="That of the worst member when the group opened; see `escalation`.")
    ]


class GroupNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the group at this message."""

    summary: Annotated[str, Meta(description="One line for people.")]
    entities: Annotated[int, Meta(ge=1, description="Different entities among the members.")]
    members: Annotated[int, Meta(ge=1, description="Incidents in the group, open or over.")]
    open: Annotated[int, Meta(ge=0, description="Those of them that are open.")]
    discoveries: Annotated[int, Meta(ge=0, description="Those of the open ones that are discoveries.")]
    unlisted: Annotated[int, Meta(ge=0, description="Members that the list leaves out.")]
    escalation: Annotated[
        Severity | None, Meta(description="Critical where a critical member came after the opening.")
    ]
    regrouped: Annotated[
        bool, Meta(description="It ended although members may be open: they are grouped otherwise now.")
    ] = False


class Grouped(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the topic of groups."""

    schema_version: str
    group_id: Annotated[
        str, Meta(pattern="^[0-9a-f]{32}$", description="Stable name of the group; see the module's text.")
    ]
    status: Annotated[Status, Meta(description="Firing while a member is, unless it was regrouped.")]
    labels: GroupLabels
    annotations: GroupNotes
    members: Annotated[
        tuple[GroupMember, ...],
        Meta(description="The open ones, the one to look at first in front, then those that are over."),
    ]
    starts_at: Annotated[Time, Meta(description="The earliest onset of a member.")]
    ends_at: Annotated[Time | None, Meta(description="The latest end of a member; null while firing.")]
    updated_at: Annotated[Time, Meta(description="When the newest alert in it was published, by Kafka.")]


_WORDS = msgspec.json.Decoder(Word)
_GROUPS = msgspec.json.Decoder(Grouped)
_ENCODER = msgspec.json.Encoder()


def decode_word(value: bytes | None, what: str) -> Word:
    """An alert out of JSON.

    Raises:
        NewerSchema: it is of a newer major version.
        DataError: it is no alert.
    """
    return decode_json(_WORDS, value, what, ALERT_MAJOR, newer=NewerSchema)


def decode_grouped(value: bytes | None, what: str) -> Grouped:
    """A group out of JSON. DataError, naming `what`, where it is none or of a newer major."""
    return decode_json(_GROUPS, value, what, MAJOR)


def regrouped(grouped: Grouped, now: Time) -> Grouped:
    """The end of a group that is none any more."""
    notes = msgspec.structs.replace(
        grouped.annotations,
        summary=f"{grouped.labels.group}: this group is none any more, its members are grouped otherwise",
        regrouped=True,
    )
    return msgspec.structs.replace(
        grouped, status=Status.RESOLVED, annotations=notes, ends_at=now, updated_at=now
    )


def group_id(stream: str, group: str, first: str) -> str:
    """The group's name: see the module's text for the exact bytes."""
    return hashlib.sha256("\0".join((stream, group, first)).encode()).hexdigest()[:32]


def event_id(grouped: Grouped) -> str:
    """CloudEvents id: one per number of members and of open ones, the same for a repeat."""
    notes = grouped.annotations
    return f"{grouped.group_id}-{grouped.status.value}-{notes.members}-{notes.open}"


def message_of(grouped: Grouped) -> Message:
    """Key (the group), value (JSON) and CloudEvents headers."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id(grouped).encode()),
        ("ce_source", f"/tocsin/{quote(grouped.labels.stream)}".encode()),
        ("ce_type", f"{CLOUD_EVENT_TYPE}.{grouped.status.value}".encode()),
        ("ce_time", grouped.updated_at.encode()),
        ("content-type", CONTENT_TYPE),
    ]
    return Message(grouped.labels.group.encode(), _ENCODER.encode(grouped), headers)


def group_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a grouped message, from the types above."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Tocsin group of alerts",
        **msgspec.json.schema(Grouped),
    }
