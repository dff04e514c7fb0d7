"""`tocsin train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import epochs
from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    notice,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from ...pipelines.training import Trained
    from ..learning import Gathered, Registered
    from ..settings import Settings, Stream

app = command_app()
NICENESS = 10


@app.command(no_args_is_help=False)
def train(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH…", help="Data files or folders; more may follow it."),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]…", hidden=True)] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Read the input topics from then: 24h, a time, start."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="… until then; by default now.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help='The alert budget, for instance "5/day" or "1/week per entity".'),
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="auto, shared or per_entity.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random number.")] = None,
    min_records: Annotated[
        int | None, typer.Option("--min-records", help="Records that an entity needs.")
    ] = None,
    accelerator: Annotated[
        bool,
        typer.Option("--accelerator", help="Train on JAX's accelerator; its package has to be installed."),
    ] = False,
    nice: Annotated[bool, typer.Option("--nice", help="Give way to other processes.")] = False,
    first: Annotated[bool, typer.Option("--first", hidden=True)] = False,  # the daemon asks, see bootstrap
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Train and register a model version, from data files or from what the input topics hold."""
    import time
    from datetime import UTC, datetime

    from ...errors import TooFewRecords
    from ..bootstrap import TOO_FEW
    from ..learning import learn, register

    if nice:
        import os

        os.nice(NICENESS)
    if accelerator:
        _accelerate()
    given = {
        "thresholds.budget": budget,
        "train.seed": seed,
        "train.min_records": min_records,
    }
    settings = load_settings(config, given)
    chosen = settings.stream(stream)
    if profile is not None:
        chosen = _with_profile(chosen, profile)
    began = time.monotonic()
    if not json:
        notice("reading records")
    gathered = _gather(settings, chosen, [*(data or []), *(more or [])], since, until, again=first)
    if not json:
        _say_gathered(gathered)
    watch = _Watch(quiet=json)
    with progress("training", 1.0) as update:
        try:
            trained = learn(settings, chosen, gathered, lambda step: watch.hear(step, update), notice)
        except TooFewRecords as fault:
            if not first:
                raise
            notice(str(fault))
            raise typer.Exit(TOO_FEW) from None
    watch.finish()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    seconds = time.monotonic() - began
    registered = register(settings, chosen, trained, gathered.schema, created, seconds)
    if json:
        print_json(_summary(trained, gathered, registered, seconds))
    else:
        _say_trained(trained, registered, seconds, from_files=bool(data or more))


def _accelerate() -> None:
    from ...errors import SettingsError
    from ...models import devices

    if not devices.accelerate():
        raise SettingsError(
            "--accelerator: JAX finds none. Install its package for yours beside Tocsin (for NVIDIA's: "
            "pip install 'jax[cuda13]'), or train on the processor, without it."
        )


def _gather(
    settings: Settings, stream: Stream, paths: list[Path], since: str | None, until: str | None, again: bool
) -> Gathered:
    from ...errors import SettingsError
    from ..learning import cut_off, from_files, from_topics
    from ..when import parse_when

    if paths and (since or until):
        raise SettingsError(
            "train either from files (--data) or from the topics (--since, --until), not both."
        )
    if paths:
        return from_files(stream, paths)
    if since is None:
        raise SettingsError(
            "what is there to train on? Give data files with --data PATH…, or a range of the input topics "
            "with --since 24h (--since start: all that they hold)."
        )
    from ...pipelines.brokers import open_broker

    first, last = parse_when(since), parse_when(until)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        return from_topics(
            broker,
            stream,
            settings.decode,
            first.ms if first else None,
            last.ms if last else None,
            # The topics have grown since; only on the same records can a training be gone on with.
            cut_off(settings, stream) if again else (),
        )
    finally:
        broker.close()


def _with_profile(stream: Stream, profile: str) -> Stream:
    import msgspec

    from ...errors import SettingsError

    if profile not in ("auto", "shared", "per_entity"):
        raise SettingsError(f"--profile {profile!r}: allowed are auto, shared and per_entity.")
    changed: Stream = msgspec.structs.replace(stream, profile=profile)
    return changed


def _say_gathered(gathered: Gathered) -> None:
    counts = gathered.counts
    left_out = {
        "duplicates": counts.duplicate,
        "late": counts.late,
        "out of order": counts.out_of_order,
        "with nothing present": counts.all_missing,
        "far ahead": counts.far_ahead,
        **{f"unreadable ({reason})": count for reason, count in gathered.rejected.items()},
    }
    said = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
    notice(
        f"read {counts.read} records of {len(gathered.series)} entities, {len(gathered.schema)} features"
        + (f"; left out: {said}" if said else "")
    )


class _Watch:
    """Turns the steps of a training into a progress bar and one printed line per epoch of the final fit."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.pending: list[Any] = []
        self.said_header = False

    def hear(self, step: Any, update: Any) -> None:
        update(step.done / step.total, STAGES[step.stage])
        report = step.report
        if step.stage != "final" or report is None or self.quiet:
            return
        if self.pending and (self.pending[-1].phase, self.pending[-1].epoch) != (report.phase, report.epoch):
            self.finish()
        self.pending.append(report)

    def finish(self) -> None:
        """Print the epoch that was being heard of."""
        from ...pipelines.epochs import mean_epoch

        if not self.pending:
            return
        if not self.said_header:
            typer.echo(epochs.HEADER)
            self.said_header = True
        epoch = mean_epoch(self.pending)
        self.pending.clear()
        typer.echo(epochs.line(epoch.plain()))


STAGES = {"fold": "cross-fitting", "final": "fitting", "score": "scoring"}


def _summary(trained: Trained, gathered: Gathered, registered: Registered, seconds: float) -> dict[str, Any]:
    return {
        "version": registered.name,
        "path": registered.path,
        "champion": registered.champion,
        "profile": trained.version.profile,
        "entities": len(trained.version.entities),
        "records": sum(trained.records),
        "features": list(trained.version.columns),
        "read": gathered.counts,
        "unreadable": dict(gathered.rejected),
        "budget": trained.budget.text,
        "warnings": trained.warnings,
        "history": [epoch.plain() for epoch in trained.history],
        "public_key": registered.public_key,
        "seconds": round(seconds, 1),
    }


def _say_trained(trained: Trained, registered: Registered, seconds: float, from_files: bool) -> None:
    version = trained.version
    table = version.calibration
    rows = [
        (name, trained.records[row], float(table["level"][row]), float(table["half_life"][row]))
        for name, row in list(version.entities.items())[:SHOWN]
    ]
    if len(version.entities) > SHOWN:
        rows.append((f"… and {len(version.entities) - SHOWN} more", "", "", ""))  # type: ignore[arg-type]
    typer.echo("")
    print_table(("entity", "records", "opening level", "slow half-life"), rows)
    for warning in trained.warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(
        f"\n{registered.name}: {version.profile} profile, {len(version.entities)} entities, "
        f"{sum(trained.records)} records, {len(version.columns)} features, budget {trained.budget.text}, "
        f"{seconds:.0f} s\n{registered.path}"
    )
    if registered.key_made is not None:
        typer.echo(
            f"made the key pair that signs models: {registered.key_made} (keep it private) and "
            f"{registered.public_key}"
        )
    what = "replay --data PATH…` shows what it finds in files" if from_files else "run` starts the daemon"
    if registered.champion:
        typer.echo(f"It is the champion. Next: `tocsin {what}.")
    else:
        typer.echo(
            f"Another version is the champion. Next: `tocsin models promote {registered.name}`, then "
            f"`tocsin {what}."
        )


SHOWN = 20
