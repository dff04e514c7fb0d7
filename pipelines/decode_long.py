"""Long JSON: a message is one measurement, `{"ts": 1700000000, "host": "a", "metric": "cpu", "value": 1}`.

The measurements are put together into records by `alignment`. A name that is no feature of the stream is
counted and dropped: other metrics on the same topic are nobody's mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from . import decoding, paths
from .decoding import MAX_MESSAGE_BYTES, DecodedPoints, Format, How, Reason, Refused, Rejection, Tally
from .records import LARGEST, Messages, Points
from .schema import FeatureSchema
from .slots import SlotTable
from .timestamps import Unit


class LongDecoder:
    """Messages of one stream to `Points`.

    `name` and `value` are the paths of the metric's name and of what was measured; `entity` and `time` as
    for wide messages. `metric_names` gives the name that a feature has in the messages where it is not the
    feature's own. Raises SettingsError for paths that cannot be read together.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        name: str = "metric",
        value: str = "value",
        entity: str | None = None,
        time: str | None = None,
        time_unit: Unit = "auto",
        metric_names: Mapping[str, str] | None = None,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.schema = schema
        self._unit = time_unit
        self._max_bytes = max_bytes
        given = metric_names or {}
        self._feature = {given.get(feature, feature): place for place, feature in enumerate(schema.names)}
        wanted: dict[str, tuple[str | None, Any]] = {
            "name": (name, str | None),
            "value": (value, float | str | msgspec.UnsetType | None),
            "entity": (entity, str | int | None),
            "time": (time, int | float | str | None),
        }
        self._keys = {leaf: paths.split(path) for leaf, (path, _) in wanted.items() if path}
        shape = paths.shape(
            [
                paths.Leaf(leaf, keys, wanted[leaf][1], msgspec.UNSET if leaf == "value" else None)
                for leaf, keys in self._keys.items()
            ]
        )
        self._decode = msgspec.json.Decoder(shape.type).decode
        self._get = {leaf: shape.getter(leaf) for leaf in self._keys}

    def decode(self, messages: Messages, table: SlotTable) -> DecodedPoints:
        """Read a batch; entities that are new get slots in `table`."""
        rejected: list[Rejection] = []
        index: list[int] = []
        features: list[int] = []
        values: list[float] = []
        names: list[Any] = []
        written: list[Any] = []
        infinite = unknown = 0
        for row, content in enumerate(messages.value):
            try:
                found = self._one(content)
                feature = self._feature.get(found["name"])
                if feature is None:
                    unknown += 1
                    continue
                value = self._number(found["value"])
            except Refused as refused:
                rejected.append(refused.of(row))
                continue
            if abs(value) > LARGEST:
                infinite += 1
                value = float("nan")
            index.append(row)
            features.append(feature)
            values.append(value)
            names.append(found.get("entity"))
            written.append(found.get("time"))
        time_us, good = decoding.times(written, self._unit, messages, index, rejected)
        slots = decoding.entities(names, messages, index, good, table, rejected)
        rows = np.asarray(index, np.int64)
        points = Points(
            slots, messages.part[rows], messages.offset[rows], time_us,
            np.asarray(features, np.int32), np.asarray(values, np.float64),
        )  # fmt: skip
        if not good.all():
            rows, points = rows[good], Points._make(column[good] for column in points)
        rejected.sort()
        return DecodedPoints(points, rows, rejected, Tally(infinite, unknown))

    def _one(self, content: bytes | None) -> dict[str, Any]:
        """The leaves of one message. Raises Refused."""
        whole = decoding.sized(content, self._max_bytes)
        try:
            struct = self._decode(whole)
            found = {leaf: get(struct) for leaf, get in self._get.items()}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = self._tolerant(whole)
        if not found["name"]:
            raise Refused(Reason.NO_FEATURES, "the message names no metric")
        if found["value"] is msgspec.UNSET:
            raise Refused(Reason.NO_FEATURES, f"the message has no value for metric '{found['name']}'")
        return found

    def _tolerant(self, content: bytes) -> dict[str, Any]:
        whole = decoding.read_object(content)
        found = {leaf: decoding.find(leaf, whole, keys) for leaf, keys in self._keys.items()}
        if not isinstance(found["name"], str | None):
            raise Refused(Reason.WRONG_TYPE, f"the metric's name is {decoding.kind(found['name'])}")
        if not paths.lookup(whole, self._keys["value"])[0]:
            found["value"] = msgspec.UNSET
        decoding.check_identity(found.get("entity"), found.get("time"))
        return found

    @staticmethod
    def _number(value: Any) -> float:
        if type(value) is float:
            return value
        try:
            return decoding.number(value)
        except ValueError as error:
            raise Refused(Reason.WRONG_TYPE, f"the value is {error}, not a number") from None


def _decoder(schema: FeatureSchema, how: How) -> LongDecoder:
    return LongDecoder(
        schema,
        name=how.metric,
        value=how.value,
        entity=how.entity,
        time=how.time,
        time_unit=how.time_unit,
        max_bytes=how.max_bytes,
    )


def _features(value: bytes, how: How) -> Iterable[str]:
    """The metric's name."""
    name = decoding.find("metric", decoding.read_object(value), paths.split(how.metric))
    return [name] if isinstance(name, str) and name not in ("", "label") else []


FORMAT = Format(True, _decoder, _features, decoding.share_of_object)
