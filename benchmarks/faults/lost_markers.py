"""Kafka alone, without Tocsin: a broker that is killed as a transaction ends may never end it in all partitions.

    python -m benchmarks.faults.lost_markers [--tries 30]

A plain producer commits a transaction over many partitions of one copy; the broker is killed (-9) in the midst of it
and started again. Then the coordinator says that the transaction is complete (another producer of its id may begin),
and in some partitions it stays open for ever: nobody who reads committed records gets past it. The coordinator of
Kafka 4.3.1 takes a partition that has no leader at that moment for one of a topic that was deleted, and leaves it out.
Exits 0 once it was seen, 1 where it was not.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from rigs.kafka import Rig, missing

PARTITIONS = 60
SILENT = logging.getLogger("lost-markers")
SILENT.disabled = True  # clients would tell all the time that the broker is away
COMMIT_S = 0.03
"""About how long the commit takes: the kill falls into it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.faults.lost_markers", description=__doc__)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    if why := missing():
        print(f"cannot run: {why}", file=sys.stderr)
        return 2
    chance = random.Random(told.seed)
    with tempfile.TemporaryDirectory() as name, Rig(Path(name) / "kafka") as rig:
        for number in range(1, told.tries + 1):
            topic, name = f"t{number}", f"id{number}"
            admin = AdminClient({"bootstrap.servers": rig.bootstrap, "logger": SILENT})
            admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
            killed(rig, topic, name, chance.uniform(0, COMMIT_S))
            begin(rig, name)  # returns once the coordinator has ended what was open
            committed, appended = (
                ends(rig, topic, level) for level in ("read_committed", "read_uncommitted")
            )
            stuck = [p for p in range(PARTITIONS) if committed[p] < appended[p]]
            print(f"try {number}: open for ever in {len(stuck)} of {PARTITIONS} partitions", flush=True)
            if stuck:
                time.sleep(30)
                still = ends(rig, topic, "read_committed") == committed
                print(f"and half a minute later: {'the same' if still else 'no more'}")
                return 0 if still else 1
    return 1


def begin(rig: Rig, name: str) -> Producer:
    """A producer of transactions. Raises KafkaException where what was open does not end."""
    producer = Producer({"bootstrap.servers": rig.bootstrap, "transactional.id": name, "logger": SILENT})
    producer.init_transactions(60)
    return producer


def killed(rig: Rig, topic: str, name: str, after_s: float) -> None:
    """Commit a transaction over all partitions, kill the broker meanwhile, and start it again."""
    producer = begin(rig, name)
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.produce(topic, b"x", partition=partition)
    producer.flush(30)

    def commit() -> None:
        with suppress(KafkaException):  # the broker is killed
            producer.commit_transaction(1)

    committing = threading.Thread(target=commit)
    committing.start()
    time.sleep(after_s)
    rig.stop(kill=True)
    committing.join()
    rig.start()


def ends(rig: Rig, topic: str, level: str) -> list[int]:
    """The ends of all partitions, as readers of that level of isolation see them."""
    consumer = Consumer(
        {"bootstrap.servers": rig.bootstrap, "group.id": "ends", "isolation.level": level, "logger": SILENT}
    )
    found = [
        consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in range(PARTITIONS)
    ]
    consumer.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
