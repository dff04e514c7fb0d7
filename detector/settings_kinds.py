"""The kinds of values that settings have: durations, texts of a form, topics; and what counts as a secret."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Meta

MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
BUDGET = r"^\d+(\.\d+)?\s*/\s*(hour|day|week)(\s+per\s+entity)?$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
SECRET = re.compile(
    r"password|secret|token|\.pem$|\bpem\b|oauthbearer\.config|ssl\.key|jaas|credential", re.IGNORECASE
)


LONGEST = 100
"""Characters of a duration."""


class Duration(int):
    """A span of time in whole microseconds, written `30s`, `5m`, `1h30m`, `1d`."""

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `30s`, `250ms`, `1h30m`, `1d`; ValueError when it is none of these."""
        compact = text.strip().replace(" ", "")
        parts = _PART.findall(compact[:LONGEST])  # which looks at every digit from every digit on
        if not parts or "".join(number + unit for number, unit in parts) != compact:
            raise ValueError(f"{text!r} is no duration")
        return cls(round(sum(float(number) * MICROSECONDS[unit] for number, unit in parts)))

    @property
    def seconds(self) -> float:
        """The span in seconds."""
        return int(self) / 1e6

    def __str__(self) -> str:
        rest, text = int(self), ""
        for unit in ("d", "h", "m", "s", "ms", "us"):
            count, rest = divmod(rest, MICROSECONDS[unit])
            text += f"{count}{unit}" if count else ""
        return text or "0s"

    def __repr__(self) -> str:
        return f"Duration.parse({str(self)!r})"


def span(description: str, least: str = "0s", most: str = "3650d") -> Meta:
    """The annotation of a duration between two others."""
    return Meta(description=description, extra={"least": Duration.parse(least), "most": Duration.parse(most)})


def text(description: str, pattern: str, allowed: str) -> Meta:
    """The annotation of a string that must match a pattern, with the words that say so."""
    return Meta(description=description, pattern=pattern, extra={"allowed": allowed})


def topic(description: str) -> Meta:
    """The annotation of a topic's name, or of none."""
    allowed = "a topic name: letters, digits, '.', '_' and '-'"
    return text(description, f"^$|{TOPIC}", allowed)


Scalar = str | int | float | bool


def plain(value: object) -> Any:
    """A Struct, or a value of one, as dicts, lists and scalars; durations as text."""
    return msgspec.to_builtins(value, enc_hook=str)
