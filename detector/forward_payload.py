"""What a forwarder sends: an alert as Alertmanager's API v2 takes it, or its own JSON as it stands.

An alert of a newer minor version is passed on whole: labels, annotations and values that this program does not
know travel like the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from ..errors import NewerSchema
from .alerts import AlertId, Status, Time
from .wire import decode_json, rfc3339

MAJOR = 1
PLACES = ("stream", "entity", "alert_id")
"""What the link to the source may name in braces."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An alert or a group of them, of which no more is demanded than forwarding needs."""

    schema_version: str
    alert_id: AlertId = ""
    group_id: AlertId = ""
    status: str
    labels: dict[str, str]
    annotations: dict[str, Any]
    starts_at: Time
    ends_at: Time | None = None
    event_time: str = ""

    def __post_init__(self) -> None:
        """It must have a name. ValueError where it has none, which decoding says as every other fault."""
        if not (self.alert_id or self.group_id):
            raise ValueError("it has neither alert_id nor group_id")

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from all others: the label and its value."""
        return ("alert_id", self.alert_id) if self.alert_id else ("group_id", self.group_id)

    @property
    def resolved(self) -> bool:
        """Whether the incident is over."""
        return self.status == Status.RESOLVED

    @property
    def expected(self) -> bool:
        """Whether it opened while operators expected it, so that nobody is to be woken."""
        return bool(self.annotations.get("expected"))


class Rules(NamedTuple):
    """How an alert is told to an Alertmanager."""

    hold_us: int
    """How long an open incident stays open there without being told again."""
    source_url: str = ""


_DECODER = msgspec.json.Decoder(Envelope)
_ENCODER = msgspec.json.Encoder()


def decode(value: bytes | None, what: str) -> Envelope:
    """An alert out of JSON.

    Raises:
        NewerSchema: it is of a newer major version.
        DataError: it is no alert.
    """
    return decode_json(_DECODER, value, what, MAJOR, newer=NewerSchema)


def alertmanager(alert: Envelope, now_us: int, rules: Rules) -> dict[str, Any]:
    """One element of the array that `POST /api/v2/alerts` takes.

    What Alertmanager does goes by its own clock, so neither time may lie ahead of now: it would show an incident
    before it began, and would wait to resolve it. An open one ends in the future, or it would end at once.
    """
    now = rfc3339(now_us)
    begin = min(alert.starts_at, now)  # all times have one form, in which text sorts like time
    end = rfc3339(now_us + rules.hold_us)
    if alert.resolved:
        end = max(begin, min(alert.ends_at or now, now))
    told = {
        "labels": {**alert.labels, alert.identity[0]: alert.identity[1]},
        "annotations": texts(alert),
        "startsAt": begin,
        "endsAt": end,
    }
    link = rules.source_url
    for place, text in zip(PLACES, _named(alert), strict=True):
        link = link.replace(f"{{{place}}}", quote(text, safe=""))
    return {**told, "generatorURL": link} if link else told


def _named(alert: Envelope) -> tuple[str, ...]:
    return alert.labels.get("stream", ""), alert.labels.get("entity", ""), alert.identity[1]


def texts(alert: Envelope) -> dict[str, str]:
    """The annotations as text, without the empty ones; the runbook under the name that others give it."""
    found = {"runbook_url" if name == "runbook" else name: _text(v) for name, v in alert.annotations.items()}
    found["event_time"] = alert.event_time
    return {name: text for name, text in found.items() if text}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float():
            return f"{value:.6g}"
        case [{"name": str()}, *_]:
            return "; ".join(map(_feature, value))
        case []:
            return ""
        case [str(), *_]:
            return ", ".join(map(str, value))
    return _ENCODER.encode(value).decode()


def _feature(feature: Mapping[str, Any]) -> str:
    observed, expected, share = (feature.get(key) for key in ("observed", "expected", "share"))
    seen = "missing" if observed is None else f"{observed:.4g}"
    known = [] if expected is None else [f"expected {expected:.4g}"]
    known += [] if share is None else [f"share {share:.0%}"]
    return f"{feature['name']} {seen}" + (f" ({', '.join(known)})" if known else "")


def alertmanager_body(alerts: Sequence[Envelope], now_us: int, rules: Rules) -> bytes:
    """The body of one request that tells of all these alerts."""
    return _ENCODER.encode([alertmanager(alert, now_us, rules) for alert in alerts])
