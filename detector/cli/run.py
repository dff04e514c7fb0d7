"""`tocsin run`."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import ConfigOption, command_app, load_settings

app = command_app()


@app.command()
def run(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="The HTTP port, instead of [http] port.")] = None,
) -> None:
    """Run the daemon: score, alert, and train first where there is no model."""
    from .. import logs
    from ..settings import secrets

    settings = load_settings(config, {"http.port": port})
    logs.configure(settings.log, secrets(settings))

    from ..daemon import run as run_daemon  # JAX, after a wrong setting has been said

    run_daemon(settings)
