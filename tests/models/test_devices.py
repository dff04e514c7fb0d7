"""Stacks side by side on several devices: the same bits and the same reports as one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import pytest
from tocsin.models import devices, fitting

TWO = jax.devices()[:2]
ASKED = """
import json, os
import tocsin.{first}
import jax
from tocsin.models import devices

def told():
    return [jax.config.jax_platforms, os.environ["PJRT_NPROC"], jax.config.jax_default_matmul_precision]

print(json.dumps([told(), devices.accelerate(), told(), jax.default_backend()]))
"""


def test_small_trainings_compile_for_one_device_and_long_ones_for_all() -> None:
    recipe = fitting.Recipe(steps=800, stack=8)
    assert fitting.devices_for(8, recipe) == TWO[:1]
    assert fitting.devices_for(9, recipe) == devices.usable()
    assert fitting.devices_for(36, recipe._replace(steps=60)) == TWO[:1]


def test_tasks_run_at_the_same_time_and_are_heard_in_their_order() -> None:
    assert len(TWO) == 2, "tests run on two devices"
    second = threading.Event()
    taken, most = [], []
    ended: list[int] = []

    def task(number: int) -> devices.Task[tuple[int, str], tuple[int, jax.Device]]:
        def work(say: Callable[[tuple[int, str]], None]) -> tuple[int, jax.Device]:
            say((number, "begin"))
            if number == 0:
                assert second.wait(20), "the second never ran beside the first"
            if number == 1:
                second.set()
            say((number, "end"))
            ended.append(number)
            return number, next(iter(jnp.zeros(()).devices()))

        return work

    def tasks() -> Iterator[devices.Task[tuple[int, str], tuple[int, jax.Device]]]:
        for number in range(6):
            taken.append(number)
            most.append(len(taken) - len(ended))
            yield task(number)

    heard: list[tuple[int, str]] = []
    callers: set[int] = set()

    def hear(what: tuple[int, str]) -> None:
        heard.append(what)
        callers.add(threading.get_ident())

    results = list(devices.side_by_side(tasks(), hear, TWO))
    assert [number for number, _ in results] == list(range(6))
    assert {device for _, device in results} == set(TWO)
    assert heard == [(number, what) for number in range(6) for what in ("begin", "end")]
    assert callers == {threading.get_ident()}
    assert max(most) <= 2  # no more are made than there are devices


@pytest.mark.parametrize("count", [1, 2])
def test_what_fails_is_raised_and_stops_the_others(count: int) -> None:
    failed, stopped = threading.Event(), threading.Event()

    def fails(say: Callable[[str], None]) -> None:
        say("soon")
        failed.set()
        raise ValueError("not a panel")

    def goes_on(say: Callable[[str], None]) -> None:
        assert failed.wait(20)
        try:
            for _ in range(20_000):
                say("still here")
                stopped.wait(0.001)
        finally:
            stopped.set()

    heard: list[str] = []
    with pytest.raises(ValueError, match="not a panel"):
        list(devices.side_by_side([fails, goes_on], heard.append, TWO[:count]))
    assert "soon" in heard
    assert stopped.is_set() == (count == 2)
    assert len(heard) < 20_000


@pytest.mark.parametrize("first", ["detector.daemon", "detector.learning"])
def test_an_accelerator_is_looked_for_only_where_asked_for_and_then_computes_in_full(first: str) -> None:
    script = ASKED.format(first=first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, found, after, backend = json.loads(done.stdout)
    assert before == ["cpu", "1", None]
    assert after == [None, str(os.cpu_count()), "highest"]
    assert found == (backend != "cpu")
