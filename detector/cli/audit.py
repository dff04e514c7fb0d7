"""`tocsin audit`: who changed what decides, when, why, and what was in force before and after."""

from __future__ import annotations

from typing import Any

import typer

from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    print_json,
    print_table,
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
    print_table(
        ("version", "when", "who", "kind", "why", "before -> after", "effect"),
        (
            (
                e.version,
                e.created_at,
                e.author,
                e.kind,
                e.reason,
                _difference(e.before, e.after, e.about),
                e.effect,
            )
            for e in entries
        ),
    )


def _difference(before: dict[str, Any], after: dict[str, Any], about: str) -> str:
    parts = [f"{name}: {_said(name, before[name])} -> {_said(name, after[name])}" for name in after]
    return "; ".join([about, *parts] if about else parts)


def _said(name: str, value: Any) -> str:
    if value is None:
        return "as configured"
    return "the default" if name in ("budget", "max_incidents") and not value else str(value)
