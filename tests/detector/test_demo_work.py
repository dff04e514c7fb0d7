"""The demo's ordinary work keeps a part of one core busy, unevenly, and never outlives anybody."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time

import psutil
from tocsin.detector.demo import work
from tocsin.detector.demo.host import program
from tocsin.detector.demo.work import Work


def test_it_is_busy_now_and_then_under_a_name_of_its_own() -> None:
    with Work() as child:
        process = psutil.Process(child.pid)
        assert process.nice() == psutil.Process().nice()
        deadline = time.monotonic() + 10
        while process.name() != work.NAME:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert program(process.name()) == work.NAME
        before, begun = process.cpu_times().user, time.monotonic()
        time.sleep(6 * work.SPELL_S)
        share = (process.cpu_times().user - before) / (time.monotonic() - begun)
        assert 0.01 < share < 0.8
    assert not psutil.pid_exists(child.pid)


def test_what_a_spell_takes_varies_and_leaves_most_of_a_core_free() -> None:
    chance = random.Random(1)
    shares = [work.share(chance) for _ in range(1000)]
    assert all(0.0 <= one <= work.EAGER for one in shares)
    assert 0.1 < statistics.mean(shares) < 0.25
    assert statistics.stdev(shares) > 0.1


def test_it_ends_with_its_parent() -> None:
    code = (
        f"import time; from {work.__name__} import Work; w = Work(); print(w.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=10)[1] == []
