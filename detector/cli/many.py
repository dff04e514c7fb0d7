"""`tocsin alerts group` and `rank`: many alerts at once as one, and which to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .alert_reading import good, opened, plain
from .common import ConfigOption, JsonOption, StreamOption, load_settings, moment, print_json, print_table

if TYPE_CHECKING:
    from ..alerts import Annotations


def group(
    config: ConfigOption = None,
    stream: StreamOption = None,
    name: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="The consumer group; else [group] group_id.")
    ] = None,
) -> None:
    """Tell of many alerts at once as one, until stopped. Without --stream, those of all streams."""
    from .. import logs
    from ..grouper import run
    from ..settings import secrets

    settings = load_settings(config, {"group.group_id": name})
    streams = settings.streams if stream is None else (settings.stream(stream),)
    logs.configure(settings.log, secrets(settings))
    run(settings, streams)


def rank(config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False) -> None:
    """List what is open, the one to look at first in front."""
    from ..alert_topic import read_alerts
    from ..alerts import Kind, Status, latest
    from ..ranking import Candidate, ranked

    with opened(config, stream) as (settings, chosen, broker):
        found = latest(good(read_alerts(broker, chosen.alerts)))
    candidates = [
        Candidate(name, alert.labels.severity, notes.score, notes.p_value, notes.basis)
        for name, alert in found.items()
        for notes in (alert.annotations,)
        if alert.status is Status.FIRING and alert.kind is not Kind.TEST and notes.expected is None
    ]
    places = [(one.discovery, found[one.alert_id]) for one in ranked(candidates, settings.group.q)]
    if json:
        print_json([{"discovery": discovery, "alert": plain(alert)} for discovery, alert in places])
        return
    print_table(
        ("discovery", "id", "severity", "entity", "began (UTC)", "p-value", "score", "features"),
        (
            (
                "yes" if discovery else "-",
                alert.alert_id[:8],
                alert.labels.severity.value,
                alert.labels.entity,
                moment(alert.starts_at),
                _chance(alert.annotations),
                alert.annotations.score,
                ", ".join(feature.name for feature in alert.annotations.features[:3]),
            )
            for discovery, alert in places
        ),
        wrap=("entity", "features"),
    )


def _chance(notes: Annotations) -> str | None:
    return None if notes.p_value is None else f"{notes.p_value:.3g} ({notes.basis})"
