"""`tocsin check`."""

from __future__ import annotations

from .common import ConfigOption, JsonOption, command_app, load_settings, print_json

app = command_app()


@app.command()
def check(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Validate the configuration; with --connect also the broker, its topics and rights."""
    import typer

    from .. import settings as module

    settings = load_settings(config)
    if json:
        print_json({"valid": True, "settings": module.redacted(settings)})
    else:
        names = ", ".join(stream.name for stream in settings.streams)
        typer.echo(f"{settings.file or 'the environment'}: valid, streams: {names}")
