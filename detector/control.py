"""The control topic in use: publish a change under its seal, read them all, keep large ones as files in the registry.

A change over 256 KiB does not travel: its JSON lies in `<registry>/<stream>/changes/<sha256>` with its
signature beside it in `<sha256>.sig`, and the topic carries the hash. What cannot be loaded (missing,
altered, signed by somebody else, of a newer schema) and, with `[control] require_signature`, what is not
sealed comes back as `Unloadable`: the daemon keeps what it has and says so.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import (
    BrokerError,
    BrokerUnavailable,
    DataError,
    DeliveryFailed,
    SettingsError,
    SignatureError,
)
from ..models import signing
from ..pipelines.brokers.base import BEGINNING, Batch, Broker, Consumer, Part
from ..thresholds.budget import parse_budget
from ..thresholds.calibration import of_arrays
from .changes import (
    INLINE_BYTES,
    BudgetChange,
    Change,
    OnTopic,
    Recalibration,
    SettingsChange,
    Stored,
    Versioned,
    decode,
    encode,
    key_of,
    kind_of,
    message_of,
    unpack_arrays,
)
from .registry import private_key, trusted_keys
from .seals import Entry, Sign, Verify, checked, last_link, seal
from .settings import Incidents, Settings, Stream, with_changes
from .wire import Headers, Message

log = logging.getLogger(__name__)

# What is signed begins with this, so that a signature of something else made with the same key never fits.
SIGNED_AS = b"tocsin change artefact 1\n"
LARGEST_BYTES = 1 << 30
STALL_S = 30.0
ATTEMPTS = 10  # to publish where others publish at the same moment: a seal holds for one place alone
_HASH = re.compile("[0-9a-f]{64}")


class Unloadable(NamedTuple):
    """A change that is on the topic but cannot act here, and why."""

    version: int
    kind: str
    why: str
    unsealed: bool = False
    """It was refused for want of a seal that holds."""


class Artefacts(NamedTuple):
    """Where large changes of a stream lie, and who vouches for all. `sign` is None where this process only reads."""

    folder: Path
    verify: Verify
    sign: Sign | None = None
    stream: str = ""
    sealed_from: int | None = None
    """The first version that must be sealed; None: none must."""


def artefact_folder(registry: Path, stream: str) -> Path:
    """`<registry>/<stream>/changes`."""
    return registry / stream / "changes"


def to_message(change: Change, artefacts: Artefacts) -> Message:
    """The message to publish; writes the artefact first where the change is large.

    Raises SignatureError where it is large and there is no key to sign it with.
    """
    payload = encode(change)
    if len(payload) <= INLINE_BYTES:
        return message_of(change)
    if artefacts.sign is None:
        raise SignatureError(
            f"The change has {len(payload)} bytes, more than {INLINE_BYTES}, so it must become a "
            "signed artefact, "
            "but no private key is at hand. Run this where `tocsin train` made one, or name it in [registry]."
        )
    digest = hashlib.sha256(payload).hexdigest()
    artefacts.folder.mkdir(parents=True, exist_ok=True)
    _write(artefacts.folder / f"{digest}.sig", artefacts.sign(SIGNED_AS + payload))
    _write(artefacts.folder / digest, payload)
    stored = Stored(
        id=change.id,
        author=change.author,
        reason=change.reason,
        created_at=change.created_at,
        of=kind_of(change),
        sha256=digest,
        size=len(payload),
    )
    return message_of(stored)


def from_message(
    version: int, value: bytes | None, artefacts: Artefacts, headers: Headers | None = None
) -> Versioned | Unloadable:
    """The change of a message, out of its artefact where it has one; never raises for bad content."""
    what = f"change {version} of the control topic"
    kind = ""
    try:
        change: OnTopic = decode(value, what)
        kind = change.of if isinstance(change, Stored) else kind_of(change)
        if artefacts.sealed_from is not None and version >= artefacts.sealed_from:
            try:
                checked(artefacts.stream, Entry(version, value or b"", headers or []), artefacts.verify)
            except SignatureError as fault:
                return Unloadable(version, kind, str(fault), unsealed=True)
        if isinstance(change, Stored):
            change = _load(change, artefacts, what)
        _check(change, what)
    except (DataError, SignatureError) as fault:
        return Unloadable(version, kind, str(fault))
    return Versioned(version, change)


def _check(change: Change, what: str) -> None:
    """Raises DataError where a change would put in force what nothing can work with: every start would end with it."""
    try:
        if isinstance(change, Recalibration):
            of_arrays(unpack_arrays(change.calibration, what))
            if change.prior is not None and len(of_arrays(unpack_arrays(change.prior, what)).level) != 1:
                raise ValueError("its prior has not one row")
        if isinstance(change, Recalibration | BudgetChange) and change.budget:
            parse_budget(change.budget)
        if isinstance(change, Recalibration | SettingsChange):
            with_changes(Incidents(), change.settings)
    except (ValueError, SettingsError) as wrong:
        raise DataError(f"{what} cannot act: {wrong}. Publish another in its place.") from None


def _load(stored: Stored, artefacts: Artefacts, what: str) -> Change:
    if not _HASH.fullmatch(stored.sha256) or not 0 <= stored.size <= LARGEST_BYTES:
        raise DataError(f"{what} names the impossible artefact {stored.sha256!r} of {stored.size} bytes.")
    path = artefacts.folder / stored.sha256
    try:
        payload = _read(path, stored.size)
        signature = _read(path.with_suffix(".sig"), 4096)
    except OSError as error:
        raise DataError(
            f"{what} is the artefact {path}, which cannot be read ({error.strerror}). Copy it here with its .sig "
            "from the registry where it was made, or share that folder, and publish the change again: a daemon that "
            "runs does not try twice."
        ) from None
    if len(payload) != stored.size or hashlib.sha256(payload).hexdigest() != stored.sha256:
        raise DataError(
            f"{what}: the artefact {path} was altered: its SHA-256 is not its name. Copy it again."
        )
    artefacts.verify(SIGNED_AS + payload, signature, f"the artefact {path}")
    change = decode(payload, f"{what}, artefact {path}")
    if isinstance(change, Stored) or change.id != stored.id or kind_of(change) != stored.of:
        raise DataError(f"{what}: the artefact {path} holds another change. Publish the change again.")
    return change


def _read(path: Path, limit: int) -> bytes:
    """The file up to one byte beyond `limit`. Room is made for all that is asked for, so no more than is there is."""
    with path.open("rb") as file:
        return file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all; the name is the content's hash, so a second writer writes the same."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_to_end(
    consumer: Consumer,
    parts: Iterable[Part],
    begin: int = BEGINNING,
    stall_s: float = STALL_S,
    ends: Mapping[Part, int] | None = None,
) -> Iterator[Batch]:
    """All records of the partitions from `begin` to the ends as they are now, or as they are given, in batches.

    Raises:
        BrokerUnavailable: nobody answers.
        BrokerError: nothing came for `stall_s` although the ends were not reached.
    """
    ends = consumer.end_offsets(parts) if ends is None else ends
    firsts = consumer.begin_offsets(ends)
    open_ = {part: end for part, end in ends.items() if end > max(begin, firsts[part])}
    if not open_:
        return
    consumer.assign((*part, max(begin, firsts[part])) for part in open_)
    waited = 0.0
    while open_:
        batch = consumer.consume(4096, 0.5)
        waited = 0.0 if batch else waited + 0.5
        if batch:
            yield batch
        at = consumer.position()
        open_ = {part: end for part, end in open_.items() if at.get(part, -1) < end}
        if open_ and waited >= stall_s:
            kind = BrokerUnavailable if consumer.broker_down else BrokerError
            raise kind(
                f"Reading {sorted(open_)} to the end stalled for {stall_s:.0f} s before the offsets "
                f"{sorted(open_.values())}. Check that the brokers which lead these partitions are up. If they are, a "
                "transaction of a producer that is gone stands open there: `kafka-transactions.sh find-hanging` names "
                "it, and `abort` ends it."
            )


def read_all(
    broker: Broker, topic: str, artefacts: Artefacts, begin: int = BEGINNING
) -> list[Versioned | Unloadable]:
    """Every change of the control topic, in order. UnknownTopic where it does not exist."""
    consumer = broker.consumer()
    try:
        return [
            from_message(entry.version, entry.value, artefacts, entry.headers)
            for entry in entries(consumer, topic, begin)
        ]
    finally:
        consumer.close()


def entries(
    consumer: Consumer, topic: str, begin: int = BEGINNING, stall_s: float = STALL_S
) -> Iterator[Entry]:
    """The messages of the control topic up to its end as it is now, tombstones left out."""
    for batch in read_to_end(consumer, [(topic, 0)], begin, stall_s):
        yield from of_batch(batch)


def of_batch(batch: Batch) -> Iterator[Entry]:
    """The messages of a batch that a consumer of the control topic got, tombstones left out."""
    headers = batch.headers or [None] * batch.size
    for offset, value, found in zip(batch.offset, batch.value, headers, strict=True):
        if value is not None:
            yield Entry(offset, value, list(found or ()))


def publish(
    broker: Broker, topic: str, change: Change, artefacts: Artefacts, timeout_s: float = STALL_S
) -> int:
    """Publish a change, sealed where there is a key for it, and return its version, read back from the topic.

    Where seals are required and somebody else took the place that this one was made for, it is published again; the
    first acts nowhere.

    Raises:
        DeliveryFailed: the broker did not acknowledge it, it is not on the topic afterwards, or others were always
            first.
        SignatureError: it must be signed (seals are required, or it is large) and cannot be here.
    """
    message = to_message(change, artefacts)
    consumer, producer = broker.consumer(), broker.producer()
    try:
        for attempt in range(ATTEMPTS):
            if attempt:  # a key of its own, so that compaction takes nothing
                message = message._replace(key=b"%s/%d" % (key_of(change), attempt))
            place = consumer.end_offsets([(topic, 0)])[topic, 0]
            headers = [*message.headers, *_sealed(consumer, topic, place, message, artefacts)]
            producer.produce(topic, message.value, message.key, partition=0, headers=headers)
            producer.flush(timeout_s)
            found = _found(consumer, topic, place, message, timeout_s)
            if found == place or artefacts.sealed_from is None:
                return found
    finally:
        consumer.close()
        producer.close()
    raise DeliveryFailed(
        f"{ATTEMPTS} times others published on {topic!r} in the same moment, and a signature holds for one place. "
        "Nothing was changed; try again."
    )


def _found(consumer: Consumer, topic: str, begin: int, message: Message, timeout_s: float) -> int:
    for batch in read_to_end(consumer, [(topic, 0)], begin, timeout_s):
        for offset, key in zip(batch.offset, batch.key, strict=True):
            if key == message.key:
                return offset
    raise DeliveryFailed(
        f"The change was acknowledged but is not on {topic!r}. Was the topic deleted meanwhile?"
    )


def _sealed(consumer: Consumer, topic: str, place: int, message: Message, artefacts: Artefacts) -> Headers:
    """The headers that seal a message at a place; none where it need not be and there is no key."""
    try:
        if artefacts.sign is None:
            raise SignatureError("this process only reads")
        known = (one for one in entries(consumer, topic) if one.version < place)
        previous = last_link(artefacts.stream, known, artefacts.verify)
        return seal(artefacts.stream, place, previous, message.value or b"", artefacts.sign)
    except SignatureError as fault:
        if artefacts.sealed_from is not None:
            raise SignatureError(
                f"[control] require_signature is set, and a change cannot be signed here: {fault}. Publish it where "
                "the key is, or name it as [registry] private_key."
            ) from None
        log.info("a change is published without a signature", extra={"why": str(fault)})
        return []


def artefacts_of(settings: Settings, stream: Stream) -> Artefacts:
    """Where a stream's large changes lie, and the keys of `[registry]` that sign and verify all.

    Keys are read when they are needed, so without `[control] require_signature` one who has none can read and publish.

    Raises:
        SignatureError: signatures are required and the keys to trust cannot be read.
    """
    trusted = functools.cache(lambda: trusted_keys(settings))

    def sign(data: bytes) -> bytes:
        return signing.sign(signing.load_signer(private_key(settings)), data)

    def verify(data: bytes, signature: bytes, what: str) -> str:
        return signing.verify(data, signature, trusted(), what)

    sealed_from = None
    if settings.control.require_signature:
        trusted()  # now, or else every change would be refused for a file that is missing
        sealed_from = stream.signed_from
    folder = artefact_folder(Path(settings.registry.path), stream.name)
    return Artefacts(folder, verify, sign, stream.name, sealed_from)
