"""`tocsin drift`."""

from __future__ import annotations

import math
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

if TYPE_CHECKING:
    from ...thresholds.advice import Action
    from ..comparing import Compared, Gathered

app = command_app()
SHOWN = 20
WIDTH = 80
SAME_HOURS = 0.8
NEARLY_A_DAY_US = 23 * 3_600_000_000
"""A day, less what a window of 24 h may lack at its ends."""


@app.command()
def drift(
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="The present window, from Kafka: a span before now (24h), a time."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Its end; now by default.")] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH", help="The present window, from files; may be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHEN|PATH", help="The reference: a WHEN with --since; PATHs with --data, one each."
        ),
    ] = None,
    against_until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Its end; by default where the present window begins.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Score both with this version, not what is in force."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page about it all there, as HTML.")
    ] = None,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Has the telemetry changed? Compare two windows of it: score, features, latent."""
    from ...thresholds.advice import advise
    from ..comparing import Source, gather, weigh
    from ..replay_setup import opened, rulings_now, rulings_of
    from ..report.compared import Facts, page
    from ..report.frame import check_writable, write

    present, reference = _windows(since, until, data or [], against or [], against_until)
    if report:
        check_writable(report)
    settings = load_settings(config)
    chosen = settings.stream(stream)
    if model is not None or since is None:
        rulings = rulings_of(settings, chosen, model or "champion")
    else:
        with opened(settings) as broker:
            rulings = rulings_now(broker, settings, chosen)
    used = rulings.ruling().model
    before = gather(settings, chosen, rulings, Source("the reference", *reference))
    now = gather(settings, chosen, rulings, Source("the present window", *present))
    compared = weigh(before, now, used.version)
    advice = advise(compared.found)
    given = [*(["-c", str(config)] if config else []), *(["--stream", stream] if stream else [])]
    command = _next(advice.action, since, until, data or [], given)
    notes = _notes(before, now, compared)
    said = {
        "stream": chosen.name,
        "model": used.name,
        **_facts(before, now, compared),
        "notes": notes,
        "advice": {"do": str(advice.action), "why": advice.why, "next": command},
    }
    if report:
        write(report, page(Facts(chosen.name, used.name, before, now, compared, notes, advice, command)))
    if json:
        print_json(said)
    else:
        _show(said)
    if report:
        notice(f"the report is in {report}")


def _windows(
    since: str | None, until: str | None, data: list[Path], against: list[str], against_until: str | None
) -> tuple[tuple[list[Path], str | None, str | None], ...]:
    """Paths, begin and end of the present window and of the reference, spans before now fixed to one moment."""
    from ...errors import SettingsError
    from ..when import parse_when, written

    if bool(data) == (since is not None) or not against:
        raise SettingsError(
            "drift compares two windows: give either --since WHEN --against WHEN, or --data PATH --against PATH."
        )
    if data:
        if until is not None or against_until is not None:
            raise SettingsError("--until and --against-until belong to --since; files are taken whole.")
        return (data, None, None), ([Path(path) for path in against], None, None)
    if len(against) > 1:
        raise SettingsError("with --since, --against is one WHEN: where the reference begins.")
    now = time.time()
    begin, end, ours, ends = (parse_when(text, now) for text in (since, until, against[0], against_until))
    assert begin is not None
    assert ours is not None
    if ends is None:
        if begin.ms is None or (ours.ms is not None and ours.ms >= begin.ms):
            raise SettingsError(
                f"--against {against[0]} does not begin before --since {since}: say where the reference ends with "
                "--against-until."
            )
        ends = begin
    return ([], written(begin), written(end)), ([], written(ours), written(ends))


def _next(action: Action, since: str | None, until: str | None, data: list[Path], given: list[str]) -> str:
    """The command to type."""
    import shlex

    from ...thresholds.advice import Action

    where = [word for path in data for word in ("--data", str(path))]
    where += ["--since", since] if since else []
    end = ["--until", until] if until else []
    words = {
        Action.NOTHING: ["models", "show"],
        Action.RECALIBRATE: ["recalibrate", *where, "--dry-run"],
        Action.TRAIN: ["train", *where, *end],
        Action.LOOK: ["replay", *where, *end, "--report", "report.html"],
    }[action]
    return shlex.join(["tocsin", *words, *given])


def _facts(before: Gathered, now: Gathered, compared: Compared) -> dict[str, Any]:
    """All that was found, as --json shows it."""
    from ...thresholds.advice import lost, moved
    from ...thresholds.compare import QUANTILES

    found, names = compared.found, before.features
    score = found.score._asdict()
    for window in ("reference", "present"):
        score[window] = {f"{q:g}": value for q, value in zip(QUANTILES, score[window], strict=True)}
    features = [
        {**one._asdict(), "feature": names[one.feature], "missing": list(one.missing)}
        for one in sorted(found.features, key=lambda one: -one.psi if math.isfinite(one.psi) else 0.0)
    ]
    return {
        "reference": _window(before, compared.entities.reference),
        "present": _window(now, compared.entities.present),
        "entities": {"new": compared.entities.new, "gone": compared.entities.gone},
        "score": score,
        "latent": None if found.latent is None else found.latent._asdict(),
        "features": features,
        "moved": [names[one.feature] for one in moved(found)],
        "lost": [names[one.feature] for one in lost(found)],
    }


def _window(window: Gathered, entities: int) -> dict[str, Any]:
    from ..wire import rfc3339

    return {
        "records": sum(window.counts.values()),
        **window.counts,
        "trained_on": window.trained,
        "entities": entities,
        "from": rfc3339(window.first_us),
        "to": rfc3339(window.last_us),
    }


def _notes(before: Gathered, now: Gathered, compared: Compared) -> list[str]:
    """What to keep in mind."""
    notes = []
    if before.trained:
        share = before.trained / before.counts["scored"]
        notes.append(
            f"The model was trained on {100 * share:.0f} % of the reference's records, which flatters their scores: "
            "only much counts there. A reference from after the training shows more."
        )
    if (
        compared.hours < SAME_HOURS
        or min(one.last_us - one.first_us for one in (before, now)) < NEARLY_A_DAY_US
    ):
        notes.append(
            "The windows lie in other hours of the day, or one is shorter than a day: what moved may be the daily "
            "course. Compare whole days."
        )
    if compared.entities.new:
        notes.append(
            f"{compared.entities.new} entities of the present are new to the model and the reference: left out."
        )
    return notes


def _show(said: dict[str, Any]) -> None:
    typer.echo(f"stream {said['stream']}, model {said['model']}\n")
    rows = [
        (name, *(said[name][key] for key in ("records", "scored", "entities")), *_span(said[name]))
        for name in ("reference", "present")
    ]
    print_table(("window", "records", "scored", "entities", "from", "to"), rows)
    score = said["score"]
    typer.echo("")
    rows = [(name, *score[name].values()) for name in ("reference", "present")]
    print_table(("score at", *score["reference"]), [(name, *map(_fixed, row)) for name, *row in rows])
    typer.echo(
        f"score {_verb(score['moved'])}: PSI {score['psi']:.3f} (limit {score['psi_limit']:.3f}), distance "
        f"{score['wasserstein']:.3f};\n{_share(score['tail'])} beyond the reference's 95 % point "
        f"(limit {_share(score['tail_limit'])})"
    )
    typer.echo(f"\n{_latent(said['latent'])}\n")
    shown = [one for one in said["features"] if one["moved"] or one["lost"]]
    shown += [one for one in said["features"] if not one["moved"] and not one["lost"]]
    columns = ("feature", "PSI", "limit", "distance", "missing", "now", "remark")
    print_table(columns, [_line(one) for one in shown[:SHOWN]], wrap=("feature", "remark"))
    if len(shown) > SHOWN:
        typer.echo(f"… and {len(shown) - SHOWN} more; --json lists all.")
    for note in said["notes"]:
        typer.echo(f"\n{textwrap.fill(note, WIDTH)}")
    advice = said["advice"]
    why = f"Advice: {advice['do']}. {advice['why'][0].upper()}{advice['why'][1:]}."
    typer.echo(f"\n{textwrap.fill(why, WIDTH)}\n  {advice['next']}")


def _latent(latent: dict[str, Any] | None) -> str:
    if latent is None:
        return "latent not compared: the model has no VAE"
    by = " with the features' level" if latent["level"] else ""
    return (
        f"latent {_verb(latent['moved'])}{by}: Frechet distance {latent['frechet']:.3f},\n"
        f"{_share(latent['share'])} of the variance (limit {_share(latent['limit'])})"
    )


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    from ...thresholds.advice import remarks

    figures = (_fixed(one[key]) for key in ("psi", "psi_limit", "wasserstein"))
    before, now = one["missing"]
    return one["feature"], *figures, _share(before), _share(now), ", ".join(remarks(one))


def _span(window: dict[str, Any]) -> tuple[str | None, str | None]:
    return moment(window["from"]), moment(window["to"])


def _fixed(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _verb(moved: bool) -> str:
    return "moved" if moved else "not moved"
