"""From a broker's batch to records: the decoder of the stream's format, and what it leaves over."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipelines import formats
from ..pipelines.brokers.base import Batch, Part
from ..pipelines.decoding import Decoded, How, Rejection, Tally
from ..pipelines.records import Messages, Points, Records
from .settings import Decode, Stream
from .state import StreamState


class Read(NamedTuple):
    """A decoded batch."""

    records: Records | Points
    message: NDArray[np.int64]
    """[B] the message each record (or point) came from."""
    rejected: list[Rejection]
    tally: Tally
    admitted: NDArray[np.int32]
    """Slots given out while decoding."""
    first_offsets: dict[Part, int]
    next_offsets: dict[Part, int]
    sizes: dict[Part, int]
    """Bytes of input, by partition."""

    @property
    def rows(self) -> int:
        """How many records there are."""
        return len(self.message)


def how_of(stream: Stream, decode: Decode) -> How:
    """How the stream's messages are read."""
    entity, time = formats.of(stream.format).identity or (stream.entity, stream.time)
    return How(
        entity or None, time or None, stream.time_unit, decode.max_message_bytes, stream.metric, stream.value
    )


class Reader:
    """Decodes for one stream. New entities get slots; nothing else of the state is touched."""

    def __init__(self, stream: Stream, decode: Decode, state: StreamState) -> None:
        self._state = state
        self._decoder = formats.of(stream.format).decoder(state.schema, how_of(stream, decode))

    def read(self, batch: Batch) -> Read:
        """Decode a batch whose partitions the state knows."""
        first_offsets: dict[Part, int] = {}
        next_offsets: dict[Part, int] = {}
        sizes: dict[Part, int] = {}
        parts = np.empty(batch.size, np.int32)
        for part, first, end in stretches(batch):
            parts[first:end] = self._state.parts.index(part)
            first_offsets.setdefault(part, batch.offset[first])
            next_offsets[part] = batch.offset[end - 1] + 1
            sizes[part] = sizes.get(part, 0) + sum(map(len, filter(None, batch.value[first:end])))
        messages = Messages(
            parts,
            np.array(batch.offset, np.int64),
            np.array(batch.timestamp_ms, np.int64),
            batch.key,
            batch.value,
        )
        decoded = self._decoder.decode(messages, self._state.table)
        return Read(
            decoded.records if isinstance(decoded, Decoded) else decoded.points,
            decoded.message,
            decoded.rejected,
            decoded.tally,
            self._state.table.take_new(),
            first_offsets,
            next_offsets,
            sizes,
        )


def stretches(batch: Batch) -> Iterator[tuple[Part, int, int]]:
    """The partitions in the order that a batch holds them: (partition, first row, row after the last)."""
    first = 0
    for part, rows in groupby(zip(batch.topic, batch.partition, strict=True)):
        end = first + len(list(rows))
        yield part, first, end
        first = end
