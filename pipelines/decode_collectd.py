"""collectd's JSON (`write_kafka`): a message is an array of value lists, each of one host, plugin and type.

    [{"values": [3, 5], "dstypes": ["derive", "derive"], "dsnames": ["rx", "tx"], "time": 1700000000.721,
      "interval": 1.0, "host": "web-1", "plugin": "interface", "plugin_instance": "eth0", "type": "if_octets",
      "type_instance": ""}]

Each value is one measurement of the feature `plugin-instance/type-instance/data source`, here
`interface-eth0/if_octets/rx`. The host is the entity, whatever the key is. A message of which a part cannot be used
is refused as a whole.

With `StoreRates true`, its default, collectd has made rates of everything that counts, although `dstypes` still name
what it was; with `StoreRates false` such features are among the stream's counters, and then what counts from reading
to reading (`absolute`) is divided by the interval.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import unquote

import msgspec
import numpy as np

from ..errors import SettingsError
from . import decoding
from .decoding import MAX_MESSAGE_BYTES, DecodedPoints, Format, How, Reason, Refused, Rejection, Share, Tally
from .records import LARGEST, Messages, Points
from .schema import FeatureSchema
from .slots import SlotTable

Source = Literal["gauge", "derive", "counter", "absolute"]
COUNTING = ("derive", "counter")
NAN = float("nan")


class ValueList(msgspec.Struct, gc=False):
    """What a plugin read of one thing at one time."""

    values: list[float | None]
    dstypes: list[Source]
    dsnames: list[str]
    time: float
    host: str
    plugin: str
    type: str
    interval: float
    plugin_instance: str = ""
    type_instance: str = ""


class Name(NamedTuple):
    """What names a measurement of a host."""

    plugin: str
    plugin_instance: str
    type: str
    type_instance: str
    source: str

    @property
    def text(self) -> str:
        """The feature: `plugin-instance/type-instance/source`, a `-instance` that is empty left out.

        No two names have the same text: of a part, `%` and `/` are written `%25` and `%2F`, and so is a `-` (`%2D`)
        in plugin and type.
        """
        return "/".join(
            (
                _joined(self.plugin, self.plugin_instance),
                _joined(self.type, self.type_instance),
                _escaped(self.source),
            )
        )


def parse(text: str) -> Name:
    """The name that has this text. Raises SettingsError where none has."""
    parts = text.split("/")
    if len(parts) == 3:
        plugin, _, plugin_instance = parts[0].partition("-")
        type_, _, type_instance = parts[1].partition("-")
        name = Name(*map(unquote, (plugin, plugin_instance, type_, type_instance, parts[2])))
        if name.plugin and name.type and name.source and name.text == text:
            return name
    raise SettingsError(
        f"{text!r} names nothing that collectd measures. Write plugin-instance/type-instance/data source, for "
        "instance cpu-0/cpu-user/value or load/load/shortterm; `tocsin init --topic` lists what a topic holds."
    )


def _joined(name: str, instance: str) -> str:
    head = _escaped(name).replace("-", "%2D")
    return f"{head}-{_escaped(instance)}" if instance else head


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


class CollectdDecoder:
    """Messages of one stream to `Points`. Raises SettingsError for a feature that collectd cannot measure."""

    def __init__(self, schema: FeatureSchema, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._feature = {tuple(parse(feature)): place for place, feature in enumerate(schema.names)}
        self._raw = bool(schema.counters)
        self._max_bytes = max_bytes

    def decode(self, messages: Messages, table: SlotTable) -> DecodedPoints:
        """Read a batch; entities that are new get slots in `table`."""
        rejected: list[Rejection] = []
        index: list[int] = []
        features: list[int] = []
        values: list[float] = []
        hosts: list[str] = []
        written: list[object] = []
        infinite = unknown = 0
        for row, content in enumerate(messages.value):
            try:
                lists = read(decoding.sized(content, self._max_bytes))
            except Refused as refused:
                rejected.append(refused.of(row))
                continue
            for one in lists:
                of = (one.plugin, one.plugin_instance, one.type, one.type_instance)
                for value, kind, source in zip(one.values, one.dstypes, one.dsnames, strict=True):
                    feature = self._feature.get((*of, source))
                    if feature is None:
                        unknown += 1
                        continue
                    measured = NAN if value is None else value
                    if kind == "absolute" and self._raw:
                        measured /= one.interval
                    if abs(measured) > LARGEST:
                        infinite += 1
                        measured = NAN
                    index.append(row)
                    features.append(feature)
                    values.append(measured)
                    hosts.append(one.host)
                    written.append(one.time)
        broken: list[Rejection] = []
        time_us, good = decoding.times(written, "s", messages, index, broken)
        slots = decoding.entities(hosts, messages, index, good, table, broken)
        rows = np.asarray(index, np.int64)
        points = Points(
            slots, messages.part[rows], messages.offset[rows], time_us,
            np.asarray(features, np.int32), np.asarray(values, np.float64),
        )  # fmt: skip
        if broken:
            whole = ~np.isin(rows, [one.message for one in broken])
            rows, points = rows[whole], Points._make(column[whole] for column in points)
            rejected += {one.message: one for one in reversed(broken)}.values()
        rejected.sort()
        return DecodedPoints(points, rows, rejected, Tally(infinite, unknown))


_decode = msgspec.json.Decoder(list[ValueList]).decode


def read(content: bytes) -> list[ValueList]:
    """The value lists of a message, at least one, each with at least one value. Raises Refused."""
    try:
        lists = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = decoding.read_json(content)
        if not isinstance(whole, list):
            raise Refused(Reason.NOT_ARRAY, f"the JSON is {decoding.kind(whole)}, not an array") from None
        lists = [_tolerant(one) for one in whole]
    if not lists:
        raise Refused(Reason.NO_FEATURES, "the array is empty")
    for one in lists:
        _check(one)
    return lists


def _check(one: ValueList) -> None:
    if not one.host.strip():
        raise Refused(Reason.MISSING_ENTITY, "a value list names no host")
    if not (one.plugin and one.type and one.values and all(one.dsnames)):
        raise Refused(Reason.NO_FEATURES, "a value list lacks its plugin, its type, or values with names")
    lengths = (len(one.values), len(one.dstypes), len(one.dsnames))
    if len(set(lengths)) > 1:
        detail = f"{_place(one)} has {lengths[0]} values, {lengths[1]} dstypes and {lengths[2]} dsnames"
        raise Refused(Reason.LENGTHS_DIFFER, detail)
    if not one.interval > 0:
        raise Refused(Reason.WRONG_TYPE, f"the interval of {_place(one)} is {one.interval}, not above 0")


def _place(one: ValueList) -> str:
    return "/".join((_joined(one.plugin, one.plugin_instance), _joined(one.type, one.type_instance)))


def _tolerant(content: object) -> ValueList:
    """A value list that the typed reading refused: NaN tokens, numbers in strings, or what is wrong with it."""
    if not isinstance(content, dict):
        raise Refused(Reason.WRONG_TYPE, f"a value list is {decoding.kind(content)}, not an object")
    decoding.check_identity(content.get("host"), content.get("time"))
    texts = {
        key: content.get(key) or "" for key in ("host", "plugin", "plugin_instance", "type", "type_instance")
    }
    texts["host"] = str(texts["host"])
    lists = {key: content.get(key) or [] for key in ("values", "dstypes", "dsnames")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise Refused(
                Reason.WRONG_TYPE, f"the {key} of a value list is {decoding.kind(text)}, not a string"
            )
    for key, found in lists.items():
        if not isinstance(found, list):
            raise Refused(
                Reason.WRONG_TYPE, f"the {key} of a value list are {decoding.kind(found)}, not an array"
            )
    for source in lists["dsnames"]:
        if not isinstance(source, str):
            raise Refused(Reason.WRONG_TYPE, f"one of dsnames is {decoding.kind(source)}, not a string")
    for source in lists["dstypes"]:
        if source not in get_args(Source):
            raise Refused(Reason.WRONG_TYPE, f"one of dstypes is {source!r}, which is none of collectd's")
    return ValueList(
        values=[_number("values", value) for value in lists["values"]],
        dstypes=lists["dstypes"],
        dsnames=lists["dsnames"],
        time=content.get("time"),  # type: ignore[arg-type]  # whatever it is: `times` judges it
        interval=_number("interval", content.get("interval")),
        **texts,
    )


def _number(what: str, value: object) -> float:
    try:
        return decoding.number(value)
    except ValueError as error:
        raise Refused(Reason.WRONG_TYPE, f"one of {what} is {error}, not a number") from None


def _decoder(schema: FeatureSchema, how: How) -> CollectdDecoder:
    return CollectdDecoder(schema, max_bytes=how.max_bytes)


def names(one: ValueList) -> list[str]:
    """The features that a value list measures."""
    of = (one.plugin, one.plugin_instance, one.type, one.type_instance)
    return [Name(*of, source).text for source in one.dsnames]


def _features(value: bytes, how: How) -> Iterable[str]:
    return [name for one in read(value) for name in names(one)]


_pieces = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _shares(value: bytes, how: How) -> list[Share]:
    """A message by host; the usual one, of a single host, as it came."""
    lists = read(value)
    hosts = {one.host: one.time for one in lists}
    if len(hosts) == 1:
        return [Share(lists[0].host, lists[-1].time, value)]
    pieces: dict[str, list[bytes]] = {host: [] for host in hosts}
    for one, piece in zip(lists, _cut(value), strict=True):
        pieces[one.host].append(piece)
    return [Share(host, time, b"[" + b",".join(pieces[host]) + b"]") for host, time in hosts.items()]


def _cut(value: bytes) -> list[bytes]:
    try:
        return [bytes(piece) for piece in _pieces(value)]
    except msgspec.DecodeError:  # NaN tokens
        return [json.dumps(one).encode() for one in decoding.read_json(value)]


def _propose(values: Sequence[bytes]) -> dict[str, Any] | None:
    """See `Format.propose`. What counts is raw where no value of it is missing or broken: rates hardly are whole."""
    lists: list[ValueList] = []
    refused = 0
    for value in values:
        try:
            lists += read(value)
        except Refused:
            refused += 1
    if not lists or refused > len(values) // 2:
        return None
    counting: list[float | None] = []
    counters: set[str] = set()
    for one in lists:
        for name, kind, measured in zip(names(one), one.dstypes, one.values, strict=True):
            if kind in COUNTING:
                counting.append(measured)
                counters.add(name)
    raw = all(
        value is not None and value == int(value) for value in counting if value is None or np.isfinite(value)
    )
    period = Counter(one.interval for one in lists).most_common(1)[0][0]
    return {
        "format": "collectd",
        "entity": "host",
        "time": "time",
        "features": sorted({name for one in lists for name in names(one)}),
        "counters": sorted(counters) if raw else [],
        "period": f"{period:g}s",
        "wait": f"{max(period, 2):g}s",
        "carry_forward": f"{2 * period:g}s",
    }


FORMAT = Format(True, _decoder, _features, _shares, ("host", "time"), _propose)
