"""What `tocsin alerts forward` runs: from settings to a forwarder, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

from ..errors import SettingsError
from ..pipelines.brokers import open_broker
from .clocks import Clocks
from .forward_payload import Rules
from .forward_target import Target, target_of
from .forwarder import Forwarder, Plan
from .settings import Settings, Stream
from .stopping import STOP_S, Stopping, on_signals

log = logging.getLogger(__name__)


def target(settings: Settings) -> Target:
    """The target of `[forward]`. SettingsError where it is not said, or cannot be one."""
    chosen = settings.forward
    if chosen.to is None or chosen.url is None:
        raise SettingsError(
            "say where alerts go: --to alertmanager|webhook and --url, or [forward] to and url."
        )
    return target_of(chosen.url, chosen.to, chosen.timeout.seconds, chosen.header_file)


def plan(settings: Settings, streams: Sequence[Stream]) -> Plan:
    """What is forwarded for these streams. The group bears the name of the stream, where there is one."""
    chosen = settings.forward
    stem = streams[0].group_id if len(streams) == 1 else "tocsin"
    return Plan(
        topics=tuple(sorted({stream.alerts for stream in streams})),
        group=chosen.group_id or f"{stem}.forward.{chosen.to}",
        start=chosen.start,
        rules=Rules(int(chosen.hold), chosen.source_url) if chosen.to == "alertmanager" else None,
        resend_s=chosen.resend.seconds,
    )


def run(settings: Settings, streams: Sequence[Stream], to: Target) -> None:
    """Forward until SIGTERM or SIGINT.

    Raises:
        TocsinError: what a person must see to.
    """
    clocks = Clocks()
    stopping = Stopping(clocks.monotonic)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    faults: list[BaseException] = []

    def work() -> None:
        try:
            Forwarder(broker, plan(settings, streams), to, stopping, clocks).run()
        except BaseException as fault:
            faults.append(fault)

    worker = threading.Thread(target=work, name="forward", daemon=True)
    with on_signals(stopping.ask):
        worker.start()
        while worker.is_alive() and stopping.left(STOP_S) > 0:
            worker.join(0.2)
    if worker.is_alive():
        # A client that does not come back, as where the broker is away. To wait for it would be no use.
        log.warning("the time to stop is over; what was not committed will be forwarded again")
        logging.shutdown()
        os._exit(0)
    broker.close()
    if faults:
        raise faults[0]
