"""`tocsin recalibrate`."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    notice,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ..recalibrating import Proposal
    from ..settings import Settings, Stream

app = command_app()
SHOWN = 20
UNITS = (("d", 1.0), ("h", 1 / 24), ("min", 1 / 1440))
"""And their length in days."""


@app.command(no_args_is_help=False)
def recalibrate(
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Learn from the topics since then: 6h, a time, `start`."),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", metavar="PATH", help="Learn from data files instead.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help='The new alert budget, for instance "2/day" or "1/week per entity".')
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Alter only the entities whose name matches; the budget stays."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change and publish nothing.")
    ] = False,
    revert: Annotated[
        int | None, typer.Option(metavar="N", help="Set again what was in force before change N.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Who makes the change; the login name by default.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "",
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Set new thresholds from recent behaviour or for a new budget; running daemons apply them."""
    from ...errors import DataError, SettingsError
    from ...pipelines.brokers import open_broker
    from ..control import artefacts_of, publish
    from ..recalibrating import kept
    from ..signed import signed_by

    if entity is not None and budget is not None:
        raise SettingsError(
            "a budget belongs to the whole stream: give either --budget, or --entity with --since or --data."
        )
    settings = load_settings(config)
    chosen = settings.stream(stream)
    with closing(open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)) as broker:
        artefacts = artefacts_of(settings, chosen)
        if revert is not None:
            from ..changes import Revert
            from ..replay_setup import refusal

            change: Any = Revert(version=revert, **signed_by(author, reason or f"revert of change {revert}"))
            if why := refusal(broker, settings, chosen, change):
                raise DataError(f"change {revert} cannot be reverted: {why}.")
            version = None if dry_run else publish(broker, chosen.control, change, artefacts)
            _told(version, json, {})
            return
        if since is None and not data and budget is None:
            raise SettingsError(
                f"recalibrate needs --since WHEN{' or' if entity else ','} --data PATH"
                f"{'' if entity else ' or --budget'}: what should it go by?"
            )
        proposal = _propose(settings, chosen, broker, since, data or [], budget, entity, author, reason)
        version = None if dry_run else publish(broker, chosen.control, proposal.change, artefacts)
    shown = _table(proposal)
    if json:
        _told(version, json, {"budget": proposal.budget.text, "entities": shown})
        return
    columns = ("entity", "level", "new", "a day", "new", "seen", "every", "records", "remark")
    most = sorted(shown, key=lambda row: -abs(row["level_after"] - row["level_before"]))[:SHOWN]
    print_table(columns, map(_line, most), wrap=("entity", "remark"))
    if len(shown) > len(most):
        notice(f"… and {len(shown) - len(most)} more entities; --json lists all.")
    if any(kept(row) for row in proposal.rows):
        notice("kept: too few recent scores; a new budget moves the level at the entity's next refresh.")
    if any(row.caution and not kept(row) for row in proposal.rows):
        notice(
            "short history: the budget allows less than one alert in it. The new level rests on the fitted tail, and "
            '"every" tells little more than its lower end.'
        )
    typer.echo(
        f"new entities: level {proposal.prior_before:.3f} -> {proposal.prior_after:.3f}; "
        f"budget {proposal.budget.text} over {proposal.entities} entities"
    )
    _told(version, json, {})


def _propose(
    settings: Settings,
    stream: Stream,
    broker: Any,
    since: str | None,
    data: list[Path],
    budget: str | None,
    entity: str | None,
    author: str | None,
    reason: str,
) -> Proposal:
    from ...errors import SettingsError
    from ...thresholds.budget import parse_budget
    from ..recalibrating import of_replay, of_scores_topic, propose
    from ..replay_setup import prepare, rulings_now
    from ..when import parse_when

    try:
        wanted = parse_budget(budget) if budget else None
    except ValueError as wrong:
        raise SettingsError(f"--budget: {wrong}.") from None
    with ExitStack() as stack:
        rulings = rulings_now(broker, settings, stream)
        ruling = rulings.ruling()
        if data or (since is not None and stream.scores is None):
            # Under what is in force now, even where other models scored those records: one scale for all scores.
            prepared = stack.enter_context(
                prepare(
                    settings,
                    stream,
                    data,
                    since=since,
                    until=None,
                    changes=None,
                    model=None,
                    in_force=rulings,
                )
            )
            recent = of_replay(prepared.steps(), prepared.names.entity)
        elif since is not None:
            recent = of_scores_topic(broker, stream, parse_when(since), ruling.model.name)
        else:
            recent = {}
        options = {"--since": since, "--budget": budget, "--entity": entity}
        given = [f"{name} {value}" for name, value in options.items() if value]
        why = reason or " ".join(["recalibrate", *(f"--data {path}" for path in data), *given])
        return propose(ruling, recent, wanted, entity, author, why)


def _table(proposal: Proposal) -> list[dict[str, Any]]:
    from ..recalibrating import kept

    return [
        {
            "entity": row.entity,
            "level_before": row.level_before,
            "level_after": row.level_after,
            "expected_before": row.expected_before,
            "expected_after": row.expected_after,
            "observed": row.observed,
            "days_between": row.run_length.mean,
            "days_between_low": row.run_length.low,
            "days_between_high": row.run_length.high,
            "records": row.records,
            "remark": "kept"
            if kept(row)
            else row.caution.name.lower().replace("_", " ")
            if row.caution
            else "",
        }
        for row in proposal.rows
    ]


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    figures = ("level_before", "level_after", "expected_before", "expected_after", "observed")
    return (
        row["entity"],
        *(round(row[name], 3) for name in figures),
        every(row["days_between"], row["days_between_low"], row["days_between_high"]),
        row["records"],
        row["remark"],
    )


def every(mean: float, low: float, high: float) -> str | None:
    """The mean of days between two alerts and its 95 % interval: `1.1 d (0.7-2)`, or `> 3.4 d` without upper end."""
    if math.isnan(mean):
        return None
    bounded = math.isfinite(high)
    unit, size = next((one for one in UNITS if (mean if bounded else low) >= one[1]), UNITS[-1])
    about, least, most = (_two(days / size) for days in (mean, low, high))
    return f"{about} {unit} ({least}-{most})" if bounded else f"> {least} {unit}"


def _two(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.2g}" if value < 10.0 else f"{value:.0f}"


def _told(version: int | None, json: bool, content: dict[str, Any]) -> None:
    if json:
        print_json({"change": version, **content})
    elif version is None:
        notice("nothing was published (--dry-run)")
    else:
        typer.echo(f"published as change {version}; `tocsin recalibrate --revert {version}` takes it back")
