"""`tocsin` in this process, for a stream `servers` on the broker of the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tocsin.detector.cli import main
from tocsin.pipelines.brokers import Broker

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tocsin(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tocsin.toml").write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[stream]\nname = "servers"\n'
    )

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(args)
        done = capsys.readouterr()
        return int(left.value.code or 0), done.out, done.err

    return run
