"""When each alert could be seen: a subscriber that reads only what is committed, on the clock that the broker uses.

    python -m benchmarks.visible --bootstrap HOST:PORT --topic ALERTS

Prints a line once it reads, and at SIGTERM one JSON list: for each firing alert the partition and offset of the record
that opened it, the time in milliseconds at which it was read, and whether it is a digest.
"""

from __future__ import annotations

import argparse
import json
import signal
import time

from confluent_kafka import Consumer, TopicPartition

from .feed import PARTITIONS


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.visible", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    told = parser.parse_args()
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
    consumer = Consumer(
        {
            "bootstrap.servers": told.bootstrap,
            "group.id": "visible",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([TopicPartition(told.topic, p, 0) for p in range(PARTITIONS)])
    print("reading", flush=True)
    seen = []
    while not over:
        for message in consumer.consume(1000, 0.01):
            if message.error() is not None:
                continue
            alert = json.loads(message.value())
            if alert["status"] == "firing":
                notes = alert["annotations"]
                place = notes["partition"], notes["last_offset"]
                seen.append((*place, round(time.time() * 1000), alert["kind"] == "digest"))
    consumer.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
