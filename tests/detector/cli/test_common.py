"""How commands print."""

from __future__ import annotations

import re

import pytest
from tocsin.detector.cli import epochs
from tocsin.detector.cli.common import moment, print_table, sparkline


def test_a_sparkline_crosses_its_middle_at_the_threshold() -> None:
    scores = [0.0, 0.3, 0.6, 0.99, 1.01, 1.3, 1.6, 2.5, -1.0]
    assert sparkline(scores, [1.0] * 9) == "▁▂▃▄▅▆▇█▁"
    assert sparkline([4.0, 1.0], [2.0, 2.0]) == "█▃"
    assert sparkline([1.0, None, 1.0], [None, 1.0, 0.0]) == "···"
    assert sparkline([0.0] * 40, [1.0] * 40, 8) == "▁" * 8
    assert sparkline([], []) == ""


def test_moments_are_to_the_second() -> None:
    assert moment("2026-11-25T17:34:05.123456Z") == "2026-11-25 17:34:05"
    assert moment(None) is None


@pytest.mark.parametrize("columns", [40, 80])
def test_only_the_columns_that_may_wrap_do(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_table(("id", "words"), [("0123456789abcdef", "so many words " * 10)], wrap=("words",))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert all(len(line) <= columns for line in lines)
    assert lines[1].startswith("0123456789abcdef  so many")
    assert len(lines) > 2


ALERT = ("0123abcd", "firing", "critical", "web-03", "2026-11-25 17:34:05", "-", 2.5, "cpu, memory, net_in")
COLUMNS = ("id", "status", "severity", "entity", "began (UTC)", "ended", "peak", "features")


@pytest.mark.parametrize(("columns", "term"), [(40, "xterm"), (40, "dumb"), (100, "dumb")])
def test_a_narrow_terminal_cuts_nothing_off_and_a_dumb_one_gets_plain_text(
    columns: int, term: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    print_table(COLUMNS, [ALERT, ALERT], wrap=("entity", "features"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown or term != "dumb"
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    for cell in (*COLUMNS, *map(str, ALERT[:-1]), "cpu", "memory", "net_in"):
        assert cell in shown, cell
    if columns == 40:
        assert lines[3:5] == ["entity: web-03", "began (UTC): 2026-11-25 17:34:05"]
        assert lines.count("") == 1


def test_a_word_longer_than_the_terminal_goes_on_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    print_table(("entity", "state"), [("n" * 70, "normal")], wrap=())
    lines = capsys.readouterr().out.splitlines()
    assert "".join(line.strip() for line in lines[:-1]) == "entity: " + "n" * 70
    assert all(len(line) <= 40 for line in lines)


def test_an_epoch_is_a_line_of_80_columns() -> None:
    row = {"phase": "rehearsal", "epoch": 12, "panels": 100}
    figures = {"elbo": -1234.567, "kl": 123.456, "reconstruction": 1234.567, "active_units": 8.0}
    both = {
        **row,
        **{f"{split}_{name}": value for split in ("train", "held_out") for name, value in figures.items()},
    }
    assert len(epochs.line(both)) <= 80
    assert epochs.line(both).count("-1234.57") == 2
    assert all(len(line) <= 80 for line in epochs.HEADER.splitlines())
    alone = {**both, "held_out_elbo": None}
    assert epochs.line(alone).count("-1234.57") == 1
