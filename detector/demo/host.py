"""This machine's live telemetry, by psutil: what `tocsin demo` watches.

Two kinds of records, both wide JSON with a fixed schema, so that a machine with other hardware or fewer
rights differs in nulls and never in columns:

* the host: processors, memory, disks and interfaces together, whatever their number;
* the busiest processes: one entity per program name, the work of all its processes added up.

Everything here is a share (of a core, of the memory, of a disk) or a logarithm of a size, over the last second
however often it is looked at: within a beat a core is busy or not, and every wink of it would be news. A share is
the same on a laptop and on a server, and one minute is enough to learn the size of a heavy-tailed rate once it is
counted in decades. What mostly stands still is told anew only once it has moved by a step, or the kernel's
bookkeeping would be news too.
There are no load averages (they say again, minutes late, what the other columns say now), and neither kernel time
nor the traffic of disks: the demo's own part in them cannot be told apart.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import psutil

HOST_FEATURES = (
    "cpu_user",
    "cpu_busiest_core",
    "memory_available",
    "swap_used",
    "disk_free",
    "network_bytes_log10",
)
PROCESS_FEATURES = ("cpu", "memory_mb_log10")

MB = 1e6
_SHARE_STEP, _DECADE_STEP = 0.02, 0.2

# What rates are taken over; a beat may come a little early.
OVER_S = 1.0
_EARLY_S = 0.05
# A process counts once it is this old: one that lives shorter tells when it was looked at, not how it is.
GROWN_UP_S = 3.0
ENTITIES = 6
NEWCOMERS = 3
# Cores that a program must have used on average, all its life, to be among the busiest at the start: one that sleeps
# would make news by waking up.
AWAKE_CORES = 0.01
# Cores that a program must use over a look around before it is taken in after the start.
NEWCOMER_CORES = 0.5
LOOK_AROUND_S = 2.0

# Loopback and its like carry what the machine says to itself, here mostly this demo's own broker.
_NO_INTERFACE = re.compile(r"^(lo\d*|ifb\d+|dummy\d+|sit\d+|tunl\d+)$")
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


class Own:
    """The demo's own processes, which are no news to the one who started them.

    Tocsin must not watch itself learn: its training and its compiling come once, right after the minute that
    was learnt from. Processor time is kept out by running the demo niced (niced time yields to everything and
    does not count as load here), memory by subtracting what these processes hold.
    """

    def __init__(self, root: int, outsiders: Iterable[int] = ()) -> None:
        self._root = root
        self._outsiders = frozenset(outsiders)
        self.pids: frozenset[int] = frozenset({root})

    def look(self) -> None:
        """Find the processes again; those of the outsiders (the fault) are not the demo's own."""
        found: set[int] = set()
        todo = [self._root]
        children = _children()
        while todo:
            pid = todo.pop()
            if pid not in found and pid not in self._outsiders:
                found.add(pid)
                todo.extend(children.get(pid, ()))
        # One that was once found stays, as long as it is there: its parent may have gone before it.
        self.pids = frozenset(found | (self.pids & set().union(*children.values())))

    def memory_bytes(self) -> int:
        """Memory that would be free without these processes: resident, not backed by a file."""
        total = 0
        for pid in self.pids:
            try:
                memory = psutil.Process(pid).memory_info()
            except _GONE:
                continue
            total += memory.rss - getattr(memory, "shared", 0)
        return total


Held = TypeVar("Held")


class Trail(Generic[Held]):
    """What was counted over the last second: the newest look that is at least so old is what a rate starts from."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Held]] = deque()

    def step(self, at_s: float, counted: Held) -> tuple[float, Held] | None:
        """Take in a look; returns the one to start from, None where there is none that old yet."""
        while len(self._looks) > 1 and self._old(at_s, 1):
            self._looks.popleft()
        before = self._looks[0] if self._looks and self._old(at_s, 0) else None
        self._looks.append((at_s, counted))
        return before

    def _old(self, at_s: float, place: int) -> bool:
        return self._looks[place][0] <= at_s - OVER_S + _EARLY_S


class Deadband:
    """A reading that is told anew once it has moved by a step from what was told last, or is back where it was before.

    Back is within half a step: what moved by hardly more than one and returns seldom comes all the way, and would stand
    where it went for ever.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._told = self._before = math.nan

    def step(self, value: float) -> float:
        """Take in a reading; returns what to tell."""
        if abs(value - self._before) < self._step / 2:
            self._told, self._before = self._before, self._told
        elif not abs(value - self._told) < self._step:
            self._told, self._before = round(value, 3), self._told
        return self._told


