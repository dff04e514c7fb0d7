"""`tocsin status`."""

from __future__ import annotations

from typing import Any

import typer

from .common import ConfigOption, JsonOption, command_app, load_settings, moment, print_json, print_table

app = command_app()


@app.command(no_args_is_help=False)
def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """What the running daemon does: phases, partitions, entities, incidents."""
    from ..client import ask

    settings = load_settings(config)
    found = ask(settings, "/api/v1/status")
    if json:
        print_json(found)
        return
    address = f"{settings.http.host}:{settings.http.port}"
    typer.echo(f"daemon at {address}: {'ready' if found['ready'] else found['why']}")
    who = found["daemon"]
    since = moment(who["since"])
    typer.echo(f"  tocsin {who['version']} on host {who['host']}, process {who['pid']}, since {since} UTC")
    for stream in found["streams"]:
        _show(stream)


def _show(stream: dict[str, Any]) -> None:
    typer.echo(f"\nstream {stream['stream']}: {stream['phase']}")
    if "collected" in stream:
        collected = stream["collected"]
        typer.echo(
            f"  {collected['records']} records of {collected['entities']} entities, {collected['enough']} with enough"
        )
        if collected["too_few"]:
            typer.echo(
                f"  the last training found too few usable ones, the next begins at {collected['needed']} records: "
                f"{collected['too_few']}"
            )
    if "model" in stream:
        over = f", recalibrated by change {stream['recalibration']}" if stream["recalibration"] else ""
        typer.echo(f"  model {stream['model']} ({stream['profile']}){over}; change {stream['change']}")
        typer.echo(f"  budget {stream['budget']} over {stream['entities']} entities")
    if "entities_known" in stream:
        typer.echo(
            f"  {stream['entities_known']} entities, {stream['entities_warming']} warming; "
            f"{stream['incidents_open']} incidents open, {stream['incidents_pending']} pending"
        )
        if stream["entities_off"]:
            what = "more than twice" if stream["entities_off"] == "more" else "fewer than half"
            typer.echo(
                f"  that is {what} the {stream['entities']} that the budget is split over; `tocsin recalibrate` "
                "splits it anew"
            )
    if frozen := stream.get("learning_frozen"):
        typer.echo(
            f"  nothing is learned for now in {', '.join(frozen)}: most entities in incidents, or most values missing"
        )
    if proposed := stream.get("training_proposed"):
        typer.echo(
            f"  not what the model knows any more: {', '.join(proposed)} (`tocsin audit decisions`); `tocsin train "
            "--since` the change, then `tocsin models promote`"
        )
    if rekey := stream.get("rekey"):
        done = f"{rekey['behind']} messages behind" if rekey["reading"] else "done by another daemon"
        typer.echo(f"  rekeying to {rekey['topic']}: {done}")
    if stream.get("partitions"):
        columns = ("topic", "partition", "next_offset", "committed", "snapshot_offset")
        print_table(columns, [tuple(part[name] for name in columns) for part in stream["partitions"]])
