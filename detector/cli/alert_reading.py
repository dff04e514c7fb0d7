"""What the commands about alerts share: a stream's topic read through, one incident of it, how alerts are shown."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .common import load_settings, notice, print_json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...pipelines.brokers.base import Broker
    from ..alert_topic import Read
    from ..alerts import Alert
    from ..changes import Word
    from ..settings import Settings, Stream


@contextmanager
def opened(config: Path | None, stream: str | None) -> Iterator[tuple[Settings, Stream, Broker]]:
    """The settings, the stream chosen, and its broker until the end of the block."""
    from ...pipelines.brokers import open_broker

    settings = load_settings(config)
    chosen = settings.stream(stream)
    broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
    try:
        yield settings, chosen, broker
    finally:
        broker.close()


def good(reads: Iterable[Read]) -> Iterator[Alert]:
    """The alerts; what is none is counted and said once."""
    faults, first = 0, ""
    for read in reads:
        if read.alert is not None:
            yield read.alert
        else:
            faults, first = faults + 1, first or read.fault
    if faults:
        notice(f"skipped {faults} messages that are no alerts; the first: {first}")


def messages_of(broker: Broker, stream: Stream, beginning: str) -> list[Alert]:
    """Every message of the one incident whose id begins so. DataError where there is none or several."""
    from ...errors import DataError
    from ..alert_topic import read_alerts

    found: dict[str, list[Alert]] = {}
    for alert in good(read_alerts(broker, stream.alerts)):
        if beginning and alert.alert_id.startswith(beginning):
            found.setdefault(alert.alert_id, []).append(alert)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise DataError(
            f"No alert on {stream.alerts!r} has an id that begins with {beginning!r}. `tocsin alerts "
            "list` shows them."
        )
    raise DataError(
        f"{len(found)} alerts have ids that begin with {beginning!r}: {', '.join(sorted(found)[:5])}. "
        "Give more of it."
    )


def words_on(broker: Broker, settings: Settings, stream: Stream) -> dict[str, Word]:
    """What operators say of incidents, by alert_id; nothing where no daemon has served the stream yet."""
    from ...errors import UnknownTopic
    from ..changes import Versioned, fold, words
    from ..control import artefacts_of, read_all

    try:
        found = read_all(broker, stream.control, artefacts_of(settings, stream))
    except UnknownTopic:
        return {}
    given = fold([one for one in found if isinstance(one, Versioned)]).given
    newest = {one.about.alert_id: one.now for one in reversed(list(words(given)))}
    return {name: word for name, word in newest.items() if word is not None}


def said_of(alert: Alert, words: dict[str, Word], *, whole: bool = False) -> str | None:
    """What was said of an incident, `whole` with by whom and why; else whether it opened as expected."""
    word, expected = words.get(alert.alert_id), alert.annotations.expected
    if word is not None:
        said = word.said
        until = f" until {said.until}" if said.until else ""
        why = f": {said.reason}" if said.reason else ""
        return f"{said.verdict}{until} (change {word.version}, {said.author}{why})" if whole else said.verdict
    if expected is None:
        return None
    return f"expected until {expected.until} (change {expected.change})" if whole else "expected"


def with_words(alert: Alert, words: dict[str, Word]) -> dict[str, Any]:
    """An alert as `plain` gives it, with what operators say of it as `feedback`."""
    import msgspec

    word = words.get(alert.alert_id)
    said = None if word is None else {"change": word.version, **msgspec.to_builtins(word.said)}
    return {**msgspec.to_builtins(alert), "feedback": said}


def print_alert(alert: Alert, json: bool) -> None:
    """One message, at once: as a line of JSON or as `_line`."""
    if json:
        print_json_line(plain(alert))
    else:
        typer.echo(line_of(alert))


def status_of(alert: Alert) -> str:
    """Whether it is open, and why not."""
    return alert.status.value + (f" ({alert.annotations.reason})" if alert.annotations.reason else "")


def line_of(alert: Alert) -> str:
    """One message on one line."""
    late = " (late)" if alert.annotations.late else ""
    return (
        f"{alert.event_time}  {alert.status.value:<8}  {alert.labels.severity.value:<8}  "
        f"{alert.alert_id[:12]}  {alert.annotations.summary}{late}"
    )


def plain(alert: Alert) -> object:
    """An alert as dicts, lists and scalars."""
    import msgspec

    return msgspec.to_builtins(alert)
