"""What the demo needs around it: a configuration, topics, and a reader of the alerts."""

from __future__ import annotations

import socket
from pathlib import Path

from ...pipelines.brokers.base import BEGINNING, Broker, Consumer
from ..alerts import Alert, decode
from ..settings import Settings, load
from .telemetry import RATE_HZ, STREAMS
from .view import Incident, Responsible

BUDGET = "20/hour"
LEARN_S = 60.0

_CONFIG = """\
[kafka]
bootstrap = "{bootstrap}"

[thresholds]
budget = "{budget}"            # false alerts that each stream may raise

[train]
min_records = {records}             # a minute of records to learn from

[registry]
path = "registry"
private_key = "signing-key.pem"

[http]
port = {port}

{streams}"""


def configuration(bootstrap: str, port: int) -> str:
    """The demo's tocsin.toml: budget, how much to learn from, paths and ports. All rules are the ordinary."""
    return _CONFIG.format(
        bootstrap=bootstrap,
        budget=BUDGET,
        records=round(LEARN_S * RATE_HZ),
        port=port,
        streams="".join(f"[streams.{stream}]\n" for stream in STREAMS),
    )


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def set_up(broker: Broker, folder: Path) -> tuple[Path, Settings]:
    """Write the configuration into `folder` and make every topic that it names."""
    path = folder / "tocsin.toml"
    path.write_text(configuration(broker.bootstrap, free_port()), encoding="utf-8")
    settings = load(path, environ={})
    admin = broker.admin()
    for stream in settings.streams:
        for topic in (*stream.topics, stream.alerts, stream.dead_letter, stream.changelog, stream.control):
            admin.create(topic, 1)
    admin.close()
    return path, settings


class AlertReader:
    """Reads the alert topics of all streams from their beginning, as any other program would."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self._consumer: Consumer = broker.consumer(headers=False)
        self._consumer.assign([(stream.alerts, 0, BEGINNING) for stream in settings.streams])

    def read(self) -> list[Alert]:
        """What has arrived since the last call."""
        batch = self._consumer.consume(100, 0.0)
        return [decode(message) for message in batch.value]


def incident(alert: Alert) -> Incident:
    """What of an alert is shown."""
    features = [
        Responsible(one.name, one.observed, one.expected, one.share) for one in alert.annotations.features
    ]
    return Incident(alert.labels.stream, alert.labels.entity, alert.status, alert.labels.severity, features)


def host_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname() or "localhost"
