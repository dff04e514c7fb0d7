"""`tocsin audit`: who changed what decides, when, why, and what was in force before and after."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    moment,
    print_json,
)

app = command_app()


@app.callback()
def audit() -> None:
    """Who changed what decides, when and why."""


@app.command("list")
def list_changes(config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False) -> None:
    """List every change of the control topic, oldest first."""
    from ...pipelines.brokers import open_broker
    from ..audit import trail
    from ..control import artefacts_of, read_all

    settings = load_settings(config)
    chosen = settings.stream(stream)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        entries = trail(read_all(broker, chosen.control, artefacts_of(settings, chosen)))
    finally:
        broker.close()
    if json:
        print_json(entries)
        return
    if not entries:
        typer.echo(f"no change was ever made: {chosen.control} is empty")
        return
    for entry in entries:
        about = f", {entry.about}" if entry.about else ""
        typer.echo(
            f"{entry.version:<4} {moment(entry.created_at)}  {entry.author}: {entry.kind}{about} ({entry.effect})"
        )
        if entry.reason:
            typer.echo(f"     because: {entry.reason}")
        for name in entry.after:
            typer.echo(f"     {name}: {_said(name, entry.before[name])} -> {_said(name, entry.after[name])}")


@app.command("verify")
def verify_changes(
    config: ConfigOption = None,
    stream: StreamOption = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="LINK", help="A link noted earlier, which must still be there."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that the signed changes hold together: none altered, taken out, put in between or cut off."""
    from ...pipelines.brokers import open_broker
    from ..audit import applied
    from ..audit_chain import follow
    from ..control import artefacts_of, entries

    settings = load_settings(config)
    chosen = settings.stream(stream)
    artefacts = artefacts_of(settings, chosen)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        consumer = broker.consumer()
        chain = follow(
            chosen.name,
            entries(consumer, chosen.control),
            artefacts.verify,
            sealed_from=artefacts.sealed_from or 0,
            applied=applied(broker, chosen),
            noted=head,
        )
        consumer.close()
    finally:
        broker.close()
    good = chain.sealed > 0 and not chain.gaps
    if json:
        print_json({"good": good, **chain._asdict()})
    else:
        for gap in chain.gaps:
            typer.echo(f"wrong: change {gap.version} {gap.problem}")
        if chain.unsealed:
            so = "refused" if settings.control.require_signature else "not vouched for, and act all the same"
            typer.echo(f"without a signature that holds: {', '.join(map(str, chain.unsealed))}; {so}")
        if chain.sealed:
            hold = "hold together" if good else "hold each by itself"
            typer.echo(f"{chain.sealed} signed changes {hold}, the last is change {chain.head}")
            typer.echo(f"its link, to be noted elsewhere: {chain.link}")
        else:
            typer.echo(f"no change of {chosen.control} is signed: there is nothing to go by")
    if not good:
        raise typer.Exit(1)


@app.command("decisions")
def list_decisions(
    config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False
) -> None:
    """List every decision that the records led to, oldest first: what happened, and what was done."""
    from ...pipelines.brokers import open_broker
    from ..audit import decided
    from ..wire import rfc3339

    settings = load_settings(config)
    chosen = settings.stream(stream)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        found = decided(broker, chosen)
    finally:
        broker.close()
    if json:
        print_json(found)
        return
    if not found:
        typer.echo(f"no decision was ever taken: {chosen.changelog} holds none")
    for topic, one in found:
        of = f" of {one.of}" if one.of else ""
        values = ", ".join(f"{name} {value:g}" for name, value in one.values.items() if value is not None)
        typer.echo(
            f"{moment(rfc3339(one.time_us))}  {topic}/{one.partition}@{one.offset}  {one.what or one.kind}{of}: "
            f"{one.action or 'recorded'}{f' ({values})' if values else ''}"
        )


def _said(name: str, value: Any) -> str:
    if value is None:
        return "as configured"
    return "the default" if name in ("budget", "max_incidents") and not value else str(value)
