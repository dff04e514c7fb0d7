"""Where each microsecond goes: the daemon's own steps, one at a time, on records that already lie in memory.

    python -m benchmarks.stages --config FILE --records N

Prints as JSON the microseconds per record of consuming and of every step, in batches of the daemon's size and without
a second thread, and what an entity takes in memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.registry import CollectorRegistry
from tocsin.detector.announcing import Names, announcements
from tocsin.detector.chain import Chain
from tocsin.detector.clocks import Clocks
from tocsin.detector.intended import first_changes
from tocsin.detector.ledger import Ledger
from tocsin.detector.metrics import Metrics
from tocsin.detector.reading import Reader
from tocsin.detector.registry import open_registry
from tocsin.detector.ruling import Ruling
from tocsin.detector.rulings import Rulings
from tocsin.detector.settings import load
from tocsin.detector.startup import make_chain, model_loader, schema_of, warm
from tocsin.detector.stream import BATCH
from tocsin.pipelines.brokers.base import Batch
from tocsin.pipelines.brokers.kafka import KafkaBroker

CROWD = 20_000
WARM_UP = 4


class Stopwatch:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            begun = time.perf_counter()
            answer = call(*given)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
            return answer

        return run


def batches(bootstrap: str, topic: str, records: int, watch: Stopwatch) -> list[Batch]:
    """The first records of a topic, as the product's consumer hands them over."""
    broker = KafkaBroker(bootstrap)
    consumer = broker.consumer(headers=True)
    begin = consumer.begin_offsets([(topic, p) for p in range(4)])
    consumer.assign([(*part, at) for part, at in begin.items()])
    consume = watch.timed("consume", consumer.consume)
    found: list[Batch] = []
    seen = 0
    while seen < records:
        batch = consume(BATCH, 1.0)
        if batch:
            found.append(batch)
            seen += batch.size
    broker.close()
    return found


def crowd_bytes(chain: Chain, ruling: Ruling) -> float:
    """Resident bytes of one more entity, over CROWD new ones."""
    part = chain.state.part("crowd", 0)
    chain.state.rulings[part] = ruling
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    chain.state.table.intern_all(part, [f"crowd-{number}" for number in range(CROWD)])
    chain.state.admit(chain.state.table.take_new())
    for state in (chain.state.window, chain.state.location, chain.state.decision):
        for column in state:
            column[-1:] = column[-1:].copy()
    return (process.memory_info().rss - before) / CROWD


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--records", type=int, required=True)
    told = parser.parse_args()
    settings = load(told.config)
    stream = settings.streams[0]
    registry = open_registry(settings, stream)
    schema = schema_of(stream, registry, settings)
    rulings = Rulings(settings, model_loader(registry, settings, stream, schema))
    for version, change in enumerate(first_changes(rulings.effective().in_force, settings, registry)):
        from tocsin.detector.changes import Versioned

        rulings.take(Versioned(version, change))
    ruling = rulings.ruling()
    warm(stream, schema, ruling)
    chain = make_chain(stream, schema, ruling.model, settings.state)
    watch = Stopwatch()
    found = batches(settings.kafka.bootstrap, stream.topics[0], told.records, watch)
    records = sum(batch.size for batch in found)
    consumed = watch.seconds["consume"] / records * 1e6
    for partition in range(4):
        chain.state.rulings[chain.state.part(stream.topics[0], partition)] = ruling
    reader = Reader(stream, settings.decode, chain.state)
    names = Names(stream.name, schema.names, chain.state.table.name, chain.state.parts)
    ledger = Ledger(Metrics(CollectorRegistry()), stream.name, Clocks())
    chain.stages = tuple(stage._replace(run=watch.timed(stage.name, stage.run)) for stage in chain.stages)
    read, process = watch.timed("decode", reader.read), watch.timed("chain", chain.process)
    announce = watch.timed("announce", announcements)
    tell = watch.timed("ledger", ledger.batch)
    records = 0
    for number, batch in enumerate(found):
        if number == WARM_UP or len(found) <= WARM_UP:
            watch.seconds.clear()
            records = 0
        one = read(batch)
        outcome = process(one.records, one.admitted)
        announce(outcome, names, 0, 0)
        tell(batch, one, outcome)
        records += batch.size
    of_chain = sum(watch.seconds[stage.name] for stage in chain.stages)
    watch.seconds["chain, between stages"] = watch.seconds["chain"] - of_chain
    print(
        json.dumps(
            {
                "records": records,
                "microseconds": {
                    "consume": consumed,
                    **{k: v / records * 1e6 for k, v in watch.seconds.items()},
                },
                "bytes_per_entity": chain.state.bytes_per_entity(),
                "rss_per_entity": crowd_bytes(chain, ruling),
            }
        )
    )


if __name__ == "__main__":
    main()
