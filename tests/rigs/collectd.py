"""The real collectd, as Debian packages it, publishing this host to a Kafka."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
Hostname "{host}"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
Interval {interval_s}
LoadPlugin cpu
LoadPlugin load
LoadPlugin memory
LoadPlugin write_kafka
<Plugin write_kafka>
  Property "metadata.broker.list" "{bootstrap}"
  <Topic "{topic}">
    Format JSON
    StoreRates {rates}{key}
  </Topic>
</Plugin>
"""


@contextmanager
def collectd(
    folder: Path,
    bootstrap: str,
    topic: str,
    *,
    host: str,
    interval_s: float = 1.0,
    rates: bool = True,
    key: str | None = None,
) -> Iterator[Path]:
    """It runs until the end of the block; its configuration and log lie in `folder`.

    Without a `key` of its messages collectd draws one for each, which scatters a host over the partitions.
    """
    config = folder / "collectd.conf"
    config.write_text(
        CONFIG.format(
            host=host,
            folder=folder,
            interval_s=interval_s,
            bootstrap=bootstrap,
            topic=topic,
            rates=str(rates).lower(),
            key="" if key is None else f'\n    Key "{key}"',
        )
    )
    program = shutil.which("collectd") or "/usr/sbin/collectd"
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with (folder / "collectd.log").open("wb") as log:
        process = subprocess.Popen([*guard, program, "-f", "-C", str(config)], stdout=log, stderr=log)
    try:
        yield config
    finally:
        process.kill()
        process.wait()