class HostSampler:
    """One record of the whole machine per call; the first second has no rates yet and gives them as None."""

    def __init__(self, own: Own, *, count_nice: bool = False) -> None:
        self._own = own
        self._count_nice = count_nice
        self._cores: Trail[list[Any]] = Trail()
        self._counted: Trail[float | None] = Trail()
        self._available, self._swap, self._disk = (Deadband(_SHARE_STEP) for _ in range(3))

    def sample(self, at_s: float) -> dict[str, float | None]:
        """The features of `HOST_FEATURES` in that order, at `at_s` of any steadily running clock."""
        features: dict[str, float | None] = {
            **self._processors(at_s),
            **self._memory(),
            "disk_free": None if (free := _disk_free()) is None else self._disk.step(free),
            "network_bytes_log10": None if (rate := self._network(at_s)) is None else _decades(rate),
        }
        return {name: features[name] for name in HOST_FEATURES}

    def _processors(self, at_s: float) -> dict[str, float | None]:
        now = psutil.cpu_times(percpu=True)
        before = self._cores.step(at_s, now)
        shares: list[float] = []
        if before is not None and len(before[1]) == len(
            now
        ):  # else a core was plugged in or out: no rates now
            found = (self._share(*pair) for pair in zip(before[1], now, strict=True))
            shares = [one for one in found if one is not None]
        if not shares:
            return {name: None for name in HOST_FEATURES if name.startswith("cpu_")}
        return {
            "cpu_user": sum(shares) / len(shares),
            "cpu_busiest_core": max(shares),
        }

    def _share(self, before: Any, now: Any) -> float | None:
        """Share of one core's time that programs had; None when no tick has passed."""
        spent = {
            field: max(getattr(now, field) - getattr(before, field), 0.0)
            for field in now._fields
            if not field.startswith("guest")  # guests are within user and nice already
        }
        total = sum(spent.values())
        if total <= 0.0:
            return None
        nice = spent.get("nice", 0.0) if self._count_nice else 0.0
        return float((spent["user"] + nice) / total)

    def _memory(self) -> dict[str, float | None]:
        memory = psutil.virtual_memory()
        available = (memory.available + self._own.memory_bytes()) / memory.total
        try:
            swap: float | None = self._swap.step(psutil.swap_memory().percent / 100.0)
        except (OSError, RuntimeError):  # no /proc/vmstat in this container
            swap = None
        return {"memory_available": self._available.step(min(available, 1.0)), "swap_used": swap}

    def _network(self, at_s: float) -> float | None:
        """Bytes per second over all interfaces; a counter that fell was reset: no rate."""
        now = _network_bytes()
        before = self._counted.step(at_s, now)
        if now is None or before is None or before[1] is None or now < before[1]:
            return None
        return (now - before[1]) / (at_s - before[0])


