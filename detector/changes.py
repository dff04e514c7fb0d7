"""Changes: what an operator or a training run decides, as versioned messages on the control topic.

The control topic has one partition; a change's version is its offset there. Every change has a key of its
own, so that compaction removes none, and says who made it, when and why. Which budget, model, calibration
and settings are in force is a pure fold of the changes in order (`apply`), so every daemon, `replay` and
the audit agree.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from ..errors import DataError
from .arrays import DTYPES, Array, Arrays, possible
from .wire import Headers, Message, decode_json, microseconds

SCHEMA_VERSION = "1.0"
INLINE_BYTES = (
    256 * 1024
)  # a larger change is a signed artefact in the registry, and the topic names its hash
DEFAULT_BUDGET, DEFAULT_CAP = "", 0
"""In a change: the budget, or the cap, by its default rule. None would mean that nothing is said of it."""
KIND_HEADER = "tocsin.change.kind"
Verdict = Literal["false", "true", "expected"]
SAID: dict[Verdict, str] = {"false": "a false alarm", "true": "real", "expected": "expected"}
"""What an operator says that an incident was, in words."""


Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""What kernels and arrays hold."""


class Packed(msgspec.Struct, frozen=True):
    """One array in JSON: little-endian, C order, zlib, base64."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Base(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every change says. `id` is unique (a UUID); `created_at` is RFC 3339."""

    id: str
    author: str
    reason: str
    created_at: str
    schema_version: str = SCHEMA_VERSION


class Recalibration(Base, frozen=True, kw_only=True, tag="recalibration"):
    """New thresholds for the entities of `model` that it names; all others keep theirs.

    `calibration[name]` is [len(names), ...], row i belonging to entity names[i]; `prior[name]` is [1, ...], for
    entities that nothing is known of. The array names are the fields of thresholds' Calibration. A change of some
    entities alone has no budget, count of entities and prior: they stay as they are.
    """

    model: str
    names: list[str]
    calibration: dict[str, Packed]
    budget: str | None = None
    entities: Count | None = None
    prior: dict[str, Packed] | None = None
    settings: dict[str, Any] = {}


class Promotion(Base, frozen=True, kw_only=True, tag="promotion"):
    """A model version becomes the one that scores; its own calibration comes with it."""

    model: str


class Rollback(Base, frozen=True, kw_only=True, tag="rollback"):
    """An earlier model version scores again."""

    model: str


class BudgetChange(Base, frozen=True, kw_only=True, tag="budget"):
    """A new alert budget, and a new cap of an entity and day; `max_incidents` stays as it is where it is None.

    DEFAULT_BUDGET and DEFAULT_CAP put the default rules in force.
    """

    budget: str
    max_incidents: Count | None = None


class SettingsChange(Base, frozen=True, kw_only=True, tag="settings"):
    """New values of settings that change decisions, by their dotted name (`incidents.k`)."""

    settings: dict[str, Any]


class Resolve(Base, frozen=True, kw_only=True, tag="resolve"):
    """An operator closes one incident."""

    alert_id: str
    entity: str
    topic: str
    partition: int
    rebase: bool = False
    """What the entity shows is its new ordinary."""


class Feedback(Base, frozen=True, kw_only=True, tag="feedback"):
    """An operator says what an incident was: a false alarm, real, or expected up to an event time.

    What its alert told comes with it, because daemons do not remember past incidents: `epoch` and `reach` as of its
    last message, and whether it counted against the budget before anybody said anything of it.
    """

    alert_id: str
    entity: str
    topic: str
    partition: int
    starts_at: str
    verdict: Verdict
    until: str | None = None
    """RFC 3339; of `expected` only."""
    epoch: Count
    reach: float | None
    counted: bool

    def __post_init__(self) -> None:
        """Its times must be some. ValueError, which decoding says as every other fault."""
        if (self.until is not None) != (self.verdict == "expected"):
            raise ValueError("`until` goes with the verdict `expected`, and with no other")
        for text in (self.starts_at, self.until):
            if text is not None:
                microseconds(text)


