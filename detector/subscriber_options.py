"""What a subscriber takes and tells: its options, its counts, and the messages that it cannot read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypedDict

from ..errors import SettingsError
from ..pipelines.brokers import EMBEDDED


class Unreadable(NamedTuple):
    """A message on an alert topic that is no alert, or one that this version cannot read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    reason: str
    newer: bool
    """It was written by a newer version: an upgrade of this package could read it."""


class Counts(NamedTuple):
    """What a subscriber has seen since it was made."""

    delivered: int
    """Alerts handed out."""
    acknowledged: int
    """Of those, acknowledged."""
    duplicates: int
    """Repeats that were dropped."""
    unreadable: int
    """Messages that could not be read, those of a newer version among them."""
    lost: int
    """Offsets that the broker dropped (by its retention) before they were read."""


class Options(TypedDict, total=False):
    """What every way to make a subscriber takes; see `AlertSubscriber`."""

    start: Literal["earliest", "latest"]
    timeout: float | None
    on_unreadable: Callable[[Unreadable], None] | None
    remember: int
    max_unacknowledged: int


def check(
    bootstrap: str, topics: Sequence[str], group: str, start: str, remember: int, max_unacknowledged: int
) -> None:
    """Whether the arguments of a subscriber can be used. Raises SettingsError, naming the one that cannot."""
    faults = {
        "`bootstrap` is empty; it is an address such as localhost:9092.": not bootstrap,
        "a broker embedded in another process is reached by its address.": bootstrap == EMBEDDED,
        "`topics` names no topic.": not topics or not all(topics),
        "`group` is empty; it is the name under which this service's progress is kept.": not group,
        f"`start` is earliest or latest, not {start!r}.": start not in ("earliest", "latest"),
        f"`remember` is at least 0, not {remember}.": remember < 0,
        f"`max_unacknowledged` is at least 1, not {max_unacknowledged}.": max_unacknowledged < 1,
    }
    for fault, found in faults.items():
        if found:
            raise SettingsError(f"AlertSubscriber: {fault}")
