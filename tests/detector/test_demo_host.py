"""This machine's telemetry: the same columns everywhere, sane numbers, nothing made up."""

from __future__ import annotations

import itertools
import os
import threading
import time
from types import SimpleNamespace

import msgspec
import psutil
import pytest
from tocsin.detector.demo import host
from tocsin.detector.demo.host import HOST_FEATURES, PROCESS_FEATURES, HostSampler, Own, ProcessSampler
from tocsin.detector.demo.telemetry import STREAMS, Telemetry

SHARES = {name for name in HOST_FEATURES if not name.endswith("_log10")}


def core(**seconds: float) -> SimpleNamespace:
    times = {"user": 0.0, "nice": 0.0, "system": 0.0, "idle": 0.0, "iowait": 0.0, "guest": 0.0} | seconds
    return SimpleNamespace(_fields=tuple(times), **times)


def test_a_host_record_has_every_column_and_only_sane_numbers() -> None:
    sampler = HostSampler(Own(os.getpid()))
    first = sampler.sample(time.monotonic())
    assert tuple(first) == HOST_FEATURES
    assert all(first[name] is None for name in HOST_FEATURES if name.startswith(("cpu", "network")))
    for _ in range(3):
        time.sleep(host.OVER_S / 2)
        features = sampler.sample(time.monotonic())
        assert tuple(features) == HOST_FEATURES
        for name, value in features.items():
            assert value is None or (isinstance(value, float) and value >= 0.0), name
            assert value is None or name not in SHARES or value <= 1.0, name
    assert features["cpu_user"] is not None
    assert features["memory_available"] is not None


def test_shares_of_cores_leave_out_niced_time_the_kernels_and_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = [core(), core()]
    end = [core(user=4.0, nice=4.0, idle=2.0, guest=4.0), core(user=1.0, system=1.0, idle=7.0, iowait=1.0)]
    feed = iter([begin, end, begin, end])
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(feed))
    for count_nice, user in ((False, 0.4), (True, 0.8)):
        sampler = HostSampler(Own(os.getpid()), count_nice=count_nice)
        sampler.sample(0.0)
        features = sampler.sample(10.0)
        assert features["cpu_user"] == pytest.approx((user + 0.1) / 2)
        assert features["cpu_busiest_core"] == pytest.approx(user)


def test_a_core_that_appears_gives_no_rates_rather_than_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = iter([[core()], [core(user=1.0), core(user=50.0, idle=50.0)]])
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(feed))
    sampler = HostSampler(Own(os.getpid()))
    sampler.sample(0.0)
    assert sampler.sample(1.0)["cpu_user"] is None