class Revert(Base, frozen=True, kw_only=True, tag="revert"):
    """What change `version` set, or said of an incident, is again as it was before that change."""

    version: int


class Stored(Base, frozen=True, kw_only=True, tag="stored"):
    """A change too large for the topic: a signed artefact `changes/<sha256>` of the stream's registry."""

    of: str
    sha256: str
    size: int


Change = Recalibration | Promotion | Rollback | BudgetChange | SettingsChange | Resolve | Feedback | Revert
OnTopic = Change | Stored
_DECODER = msgspec.json.Decoder(OnTopic)


class Versioned(NamedTuple):
    """A change with its version (its offset on the control topic)."""

    version: int
    change: Change


def kind_of(change: OnTopic) -> str:
    """The kind as it stands in the message."""
    return str(change.__struct_config__.tag)


def encode(change: OnTopic) -> bytes:
    """The change as JSON."""
    return msgspec.json.encode(change)


def decode(value: bytes | None, what: str) -> OnTopic:
    """A change out of JSON. DataError, naming `what`, where it is none or of a newer major."""
    change: OnTopic = decode_json(_DECODER, value, what, 1)
    if isinstance(change, Recalibration):
        rows = {name: packed.shape[:1] for name, packed in change.calibration.items()}
        if any(shape != (len(change.names),) for shape in rows.values()) or len(set(change.names)) != len(
            change.names
        ):
            raise DataError(f"{what}: its calibration has other rows than its entities. Recalibrate again.")
    return change


def key_of(change: OnTopic) -> bytes:
    """The message's own key."""
    return f"change/{change.id}".encode()


def message_of(change: OnTopic) -> Message:
    """The message of a change that fits; see `tocsin.detector.control` for one that does not."""
    headers: Headers = [(KIND_HEADER, kind_of(change).encode()), ("content-type", b"application/json")]
    return Message(key_of(change), encode(change), headers)


def pack_arrays(arrays: Arrays) -> dict[str, Packed]:
    """Arrays for a change; TypeError for a dtype that is no plain number."""
    packed = {}
    for name, array in arrays.items():
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        if little.dtype.str not in DTYPES:
            raise TypeError(f"array {name!r} has the dtype {little.dtype}, which a change does not hold")
        packed[name] = Packed(little.dtype.str, array.shape, zlib.compress(little.tobytes(), 6))
    return packed


def unpack_arrays(packed: dict[str, Packed], what: str) -> Arrays:
    """The inverse of `pack_arrays`; DataError, naming `what`, where one does not hold what it says."""
    return {name: _unpack(one, f"{what}: the array {name!r}") for name, one in packed.items()}


