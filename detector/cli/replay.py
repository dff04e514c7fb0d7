"""`tocsin replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import ConfigOption, JsonOption, StreamOption, command_app, load_settings, notice, print_json

if TYPE_CHECKING:
    from ..alerts import Alert
    from ..replay import Step
    from ..replay_setup import Prepared
    from ..report.gather import Gathered

app = command_app()


@app.command()
def replay(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH", help="Data files or folders; may be repeated."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="From Kafka: a span before now (24h), a time, or `start`."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="The end; now by default.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write scores.parquet there.")] = None,
    top: Annotated[
        int, typer.Option(min=1, metavar="N", help="Features named in each row of scores.parquet, at most.")
    ] = 3,
    alerts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the alerts there, a line each.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page about it all there, as HTML.")
    ] = None,
    changes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Changes to apply, a line of JSON each, instead of Kafka's."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Score with this version, whatever is in force.")
    ] = None,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More data files.")] = None,
) -> None:
    """Score records from files or Kafka anew, from empty state."""
    from contextlib import ExitStack

    from ...errors import SettingsError
    from ..announcing import score_rows
    from ..replay_setup import prepare
    from ..scores import ScoresWriter

    paths = [*(data or []), *(more or [])]
    if bool(paths) == (since is not None):
        raise SettingsError("replay needs either --data PATH… or --since WHEN.")
    if changes is not None and model is not None:
        raise SettingsError("replay takes either --changes FILE, which names its models, or --model VERSION.")
    settings = load_settings(config)
    chosen = settings.stream(stream)
    tally = {"records": 0, "scored": 0, "anomalous": 0, "incidents": 0}
    with ExitStack() as stack:
        prepared = stack.enter_context(
            prepare(settings, chosen, paths, since=since, until=until, changes=changes, model=model)
        )
        writer = stack.enter_context(ScoresWriter(out)) if out else None
        told = stack.enter_context(_told(alerts)) if alerts else None
        gathered = _gathering(prepared, report) if report else None
        for step in prepared.steps():
            _count(tally, step)
            if writer and step.outcome is not None:
                writer.write(score_rows(step.outcome, prepared.names, top))
            if told:
                for alert in step.alerts:
                    told(alert)
            if gathered:
                gathered.take(step)
    tally["entities"] = len(prepared.state.table)
    if report and gathered:
        _write_report(report, gathered, chosen.name)
    if json:
        print_json({"model": prepared.model, **tally})
    else:
        typer.echo(
            f"{prepared.model}: {tally['records']} records of {tally['entities']} entities, {tally['scored']} scored, "
            f"{tally['anomalous']} above their threshold, {tally['incidents']} incidents"
        )
        if out:
            notice(f"scores are in {out}")
        if report:
            notice(f"the report is in {report}")


@contextmanager
def _told(path: Path) -> Iterator[Callable[[Alert], None]]:
    """What writes an alert to the file, a line each."""
    from ..alerts import message_of
    from ..outputs import writing

    with writing(path):
        file = path.open("wb", buffering=0)

    def tell(alert: Alert) -> None:
        with writing(path):
            file.write((message_of(alert).value or b"") + b"\n")

    with file:
        yield tell


def _gathering(prepared: Prepared, path: Path) -> Gathered:
    from ..report.frame import check_writable
    from ..report.gather import Gathered

    check_writable(path)
    return Gathered(prepared.state)


def _write_report(path: Path, gathered: Gathered, stream: str) -> None:
    from ..report import facts, page

    page.write(path, facts.report(gathered, stream))


def _count(tally: dict[str, int], step: Step) -> None:
    if step.outcome is not None:
        tally["records"] += len(step.outcome.verdict)
        tally["scored"] += len(step.outcome.row)
        tally["anomalous"] += int(step.outcome.anomalous.sum())
    tally["incidents"] += sum(alert.status == "firing" for alert in step.alerts)
