"""What `tocsin alerts feedback` runs: the change that says what an incident was, and what it would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import DataError, SettingsError
from ..thresholds.level import counts
from .alerts import Alert, Kind, Severity
from .changelog import Snapshot
from .changes import Feedback, Given, Revert, Verdict, Versioned, apply, fold
from .control import Unloadable
from .feedback import Standing, counted, heed, standing
from .ruling import epoch_of
from .settings import Duration
from .signed import signed_by
from .state import decision_of
from .wire import microseconds, rfc3339


class Preview(NamedTuple):
    """What a feedback, or the revert of one, does to its entity, by the newest snapshot of its partition."""

    known: bool
    """Whether that snapshot holds the entity; without, nothing below is known."""
    counted_before: bool | None
    """Whether the incident counts against the budget."""
    counted_after: bool | None
    level_before: float | None
    level_after: float | None
    ends: bool
    """The incident that is open ends by it."""
    remark: str
    """Why no count changes, where none does."""


def feedback_of(
    messages: Sequence[Alert],
    stream: str,
    verdict: Verdict,
    until: str | None,
    author: str | None,
    reason: str,
) -> Feedback:
    """The change that says so of the incident whose messages these are.

    Args:
        messages: all that the topic holds of it, in order.
        stream: the stream whose control topic the change is for.
        verdict: what it was.
        until: RFC 3339 or a duration from its onset; of `expected` only.
        author: who says so; the login name by default.
        reason: why.

    Raises:
        DataError: of such an alert nothing can be said.
        SettingsError: `until` is no time after its onset.
    """
    last = messages[-1]
    labels, notes = last.labels, last.annotations
    if labels.stream != stream:
        raise DataError(
            f"The alert {last.alert_id} is of the stream {labels.stream!r}, which shares the topic with {stream!r}. "
            f"Say so with --stream {labels.stream}."
        )
    if last.kind is Kind.DIGEST:
        raise DataError(
            f"The alert {last.alert_id} is a digest: it holds {notes.held} incidents of {labels.entity} that have no "
            "alert of their own, and one word cannot be true of all. Give feedback on an incident of that entity that "
            "was told by itself; `tocsin alerts list` shows them."
        )
    if last.kind is not Kind.ANOMALY:
        raise DataError(
            f"The alert {last.alert_id} is of the kind {last.kind.value}, which counts in no budget: there is nothing "
            "to say of it."
        )
    strong = labels.severity is Severity.CRITICAL or notes.escalation is not None
    return Feedback(
        alert_id=last.alert_id,
        entity=labels.entity,
        topic=notes.topic,
        partition=notes.partition,
        starts_at=last.starts_at,
        verdict=verdict,
        until=None if until is None else _moment(until, last.starts_at),
        epoch=epoch_of(notes.calibration_version),
        reach=notes.reach,
        counted=not strong and notes.expected is None,
        **signed_by(author, reason),
    )


def _moment(until: str, starts_at: str) -> str:
    onset_us = microseconds(starts_at)
    try:
        moment_us = onset_us + Duration.parse(until)
    except ValueError:
        try:
            moment_us = microseconds(until)
        except ValueError:
            raise SettingsError(
                f"--expected {until}: write a duration from the incident's onset (2h, 1d) or a moment "
                "(2026-01-31T12:00:00Z)."
            ) from None
    if moment_us <= onset_us:
        raise SettingsError(f"--expected {until}: that is not after {starts_at}, when the incident began.")
    return rfc3339(moment_us)


def given_by(known: Iterable[Versioned | Unloadable], change: Feedback | Revert) -> Given:
    """What the change would make of the words on its incident, after all changes of the control topic.

    Raises:
        DataError: it is the revert of something else.
    """
    effective = fold([one for one in known if isinstance(one, Versioned)])
    given = apply(effective, Versioned(effective.version + 1, change)).given
    if given is None or given.version != effective.version + 1:
        assert isinstance(change, Revert)
        raise DataError(
            f"change {change.version} is no feedback. `tocsin audit list` shows what it is; `tocsin recalibrate "
            "--revert` takes other changes back."
        )
    return given


def preview(snapshot: Snapshot | None, given: Given) -> Preview:
    """What it does, by a snapshot of the incident's partition."""
    about = given.about
    part = (about.topic, about.partition)
    decision = None if snapshot is None else decision_of(snapshot, part, about.entity)
    if decision is None:
        why = f"no snapshot of {about.topic}/{about.partition} holds {about.entity}"
        return Preview(False, None, None, None, None, False, why)
    core = decision.core[0]
    stands, level = standing(core, about), float(core["level"])
    before, after = counted(given.before, about), counted(given.now, about)
    if stands is Standing.OPEN:
        before = bool(counts(int(core["strong"])))
    epoch = int(core["epoch"])
    ends = len(heed(decision, 0, 0, given, 0)) > 0
    if stands is Standing.OPEN and not ends:
        after = bool(counts(int(core["strong"])))
    remark = ""
    if stands is Standing.FOREIGN:
        after = before
        remark = f"it was counted in epoch {about.epoch} of the entity's calibration, which is in epoch {epoch} now"
    elif before == after:
        remark = "it counts already" if before else "it did not count"
    elif about.reach is None and stands is Standing.PAST:
        remark = "its alert, of an earlier version, does not say at which levels it opened"
    return Preview(True, before, after, level, float(core["level"]), ends, remark)