def _unpack(packed: Packed, what: str) -> Array:
    dtype = DTYPES.get(packed.dtype)
    if dtype is None or not possible(packed.shape):
        raise DataError(f"{what} has an impossible dtype or shape. Recalibrate again.")
    size = dtype.itemsize * math.prod(packed.shape)
    swell = zlib.decompressobj()
    try:
        # Never more than announced, so that a small message cannot ask for all memory.
        data = swell.decompress(packed.data, size + 1)
    except zlib.error as wrong:
        raise DataError(f"{what} does not decompress ({wrong}). Recalibrate again.") from None
    if len(data) != size or not swell.eof:
        raise DataError(f"{what} is longer or shorter than it says. Recalibrate again.")
    flat: Array = np.frombuffer(data, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(data, dtype)
    return flat.reshape(packed.shape)


class Calibrated(NamedTuple):
    """The recalibration in force: its version, and the model that it was made for."""

    version: int
    model: str
    under: tuple[int, ...] = ()
    """The earlier recalibrations, oldest first, that decide for what it does not name."""


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What decides. None: no change has said it, so the configuration file or the model version does."""

    budget: str | None = None
    max_incidents: int | None = None
    model: str | None = None
    recalibration: Calibrated | None = None
    settings: dict[str, Any] = {}


class Before(NamedTuple):
    """What a change replaced: the names it set, with their values until then."""

    version: int
    values: dict[str, Any]


class Word(NamedTuple):
    """What is said of an incident, and the change that says it."""

    version: int
    said: Feedback


class Given(NamedTuple):
    """What a change made of the words on one incident; all of them together are a chain, the newest first."""

    version: int
    about: Feedback
    """The newest feedback on it, which knows best what its alert told."""
    now: Word | None
    """What is said of the incident from there on; None: nothing any more."""
    before: Word | None
    earlier: Given | None


class Effective(NamedTuple):
    """The state of the fold. `refused` says why the last change had no effect, or is empty."""

    version: int
    in_force: InForce
    past: tuple[Before, ...]
    refused: str
    given: Given | None = None


START = Effective(-1, InForce(), (), "")


def apply(effective: Effective, versioned: Versioned) -> Effective:
    """The state after one more change. Pure; a change that cannot act is refused and changes nothing."""
    version, change = versioned
    given = _given(effective.given, version, change)
    if given is not None:
        return effective._replace(version=version, refused="", given=given)
    now = effective.in_force
    new: dict[str, Any] | str = (
        _reverted(effective, change) if isinstance(change, Revert) else _new_values(now, version, change)
    )
    if isinstance(new, str):
        return effective._replace(version=version, refused=new)
    before = Before(version, {name: getattr(now, name) for name in new})
    past = (*effective.past, before) if new else effective.past
    return Effective(version, msgspec.structs.replace(now, **new), past, "", effective.given)


def words(given: Given | None) -> Iterator[Given]:
    """What was said of incidents, the newest first."""
    while given is not None:
        yield given
        given = given.earlier


def word_on(given: Given | None, alert_id: str) -> Word | None:
    """What is said of an incident now."""
    return next((one.now for one in words(given) if one.about.alert_id == alert_id), None)


def _given(given: Given | None, version: int, change: Change) -> Given | None:
    """What a feedback says, or the revert of one says again; None for any other change."""
    if isinstance(change, Feedback):
        return Given(version, change, Word(version, change), word_on(given, change.alert_id), given)
    if isinstance(change, Revert):
        reverted = next((one for one in words(given) if one.version == change.version), None)
        if reverted is not None:
            name = reverted.about.alert_id
            newest = next(one for one in words(given) if one.about.alert_id == name)
            return Given(version, newest.about, reverted.before, newest.now, given)
    return None


def _new_values(now: InForce, version: int, change: Change) -> dict[str, Any] | str:
    """The fields of InForce that a change sets, or why it cannot act."""
    match change:
        case Promotion() | Rollback():
            # A model brings its own calibration: scores of two models are not on one scale.
            return {"model": change.model, "recalibration": None}
        case Recalibration():
            if now.model is not None and change.model != now.model:
                return f"it was computed for the model {change.model}, but {now.model} is in force"
            settings = {"settings": {**now.settings, **change.settings}} if change.settings else {}
            last = now.recalibration
            kept = last is not None and last.model == change.model
            under = (*last.under, last.version) if last is not None and kept else ()
            budget = {} if change.budget is None else {"budget": change.budget}
            return {"recalibration": Calibrated(version, change.model, under), **budget, **settings}
        case BudgetChange():
            cap = {} if change.max_incidents is None else {"max_incidents": change.max_incidents}
            return {"budget": change.budget, **cap}
        case SettingsChange():
            return {"settings": {**now.settings, **change.settings}}
    return {}


def _reverted(effective: Effective, change: Revert) -> dict[str, Any] | str:
    """What was in force before the change that is named, for everything that it set."""
    before = next((past for past in effective.past if past.version == change.version), None)
    if before is None:
        return f"no change with the version {change.version} has set anything"
    values = before.values
    old = values.get("recalibration")
    model = values.get("model", effective.in_force.model)
    if old is not None and model is not None and old.model != model:
        return f"before it, a calibration of the model {old.model} was in force, but {model} scores now"
    return values


def fold(changes: list[Versioned]) -> Effective:
    """The state after all changes."""
    effective = START
    for versioned in changes:
        effective = apply(effective, versioned)
    return effective
