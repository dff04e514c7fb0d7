"""quix-streams without a model: its JSON deserializer and a step that counts, its consumer tuned like the daemon's."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from quixstreams import Application

from .. import limit
from .loop import Meter, arguments

STATE = Path(__file__).resolve().parents[2] / "build" / "peers" / "quix-state"
TUNED = ("fetch.queue.backoff.ms", "queued.min.messages", "retry.backoff.ms")


def main() -> None:
    told = arguments()
    application = Application(
        broker_address=told.bootstrap,
        consumer_group=f"quix-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        consumer_extra_config={name: limit.CONSUMER[name] for name in TUNED},
        state_dir=STATE,
        loglevel="WARNING",
    )
    meter = Meter(told)

    def count(_: Any) -> None:
        if meter.over(1):
            application.stop()

    frame = application.dataframe(application.topic(told.topic, value_deserializer="json"))
    frame.update(count)
    application.run()
    meter.tell()


if __name__ == "__main__":
    main()
