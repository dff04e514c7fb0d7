"""The process around the streams: it ends by its deadline, whoever does not come back."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from unittest.mock import MagicMock

import numpy as np
import pytest
import tocsin
from tocsin.detector import daemon as module
from tocsin.detector.clocks import Clocks
from tocsin.detector.daemon import Daemon
from tocsin.detector.settings import Http, Settings, Stream
from tocsin.detector.stopping import Stopping


@pytest.fixture
def stuck() -> Iterator[Daemon]:
    """A daemon of two streams that do not end; on its clock seconds pass like hundredths."""
    streams = tuple(Stream(name=name, topics=("t",)) for name in "ab")
    ticks = itertools.count(0.0, 0.5)
    made = Daemon(Settings(streams=streams, http=Http(port=0)), MagicMock(), Clocks(monotonic=ticks.__next__))
    release = threading.Event()
    for runner in made.runners:
        runner.thread = threading.Thread(target=release.wait, daemon=True)
        join = runner.thread.join
        runner.thread.join = lambda timeout=None, join=join: join(timeout / 100)  # type: ignore[method-assign,misc]
    made.stop()
    yield made
    release.set()


def test_streams_that_do_not_end_are_given_up_at_one_deadline_for_all(stuck: Daemon) -> None:
    assert not stuck.run()


def test_the_process_leaves_without_waiting_for_them(stuck: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, left, shared = MagicMock(), MagicMock(), MagicMock()
    monkeypatch.setattr(module, "share_arenas", shared)
    monkeypatch.setattr(module, "open_broker", lambda *_: broker if shared.called else None)
    monkeypatch.setattr(module, "Daemon", lambda *_: stuck)
    monkeypatch.setattr(module.signal, "signal", MagicMock())
    monkeypatch.setattr(module.sys, "setswitchinterval", MagicMock())
    monkeypatch.setattr(module.os, "_exit", left)
    monkeypatch.setattr(module.logging, "shutdown", MagicMock())
    module.run(stuck.settings)
    left.assert_called_once_with(0)


def test_memory_that_is_free_goes_back_to_the_system_now_and_then(
    stuck: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "_stopping", Stopping(time.monotonic))
    monkeypatch.setattr(stuck, "_wake", MagicMock())
    given = []

    def give_back() -> None:
        given.append(stuck._clocks.monotonic())
        if len(given) == 3:
            stuck.stop()

    monkeypatch.setattr(module, "give_back", give_back)
    stuck.run()
    assert np.diff(given).min() >= module.GIVE_BACK_S


def test_the_answer_says_who_gives_it(stuck: Daemon) -> None:
    who = stuck._status()["daemon"]
    assert (who["host"], who["pid"], who["version"]) == (
        socket.gethostname(),
        os.getpid(),
        tocsin.__version__,
    )
    assert abs(datetime.fromisoformat(who["since"]).timestamp() - time.time()) < 60
