"""The request to stop, and the one deadline that everything shares from then on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_S = 9.0
"""From the request to the moment when the process ends, whoever still waits; a second is left for leaving."""
SETTLED_S = 6.0
"""From the request to the moment after which nothing waits for an acknowledgement: what follows is closing."""


class StopAsked(Exception):
    """Raised out of work that is dropped when a stop is asked for."""


class Stopping:
    """Whether to stop, and how long may still be waited. One for all streams of a process."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._asked_at: float | None = None

    def ask(self) -> None:
        """Ask for the end; the deadline counts from the first time. Safe in a signal handler."""
        if self._asked_at is None:
            self._asked_at = self._monotonic()

    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked_at is not None

    def check(self) -> None:
        """Raises StopAsked once it was asked for."""
        if self.asked():
            raise StopAsked

    def left(self, until_s: float = SETTLED_S) -> float:
        """Seconds until `until_s` after the request; infinite before it."""
        if self._asked_at is None:
            return float("inf")
        return max(0.0, self._asked_at + until_s - self._monotonic())


@contextmanager
def on_signals(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` at SIGTERM and SIGINT, in the place of what they do before and after."""
    before = {one: signal.signal(one, lambda *_: ask()) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
