"""What the demo prints: lines for people, JSON for programs, a picture on a terminal."""

from __future__ import annotations

import io
import json

from rich.console import Console
from tocsin.detector.demo import view
from tocsin.detector.demo.view import (
    Event,
    Incident,
    JsonView,
    LiveView,
    Picture,
    PlainView,
    Point,
    Responsible,
    StreamState,
    open_view,
)

CPU = Responsible("cpu_user", 0.98, 0.031, 0.61)
LOST = Responsible("disk_busy", None, 0.2, 0.1)


def picture() -> Picture:
    shown = Picture("web-1", ("learn", "watch", "fault"), phase=1, note="nothing should fire")
    shown.streams = {"hosts": StreamState("live", 500, 123, 1, "0"), "processes": StreamState()}
    shown.points.extend([Point(0.1, 1.5)] * 30 + [Point(6.0, 1.5)] * 10)
    shown.incidents = {"a": Incident("hosts", "web-1", "firing", "critical", [CPU, LOST])}
    return shown


def test_plain_lines_have_a_time_and_indent_what_follows() -> None:
    out = io.StringIO()
    with PlainView(out, 100.0) as plain:
        plain.say(Event(112.25, "configuration", "tocsin.toml\n[http]\nport = 1"))
        plain.show(picture())
        plain.say(Event(190.0, "done", "Done."))
    assert out.getvalue() == ("  12.2s  tocsin.toml\n         [http]\n         port = 1\n  90.0s  Done.\n")


def test_json_lines_carry_time_kind_text_and_data() -> None:
    out = io.StringIO()
    with JsonView(out, 100.0) as log:
        log.say(Event(112.3456, "alert", "ALERT\nmore", {"alert": {"status": "firing", "p": None}}))
        log.show(picture())
    (line,) = out.getvalue().splitlines()
    assert json.loads(line) == {
        "at": 112.346,
        "since_start": 12.346,
        "event": "alert",
        "text": "ALERT\nmore",
        "alert": {"status": "firing", "p": None},
    }


def test_who_is_not_a_terminal_gets_lines() -> None:
    assert isinstance(open_view(io.StringIO(), as_json=False), PlainView)
    assert isinstance(open_view(io.StringIO(), as_json=True), JsonView)


def test_the_picture_holds_everything_below_the_events() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140, height=60, color_system=None)
    with LiveView(console, 100.0) as live:
        live.say(Event(101.0, "live", "All streams are live."))
        live.show(picture())
        drawn = out.getvalue()
    for text in (
        "web-1: score against threshold",
        "6.00 / 1.50",
        "● learn ▶ watch ○ fault",
        "nothing should fire",
        "processes",
        "firing   hosts/web-1  cpu_user 0.98 instead of 0.031 (61%)",
        "disk_busy missing instead of 0.2 (10%)",
        "1.0s  All streams are live.",
    ):
        assert text in drawn, text
    assert drawn.index("All streams are live.") < drawn.index("web-1: score")


def test_an_empty_picture_can_be_drawn() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=40, color_system=None)
    with LiveView(console, 0.0) as live:
        live.show(Picture("h", ("learn",)))
    assert "none" in out.getvalue()


def test_the_chart_shows_scores_as_columns_and_the_threshold_as_a_line() -> None:
    points = [Point(0.0, 2.0)] * 3 + [Point(5.0, 2.0)]
    lines = [line.plain for line in view.chart(points, width=10, rows=6)]
    assert [len(line) for line in lines] == [4] * 6
    assert [line[3] for line in lines[1:]] == ["█"] * 5
    assert "───" in [line[:3] for line in lines]
    assert lines[-1][:3] != "   "
    assert len(view.chart(points * 10, width=7, rows=2)[0].plain) == 7
    assert [line.plain for line in view.chart([], width=10, rows=3)] == ["", "", ""]
