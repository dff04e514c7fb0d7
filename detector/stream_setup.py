"""Everything that a stream's loop is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

from ..pipelines.brokers.base import Broker, Part
from .chain import Chain
from .clocks import Clocks
from .control_feed import ControlFeed
from .ledger import Ledger
from .reading import Reader
from .rulings import Rulings
from .settings import Decode, Stream
from .stopping import Stopping


class Setup(NamedTuple):
    """What a `StreamLoop` is given."""

    stream: Stream
    decode: Decode
    broker: Broker
    chain: Chain
    reader: Reader
    rulings: Rulings
    control: ControlFeed
    ledger: Ledger
    worker: Executor
    clocks: Clocks
    config_hash: str
    commit_every_s: float
    snapshot_every_s: float
    writer: int
    """A number drawn once per process."""
    beat: Callable[[], None]
    starts: Mapping[Part, int]
    """Where partitions of a new group begin, if not by the start policy: behind what was trained on."""
    stopping: Stopping
    same_layout: Callable[[], object]
    """Raises StateError where an input topic has another number of partitions than the state was made for."""
