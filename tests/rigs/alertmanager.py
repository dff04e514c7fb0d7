"""A real Alertmanager, as Debian packages it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from rigs.kafka import free_ports

CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


class Alertmanager:
    """The Debian binary on a port of its own; a start is with nothing in mind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "alertmanager.yml").write_text(CONFIG)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = [
            "prometheus-alertmanager",
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        self._log = (folder / "log").open("wb")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._arguments, stdout=self._log, stderr=self._log)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def close(self) -> None:
        self.stop()
        self._log.close()

    def shown(self) -> dict[str, dict[str, Any]]:
        """The alerts that are open there, by alert_id."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=10) as answer:
                found = json.loads(answer.read())
        except OSError:
            return {}
        return {one["labels"]["alert_id"]: one for one in found}
