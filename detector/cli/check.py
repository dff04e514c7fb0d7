"""`tocsin check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import ConfigOption, JsonOption, StreamOption, command_app, load_settings, notice, print_json

if TYPE_CHECKING:
    from ..settings import Settings, Stream
    from ..topics import Report

app = command_app()


@app.command()
def check(
    config: ConfigOption = None,
    stream: StreamOption = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask the broker about topics and rights.")
    ] = False,
    create: Annotated[
        bool, typer.Option("--create-topics", help="Make the topics that are missing; implies --connect.")
    ] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Look at what `alerts group` needs as well; implies --connect.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-partitions",
            help="Forget the state of topics whose partition count has changed; implies --connect.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Validate the configuration; with --connect also the broker, its topics and rights."""
    from ..settings import redacted

    settings = load_settings(config)
    streams = (settings.stream(stream),) if stream else settings.streams
    for one in streams:
        _readable(settings, one)
    if accept:
        connect = True
        _accept(settings, streams)
    report = _ask(settings, streams, create, groups) if connect or create or groups else None
    if json:
        found = (
            {"topics": report.needs, "created": report.created, "findings": report.findings} if report else {}
        )
        print_json({"good": report.good if report else True, "settings": redacted(settings), **found})
    else:
        typer.echo(f"{settings.file or 'environment'}: valid, {_names(streams)}")
        if report:
            _tell(report, settings)
    if report and not report.good:
        raise typer.Exit(1)


def _readable(settings: Settings, stream: Stream) -> None:
    """Raises SettingsError where the features that are named cannot be read in the stream's format."""
    from ...pipelines import formats
    from ...pipelines.schema import FeatureSchema
    from ..reading import how_of

    if stream.features:
        schema = FeatureSchema(stream.features, stream.counters)
        formats.of(stream.format).decoder(schema, how_of(stream, settings.decode))


def _names(streams: tuple[Stream, ...]) -> str:
    return f"stream{'s' * (len(streams) > 1)} {', '.join(stream.name for stream in streams)}"


def _accept(settings: Settings, streams: tuple[Stream, ...]) -> None:
    from contextlib import closing

    from ...pipelines.brokers import open_broker
    from ..partition_counts import accept

    with closing(open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)) as broker:
        for stream in streams:
            for one in accept(broker, stream):
                notice(
                    f"{stream.name}: {one.topic} counts with {one.now} partitions now, {one.before} before; "
                    "the state of its entities is forgotten"
                )


def _ask(settings: Settings, streams: tuple[Stream, ...], create: bool, groups: bool) -> Report:
    import time
    from contextlib import closing

    from ...pipelines.brokers import open_broker
    from .. import agreement, partition_counts, trial
    from ..topics import check as look

    with closing(open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)) as broker:
        report = look(broker, settings, streams, create=create, groups=groups)
        if report.good:
            for one in streams:
                report.findings.extend(partition_counts.look(broker, one))
                report.findings.extend(agreement.look(broker, settings, one))
                report.findings.extend(trial.look(broker, one, time.time_ns() // 1000))
        return report


def _tell(report: Report, settings: Settings) -> None:
    for topic in report.created:
        typer.echo(f"made topic {topic}")
    for finding in report.findings:
        typer.echo(f"{'wrong' if finding.fatal else 'note'}: {finding.subject} {finding.problem}.")
        typer.echo(f"    fix: {finding.fix}")
    if report.good:
        typer.echo(f"{settings.kafka.bootstrap}: {len(report.needs)} topics are as they must be.")
