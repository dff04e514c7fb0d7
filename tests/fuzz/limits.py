"""What a reader may do with one input: raise what it declares, with a text that can be told; little time and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CPU_S = 1.0
"""Of the process, under tracemalloc, which makes everything about three times slower."""
PEAK_BYTES = 64 * 2**20
"""Of Python's and numpy's own allocations at their highest."""
TEXT = 2048
"""Characters of an error."""


class Prepared(NamedTuple):
    """A target ready to be tried."""

    seeds: list[bytes]
    """Valid inputs."""
    read: Callable[[bytes], object]
    """Reads one input in every form in which it can come."""
    whole: Callable[[bytes], object] | None = None
    """Reads a seed in the form in which it is valid, where that is not all that `read` does."""


class Target(NamedTuple):
    """One reader of the product."""

    name: str
    errors: tuple[type[Exception], ...]
    """What it may raise, from `errors.py`."""
    prepare: Callable[[Path], Prepared]
    """`read` and its seeds, in a folder that is there and empty."""
    share: float = 1.0
    """Of the examples of a run: less than 1 for what takes long."""


def each(errors: type[Exception], *calls: Callable[[], object]) -> None:
    """Make all calls, and raise the last of the errors that were declared."""
    failed = None
    for call in calls:
        try:
            call()
        except errors as error:
            failed = error
    if failed is not None:
        raise failed


class Fault(AssertionError):
    """A reader did with an input what it must not do."""


def check(target: Target, read: Callable[[bytes], object], data: bytes) -> None:
    """Read one input. Raises Fault, with the input in its text."""
    spent, peak = _measured(target, read, data)
    if spent > CPU_S:  # once more: only what is slow each time is slow by the input
        spent = min(spent, _measured(target, read, data)[0])
    if spent > CPU_S:
        raise _fault(target, data, f"took {spent:.2f} s of the processor, more than {CPU_S} s")
    if peak > PEAK_BYTES:
        raise _fault(target, data, f"held {peak} bytes, more than {PEAK_BYTES}")


def _measured(target: Target, read: Callable[[bytes], object], data: bytes) -> tuple[float, int]:
    """Seconds of the processor and the peak of allocated bytes."""
    tracemalloc.start()
    began = time.process_time()
    try:
        read(data)
    except target.errors as error:
        _look_at(target, data, str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a compiled library is no Exception
        raise _fault(target, data, f"raised {type(error).__name__}: {str(error)[:500]}") from error
    finally:
        spent = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return spent, peak


def _look_at(target: Target, data: bytes, text: str) -> None:
    if not text.strip() or len(text) > TEXT:
        raise _fault(target, data, f"raised an error of {len(text)} characters: {text[:200]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _fault(target, data, f"raised an error that cannot be printed: {text[:200]!r}") from None


def _fault(target: Target, data: bytes, what: str) -> Fault:
    shown = repr(data) if len(data) < 2000 else f"{data[:1000]!r} … {data[-500:]!r}, {len(data)} bytes"
    return Fault(f"{target.name} {what}\n{shown}")
