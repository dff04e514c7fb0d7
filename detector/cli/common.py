"""What commands share: their common options, settings, and how they print."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from ..settings import Settings

DEFAULT_CONFIG = Path("tocsin.toml")
_NARROW = 8
"""The fewest characters that a column whose cells go on in another line is still shown with."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration; tocsin.toml by default."),
]
StreamOption = Annotated[
    str | None, typer.Option("--stream", metavar="NAME", help="Which stream, where several are configured.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class QuickGroup(TyperGroup):
    """A group whose own options do not load pydantic (0.35 s) on the way to the help of a command.

    Typer builds a pydantic adapter for every option whose value is no bool, and an absent --help is None.
    """

    def get_help_option(self, ctx: Any) -> Any:
        """The help option, absent meaning False."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


def command_app() -> typer.Typer:
    """A Typer application for one command or one group of commands, with the manners all of them have."""
    return typer.Typer(
        cls=QuickGroup,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def load_settings(config: Path | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of the file named, else of ./tocsin.toml, else of the environment alone.

    `overrides` are flags by dotted name of a setting; None was not given. Raises SettingsError.
    """
    from .. import settings

    path = config if config is not None or not DEFAULT_CONFIG.exists() else DEFAULT_CONFIG
    return settings.load(path, overrides=overrides)


def print_json(value: Any) -> None:
    """Print a value as JSON; Structs and named tuples as objects, NaN and infinities as null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON, at once: for output that others read while it grows."""
    typer.echo(json.dumps(_plain(value), ensure_ascii=False))
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "__struct_fields__"):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str | None = None,
    *,
    wrap: Sequence[str] | None = None,
) -> None:
    """Print a table to standard output; numbers stand to the right.

    Where it is too narrow, cells of the columns in `wrap` go on in another line, by default those of any. Where even
    that is not enough, each row becomes a block of lines, so that nothing is cut off.
    """
    from rich.markup import escape
    from rich.table import Table

    rows = [list(row) for row in rows]
    held = [[_cell(item) for item in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))
    ]
    out = console()
    widths = [max(map(len, [column, *(row[i] for row in held)])) for i, column in enumerate(columns)]
    least = [
        min(w, _NARROW) if wrap is None or c in wrap else w for c, w in zip(columns, widths, strict=True)
    ]
    if sum(least) + 2 * (len(least) - 1) > out.width:
        _print_blocks(out, columns, held, title)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if numeric[index] else "left",
            overflow="fold",
            no_wrap=wrap is not None and column not in wrap,
        )
    for row in held:
        table.add_row(*map(escape, row))
    out.print(table)


def _print_blocks(out: Console, columns: Sequence[str], rows: list[list[str]], title: str | None) -> None:
    """Each row as lines of its own: the column's name, then the cell, folded where it is too long."""
    import textwrap

    lines = [title] if title else []
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            text = f"{column}: {cell}" if column else cell
            lines += textwrap.wrap(text, out.width, subsequent_indent="  ", break_on_hyphens=False)
        lines.append("")
    out.print("\n".join(lines[:-1]), markup=False, no_wrap=True, overflow="ignore")


def moment(text: str | None) -> str | None:
    """A moment of RFC 3339 as a table shows it: UTC, to the second."""
    return None if text is None else text[:19].replace("T", " ")


def sparkline(scores: Sequence[float | None], thresholds: Sequence[float | None], width: int = 16) -> str:
    """The last `width` scores against their thresholds: up to ▄ below, from ▅ on above, ▁ at 0 and █ at twice it."""
    bars = "▁▂▃▄▅▆▇█"
    line = ""
    for score, threshold in list(zip(scores, thresholds, strict=True))[-width:]:
        if score is None or not threshold or threshold <= 0.0:
            line += "·"
            continue
        share = min(max(score / threshold, 0.0), 2.0)
        line += bars[min(int(share * 4), 3) if share <= 1.0 else min(4 + int((share - 1.0) * 4), 7)]
    return line


def _cell(item: object) -> str:
    if isinstance(item, float):
        return f"{item:.4g}" if math.isfinite(item) else "-"
    return "-" if item is None else str(item)


def console(*, stderr: bool = False) -> Console:
    """A rich console; as wide as it takes where nobody looks at it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # Both are asked here, because rich takes a terminal that calls itself dumb to be 80 wide.
    size = shutil.get_terminal_size()
    width = size.columns if stream.isatty() else 200
    return Console(file=stream, width=width, height=size.lines, highlight=False, soft_wrap=False)


def notice(text: str) -> None:
    """Say something to the person, on standard error, so that output stays data."""
    typer.echo(text, err=True)


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on standard error; yields `update(done, text)`. Silent where nobody looks.

    >>> with progress("epochs", 3) as update:
    ...     update(1, "first")
    """
    if not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)
