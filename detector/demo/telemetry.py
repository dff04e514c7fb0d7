"""The demo's producer: both samplers on a steady beat, each record handed on as JSON."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from .host import HostSampler, Own, ProcessSampler, record

RATE_HZ = 2.0
STREAMS = ("hosts", "processes")
# How often the demo looks which processes are its own.
_OWN_EVERY_S = 1.0
_BUSY_S = 60.0

Publish = Callable[[str, str, bytes, int], None]


class Telemetry(threading.Thread):
    """Samples this machine until `stop`; `publish(stream, entity, value, time_ms)` gets each record.

    An exception from a sampler or from `publish` ends the thread and is kept in `failed`.
    """

    def __init__(
        self, publish: Publish, host: str, own: Own, *, rate_hz: float = RATE_HZ, count_nice: bool = False
    ):
        super().__init__(name="telemetry", daemon=True)
        self._publish = publish
        self._entity = host
        self._own = own
        self._period_s = 1.0 / rate_hz
        self._host = HostSampler(own, count_nice=count_nice)
        self._processes = ProcessSampler(own)
        self._ending = threading.Event()
        self.sent = dict.fromkeys(STREAMS, 0)
        self.failed: Exception | None = None
        self._busy: deque[float] = deque(maxlen=round(_BUSY_S * rate_hz))

    def run(self) -> None:
        """Beat after beat; a beat that comes too late is left out rather than made up for."""
        try:
            due = looked = time.monotonic()
            self._own.look()
            while not self._ending.wait(max(due - time.monotonic(), 0.0)):
                at_s = time.monotonic()
                if at_s - looked >= _OWN_EVERY_S:
                    self._own.look()
                    looked = at_s
                self._beat(at_s)
                due = max(due + self._period_s, time.monotonic())
        except Exception as error:
            self.failed = error

    def stop(self) -> None:
        """Send no more; returns when the thread has ended."""
        self._ending.set()
        if self.is_alive():
            self.join()

    @property
    def busy(self) -> float:
        """How busy the processors were with other things than the demo over the last minute, 0 to 1."""
        return sum(self._busy) / max(len(self._busy), 1)

    def _beat(self, at_s: float) -> None:
        now_s = time.time()
        time_ms = round(now_s * 1000.0)
        features = self._host.sample(at_s)
        self._busy.append(features["cpu_user"] or 0.0)
        self._send("hosts", self._entity, time_ms, features)
        for name, features in self._processes.sample(at_s, now_s).items():
            self._send("processes", name, time_ms, features)

    def _send(self, stream: str, entity: str, time_ms: int, features: dict[str, float | None]) -> None:
        self._publish(stream, entity, msgspec.json.encode(record(entity, time_ms, features)), time_ms)
        self.sent[stream] += 1
