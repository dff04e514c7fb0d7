"""The seal of a change: whose key vouches for it, on which stream, at which place, after which change.

A seal is an Ed25519 signature in a header of the message. It covers the stream's name, the change's version (its
offset), the link of the sealed change before it and the exact bytes of the value: so nobody without the key can
alter a change, publish it for another stream, or publish it again later on its own. A link is the SHA-256 of what
a seal covers, so sealed changes form a chain, in which each names the one before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import SignatureError
from .wire import Headers

Sign = Callable[[bytes], bytes]
"""A signature of the bytes given."""
Verify = Callable[[bytes, bytes, str], object]
"""Of data, signature and what it is; raises SignatureError where the signature is not a trusted key's."""

SIGNATURE = "tocsin.change.signature"
PREVIOUS = "tocsin.change.previous"
# What is signed begins with this, so that a signature of something else made with the same key never fits.
SEALED_AS = b"tocsin change 1\n"
FIRST = "0" * 64
"""The link before the first sealed change."""
_LINK = re.compile("[0-9a-f]{64}")


class Entry(NamedTuple):
    """A message of the control topic, as it stands there."""

    version: int
    value: bytes
    headers: Headers


class Seal(NamedTuple):
    """A seal that holds: its own link, and that of the sealed change before it."""

    link: str
    previous: str


def seal(stream: str, version: int, previous: str, value: bytes, sign: Sign) -> Headers:
    """The headers that seal a change at a place that is not taken yet."""
    return [
        (PREVIOUS, previous.encode()),
        (SIGNATURE, sign(_covered(stream, version, previous, value))),
    ]


def checked(stream: str, entry: Entry, verify: Verify) -> Seal:
    """The seal of a change. Raises SignatureError where it has none that holds at this place of this stream."""
    signature, previous = dict(entry.headers).get(SIGNATURE), _previous(entry)
    what = f"change {entry.version} of the control topic"
    if signature is None:
        raise SignatureError(f"{what} is not signed")
    if not _LINK.fullmatch(previous):
        raise SignatureError(f"{what} does not name the signed change before it")
    covered = _covered(stream, entry.version, previous, entry.value)
    verify(covered, signature, f"{what}, if it was published here and for the stream {stream!r}")
    return Seal(link_of(stream, entry), previous)


def link_of(stream: str, entry: Entry) -> str:
    """The link of a change, whether its seal holds or not."""
    return hashlib.sha256(_covered(stream, entry.version, _previous(entry), entry.value)).hexdigest()


def last_link(stream: str, entries: Iterable[Entry], verify: Verify) -> str:
    """The link of the newest sealed change, FIRST where there is none."""
    link = FIRST
    for entry in entries:
        try:
            link = checked(stream, entry, verify).link
        except SignatureError:
            continue
    return link


def _previous(entry: Entry) -> str:
    return (dict(entry.headers).get(PREVIOUS) or b"").decode("ascii", "replace")


def _covered(stream: str, version: int, previous: str, value: bytes) -> bytes:
    return SEALED_AS + f"{stream}\n{version}\n{previous}\n".encode() + value
