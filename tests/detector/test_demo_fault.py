"""The demo's fault is real, bounded, and never outlives anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest
from tocsin.detector.demo import fault
from tocsin.detector.demo.fault import Fault, Size


def until(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def workers(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> bool:
    return any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_pressure_comes_and_goes_on_order() -> None:
    with Fault() as child:
        assert workers(child.pid) == []
        child.start(Size(cores=1, memory_bytes=32 << 20, seconds=30.0))
        running = workers(child.pid)
        assert len(running) == 2
        assert until(lambda: sum(one.memory_info().rss for one in running) > 32 << 20)
        assert until(lambda: sum(one.cpu_times().user for one in running) > 0.2)
        assert all(one.nice() == psutil.Process().nice() for one in running)
        child.stop()
        assert not alive(running)
        child.stop()  # nothing there: harmless
        child.start(Size(cores=2, memory_bytes=0, seconds=30.0))
        assert len(workers(child.pid)) == 2
        running = workers(child.pid)
    assert not alive(running)


def test_it_ends_by_itself_when_nobody_ends_it() -> None:
    with Fault() as child:
        child.start(Size(cores=1, memory_bytes=1 << 20, seconds=0.4))
        running = workers(child.pid)
        assert until(lambda: not alive(running), 5.0)
        child.stop()


@pytest.mark.parametrize("victim", ["parent", "child"])
def test_it_dies_with_its_parent_however_that_dies(victim: str) -> None:
    code = (
        "import sys, time; from tocsin.detector.demo.fault import Fault, Size\n"
        "child = Fault(); child.start(Size(1, 1 << 20, 30.0)); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        running = [psutil.Process(child), *workers(child)]
        assert len(running) == 3
        os.kill(parent.pid if victim == "parent" else child, signal.SIGKILL)
        assert until(lambda: not alive(running), 5.0)
    finally:
        parent.kill()
        parent.communicate()


def test_orders_to_a_child_that_is_gone_say_so() -> None:
    with Fault() as child:
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="fault's process"):
            child.start(Size(1, 0, 1.0))


def test_bounds() -> None:
    assert fault.bound_memory(100 << 20) == 10 << 20
    assert fault.bound_memory(1 << 40) == fault.MEMORY_BYTES
    assert fault.bound_memory(-5) == 0
    found = fault.size(1e9)
    assert found.seconds == fault.LIMIT_S
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 0 <= found.memory_bytes <= fault.MEMORY_BYTES
