"""What the commands about alerts share: a stream's topic read through, one incident of it, how alerts are shown."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .common import load_settings, notice, print_json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...pipelines.brokers.base import Broker
    from ..alert_topic import Read
    from ..alerts import Alert
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
