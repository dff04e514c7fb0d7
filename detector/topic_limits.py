"""What topics must allow: messages of the sizes that are written, and input that is kept until its state is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .changelog import PIECE_BYTES
from .changes import INLINE_BYTES

BYTES, RETENTION_MS = "max.message.bytes", "retention.ms"
ROOM_BYTES = 64 * 1024
"""For keys, headers and framing, our own of a dead letter among them; and more than an alert has."""
WRITTEN = {
    "changelog": PIECE_BYTES + ROOM_BYTES,
    "control": INLINE_BYTES + ROOM_BYTES,
    "alerts": ROOM_BYTES,
    "groups": ROOM_BYTES,
}
"""The largest message that is written to a topic, by its role."""
STATE = ("changelog", "control")
PASSED_ON = ("dead letters", "rekeyed")
"""Roles of topics that a message of the input may be sent on to as it came."""
COVER = 2
"""How many times the input must hold what a crash replays."""


class Unfit(NamedTuple):
    """A setting of a topic that is not enough."""

    problem: str
    setting: str
    least: int
    fatal: bool


def config_for(role: str, largest_input: int) -> Mapping[str, str]:
    """What a topic of this role is made with, where the largest message of the input is so large (0: not known)."""
    return {BYTES: str(largest_input + ROOM_BYTES)} if role in PASSED_ON and largest_input else {}


def unfit(role: str, config: Mapping[str, str], largest_input: int, snapshot_every_s: float) -> list[Unfit]:
    """What is wrong with the sizes and times that a topic's settings allow; what is not told is not judged."""
    found = []
    allowed = int(config.get(BYTES, "0"))
    if 0 < allowed < WRITTEN.get(role, 0):
        problem = f"takes messages of {allowed} bytes, and up to {WRITTEN[role]} are written"
        found.append(Unfit(problem, BYTES, WRITTEN[role], fatal=role in STATE))
    if role in PASSED_ON and largest_input and 0 < allowed < largest_input + ROOM_BYTES:
        problem = (
            f"takes messages of {allowed} bytes, the input of {largest_input}: one of its largest, which gets "
            "headers here, would stop the stream"
        )
        found.append(Unfit(problem, BYTES, largest_input + ROOM_BYTES, fatal=False))
    kept_ms, least_ms = int(config.get(RETENTION_MS, "-1")), round(COVER * 1000 * snapshot_every_s)
    if role in ("input", "rekeyed") and 0 <= kept_ms < least_ms:
        problem = (
            f"keeps records for {kept_ms / 1000:g} s, less than twice [state] snapshot_every "
            f"({snapshot_every_s:g} s): what a crash has to replay may be deleted by then"
        )
        found.append(Unfit(problem, RETENTION_MS, least_ms, fatal=True))
    return found
