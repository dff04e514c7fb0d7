"""The command line: a group whose commands are imported only when they are used.

To add a command, write a module in this package and a line in `table.py`:

    app = command_app()                      # from .common

    @app.command()
    def train(config: ConfigOption = None, stream: StreamOption = None) -> None:
        '''One line that help shows, the same as in the table.'''
        from ...pipelines.training import fit      # heavy imports inside
        settings = load_settings(config)

One `@app.command()` is a command of its own; several, or one with an `@app.callback()`, are a group
(`tocsin models list`). Raise a TocsinError for what is foreseen: `main` prints its text and sets the code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined] # what typer itself imports
from typer.core import TyperCommand

from ...errors import SettingsError, TocsinError
from .common import QuickGroup
from .table import COMMANDS

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def load_command(name: str) -> Any:
    """The command or group of that name in the table, imported."""
    module = import_module(f".{COMMANDS[name].module}", __package__)
    command = typer.main.get_command(module.app)
    command.help = command.help or COMMANDS[name].help
    return command


class LazyGroup(QuickGroup):
    """Knows names and one-line helps from the table, and imports a command when it is called."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {name: TyperCommand(name=name, help=entry.help) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in the place of the line that stands for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else command, rest


app = typer.Typer(
    cls=LazyGroup,
    help="An alarm bell for telemetry: Kafka in, honest alerts out.",
    no_args_is_help=True,
    add_completion=False,  # its options load pydantic as well
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from ... import __version__

        typer.echo(f"tocsin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An alarm bell for telemetry: Kafka in, honest alerts out."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and leave the process: 0 done, 1 failed, 2 wrong usage or configuration."""
    completion_init()
    try:
        app(args=args, prog_name="tocsin")
    except SettingsError as fault:
        _leave(fault, WRONG_USAGE)
    except TocsinError as fault:
        _leave(fault, FAILED)
    except OSError as fault:
        if fault.filename is None and fault.errno is None:
            raise
        _leave(fault, FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave(fault: Exception, code: int) -> None:
    typer.echo(f"tocsin: {fault}", err=True)
    sys.exit(code)
