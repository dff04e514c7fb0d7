"""Wide JSON: one message is one record, `{"ts": 1700000000, "host": "a", "cpu": 0.4, "disk": {"free": 7}}`.

Messages of the plainest shape are read by a compiled kernel (`flat_json`). Of the others one msgspec type, built once
from the schema, reads exactly the configured paths; what it refuses (numbers in strings, NaN tokens, wrong types) goes
one by one through a tolerant second reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from . import decoding, paths, timestamps
from .decoding import MAX_MESSAGE_BYTES, Decoded, Format, How, Reason, Refused, Rejection, Tally
from .flat_json import FlatReader
from .records import LARGEST, NO_TIME, Messages, Records
from .schema import FeatureSchema
from .slots import SlotTable
from .timestamps import Unit

RUN = 256
"""Messages read in one step: few enough that what they become is still in the processor's cache when it is put into
columns, and that another thread soon gets the interpreter."""


class WideDecoder:
    """Messages of one stream to `Records`.

    `entity` and `time` are the paths of the entity and the event time (None: the Kafka key, Kafka's
    timestamp). `feature_paths` gives the path of a feature where it is not the feature's name. Raises
    SettingsError for paths that cannot be read together.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        entity: str | None = None,
        time: str | None = None,
        time_unit: Unit = "auto",
        feature_paths: Mapping[str, str] | None = None,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.schema = schema
        self._unit = time_unit
        self._max_bytes = max_bytes
        given = feature_paths or {}
        self._features = [(name, paths.split(given.get(name, name))) for name in schema.names]
        leaves = [
            paths.Leaf(f"feature {name}", keys, float | None, float("nan")) for name, keys in self._features
        ]
        self._identity = []
        for name, path, type_ in (
            ("entity", entity, str | int | None),
            ("time", time, int | float | str | None),
        ):
            if path:
                self._identity.append((name, paths.split(path)))
                leaves.append(paths.Leaf(name, self._identity[-1][1], type_, None))
        shape = paths.shape(leaves)
        self._type = shape.type
        self._decode = msgspec.json.Decoder(shape.type).decode
        self._rows = shape.rows([f"feature {name}" for name in schema.names])
        named = [path for path in (entity, time) if path]
        flat = all(len(keys) == 1 for keys in (*dict(self._features).values(), *map(paths.split, named)))
        top = [keys[0] for _, keys in self._features]
        self._flat = (
            FlatReader(top, *(paths.split(path)[0] if path else None for path in (entity, time)))
            if flat
            else None
        )
        self._get_entity = shape.getter("entity") if entity else None
        self._get_time = shape.getter("time") if time else None

    def decode(self, messages: Messages, table: SlotTable) -> Decoded:
        """Read a batch; entities that are new get slots in `table`."""
        n = len(messages.value)
        values = np.empty((n, len(self.schema)), np.float64)
        good, time_us, names = self._plain(messages, values)
        rejected: list[Rejection] = []
        infinite = 0
        rest = np.flatnonzero(~good)
        if len(rest):
            infinite = self._others(messages, rest, values, good, time_us, names, rejected)
        rows = np.arange(n)
        slots = decoding.entities(names, messages, rows, good, table, rejected)
        if not good.all():
            rows, slots, time_us, values = rows[good], slots[good], time_us[good], values[good]
        rejected.sort()
        records = Records(slots, messages.part[rows], messages.offset[rows], time_us, values)
        return Decoded(records, rows, rejected, Tally(infinite=infinite))

    def _plain(
        self, messages: Messages, values: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[Any]]:
        """What the kernel can read: which messages [n], their times [n] and entities, their values in `values`."""
        n = len(messages.value)
        if self._flat is None or not n:
            return np.zeros(n, np.bool_), np.full(n, NO_TIME), [None] * n
        good, written, names = self._flat.read(messages.value, self._max_bytes, values)
        if self._get_time:
            time_us, status = timestamps.from_integers(written, self._unit)
        else:
            time_us, status = timestamps.from_integers(messages.timestamp_ms, "ms")
        good &= status == timestamps.Status.OK
        return good, time_us, names

    def _others(
        self,
        messages: Messages,
        rest: NDArray[np.int64],
        values: NDArray[np.float64],
        good: NDArray[np.bool_],
        time_us: NDArray[np.int64],
        names: list[Any],
        rejected: list[Rejection],
    ) -> int:
        """Read the messages `rest` by msgspec into the same columns; how many of their values were infinite."""
        infinite = 0
        index: list[int] = []
        written: list[Any] = []
        for first in range(0, len(rest), RUN):
            here, structs, more = self._read(messages.value, rest[first : first + RUN].tolist(), rejected)
            if not structs:
                continue
            values[here] = self._columns(structs)
            written.extend(map(self._get_time, structs) if self._get_time else repeat(None, len(structs)))
            for row, name in (
                zip(here, map(self._get_entity, structs), strict=True) if self._get_entity else ()
            ):
                names[row] = name
            index.extend(here)
            infinite += more
        mine = values[index]
        beyond = np.abs(mine) > LARGEST
        if beyond.any():
            mine[beyond] = np.nan
            values[index] = mine
        time_us[index], good[index] = decoding.times(written, self._unit, messages, index, rejected)
        for row in np.flatnonzero(np.isnan(mine).all(axis=1)).tolist():
            at = index[row]
            if not good[at]:
                continue
            try:
                self._check_features(messages.value[at] or b"")
            except Refused as refused:
                rejected.append(refused.of(at))
                good[at] = False
        return infinite + int(np.count_nonzero(beyond))

    def _read(
        self, values: Sequence[bytes | None], numbers: list[int], rejected: list[Rejection]
    ) -> tuple[list[int], list[Any], int]:
        """A run of messages, by their numbers: which can be used, as structs, and how many of their values were
        infinite."""
        decode, limit = self._decode, self._max_bytes
        run = [values[number] for number in numbers]
        if all(run) and max(map(len, run)) <= limit:  # type: ignore[arg-type]
            try:
                return numbers, list(map(decode, run)), 0  # type: ignore[arg-type]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # one by one, then
        index: list[int] = []
        structs: list[Any] = []
        infinite = 0
        for number, value in zip(numbers, run, strict=True):
            try:
                if not value or len(value) > limit:
                    value = decoding.sized(value, limit)
                try:
                    struct = decode(value)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    struct, more = self._tolerant(value)
                    infinite += more
            except Refused as refused:
                rejected.append(refused.of(number))
                continue
            structs.append(struct)
            index.append(number)
        return index, structs, infinite

    def _columns(self, structs: list[Any]) -> NDArray[np.float64]:
        flat = chain.from_iterable(self._rows(structs))
        width = len(self.schema)
        return np.fromiter(flat, np.float64, len(structs) * width).reshape(-1, width)

    def _tolerant(self, value: bytes) -> tuple[Any, int]:
        """The same struct from what the typed reading refused, and its infinite values. Raises Refused."""
        content = decoding.read_object(value)
        clean: dict[str, Any] = {}
        infinite = 0
        identity = {name: decoding.find(name, content, keys) for name, keys in self._identity}
        decoding.check_identity(identity.get("entity"), identity.get("time"))
        for name, keys in self._identity:
            _set(clean, keys, identity[name])
        for name, keys in self._features:
            try:
                measured = decoding.number(decoding.find(name, content, keys))
            except ValueError as error:
                raise Refused(Reason.WRONG_TYPE, f"feature '{name}' is {error}, not a number") from None
            if abs(measured) == float("inf"):
                infinite += 1
                measured = float("nan")
            _set(clean, keys, measured)
        try:
            return msgspec.convert(clean, self._type), infinite
        except msgspec.ValidationError as error:
            raise Refused(Reason.WRONG_TYPE, str(error)) from None

    def _check_features(self, value: bytes) -> None:
        content = decoding.read_object(value)
        if not any(paths.lookup(content, keys)[0] for _, keys in self._features):
            raise Refused(Reason.NO_FEATURES, "none of the stream's features is in the message")


def _set(content: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
    content[keys[-1]] = value


def _decoder(schema: FeatureSchema, how: How) -> WideDecoder:
    return WideDecoder(
        schema, entity=how.entity, time=how.time, time_unit=how.time_unit, max_bytes=how.max_bytes
    )


def _features(value: bytes, how: How) -> Iterable[str]:
    """The paths of all numbers but entity, time and label."""
    apart = {how.entity, how.time, "label"}
    found = paths.leaves(decoding.read_object(value))
    return [path for path, leaf in found if path not in apart and _is_number(leaf)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FORMAT = Format(False, _decoder, _features, decoding.share_of_object)
