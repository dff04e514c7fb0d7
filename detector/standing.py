"""A command that works until it is told to stop: beside the daemon, with a broker and a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from ..pipelines.brokers import Broker, open_broker
from .clocks import Clocks
from .settings import Settings
from .stopping import STOP_S, Stopping, on_signals

log = logging.getLogger(__name__)


def stand(name: str, settings: Settings, work: Callable[[Broker, Stopping, Clocks], None]) -> None:
    """Work in a thread until SIGTERM or SIGINT, which end it in time whatever it waits for.

    Raises:
        TocsinError: what a person must see to.
    """
    clocks = Clocks()
    stopping = Stopping(clocks.monotonic)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    faults: list[BaseException] = []

    def guarded() -> None:
        try:
            work(broker, stopping, clocks)
        except BaseException as fault:
            faults.append(fault)

    worker = threading.Thread(target=guarded, name=name, daemon=True)
    with on_signals(stopping.ask):
        worker.start()
        while worker.is_alive() and stopping.left(STOP_S) > 0:
            worker.join(0.2)
    if worker.is_alive():
        # A client that does not come back, as where the broker is away. To wait for it would be no use.
        log.warning("the time to stop is over; what was not committed will come again")
        logging.shutdown()
        os._exit(0)
    broker.close()
    if faults:
        raise faults[0]
