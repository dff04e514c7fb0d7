"""Inputs that a reader once did not bear, by target: kept, so that each is tried first."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from fuzz.messages import STAMP, stored, tiny_recalibration


def _table(*fields: tuple[str, str, list[int]], note: Any) -> bytes:
    """A snapshot of no entity with these fields besides; what is behind the table is empty."""
    names = [["names.lengths", "<i4", [0]], ["names", "|u1", [0]]]
    return (
        json.dumps({"fields": [*names, *fields], "note": {"next_offset": 1, "note": note}}).encode() + b"\n"
    )


def _change(kind: str, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, "schema_version": "1.0", **STAMP, **fields}).encode()


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    return b"-----BEGIN PUBLIC KEY-----\n" + text + b"\n-----END PUBLIC KEY-----\n"


_RULED = {"change": 0, "model": "m"}
_STREAM = b'[stream]\nname = "web"\n'

FOUND: dict[str, dict[str, bytes]] = {
    "json_long": {
        "half a surrogate pair quoted in a dead letter": b'{"ts": 1, "host": "a", "metric": "\\ud800"}'
    },
    "settings: file": {
        "arrays too deep for the parser": b"a = " + b"[" * 5000,
        "tables too deep to be shown": b"[kafka]\nlibrdkafka." + b"a." * 3000 + b"a = 1",
        "an integer too long to be read": _STREAM + b"window = " + b"9" * 5000,
        "an integer too long to be shown": _STREAM + b"window = 0x" + b"f" * 5000,
        "a duration that is infinite": _STREAM + b'late_after = "' + b"9" * 400 + b'd"',
        "a duration of many digits": _STREAM + b'late_after = "' + b"9" * 8_000 + b'"',
        "a home that nobody has": _STREAM + b'[registry]\npath = "~nobody-of-that-name/models"',
        "a budget of nothing": _STREAM + b'[thresholds]\nbudget = "0/day"',
        "a budget in other digits": _STREAM + '[thresholds]\nbudget = "٣/day"'.encode(),
        "many keys": _STREAM + b"".join(b"k%d = 1\n" % n for n in range(6000)),
        "an endless value": b'[stream]\nname = "' + b"x" * 100_000 + b'"',
    },
    "settings: environment": {
        "an integer too long to be read": b"TOCSIN__STREAM__WINDOW=" + b"9" * 5000,
        "a home that nobody has": b"TOCSIN__STREAM__NAME=web-eu\nTOCSIN__REGISTRY__PATH=~nobody-of-that-name/x",
    },
    "changelog: snapshot": {
        "a shape of nothing that no array has": _table(("slot:a", "<f4", [0, 1 << 48, 1 << 48]), note=_RULED),
        "a note without a change": _table(note={}),
        "decisions without their arrays": json.dumps(
            {
                "fields": [["names.lengths", "<i4", [1]], ["names", "|u1", [9]]],
                "note": {"next_offset": 1, "note": {**_RULED, "format": 3}},
            }
        ).encode()
        + b"\n\x09\0\0\0"
        + "host-0 é".encode(),
        "names of other lengths than integers": json.dumps(
            {
                "fields": [["names.lengths", "<f8", [1]], ["names", "|u1", [0]]],
                "note": {"next_offset": 1, "note": _RULED},
            }
        ).encode()
        + b"\n"
        + b"\xff" * 8,
    },
    "control topic: changes": {
        "a budget that is none": _change("budget", budget="plenty"),
        "a cap below nothing": _change("budget", budget="1/day", max_incidents=-1),
        "a setting out of its range": _change("settings", settings={"incidents.k": 99}),
        "a calibration of other arrays": msgspec.json.encode(tiny_recalibration()),
        "a file said to be large": msgspec.json.encode(stored(1 << 30)),
    },
    "model: manifest": {
        "any, as small as it is": b"{}",
        "bytes that are no text": b'{"schema_version": "\xff"}',
        "figures too deep": b'{"schema_version": "1.0", "training": ' + b'{"a":' * 20_000,
    },
    "checkpoint": {"a head too deep": b'{"x": ' + b"[" * 100_000},
    "compiled code: index": {
        "bytes that are no text": b'{"a-cache": "\xff"}',
    },
    "registry: pointer": {
        "bytes that are no text": b'{"version": "\xff"}',
        "too deep": b'{"a": ' + b"[" * 100_000,
    },
    "keys": {
        "a key of a kind that is not known": _pem(bytes.fromhex("302a300506032b6563032100") + bytes(32)),
    },
}
