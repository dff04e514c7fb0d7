"""`tocsin alerts feedback`: what an incident was, said by a versioned change that the budget and the level follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .alert_reading import messages_of, opened
from .common import ConfigOption, JsonOption, StreamOption, notice, print_json

if TYPE_CHECKING:
    from ..changes import Given, Verdict
    from ..judging import Preview


def feedback(
    alert: Annotated[
        str | None, typer.Argument(metavar="ID", help="An alert_id, or a unique beginning of one.")
    ] = None,
    is_false: Annotated[
        bool, typer.Option("--false", help="It was a false alarm: it counts against the budget.")
    ] = False,
    is_true: Annotated[
        bool, typer.Option("--true", help="It was real: it does not count against the budget.")
    ] = False,
    expected: Annotated[
        str | None,
        typer.Option(
            "--expected",
            metavar="UNTIL",
            help="It was expected, and so are all of its entity up to this event time: a duration from its onset "
            "(2h), or a moment.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change and publish nothing.")
    ] = False,
    revert: Annotated[
        int | None, typer.Option(metavar="N", help="Take the feedback of change N back; without an ID.")
    ] = None,
    author: Annotated[
        str | None, typer.Option("--author", metavar="NAME", help="Who; the login name by default.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")] = "",
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Say what an incident was; budget and level follow, at a written offset and reversibly."""
    from ...errors import SettingsError
    from ..changes import Feedback, Revert
    from ..control import artefacts_of, publish, read_all
    from ..judging import feedback_of, given_by, preview
    from ..restore import read_changelog
    from ..signed import signed_by

    given_words: dict[Verdict, bool] = {
        "false": is_false,
        "true": is_true,
        "expected": expected is not None,
    }
    said = [verdict for verdict, is_said in given_words.items() if is_said]
    if (alert is None) == (revert is None) or len(said) != (revert is None):
        raise SettingsError(
            "say one thing of one incident: give an ID with one of --false, --true and --expected UNTIL, or --revert N "
            "alone."
        )
    with opened(config, stream) as (settings, chosen, broker):
        artefacts = artefacts_of(settings, chosen)
        known = read_all(broker, chosen.control, artefacts)
        change: Feedback | Revert
        if revert is not None:
            change = Revert(version=revert, **signed_by(author, reason or f"revert of change {revert}"))
        else:
            assert alert is not None
            messages = messages_of(broker, chosen, alert)
            change = feedback_of(messages, chosen.name, said[0], expected, author, reason)
        given = given_by(known, change)
        part = (given.about.topic, given.about.partition)
        restored = read_changelog(broker, chosen.changelog, [part], lambda: None).restored(*part)
        effect = preview(restored.snapshot, given)
        version = None if dry_run else publish(broker, chosen.control, change, artefacts)
    if json:
        now, about = given.now and given.now.said, given.about
        shown = {
            "change": version,
            "alert_id": about.alert_id,
            "entity": about.entity,
            "verdict": now and now.verdict,
            "until": now and now.until,
            "reach": about.reach,
        }
        print_json({**shown, **effect._asdict()})
        return
    for line in _lines(given, effect):
        typer.echo(line)
    if version is None:
        notice("nothing was published (--dry-run)")
    else:
        typer.echo(
            f"published as change {version}; `tocsin alerts feedback --revert {version}` takes it back"
        )


def _lines(given: Given, effect: Preview) -> list[str]:
    from ..changes import SAID

    now, before, about = given.now, given.before, given.about
    said = "nothing is said of it any more" if now is None else SAID[now.said.verdict]
    lines = [f"incident {about.alert_id} of {about.entity}: {said}"]
    if before is not None:
        lines.append(
            f"until now: {SAID[before.said.verdict]}, by {before.said.author} in change {before.version}"
        )
    if now is not None and now.said.until is not None:
        lines.append(f"incidents of {about.entity} up to {now.said.until} are expected and wake nobody")
    if effect.ends:
        lines.append("the one that is open ends, and opens anew as what it is if the entity stays anomalous")
    if not effect.known:
        return [*lines, f"what it does to the level is not known here: {effect.remark}"]
    counts = {True: "yes", False: "no"}
    was, will = counts[bool(effect.counted_before)], counts[bool(effect.counted_after)]
    up_to = f", at the fixed levels up to {about.reach:g}" if about.reach and was != will else ""
    why = f" ({effect.remark})" if effect.remark else ""
    lines.append(f"counts against the budget: {was} -> {will}{up_to}{why}")
    return [*lines, f"level {effect.level_before:.3f} -> {effect.level_after:.3f}"]