def test_rates_are_over_the_last_second_however_often_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A burst of a fifth of a second is a fifth of a core for a second, not a core for a fifth."""
    busy = iter([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])
    beats = itertools.count()
    monkeypatch.setattr(
        psutil, "cpu_times", lambda percpu: [core(user=(b := next(busy)), idle=next(beats) / 5 - b)]
    )
    sampler = HostSampler(Own(os.getpid()))
    seen = [sampler.sample(beat / 5)["cpu_user"] for beat in range(13)]
    assert seen == [None] * 5 + [pytest.approx(share) for share in (0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0)]


def test_what_a_container_hides_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: object) -> None:
        raise FileNotFoundError("/proc/vmstat")

    monkeypatch.setattr(psutil, "disk_usage", hidden)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: {"lo": SimpleNamespace(bytes_sent=1)})
    monkeypatch.setattr(psutil, "swap_memory", hidden)
    sampler = HostSampler(Own(os.getpid()))
    sampler.sample(0.0)
    features = sampler.sample(1.0)
    assert tuple(features) == HOST_FEATURES
    blind = [name for name in HOST_FEATURES if name.startswith(("disk", "network", "swap"))]
    assert all(features[name] is None for name in blind)


def test_rates_of_counters_are_decades_and_a_reset_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = iter([0, 999_999, 5])

    def counters(**_: object) -> dict[str, SimpleNamespace]:
        return {"eth0": SimpleNamespace(bytes_sent=next(moved), bytes_recv=0), "lo": SimpleNamespace()}

    monkeypatch.setattr(psutil, "net_io_counters", counters)
    sampler = HostSampler(Own(os.getpid()))
    sampler.sample(0.0)
    features = sampler.sample(1.0)
    assert features["network_bytes_log10"] == pytest.approx(6.0)
    assert sampler.sample(2.0)["network_bytes_log10"] is None


def test_what_stands_still_is_told_anew_once_it_has_moved_by_a_step() -> None:
    reading = host.Deadband(0.02)
    assert [reading.step(value) for value in (0.5, 0.515, 0.485, 0.521, 0.515, 0.5)] == [
        *(0.5, 0.5, 0.5),
        *(0.521, 0.521, 0.5),
    ]


def test_what_went_a_step_and_came_nearly_back_is_told_where_it_was() -> None:
    reading = host.Deadband(0.02)
    # Of 24 GiB the fault takes .0213; what is free after it is a little less than before.
    assert [reading.step(value) for value in (0.978, 0.9567, 0.9571, 0.9755, 0.9567, 0.966)] == [
        *(0.978, 0.957, 0.957),
        *(0.978, 0.957, 0.957),
    ]


def test_the_demos_own_memory_is_not_the_hosts_news() -> None:
    own = Own(os.getpid())
    before, held = own.memory_bytes(), bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert own.memory_bytes() - before > 60 << 20
    assert before > 0


def test_own_processes_are_the_tree_without_the_outsiders() -> None:
    import subprocess
    import sys

    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while not (grandchildren := psutil.Process(child.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        own = Own(os.getpid())
        own.look()
        assert {os.getpid(), child.pid, grandchildren[0].pid} <= own.pids
        outside = Own(os.getpid(), outsiders=[child.pid])
        outside.look()
        assert not {child.pid, grandchildren[0].pid} & outside.pids
        child.kill()
        child.wait()
        own.look()
        assert grandchildren[0].pid in own.pids  # an orphan is still the demo's
        assert child.pid not in own.pids
    finally:
        child.communicate()


def test_processes_are_a_bounded_set_of_programs_with_every_column() -> None:
    # Programs that are awake: this test's own is, having imported all of it.
    sampler = ProcessSampler(Own(-1), entities=3, newcomers=1)
    now = time.time() + 10 * host.GROWN_UP_S  # everything that runs has grown up
    assert sampler.sample(0.0, now) == {}
    records = sampler.sample(1.0, now)
    assert 1 <= len(records) <= 3
    assert set(records) <= set(sampler.names)
    for features in records.values():
        assert tuple(features) == PROCESS_FEATURES
        assert all(value is None or value >= 0.0 for value in features.values())
        assert features["memory_mb_log10"] > 0.0


def test_a_program_that_becomes_busy_is_taken_in_and_the_idle_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fake:
        def __init__(self, pid: int, name: str, pace: float, born_s: float = 0.0) -> None:
            self.pid, self._name, self._pace, self._born_s = pid, name, pace, born_s

        def name(self) -> str:
            return self._name

        def create_time(self) -> float:
            return 0.0

        def ppid(self) -> int:
            return 0

        def memory_info(self) -> SimpleNamespace:
            return SimpleNamespace(rss=1_000_000, vms=1 << 30)

        def cpu_times(self) -> SimpleNamespace:
            return SimpleNamespace(user=self._pace * (clock - self._born_s), system=0.0)

        def oneshot(self) -> threading.Lock:
            return threading.Lock()

    fakes = [Fake(1, "steady", 0.1, -1000.0), Fake(5, "asleep", 0.001, -1000.0)]
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(fakes))
    sampler = ProcessSampler(Own(-1), newcomers=1)
    seen = []
    for beat in range(60):
        clock = beat / 5
        if beat == 20:
            fakes += [Fake(2, "worker-7", 1.0), Fake(3, "worker-8", 1.0), Fake(4, "idler", 0.01)]
        seen.append(sampler.sample(clock, 1000.0 + clock))
    assert sampler.names == ("steady", "worker")
    assert seen[-1]["worker"]["cpu"] == pytest.approx(2.0)
    # Of the larger of them, not of both.
    assert seen[-1]["worker"]["memory_mb_log10"] == pytest.approx(0.301)
    assert seen[-1]["steady"]["cpu"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("worker-17", "worker"),
        ("kworker/3", "kworker"),
        ("python3", "python"),
        ("my app", "my-app"),
        ("9", "unnamed"),
    ],
)
def test_programs_are_named_without_their_numbers(name: str, told: str) -> None:
    assert host.program(name) == told


def test_the_producer_keeps_its_beat_and_names_what_failed() -> None:
    sent: list[tuple[str, str, bytes, int]] = []
    telemetry = Telemetry(lambda *one: sent.append(one), "here", Own(os.getpid()), rate_hz=20.0)
    telemetry.start()
    time.sleep(1.0)
    telemetry.stop()
    assert telemetry.failed is None
    assert 0.0 <= telemetry.busy <= 1.0
    hosts = [one for one in sent if one[0] == "hosts"]
    assert 8 <= len(hosts) <= 21
    assert telemetry.sent == {stream: sum(one[0] == stream for one in sent) for stream in STREAMS}
    value = msgspec.json.decode(hosts[-1][2])
    assert value["entity"] == hosts[-1][1] == "here"
    assert value["timestamp"] == hosts[-1][3]
    assert list(value)[2:] == list(HOST_FEATURES)

    def refuse(*_: object) -> None:
        raise OSError("no broker")

    telemetry = Telemetry(refuse, "here", Own(os.getpid()))
    telemetry.start()
    telemetry.join(5)
    assert str(telemetry.failed) == "no broker"
