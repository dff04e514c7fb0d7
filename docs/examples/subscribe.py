"""A service that acts on alerts: each is handled, then acknowledged, and none is lost when the service dies.

python subscribe.py localhost:9092 web.alerts my-service
"""

from __future__ import annotations

import signal
import sys

from tocsin import Alert, AlertSubscriber, Status, Unreadable


def handle(alert: Alert) -> None:
    """What this service does with an alert. Safe to do twice: the alert_id names the incident for ever."""
    entity, notes = alert.labels.entity, alert.annotations
    if alert.status is Status.FIRING:
        causes = ", ".join(feature.name for feature in notes.features)
        print(f"open {alert.alert_id} {entity}: {causes}", flush=True)
    else:
        print(f"close {alert.alert_id} {entity}: {notes.reason}", flush=True)


def put_aside(message: Unreadable) -> None:
    """What this service does with a message that it cannot read."""
    print(f"unreadable {message.topic}[{message.partition}]@{message.offset}: {message.reason}", flush=True)


def main(bootstrap: str, topic: str, group: str) -> None:
    """Until SIGTERM or Ctrl-C."""
    with AlertSubscriber(bootstrap, topic, group, on_unreadable=put_aside) as alerts:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: alerts.stop())
        for alert in alerts:
            handle(alert)
            alerts.acknowledge(alert)


if __name__ == "__main__":
    main(*sys.argv[1:])
