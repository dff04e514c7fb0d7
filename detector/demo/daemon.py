"""The daemon as the demo sees it: a child process, its log, and what it says over HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...errors import TocsinError

STOP_S = 15.0
_ANSWER_S = 2.0
_TOCSIN = (sys.executable, "-m", "tocsin.detector.cli")

Metrics = Mapping[str, list[tuple[Mapping[str, str], float]]]
"""Samples by the name of their metric: labels and value."""


class Daemon:
    """`tocsin run` on a configuration, its output kept in a file."""

    def __init__(self, config: Path, log: Path, port: int) -> None:
        self._config = config
        self._port = port
        self.log = log
        leash = (sys.executable, "-m", f"{__package__}.leash")
        with log.open("wb") as file:
            # A session of its own: Ctrl-C is for the demo, which then stops the daemon in order.
            self._child = subprocess.Popen(
                [*leash, *_TOCSIN, "run", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def check(self) -> None:
        """TocsinError, with its last words, when it has ended."""
        if self._child.poll() is not None:
            raise TocsinError(f"The daemon ended with code {self._child.returncode}.\n{self.last_words()}")

    def get(self, path: str) -> str | None:
        """What it answers to a GET; None while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return text if answer.status == http.client.OK else None

    def metrics(self) -> Metrics | None:
        """What Prometheus would scrape."""
        text = self.get("/metrics")
        return None if text is None else parse(text)

    def entity(self, stream: str, name: str) -> dict[str, Any] | None:
        """What `tocsin entities show` shows; None while it is not known."""
        text = self.get(f"/api/v1/entities/{quote(name, safe='')}?stream={quote(stream, safe='')}")
        return None if text is None else json.loads(text)

    def command(self, *args: str, timeout_s: float) -> str:
        """Run another `tocsin` command on the same configuration; its output. TocsinError when it fails."""
        try:
            done = subprocess.run(
                [*_TOCSIN, *args, "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise TocsinError(f"`tocsin {args[0]}` was not done within {timeout_s:.0f} s.") from late
        if done.returncode:
            raise TocsinError(f"`tocsin {' '.join(args)}` ended with code {done.returncode}.\n{done.stdout}")
        return done.stdout

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(["Its last lines:", *text]) if text else "It wrote nothing."

    def stop(self) -> None:
        """Ask it to end and wait; it is killed when it does not."""
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def parse(text: str) -> Metrics:
    """Samples out of Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sum over the samples of that name that carry these labels; None where there is none."""
    found = [
        sample
        for carried, sample in metrics.get(name, ())
        if all(carried.get(label) == wanted for label, wanted in labels.items())
    ]
    return sum(found) if found else None
