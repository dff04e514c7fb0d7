"""The test rig itself: it never skips silently, and never leaves a process behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from rigs import fixtures
from rigs.kafka import Rig, free_ports


def item(marker: str) -> pytest.Item:
    return cast(pytest.Item, SimpleNamespace(get_closest_marker=lambda name: name == marker or None))


@pytest.mark.parametrize("marker", ["kafka", "prometheus", "alertmanager"])
def test_what_is_missing_skips_with_the_line_that_helps_and_fails_where_nothing_may_be_skipped(
    marker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TOCSIN_TEST_NO_SKIP", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make system"):
        fixtures.pytest_runtest_setup(item(marker))
    monkeypatch.setenv("TOCSIN_TEST_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match=r"may not be skipped.*make system"):
        fixtures.pytest_runtest_setup(item(marker))
    fixtures.pytest_runtest_setup(item("something else"))


def test_ports_differ() -> None:
    assert len(set(free_ports(50))) == 50


@pytest.mark.kafka
def test_nodes_end_with_the_rig_whatever_happens(tmp_path: Path) -> None:
    started: list[psutil.Process] = []

    def use() -> None:
        with Rig(tmp_path / "rig") as rig:
            process = rig.nodes[0]._process
            assert process is not None
            started.extend(
                [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            )
            raise LookupError

    with pytest.raises(LookupError):
        use()
    assert started
    assert not any(one.is_running() for one in started)
    assert not (tmp_path / "rig").exists()


@pytest.mark.kafka
def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)could not be formatted.*no\.such"),
        Rig(tmp_path / "rig", settings={"process.roles": "no.such"}),
    ):
        pass
    assert not (tmp_path / "rig").exists()
