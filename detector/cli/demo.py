"""`tocsin demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .common import JsonOption, command_app

app = command_app()


@app.command()
def demo(
    fault: Annotated[bool, typer.Option("--fault/--no-fault", help="Cause the fault, or only watch.")] = True,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C, and keep the files.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Everything on this machine: telemetry, a fault, an alert, a recalibration."""
    from ..demo.script import run

    run(sys.stdout, with_fault=fault, as_json=json, keep=keep)
