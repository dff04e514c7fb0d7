"""The formats of telemetry, in the order in which they are tried on a sample: name, module, and one line about it.

A new one is a module beside `decode_wide` that defines `FORMAT`, and an entry here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # settings are checked against this table before anything heavy is needed
    from .decoding import Format


class Entry(NamedTuple):
    """A format's module, imported only when it is used, and what a message is."""

    module: str
    does: str


TABLE: dict[str, Entry] = {
    "json_wide": Entry("decode_wide", 'a message is a record, `{"timestamp": …, "entity": …, "cpu": 0.4}`'),
    "json_long": Entry("decode_long", "a message is one metric, and the metrics of a period make a record"),
    "collectd": Entry(
        "decode_collectd",
        "what collectd's `write_kafka` sends with `Format JSON`; entity and time are its `host` and `time`, features "
        "are named as in `cpu-0/cpu-user/value`, and the values of a period make a record",
    ),
}


def of(name: str) -> Format:
    """The format of that name."""
    found: Format = import_module(f".{TABLE[name].module}", __package__).FORMAT
    return found
