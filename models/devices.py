"""Tasks side by side, one on each device, and heard as though they had run one after the other.

Used in training; how a batch is split between two devices is the scorer's own (`panel`). What a task computes does not
depend on its device, so neither do results and reports on how many there are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any, NamedTuple, TypeVar

import jax

Said = TypeVar("Said")
Result = TypeVar("Result")
Task = Callable[[Callable[[Said], None]], Result]
"""Computes, on JAX's default device, and says how far it is."""


class _Stopped(BaseException):
    """Another task has failed, or nobody waits any more: no error of this one."""


class _End(NamedTuple):
    result: Any
    fault: BaseException | None
    device: jax.Device


def accelerate() -> bool:
    """Compute all but scores on JAX's accelerators; whether it has any. To be called before anything is computed."""
    os.environ["PJRT_NPROC"] = str(os.cpu_count() or 1)  # with one thread what it compiles takes minutes
    jax.config.update("jax_platforms", None)
    # By itself it multiplies float32 in 10 bits: scores are off by up to .8 %, so by .0004 % (H100, 25 x 5)
    jax.config.update("jax_default_matmul_precision", "highest")
    return jax.default_backend() != "cpu"


def usable() -> list[jax.Device]:
    """The devices of JAX; of processors no more than there are cores for."""
    found = jax.devices()
    return found[: len(os.sched_getaffinity(0))] if found[0].platform == "cpu" else found


def kind() -> str:
    """What the devices are."""
    return str(jax.devices()[0].device_kind)


def side_by_side(
    tasks: Iterable[Task[Said, Result]], hear: Callable[[Said], None], devices: Sequence[jax.Device]
) -> Iterator[Result]:
    """The results of `tasks`, in their order; each runs on a device that is free, where there are several in a thread.

    A task is taken from `tasks` only once there is a device for it, so a generator keeps memory bounded. `hear` is
    called in the caller's thread, with all that one task says before anything that the next one does. What a task
    raises is raised here; the others end at the next thing that they say.
    """
    if len(devices) == 1:
        for one in tasks:
            with jax.default_device(devices[0]):
                result = one(hear)
            yield result
        return
    given, free, stopping = enumerate(tasks), list(devices), Event()
    said: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    held: dict[int, list[Any]] = defaultdict(list)
    turn = 0

    def work(number: int, task: Task[Said, Result], device: jax.Device) -> None:
        def say(what: Said) -> None:
            if stopping.is_set():
                raise _Stopped
            said.put((number, what))

        try:
            with jax.default_device(device):
                said.put((number, _End(task(say), None, device)))
        except BaseException as fault:
            said.put((number, _End(None, fault, device)))

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            while True:
                while free and (numbered := next(given, None)):
                    pool.submit(work, *numbered, free.pop(0))
                if len(free) == len(devices):
                    return
                number, what = said.get()
                held[number].append(what)
                if isinstance(what, _End):
                    if what.fault is not None:
                        raise what.fault
                    free.append(what.device)
                while held[turn]:
                    what = held[turn].pop(0)
                    if isinstance(what, _End):
                        del held[turn]
                        turn += 1
                        result = what.result
                        yield result
                    else:
                        hear(what)
        finally:
            stopping.set()
