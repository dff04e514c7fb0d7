"""What of the settings is secret, and the settings without it: for people, logs and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .settings_kinds import SECRET, plain

if TYPE_CHECKING:
    from .settings import Settings

HIDDEN = "********"


def redacted(settings: Settings) -> dict[str, Any]:
    """All settings as plain values, with every secret hidden: safe to print and to log."""
    content: dict[str, Any] = plain(settings)
    properties = content["kafka"]["librdkafka"]
    content["kafka"]["librdkafka"] = {
        name: HIDDEN if SECRET.search(name) else properties[name] for name in properties
    }
    for section, key in (("forward", "url"), ("http", "token")):
        if content[section][key]:
            content[section][key] = HIDDEN
    return content


def secrets(settings: Settings) -> tuple[str, ...]:
    """The values that must never be shown, for the filter of the logs."""
    properties = settings.kafka.librdkafka
    found = [str(value) for name, value in properties.items() if SECRET.search(name)]
    return tuple(
        value for value in (*found, settings.forward.url or "", settings.http.token or "") if len(value) >= 4
    )
