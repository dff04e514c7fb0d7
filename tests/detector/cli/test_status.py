"""`tocsin status`, as a person reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tocsin.detector import client
from tocsin.detector.cli import main

LIVE: dict[str, Any] = {
    "stream": "hosts",
    "phase": "live",
    "model": "v0001-abc",
    "profile": "shared",
    "budget": "20/day",
    "entities": 40,
    "change": 1,
    "recalibration": None,
    "entities_known": 90,
    "entities_off": "more",
    "entities_warming": 0,
    "incidents_open": 0,
    "incidents_pending": 0,
}


def said(
    stream: dict[str, Any], folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    patch.chdir(folder)
    patch.setenv("TOCSIN__STREAM__NAME", "hosts")
    who = {"host": "watch-1", "pid": 7, "version": "1.2", "since": "2026-01-31T12:00:00.5Z"}
    answer = {"daemon": who, "ready": True, "why": None, "streams": [stream]}
    patch.setattr(client, "ask", lambda *_: answer)
    with pytest.raises(SystemExit) as left:
        main(["status"])
    assert not left.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("off", "text"),
    [("more", "more than twice the 40"), ("fewer", "fewer than half the 40"), (None, None)],
)
def test_a_count_of_entities_twice_off_has_a_line(
    off: str | None,
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = said({**LIVE, "entities_off": off}, tmp_path, monkeypatch, capsys)
    assert out.startswith("daemon at 127.0.0.1:9469: ready\n")
    assert "tocsin 1.2 on host watch-1, process 7, since 2026-01-31 12:00:00 UTC" in out
    assert "budget 20/day over 40 entities" in out
    assert ("that the budget is split over" in out) == (off is not None)
    assert text is None or text in out


def test_what_is_frozen_and_what_is_proposed_has_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = {**LIVE, "learning_frozen": ["web/1"], "training_proposed": ["web/0", "web/2"]}
    out = said(stream, tmp_path, monkeypatch, capsys)
    assert "nothing is learned for now in web/1:" in out
    assert "not what the model knows any more: web/0, web/2 " in out
    assert "`tocsin train --since`" in out
    stream = {**LIVE, "learning_frozen": [], "training_proposed": []}
    out = said(stream, tmp_path, monkeypatch, capsys)
    assert "is learned" not in out
    assert "tocsin train" not in out


def test_collecting_says_why_the_last_training_did_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collected = {"records": 1020, "entities": 1, "enough": 1, "needed": 1100, "too_few": "990 usable records"}
    stream = {"stream": "hosts", "phase": "collecting", "collected": collected}
    out = said(stream, tmp_path, monkeypatch, capsys)
    assert "1020 records of 1 entities, 1 with enough" in out
    assert "the next begins at 1100 records: 990 usable records" in out
    collected["too_few"] = None
    assert "last training" not in said(stream, tmp_path, monkeypatch, capsys)
