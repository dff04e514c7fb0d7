"""This machine's live telemetry, by psutil: what `tocsin demo` watches.

Two kinds of records, both wide JSON with a fixed schema, so that a machine with other hardware or fewer
rights differs in nulls and never in columns:

* the host: processors, memory, disks and interfaces together, whatever their number;
* the busiest processes: one entity per program name, the work of all its processes added up.

Everything here is a share (of a core, of the memory, of the time) or a logarithm of a rate, over the last second
however often it is looked at: within a beat a core is busy or not, and every wink of it would be news. A share is
the same on a laptop and on a server, and one minute is enough to learn the size of a heavy-tailed rate once it is
counted in decades. There are no load averages: they say again, minutes late, what the other columns say now.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import psutil

HOST_FEATURES = (
    "cpu_user",
    "cpu_system",
    "cpu_busiest_core",
    "cpu_quietest_core",
    "cpu_iowait",
    "memory_used",
    "swap_used",
    "disk_busy",
    "disk_bytes_log10",
    "network_bytes_log10",
)
PROCESS_FEATURES = ("cpu", "cpu_system", "memory", "io_bytes_log10")

# What rates are taken over; a beat may come a little early.
OVER_S = 1.0
_EARLY_S = 0.05
# A process counts once it is this old: one that lives shorter tells when it was looked at, not how it is.
GROWN_UP_S = 3.0
ENTITIES = 6
NEWCOMERS = 3
# Cores that a program must use over a look around before it is taken in after the start.
NEWCOMER_CORES = 0.5
LOOK_AROUND_S = 2.0

# Block devices that other block devices are made of, or that are no device: counting both would count twice.
_NO_DISK = re.compile(
    r"^(loop|ram|zram|dm-|md|fd|sr)\d|^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+)\d+$|^(nvme|mmcblk).*p\d+$"
)
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


class HostSampler:
    """One record of the whole machine per call; the first second has no rates yet and gives them as None."""

    def __init__(self, own: Own, *, count_nice: bool = False) -> None:
        self._own = own
        self._count_nice = count_nice
        self._cores: Trail[list[Any]] = Trail()
        self._counted: Trail[dict[str, float]] = Trail()

    def sample(self, at_s: float) -> dict[str, float | None]:
        """The features of `HOST_FEATURES` in that order, at `at_s` of any steadily running clock."""
        rates = self._rates(at_s)
        busy_ms = [rate for name, rate in rates.items() if name.startswith("busy_ms/")]
        features: dict[str, float | None] = {
            **self._processors(at_s),
            **self._memory(),
            "disk_busy": min(max(busy_ms) / 1000.0, 1.0) if busy_ms else None,  # of the busiest disk
            "disk_bytes_log10": _decades(rates.get("disk_bytes")),
            "network_bytes_log10": _decades(rates.get("network_bytes")),
        }
        return {name: features[name] for name in HOST_FEATURES}

    def _processors(self, at_s: float) -> dict[str, float | None]:
        now = psutil.cpu_times(percpu=True)
        before = self._cores.step(at_s, now)
        shares: list[tuple[float, float, float]] = []
        if before is not None and len(before[1]) == len(
            now
        ):  # else a core was plugged in or out: no rates now
            found = (self._shares(*pair) for pair in zip(before[1], now, strict=True))
            shares = [one for one in found if one is not None]
        if not shares:
            return {name: None for name in HOST_FEATURES if name.startswith("cpu_")}
        busy = [user + system for user, system, _ in shares]
        user, system, waiting = (sum(column) / len(shares) for column in zip(*shares, strict=True))
        return {
            "cpu_user": user,
            "cpu_system": system,
            "cpu_busiest_core": max(busy),
            "cpu_quietest_core": min(busy),
            "cpu_iowait": waiting,
        }

    def _shares(self, before: Any, now: Any) -> tuple[float, float, float] | None:
        """Shares of one core's time: user, system, waiting for disks; None when no tick has passed."""
        spent = {
            field: max(getattr(now, field) - getattr(before, field), 0.0)
            for field in now._fields
            if not field.startswith("guest")  # guests are within user and nice already
        }
        total = sum(spent.values())
        if total <= 0.0:
            return None
        user = spent["user"] + (spent.get("nice", 0.0) if self._count_nice else 0.0)
        system = sum(spent.get(field, 0.0) for field in ("system", "irq", "softirq", "interrupt", "dpc"))
        return user / total, system / total, spent.get("iowait", 0.0) / total

    def _memory(self) -> dict[str, float | None]:
        memory = psutil.virtual_memory()
        used = (memory.total - memory.available - self._own.memory_bytes()) / memory.total
        try:
            swap: float | None = round(psutil.swap_memory().percent / 100.0, 3)
        except (OSError, RuntimeError):  # no /proc/vmstat in this container
            swap = None
        # Memory is read to a tenth of a percent; finer digits are the kernel's bookkeeping.
        return {"memory_used": round(max(used, 0.0), 3), "swap_used": swap}

    def _rates(self, at_s: float) -> dict[str, float]:
        """Per second, what has been counted; a counter that fell was reset: no rate."""
        now = _disks() | _interfaces()
        before = self._counted.step(at_s, now)
        if before is None:
            return {}
        return {
            name: (value - before[1][name]) / (at_s - before[0])
            for name, value in now.items()
            if name in before[1] and value >= before[1][name]
        }


