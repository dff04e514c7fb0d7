"""Every reader bears every input: the declared errors, at most a second of the processor and 64 MiB.

FUZZ_EXAMPLES=20000 (`make fuzz`) tries so many damaged inputs for each reader, others in each run; without it a few,
the same in each run.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fuzz.found import FOUND
from fuzz.limits import CPU_S, Fault, Prepared, Target, check
from fuzz.mutations import KINDS, Step, damaged, examples
from fuzz.targets import TABLE
from hypothesis import HealthCheck, given, settings
from tocsin.errors import LONGEST, ArtefactError, DataError

LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))
FEW = 60


def prepared(name: str, folder: Path) -> tuple[Target, Prepared]:
    """A target that has read its seeds, each of which is valid: what they need is compiled."""
    target = TABLE[name]
    ready = target.prepare(folder)
    for seed in ready.seeds:
        (ready.whole or ready.read)(seed)
        with suppress(*target.errors):
            ready.read(seed)
    return target, ready


@pytest.mark.parametrize("name", TABLE)
def test_damaged_inputs_are_borne(name: str, tmp_path: Path) -> None:
    target, ready = prepared(name, tmp_path)

    @settings(
        max_examples=max(int((LONG or FEW) * target.share), 10),
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(ready.seeds))
    def borne(data: bytes) -> None:
        check(target, ready.read, data)

    borne()


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in FOUND for what in FOUND[name]])
def test_an_input_that_was_not_borne_once_is_now(name: str, what: str, tmp_path: Path) -> None:
    target, ready = prepared(name, tmp_path)
    check(target, ready.read, FOUND[name][what])


NAMED = Target("a bad reader", (DataError,), lambda folder: Prepared([], len))


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda data: {}[data], "raised KeyError"),
        (lambda data: np.ones(200 * 2**20, np.uint8), "held 2"),
        (lambda data: burn(), "of the processor"),
        (lambda data: refuse(DataError("")), "of 0 characters"),
        (lambda data: refuse(ArtefactError("of another kind")), "raised ArtefactError"),
        (lambda data: refuse(SystemExit()), "raised SystemExit"),
    ],
)
def test_a_bad_reader_is_caught_with_its_input(read: Callable[[bytes], object], told: str) -> None:
    with pytest.raises(Fault, match=told) as fault:
        check(NAMED, read, b"the input")
    assert "b'the input'" in str(fault.value)


def burn() -> None:
    until = time.process_time() + CPU_S + 0.1
    while time.process_time() < until:
        pass


def refuse(error: BaseException) -> None:
    raise error


def test_a_declared_error_is_no_fault() -> None:
    check(NAMED, lambda data: refuse(DataError(f"{data!r} is no number")), b"seven")


def test_an_error_is_never_endless_and_can_always_be_printed() -> None:
    text = str(DataError("a" * 5000 + "\ud800" + "z" * 5000))
    assert len(text) < 2 * LONGEST
    assert text.startswith("aaa")
    assert text.endswith("zzz")
    assert str(DataError("\ud800")).encode() == b"?"


@pytest.mark.parametrize("name", TABLE)
def test_damage_is_done(name: str, tmp_path: Path) -> None:
    """Most examples are no seed any more, or nothing would be tried."""
    seeds = TABLE[name].prepare(tmp_path).seeds
    steps = [
        Step(kind, at / 10, size, which)
        for kind in KINDS
        for at, size, which in itertools.product(range(10), (1, 7), (3, 11))
    ]
    made = [damaged(seeds[0], [step], seeds) for step in steps]
    assert sum(one not in seeds for one in made) > len(made) / 2
