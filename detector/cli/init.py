"""`tocsin init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import command_app, notice

app = command_app()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write tocsin.toml.")] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the stream; the folder's or the topic's by default.")
    ] = None,
) -> None:
    """Write a commented tocsin.toml."""
    import re

    from ...errors import SettingsError
    from ..settings_pages import commented_file

    path = folder / "tocsin.toml"
    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "telemetry"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", chosen):
        raise SettingsError(f"--name {chosen!r}: a stream's name has letters, digits, '.', '_' and '-' only.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(commented_file({"stream": {"name": chosen}}))
    except FileExistsError:
        raise SettingsError(
            f"{path} is already there and was left as it is. Move it away, or name a folder."
        ) from None
    notice(f"{path} is written. `tocsin check -c {path}` validates it once you have changed it.")
