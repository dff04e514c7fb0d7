"""`tocsin completion`: the script that makes a shell complete commands, flags and their values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined] # what typer itself imports

from .common import command_app

app = command_app()


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Whose script.")]) -> None:
    """Print the script that makes a shell complete; `source <(tocsin completion bash)` takes it up."""
    typer.echo(get_completion_script(prog_name="tocsin", complete_var="_TOCSIN_COMPLETE", shell=shell.value))
