"""`tocsin alerts`: what fired, what fires now and why; bringing it to people; a word that one is over."""

from __future__ import annotations

from typing import Annotated

import typer

from .alert_reading import (
    good,
    line_of,
    messages_of,
    opened,
    print_alert,
    said_of,
    status_of,
    with_words,
    words_on,
)
from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    moment,
    notice,
    print_json,
    print_table,
)
from .feedback import feedback
from .many import group as group_alerts
from .many import rank

app = command_app()
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="An alert_id, or a unique beginning of one.")]
EntityOption = Annotated[
    str, typer.Option("--entity", metavar="GLOB", help="Only those of matching entities.")
]


@app.command()
def tail(
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    entity: EntityOption = "*",
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Stop after so many messages.")
    ] = None,
) -> None:
    """Print alerts as they are published, until interrupted."""
    from fnmatch import fnmatchcase

    from ..alert_topic import follow_alerts

    with opened(config, stream) as (_, chosen, broker):
        left = count
        reads = follow_alerts(broker, chosen.alerts)
        next(reads)
        notice(f"following {chosen.alerts}; Ctrl-C ends it")
        for read in reads:
            if read is None:
                continue
            if read.alert is None:
                notice(f"skipped: {read.fault}")
                continue
            if not fnmatchcase(read.alert.labels.entity, entity):
                continue
            print_alert(read.alert, json)
            if left is not None:
                left -= 1
                if left == 0:
                    return


@app.command("list")
def list_alerts(
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    firing: Annotated[bool, typer.Option("--firing", help="Only those that are open.")] = False,
    entity: EntityOption = "*",
) -> None:
    """List the incidents that the alert topic holds, the newest last."""
    from fnmatch import fnmatchcase

    from ..alert_topic import read_alerts
    from ..alerts import Status, latest

    with opened(config, stream) as (settings, chosen, broker):
        found = latest(good(read_alerts(broker, chosen.alerts))).values()
        words = words_on(broker, settings, chosen)
    shown = [
        alert
        for alert in sorted(found, key=lambda alert: (alert.starts_at, alert.alert_id))
        if fnmatchcase(alert.labels.entity, entity) and not (firing and alert.status is not Status.FIRING)
    ]
    if json:
        print_json([with_words(alert, words) for alert in shown])
        return
    print_table(
        ("id", "status", "severity", "entity", "began (UTC)", "ended", "peak", "feedback", "features"),
        (
            (
                alert.alert_id[:8],
                alert.status.value,
                alert.labels.severity.value,
                alert.labels.entity,
                moment(alert.starts_at),
                (moment(alert.ends_at) or "-")[11:] or "-",
                alert.annotations.peak,
                said_of(alert, words),
                ", ".join(feature.name for feature in alert.annotations.features[:3]),
            )
            for alert in shown
        ),
        wrap=("entity", "features"),
    )


@app.command()
def show(
    alert: IdArgument, config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False
) -> None:
    """Show every message of one incident."""
    from ..alerts import Kind

    with opened(config, stream) as (settings, chosen, broker):
        messages = messages_of(broker, chosen, alert)
        words = words_on(broker, settings, chosen)
    if json:
        print_json([with_words(message, words) for message in messages])
        return
    for message in messages:
        notes, of_records = message.annotations, message.kind is not Kind.TEST or None
        typer.echo(line_of(message))
        facts = {
            "alert_id": message.alert_id,
            "kind": message.kind.value,
            "status": status_of(message),
            "summary": notes.summary,
            "began": message.starts_at,
            "ended": message.ends_at,
            "score": notes.score,
            "threshold": notes.threshold,
            "p-value": f"{notes.p_value:.3g} ({notes.basis})" if notes.p_value is not None else None,
            "peak": notes.peak,
            "reach": notes.reach,
            "conservative": notes.conservative,
            "model, calibration": of_records and f"{notes.model_version}, {notes.calibration_version}",
            "records": of_records
            and f"{notes.topic}[{notes.partition}] {notes.first_offset} to {notes.last_offset}",
            "escalation": notes.escalation,
            "in a row": notes.in_a_row if notes.in_a_row > 1 else None,
            "held": notes.held or None,
            "late": "yes" if notes.late else None,
            "feedback": said_of(message, words, whole=True),
            "runbook": notes.runbook or None,
        }
        print_table(("", ""), [(name, fact) for name, fact in facts.items() if fact is not None])
        if notes.features:
            rows = ((f.name, f.observed, f.expected, f.share) for f in notes.features)
            print_table(("feature", "observed", "expected", "share"), rows)


