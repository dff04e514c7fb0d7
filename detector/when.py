"""Times as people write them on the command line: a span before now, a moment, or the start of what is held."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

from ..errors import SettingsError
from .settings import Duration


class When(NamedTuple):
    """A moment in milliseconds since 1970; None is the start of what the topic holds."""

    ms: int | None


def parse_when(text: str | None, now_s: float | None = None) -> When | None:
    """Read `24h`, `2026-01-31T12:00:00Z` or `start`; None stays None.

    Raises:
        SettingsError: it is none of these.
    """
    if text is None:
        return None
    if text == "start":
        return When(None)
    now = time.time() if now_s is None else now_s
    try:
        return When(round((now - Duration.parse(text).seconds) * 1000))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return When(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))
    except ValueError:
        raise SettingsError(
            f"{text!r} is no time: write a span before now (24h, 30m), a moment (2026-01-31T12:00:00Z) or `start`."
        ) from None


def written(when: When | None) -> str | None:
    """A moment as `parse_when` reads it, whenever it does; None stays None."""
    if when is None:
        return None
    return "start" if when.ms is None else datetime.fromtimestamp(when.ms / 1000, UTC).isoformat()
