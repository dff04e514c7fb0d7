"""The product's own decoder in the loop of the limit: what it costs to read records as tolerantly as the daemon does.

python -m benchmarks.decoder --bootstrap HOST:PORT --topic NAME --partitions 4 --records N [--features F]
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from tocsin.pipelines import formats
from tocsin.pipelines.decoding import How
from tocsin.pipelines.records import Messages
from tocsin.pipelines.schema import FeatureSchema
from tocsin.pipelines.slots import SlotTable

from . import limit
from .feed import Shape


def decoder(count: int) -> Callable[[list[Any]], Any]:
    """A function from messages of `count` features to records."""
    schema = FeatureSchema(Shape(count).names, ())
    decode = formats.of("json_wide").decoder(schema, How("host", "ts")).decode
    table = SlotTable()

    def run(batch: list[Any]) -> Any:
        none = np.zeros(len(batch), np.int64)  # part, offset and timestamp, which this topic has no use for
        values = [message.value() for message in batch]
        return decode(Messages(none.astype(np.int32), none, none, [None] * len(batch), values), table)

    return run


def main() -> None:
    told = limit.arguments().parse_args()
    print(json.dumps({"records_per_s": limit.measure(told, decoder(told.features))}))


if __name__ == "__main__":
    main()
