"""What the demo shows: a live picture on a terminal, a line per event elsewhere, JSON for programs."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

POINTS = 400
_CHART_ROWS = 7
_BLOCKS = " ▁▂▃▄▅▆▇█"
_DEEPEST = -1.0


class Event(NamedTuple):
    """Something happened: `kind` is for programs, `text` for people, `data` for both."""

    at_s: float
    kind: str
    text: str
    data: Mapping[str, Any] = {}


class Point(NamedTuple):
    """The host's score at a record, and the threshold it was held against."""

    score: float
    threshold: float


@dataclass
class StreamState:
    """A stream as the daemon reports it."""

    state: str = "starting"
    sent: int = 0
    scored: int = 0
    firing: int = 0
    calibration: str = ""


class Responsible(NamedTuple):
    """A feature of an alert."""

    name: str
    observed: float | None
    expected: float | None
    share: float


class Incident(NamedTuple):
    """The newest message of an alert."""

    stream: str
    entity: str
    status: str
    severity: str
    features: Sequence[Responsible]


@dataclass
class Picture:
    """Everything there is to see at one moment."""

    host: str
    phases: Sequence[str]
    phase: int = 0
    note: str = ""
    streams: dict[str, StreamState] = field(default_factory=dict)
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS))
    incidents: dict[str, Incident] = field(default_factory=dict)


class View(Protocol):
    """Where events and pictures go."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def say(self, event: Event) -> None:
        """Something happened."""

    def show(self, picture: Picture) -> None:
        """This is how things stand; called several times a second."""


class _Stateless:
    """Views that only write events."""

    def __init__(self, file: TextIO, began_s: float) -> None:
        self._file = file
        self._began_s = began_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()

    def show(self, picture: Picture) -> None:
        """Nothing: who reads lines waits for events."""


class PlainView(_Stateless):
    """A line per event, with the seconds since the start."""

    def say(self, event: Event) -> None:
        """Write the event; what follows its first line is indented below it."""
        self._file.writelines(f"{line}\n" for line in _lines(event, self._began_s))
        self._file.flush()


class JsonView(_Stateless):
    """A JSON object per event: `at` in epoch seconds, `since_start`, `event`, `text` and its data."""

    def say(self, event: Event) -> None:
        """Write the event on one line, at once."""
        told = {
            "at": round(event.at_s, 3),
            "since_start": round(event.at_s - self._began_s, 3),
            "event": event.kind,
            "text": event.text,
            **event.data,
        }
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")
        self._file.flush()


class LiveView:
    """A picture redrawn in place below the lines of the events; only the lines remain."""

    def __init__(self, console: Console, began_s: float) -> None:
        from rich.live import Live

        self._console = console
        self._began_s = began_s
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, event: Event) -> None:
        """Write the event above the picture."""
        self._console.print("\n".join(_lines(event, self._began_s)), markup=False, highlight=False)

    def show(self, picture: Picture) -> None:
        """Draw."""
        self._live.update(self._drawing(picture), refresh=True)

    def _drawing(self, picture: Picture) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        width = max(self._console.width - 4, 20)
        last = picture.points[-1] if picture.points else None
        title = f"{picture.host}: score against threshold"
        if last is not None:
            title += f"   {last.score:6.2f} / {last.threshold:.2f}"
        steps = Text(" ".join(_steps(picture)), style="bold")
        return Group(
            Panel(Group(steps, Text(picture.note)), title="tocsin demo", title_align="left"),
            Panel(Group(*chart(picture.points, width, _CHART_ROWS)), title=title, title_align="left"),
            Panel(_streams(picture.streams), title="streams", title_align="left"),
            Panel(_incidents(picture.incidents.values()), title="alerts", title_align="left"),
        )


def open_view(file: TextIO, *, as_json: bool, began_s: float | None = None) -> View:
    """The view that suits who is looking."""
    began_s = time.time() if began_s is None else began_s
    if as_json:
        return JsonView(file, began_s)
    if file.isatty():
        from rich.console import Console

        return LiveView(Console(file=file, highlight=False), began_s)
    return PlainView(file, began_s)


def chart(points: Iterable[Point], width: int, rows: int) -> list[Text]:
    """Scores as columns, the newest at the right, the threshold as a line, in so many rows of characters."""
    from rich.text import Text

    shown = list(points)[-width:]
    top = max([1.0, *(1.1 * max(point) for point in shown)])
    step = (top - _DEEPEST) / rows
    lines = []
    for row in reversed(range(rows)):
        floor = _DEEPEST + row * step
        line = Text()
        for score, threshold in shown:
            filled = min(max((score - floor) / step, 0.0), 1.0)
            block = _BLOCKS[round(filled * (len(_BLOCKS) - 1))]
            if block == " " and floor <= threshold < floor + step:
                line.append("─", style="yellow")
            else:
                line.append(block, style="red" if score > threshold else "green")
        lines.append(line)
    return lines


def number(value: float | None) -> str:
    """A feature's value for people."""
    return "missing" if value is None else f"{value:.3g}"


def responsible(features: Iterable[Responsible]) -> str:
    """The features of an alert on one line: observed, and what was expected instead."""
    return ", ".join(
        f"{one.name} {number(one.observed)} instead of {number(one.expected)} ({one.share:.0%})"
        for one in features
    )


def _lines(event: Event, began_s: float) -> list[str]:
    first, *more = event.text.splitlines() or [""]
    return [f"{event.at_s - began_s:6.1f}s  {first}", *(f"{'':9}{line}" for line in more)]


def _steps(picture: Picture) -> list[str]:
    marks: Callable[[int], str] = lambda i: "●" if i < picture.phase else "▶" if i == picture.phase else "○"  # noqa: E731
    return [f"{marks(index)} {name}" for index, name in enumerate(picture.phases)]


def _streams(streams: Mapping[str, StreamState]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("stream", "state", "records", "scored", "firing", "calibration"):
        table.add_column(column, justify="right" if column in {"records", "scored", "firing"} else "left")
    for name, one in streams.items():
        table.add_row(
            name, one.state, str(one.sent), str(one.scored), str(one.firing), one.calibration or "-"
        )
    return table


def _incidents(incidents: Iterable[Incident]) -> RenderableType:
    from rich.text import Text

    lines = Text()
    for one in list(incidents)[-4:]:
        firing = one.status == "firing"
        lines.append(f"{one.status:9}", style="bold red" if firing else "green")
        lines.append(f"{one.stream}/{one.entity}  {responsible(one.features[:3])}\n")
    return lines if lines else Text("none", style="dim")
