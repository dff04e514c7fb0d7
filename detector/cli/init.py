"""`tocsin init`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import command_app, notice

app = command_app()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write tocsin.toml.")] = Path(),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The stream; named like the topic or folder.")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option("--bootstrap", metavar="HOST:PORT", help="Brokers to ask first.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option("--topic", metavar="TOPIC", help="Fill the file in from a sample of this topic."),
    ] = None,
) -> None:
    """Write a commented tocsin.toml."""
    from ...errors import SettingsError
    from ..settings_pages import commented_file

    path = folder / "tocsin.toml"
    if path.exists():
        raise SettingsError(f"{path} is already there and was left as it is. Move it away, or name a folder.")
    from_folder = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")
    stream: dict[str, Any] = {"name": name or topic or from_folder or "telemetry"}
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", stream["name"]):
        raise SettingsError(f"--name {stream['name']!r}: use letters, digits, '.', '_' and '-', at most 100.")
    given: dict[str, dict[str, Any]] = {"stream": stream}
    if bootstrap:
        given["kafka"] = {"bootstrap": bootstrap}
    if topic:
        stream |= {"topics": [topic], **_sampled(bootstrap, topic)}
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(commented_file(given))
    notice(f"{path} is written.")
    where = "" if path == Path("tocsin.toml") else f" -c {path}"
    if topic:
        notice(f"Next: `tocsin check{where} --connect --create-topics`.")
    else:
        notice(f"Next: fill it in, then `tocsin check{where}`.")


def _sampled(bootstrap: str | None, topic: str) -> dict[str, Any]:
    import textwrap
    from contextlib import closing

    from ...pipelines.brokers import open_broker
    from ..sampling import propose, take, understood
    from ..settings import Kafka

    with closing(open_broker(bootstrap or Kafka().bootstrap)) as broker:
        sample = take(broker, topic)
    found = propose(sample)
    for what, text in understood(sample, found):
        notice(textwrap.fill(f"{what:<10}{text}", 80, subsequent_indent=" " * 10, break_on_hyphens=False))
    return found
