"""Damage to bytes: what a broken disk, a broken producer or somebody ill-meaning makes of a valid input.

An example is a seed, a list of steps, and what they make of it; all of it is a pure function of what was drawn, so that
hypothesis can shrink an example to the one step that matters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

LARGEST = 1 << 17
"""Bytes of an example: no step makes a longer one."""
MOST_STEPS = 8

TOKENS: tuple[bytes, ...] = (
    b"",
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"-1e999",
    b"1e-999",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"18446744073709551616",
    b"-9223372036854775809",
    b"281474976710656",
    b"0x" + b"f" * 5000,
    b"9" * 400,
    b"9" * 5000,
    b"9" * 40_000,
    b"." * 3000,
    b"a." * 2000,
    b"[" * 300,
    b"[" * 100_000,
    b'{"a":' * 960,
    b'{"a":' * 20_000,
    b"[" * 940 + b"]" * 940,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'"\\ud800"',
    b"\\udfff",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\0",
    b"\0" * 64,
    b"\xff" * 8,
    b"\r\n",
    b"x" * 600,
    b"y" * 70_000,
    "é\u202e\U0001f514".encode(),
    b"2026-01-31T12:00:00.000000Z",
    b"9999-12-31T23:59:59.999999Z",
    b"0001-01-01T00:00:00+23:59",
    b"~nobody/x",
    b"../" * 30,
    b"\n",
    b"\n" * 5000,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 63,
    1 << 48,
    10**400,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "7",
    "\ud800",
    "\0",
    "z" * 5000,
    "9" * 5000 + "d",
    "1/day",
    "2.0",
    [],
    [1],
    [[[]]],
    [0, 1 << 48, 1 << 48],
    [1 << 48] * 3000,
    ["a", "a"],
    {},
    {"a": {"b": None}},
)
"""What is put in the place of another value of JSON."""


class Step(NamedTuple):
    """One piece of damage: where (as a share of what is there) and with what."""

    kind: str
    at: float
    size: int
    which: int


def _flip(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = _place(data, step)
    return data[:at] + bytes([data[at] ^ (1 << step.which % 8)]) + data[at + 1 :]


def _write(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, step)
    return data[:at] + bytes([step.which % 256]) + data[at + 1 :]


def _cut(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, step)
    return data[:at] + data[at + step.size :]


def _truncate(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    return data[: _place(data, step)]


def _repeat(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, step)
    return data[:at] + data[at : at + step.size] * (2 + step.which % 40) + data[at + step.size :]


def _insert(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, step)
    return data[:at] + TOKENS[step.which % len(TOKENS)] + data[at:]


def _replace(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, step)
    return data[:at] + TOKENS[step.which % len(TOKENS)] + data[at + step.size :]


def _splice(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    other = seeds[step.which % len(seeds)]
    return data[: _place(data, step)] + other[_place(other, step) :]


def _json(data: bytes, step: Step, seeds: Sequence[bytes]) -> bytes:
    """Damage inside JSON that stays JSON: the data, or its first line where the rest is something else."""
    head, line, rest = data.partition(b"\n")
    for text, behind in ((data, b""), (head, line + rest)):
        try:
            content = json.loads(text)
            return json.dumps(_changed(content, step), separators=(",", ":")).encode() + behind
        except (ValueError, RecursionError):
            continue
    return data


def _changed(content: Any, step: Step) -> Any:
    """One place of the content altered, in place where it can be."""
    places = list(_places(content))
    if not places:
        return VALUES[step.which % len(VALUES)]
    inside, key = places[min(int(step.at * len(places)), len(places) - 1)]
    match step.size % 5:
        case 0 | 1:
            inside[key] = VALUES[step.which % len(VALUES)]
        case 2:
            del inside[key]
        case 3:
            other, name = places[step.which % len(places)]
            inside[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else None
        case _ if isinstance(inside, dict):
            inside[key + "_"] = inside.pop(key)
        case _:
            inside.append(inside[key])
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every object or array with each key in it, however deep."""
    found: list[tuple[Any, Any]] = []
    open_ = [content]
    while open_:
        one = open_.pop()
        for key in _keys(one):
            found.append((one, key))
            open_.append(one[key])
    return found


def _keys(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content)
    return list(range(len(content))) if isinstance(content, list) else []


def _place(data: bytes, step: Step) -> int:
    return min(int(step.at * len(data)), max(len(data) - 1, 0))


KINDS: dict[str, Callable[[bytes, Step, Sequence[bytes]], bytes]] = {
    "json": _json,
    "replace": _replace,
    "insert": _insert,
    "flip": _flip,
    "write": _write,
    "cut": _cut,
    "truncate": _truncate,
    "repeat": _repeat,
    "splice": _splice,
}


def damaged(seed: bytes, steps: Sequence[Step], seeds: Sequence[bytes]) -> bytes:
    """The seed after all steps, at most LARGEST bytes."""
    for step in steps:
        seed = KINDS[step.kind](seed, step, seeds)[:LARGEST]
    return seed


def examples(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged seeds, and now and then bytes of any kind."""
    kinds = ["json", *KINDS]  # twice: it reaches deepest
    step = st.builds(
        Step,
        st.sampled_from(kinds),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 40),
        st.integers(0, 1 << 16),
    )
    steps = st.lists(step, min_size=1, max_size=MOST_STEPS)
    kept = st.builds(damaged, st.sampled_from(seeds), steps, st.just(seeds))
    return st.one_of(kept, kept, kept, kept, kept, kept, kept, st.binary(max_size=200))
