"""`tocsin entities`: who is watched, how each stands, and why some are still warming."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    moment,
    print_json,
    print_table,
    sparkline,
)

app = command_app()


@app.command("list")
def list_entities(
    config: ConfigOption = None,
    stream: StreamOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(metavar="NAME", help="Begin behind this name.")] = "",
    json: JsonOption = False,
) -> None:
    """List the entities that the running daemon owns, by name."""
    from ..client import ask

    found = ask(load_settings(config), "/api/v1/entities", stream=stream, limit=limit, after=after or None)
    if json:
        print_json(found)
        return
    print_table(
        ("entity", "state", "score", "threshold", "the last scores", "last seen (UTC)", "warming"),
        [
            (
                one["entity"],
                one["state"],
                one["score"],
                one["threshold"],
                sparkline(one["scores"], one["thresholds"]),
                moment(one["last_seen"]),
                one["warming"],
            )
            for one in found
        ],
        wrap=("entity", "warming"),
    )


@app.command()
def show(
    entity: Annotated[str, typer.Argument(help="The entity's name.")],
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Show one entity: score, threshold, calibration, newest values."""
    from ...errors import DataError
    from ..client import ask

    found = ask(load_settings(config), f"/api/v1/entities/{entity}", stream=stream)
    if found is None:
        raise DataError(f"the daemon owns no entity {entity!r}; `tocsin entities list` names those it does.")
    if json:
        print_json(found)
        return
    values, scores, thresholds = (found.pop(name) for name in ("values", "scores", "thresholds"))
    for name, value in found.items():
        typer.echo(f"{name:<16} {'-' if value is None else value}")
    typer.echo(
        f"{'the last scores':<16} {sparkline(scores, thresholds, len(scores))}   (above the threshold from ▅ on)"
    )
    print_table(("feature", "newest value"), list(values.items()))