@app.command()
def explain(
    alert: IdArgument, config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False
) -> None:
    """Say in plain words why an alert was raised and how it ended."""
    from ...errors import UnknownTopic
    from ..changes import Versioned
    from ..control import artefacts_of, read_all
    from ..explaining import explain as explained
    from ..explaining import plain as plain_facts
    from ..explaining import rules_in_force

    with opened(config, stream) as (settings, chosen, broker):
        messages = messages_of(broker, chosen, alert)
        try:
            found = read_all(broker, chosen.control, artefacts_of(settings, chosen))
        except UnknownTopic:  # a stream that no daemon has served yet
            found = []
    changes = [one for one in found if isinstance(one, Versioned)]
    explanation = explained(messages, rules_in_force(settings.incidents, changes), changes)
    if json:
        print_json(plain_facts(explanation))
        return
    typer.echo(line_of(messages[-1]))
    for paragraph in explanation.text:
        typer.echo(f"  {paragraph}")


@app.command("test")
def trial(
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    severity: Annotated[
        str,
        typer.Option("--severity", metavar="NAME", help="warning or critical, to try the routes of either."),
    ] = "warning",
    lasting: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long it stays open, such as 30s, 5m.")
    ] = "2m",
) -> None:
    """Publish a test alert and, after a while or when interrupted, its resolution."""
    import threading
    import time

    from ...errors import SettingsError
    from ..alert_topic import publish_alert
    from ..alerts import Severity
    from ..happenings import trial_alert, trial_over
    from ..settings import Duration
    from ..stopping import on_signals

    try:
        grade, open_s = Severity(severity), Duration.parse(lasting).seconds
    except ValueError:
        raise SettingsError(
            f"--severity {severity} --for {lasting}: allowed are warning or critical, and a duration such as 30s, 5m."
        ) from None
    stop = threading.Event()
    with opened(config, stream) as (_, chosen, broker), on_signals(stop.set):
        told = trial_alert(chosen.name, grade, time.time_ns() // 1000, chosen.runbook)
        publish_alert(broker, chosen.alerts, told)
        print_alert(told, json)
        stop.wait(open_s)
        told = trial_over(told, time.time_ns() // 1000)
        publish_alert(broker, chosen.alerts, told)
        print_alert(told, json)


@app.command()
def forward(
    config: ConfigOption = None,
    stream: StreamOption = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="KIND", help="alertmanager or webhook; else [forward] to.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Its address; else [forward] url, which others cannot see."
        ),
    ] = None,
    header_file: Annotated[
        str | None,
        typer.Option("--header-file", metavar="FILE", help="Headers to send, one `Name: value` a line."),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="The consumer group; one for each target.")
    ] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="What `alerts group` tells, in the place of the alerts.")
    ] = False,
) -> None:
    """Bring alerts to an Alertmanager or a webhook, until stopped. Without --stream, those of all streams."""
    from .. import logs
    from ..forward_run import run, target
    from ..settings import secrets

    given = {"to": to, "url": url, "header_file": header_file, "group_id": group}
    settings = load_settings(config, {f"forward.{key}": value for key, value in given.items()})
    streams = settings.streams if stream is None else (settings.stream(stream),)
    chosen = target(settings)
    logs.configure(settings.log, (*secrets(settings), *chosen.secrets))
    run(settings, streams, chosen, groups=groups)


@app.command()
def resolve(
    alert: IdArgument,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="What the entity shows is its new ordinary: learn it as such.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")] = "",
    author: Annotated[
        str | None, typer.Option("--author", metavar="NAME", help="Who; the login name by default.")
    ] = None,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Close a firing incident by a versioned change, which the daemon applies at a written offset.

    A test alert that was left open is closed on the alert topic itself: no daemon knows of it.
    """
    import time

    from ...errors import DataError
    from ..alert_topic import publish_alert
    from ..alerts import Kind, Status
    from ..changes import Resolve
    from ..control import artefacts_of, publish
    from ..happenings import trial_over
    from ..signed import signed_by

    with opened(config, stream) as (settings, chosen, broker):
        last = messages_of(broker, chosen, alert)[-1]
        if last.status is not Status.FIRING:
            raise DataError(
                f"The incident {last.alert_id} of {last.labels.entity} is already resolved "
                f"({last.annotations.reason}, {last.ends_at}); there is nothing to resolve."
            )
        if rebase and last.kind not in (Kind.ANOMALY, Kind.DIGEST):
            raise DataError(
                f"The alert {last.alert_id} of {last.labels.entity} is of kind {last.kind.value}: --rebase is for an "
                "anomaly or a digest, whose score has a new ordinary."
            )
        if last.kind is Kind.TEST:
            over = trial_over(last, time.time_ns() // 1000)
            publish_alert(broker, chosen.alerts, over)
            print_alert(over, json)
            return
        change = Resolve(
            **signed_by(author, reason),
            alert_id=last.alert_id,
            entity=last.labels.entity,
            topic=last.annotations.topic,
            partition=last.annotations.partition,
            rebase=rebase,
        )
        version = publish(broker, chosen.control, change, artefacts_of(settings, chosen))
    if json:
        print_json({"version": version, "alert_id": last.alert_id, "entity": last.labels.entity})
    else:
        learned = ", and take what it shows for its new ordinary" if rebase else ""
        typer.echo(f"change {version}: resolve {last.alert_id} of {last.labels.entity}{learned}")


app.command()(feedback)
app.command("group")(group_alerts)
app.command("rank")(rank)
