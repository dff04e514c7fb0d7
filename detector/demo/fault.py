"""A real, harmless, bounded fault: processor and memory pressure from a child process.

The child is started before anything happens and waits, at ordinary priority (the demo itself runs niced, and a
niced process cannot start one that is not). It takes its orders on its standard
input, and it ends when that closes, however its parent died. Every process of it also carries an alarm that
the kernel delivers whatever the process is doing: no fault outlives `LIMIT_S`.

`python -m tocsin.detector.demo.fault` is the child: `on CORES BYTES SECONDS` or `off`, answered by the word.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .leash import be_named, die_with

LIMIT_S = 60.0
MEMORY_SHARE = 0.10
MEMORY_BYTES = 512 << 20
NAME = "tocsin-fault"

_WAIT_S = 5.0


class Size(NamedTuple):
    """How large a fault is: busy processes, bytes of memory, seconds until it ends by itself."""

    cores: int
    memory_bytes: int
    seconds: float


def size(seconds: float = LIMIT_S) -> Size:
    """One busy process for each processor that may be used, and a modest part of the memory that is free."""
    import psutil

    free = min(psutil.virtual_memory().available, *_control_group_free())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Size(cores, bound_memory(free), min(seconds, LIMIT_S))


def bound_memory(free_bytes: int) -> int:
    """Bytes that the fault may take where so many are free."""
    return max(min(MEMORY_BYTES, int(free_bytes * MEMORY_SHARE)), 0)


class Fault:
    """The child, from the side of the demo."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def start(self, how: Size) -> None:
        """Begin; returns when the pressure is there. RuntimeError when the child is gone."""
        self._order(f"on {how.cores} {how.memory_bytes} {min(how.seconds, LIMIT_S):.3f}", "on")

    def stop(self) -> None:
        """End the pressure; returns when it has ended. Harmless when there is none."""
        self._order("off", "off")

    def close(self) -> None:
        """End the child and all of its processes."""
        with contextlib.suppress(OSError):
            _pipe(self._child.stdin).close()
        try:
            self._child.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        _pipe(self._child.stdout).close()

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, order: str, answer: str) -> None:
        try:
            orders, answers = _pipe(self._child.stdin), _pipe(self._child.stdout)
            orders.write(order + "\n")
            orders.flush()
            ready, _, _ = select.select([answers], [], [], _WAIT_S)
            line = answers.readline().strip() if ready else ""
        except OSError as error:
            raise RuntimeError(f"the fault's process is gone: {error}") from error
        if line != answer:
            raise RuntimeError(f"the fault's process answered {line!r} to {order!r}")


def main() -> int:
    """The child: wait for orders until standard input closes."""
    die_with(os.getppid())
    be_named(NAME)
    # The terminal's Ctrl-C goes to every process in it; the parent decides when the fault ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: contextlib.ExitStack = contextlib.ExitStack()
    with running:
        for line in sys.stdin:
            word, *numbers = line.split()
            running.close()  # one fault at a time
            if word == "on":
                cores, memory_bytes, seconds = int(numbers[0]), int(numbers[1]), float(numbers[2])
                running.enter_context(
                    _pressure(cores, min(memory_bytes, MEMORY_BYTES), min(seconds, LIMIT_S))
                )
            sys.stdout.write(word + "\n")
            sys.stdout.flush()
    return 0


@contextlib.contextmanager
def _pressure(cores: int, memory_bytes: int, seconds: float) -> Iterator[None]:
    # One process holds the memory and does nothing else, so that giving it back is ending the process.
    pids = [_fork(seconds, 0, memory_bytes)] if memory_bytes else []
    try:
        pids += [_fork(seconds, 1, 0) for _ in range(cores)]
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)  # its own child, not yet waited for: the id cannot be anybody else's
            os.waitpid(pid, 0)


def _fork(seconds: float, busy: int, memory_bytes: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with(parent)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        deadline = time.monotonic() + seconds
        if memory_bytes:
            held = mmap.mmap(-1, memory_bytes)
            for page in range(0, memory_bytes, mmap.PAGESIZE):
                held[page] = 1
        while time.monotonic() < deadline and os.getppid() == parent:
            if busy:
                sum(range(20_000))
            else:
                time.sleep(0.05)
    finally:
        os._exit(0)


def _control_group_free() -> list[int]:
    """Bytes that the control group of this process still allows, for each limit that can be read."""
    free = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        root = Path("/sys/fs/cgroup")
        with contextlib.suppress(OSError, ValueError):  # absent, or the word "max"
            free.append(max(int((root / limit).read_text()) - int((root / used).read_text()), 0))
    return free


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process was started without pipes")
    return pipe


if __name__ == "__main__":
    sys.exit(main())
