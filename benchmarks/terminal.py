"""Commands as a person types them, in a folder of their own; what was typed and said is kept as a transcript."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

TOCSIN = [sys.executable, "-m", "tocsin.detector.cli"]


def until(true: Callable[[], Any], what: str, wait_s: float, every_s: float = 0.1) -> Any:
    """The first true answer. Raises TimeoutError, which names `what`."""
    give_up = time.monotonic() + wait_s
    while not (answer := true()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {wait_s:.0f} s in vain for {what}")
        time.sleep(every_s)
    return answer


class Terminal:
    """A folder and an environment in which `tocsin …` is typed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.transcript: list[str] = []
        self._environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "COLUMNS": "100",
            **environment,
        }
        folder.mkdir(parents=True)

    def type(self, line: str, *, keep: bool = True) -> str:
        """A command to its end; both outputs. Raises RuntimeError where it fails."""
        done = subprocess.run(
            [*TOCSIN, *shlex.split(line)[1:]],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if keep:
            self.transcript += [f"$ {line}", *done.stdout.splitlines()]
        if done.returncode:
            raise RuntimeError(f"{line}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    @contextlib.contextmanager
    def goes_on(self, line: str) -> Iterator[Path]:
        """A command that runs until the end of the block; yields the file with what it says."""
        log = self.folder / f"{'-'.join(shlex.split(line)[1:3])}.log".replace("/", "")
        self.transcript.append(f"$ {line} &")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*TOCSIN, *shlex.split(line)[1:]],
                cwd=self.folder,
                env=self._environment,
                stdout=out,
                stderr=out,
            )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def seconds(self, line: str) -> float:
        """How long a command takes."""
        begun = time.perf_counter()
        self.type(line, keep=False)
        return time.perf_counter() - begun


def ready(url: str) -> bool:
    """Whether the daemon there says that it is."""
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/-/ready"):
        return True
    return False


def metric(url: str, name: str) -> float:
    """The sum over a metric's labels; 0 where there is none or nobody answers."""
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(f"{url}/metrics") as answer,
    ):
        lines = [
            line for line in answer.read().decode().splitlines() if line.startswith((f"{name}{{", f"{name} "))
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines)
    return 0.0