class _Seen(NamedTuple):
    cpu_s: float
    system_s: float
    io_bytes: float | None


class ProcessSampler:
    """Records of the busiest programs: a set chosen at the start, and programs that become busy later."""

    def __init__(self, own: Own, *, entities: int = ENTITIES, newcomers: int = NEWCOMERS) -> None:
        self._own = own
        self._limit = entities
        self._newcomers = newcomers
        self._memory = psutil.virtual_memory().total
        self._pids: dict[int, tuple[str, psutil.Process]] = {}
        self._seen: Trail[dict[int, _Seen]] = Trail()
        self._looked_at = -math.inf
        self._looked: dict[str, float] = {}
        self.names: tuple[str, ...] = ()

    def sample(self, at_s: float, now_s: float) -> dict[str, dict[str, float | None]]:
        """Features per program by name; `at_s` of a steady clock, `now_s` in seconds since the epoch."""
        if at_s - self._looked_at >= LOOK_AROUND_S:
            self._look_around(at_s, now_s)
        seen: dict[int, tuple[int, _Seen]] = {}
        for pid, (name, process) in self._pids.items():
            if name in self.names:
                try:
                    seen[pid] = _read(process)
                except _GONE:
                    continue
        earlier = self._seen.step(at_s, {pid: counted for pid, (_, counted) in seen.items()})
        began_s, counted = earlier or (at_s, {})
        elapsed = at_s - began_s
        sums: dict[str, dict[str, float | None]] = {}
        for pid, (memory, now) in seen.items():
            name = self._pids[pid][0]
            before = counted.get(pid)
            if before is None:
                continue
            features = sums.setdefault(name, dict.fromkeys(PROCESS_FEATURES))
            _add(features, "cpu", (now.cpu_s - before.cpu_s) / elapsed)
            _add(features, "cpu_system", (now.system_s - before.system_s) / elapsed)
            # Of its largest process: the sum would tell of each small one that comes and goes.
            features["memory"] = max(features["memory"] or 0.0, memory / self._memory)
            if now.io_bytes is not None and before.io_bytes is not None:
                _add(features, "io_bytes_log10", (now.io_bytes - before.io_bytes) / elapsed)
        for features in sums.values():
            features["io_bytes_log10"] = _decades(features["io_bytes_log10"])
            # As of the host: finer digits are a program that fills a buffer.
            features["memory"] = round(features["memory"] or 0.0, 3)
        return sums

    def _look_around(self, at_s: float, now_s: float) -> None:
        """List the processes again, and take in the programs that are among the busiest."""
        self._own.look()
        first = not self._looked
        spent: dict[str, float] = {}
        pids: dict[int, tuple[str, psutil.Process]] = {}
        for process in psutil.process_iter():
            try:
                if process.pid in self._own.pids or now_s - process.create_time() < GROWN_UP_S:
                    continue
                if process.memory_info().vms == 0:  # a thread of the kernel
                    continue
                name = program(process.name())
                times = process.cpu_times()
            except _GONE:
                continue
            pids[process.pid] = (name, process)
            spent[name] = spent.get(name, 0.0) + times.user + times.system
        self._pids = pids
        busiest = sorted(spent, key=lambda name: (-spent[name], name))
        if first:
            self.names = tuple(busiest[: self._limit])
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


def _read(process: psutil.Process) -> tuple[int, _Seen]:
    with process.oneshot():
        times = process.cpu_times()
        memory = process.memory_info().rss
    try:
        counters = process.io_counters()
        moved: float | None = float(counters.read_bytes + counters.write_bytes)
    except (psutil.AccessDenied, AttributeError, NotImplementedError, OSError):
        moved = None
    return memory, _Seen(times.user + times.system, times.system, moved)


def _add(features: dict[str, float | None], name: str, value: float) -> None:
    features[name] = (features[name] or 0.0) + max(value, 0.0)


def _decades(rate: float | None) -> float | None:
    """A rate per second as its order of magnitude: 0 for nothing, 3 for a thousand, 6 for a million."""
    return None if rate is None else math.log10(1.0 + rate)


def _disks() -> dict[str, float]:
    try:
        disks = psutil.disk_io_counters(perdisk=True) or {}
    except (OSError, RuntimeError, NotImplementedError):
        return {}
    kept = {name: counters for name, counters in disks.items() if not _NO_DISK.match(name)}
    if not kept:
        return {}
    moved = sum(counters.read_bytes + counters.write_bytes for counters in kept.values())
    rates = {"disk_bytes": float(moved)}
    for name, counters in kept.items():
        if hasattr(counters, "busy_time"):
            rates[f"busy_ms/{name}"] = float(counters.busy_time)
    return rates


def _interfaces() -> dict[str, float]:
    try:
        interfaces = psutil.net_io_counters(pernic=True) or {}
    except (OSError, RuntimeError):
        return {}
    kept = [counters for name, counters in interfaces.items() if not _NO_INTERFACE.match(name)]
    if not kept:
        return {}
    return {"network_bytes": float(sum(counters.bytes_sent + counters.bytes_recv for counters in kept))}