class ProcessSampler:
    """Records of the busiest programs: a set chosen at the start, and programs that become busy later."""

    def __init__(self, own: Own, *, entities: int = ENTITIES, newcomers: int = NEWCOMERS) -> None:
        self._own = own
        self._limit = entities
        self._newcomers = newcomers
        self._pids: dict[int, tuple[str, psutil.Process]] = {}
        self._seen: Trail[dict[int, float]] = Trail()
        self._held: dict[str, Deadband] = {}
        self._looked_at = -math.inf
        self._looked: dict[str, float] = {}
        self.names: tuple[str, ...] = ()

    def sample(self, at_s: float, now_s: float) -> dict[str, dict[str, float | None]]:
        """Features per program by name; `at_s` of a steady clock, `now_s` in seconds since the epoch."""
        if at_s - self._looked_at >= LOOK_AROUND_S:
            self._look_around(at_s, now_s)
        cpu_s: dict[int, float] = {}
        memory: dict[str, float] = {}
        for pid, (name, process) in self._pids.items():
            if name in self.names:
                try:
                    cpu_s[pid], held = _read(process)
                except _GONE:
                    continue
                # Of its largest process: the sum would tell of each small one that comes and goes.
                memory[name] = max(memory.get(name, 0.0), held)
        began_s, before = self._seen.step(at_s, cpu_s) or (at_s, {})
        cores: dict[str, float] = {}
        for pid in cpu_s.keys() & before.keys():
            name = self._pids[pid][0]
            spent = max(cpu_s[pid] - before[pid], 0.0) / (at_s - began_s)
            cores[name] = cores.get(name, 0.0) + spent
        return {
            name: {
                "cpu": cores[name],
                "memory_mb_log10": self._held.setdefault(name, Deadband(_DECADE_STEP)).step(
                    _decades(memory[name] / MB)
                ),
            }
            for name in self.names
            if name in cores
        }

    def _look_around(self, at_s: float, now_s: float) -> None:
        """List the processes again, and take in the programs that are among the busiest."""
        self._own.look()
        first = not self._looked
        spent: dict[str, float] = {}
        lived: dict[str, float] = {}
        pids: dict[int, tuple[str, psutil.Process]] = {}
        for process in psutil.process_iter():
            try:
                age_s = now_s - process.create_time()
                if process.pid in self._own.pids or age_s < GROWN_UP_S:
                    continue
                if process.memory_info().vms == 0:  # a thread of the kernel
                    continue
                name = program(process.name())
                times = process.cpu_times()
            except _GONE:
                continue
            pids[process.pid] = (name, process)
            spent[name] = spent.get(name, 0.0) + times.user + times.system
            lived[name] = lived.get(name, 0.0) + (times.user + times.system) / age_s
        self._pids = pids
        busiest = sorted(spent, key=lambda name: (-spent[name], name))
        if first:
            awake = [name for name in busiest if lived[name] >= AWAKE_CORES]
            self.names = tuple(awake[: self._limit])
        elapsed = at_s - self._looked_at
        for name in busiest:
            cores = (spent[name] - self._looked.get(name, 0.0)) / elapsed
            free = len(self.names) < self._limit + self._newcomers
            if free and cores >= NEWCOMER_CORES and name not in self.names:
                self.names += (name,)
        self._looked, self._looked_at = spent, at_s


def record(entity: str, time_ms: int, features: Mapping[str, float | None]) -> dict[str, object]:
    """The wide record: entity, time, and the features beside them."""
    return {"timestamp": time_ms, "entity": entity, **features}


def program(name: str) -> str:
    """A program's name without what makes each of its processes different (`worker-17` -> `worker`)."""
    return re.sub(r"[^\w.+-]+", "-", re.sub(r"[-_:/ ]*\d+$", "", name.strip())).strip("-") or "unnamed"


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process.pid)
        except _GONE:
            continue
    return children


def _read(process: psutil.Process) -> tuple[float, float]:
    """Seconds of processors used, and bytes of memory held."""
    with process.oneshot():
        times = process.cpu_times()
        return times.user + times.system, float(process.memory_info().rss)


def _decades(size: float) -> float:
    """A size as its order of magnitude: 0 for nothing, 3 for a thousand, 6 for a million."""
    return math.log10(1.0 + size)


def _disk_free() -> float | None:
    """Share of the root file system that is free."""
    try:
        return 1.0 - float(psutil.disk_usage("/").percent) / 100.0
    except OSError:
        return None


def _network_bytes() -> float | None:
    """What all interfaces have carried; None where there is none or they are hidden."""
    try:
        interfaces = psutil.net_io_counters(pernic=True) or {}
    except (OSError, RuntimeError):
        return None
    kept = [counters for name, counters in interfaces.items() if not _NO_INTERFACE.match(name)]
    return float(sum(counters.bytes_sent + counters.bytes_recv for counters in kept)) if kept else None
