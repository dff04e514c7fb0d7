"""The virtual environment of a peer, under build/peers, from the pins beside this file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "peers"


class Unavailable(Exception):
    """A peer that cannot be installed or does not run here; the message says why."""


def python_of(name: str) -> str:
    """The interpreter of the environment `name`, which is made where it is not there as pinned.

    Raises:
        Unavailable: what was said when it could not be installed.
    """
    pins, home = Path(__file__).with_name(f"{name}.txt"), BUILD / name
    python, stamp = home / "bin" / "python", home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        # uv links files from its cache: what weighs gigabytes is on the disk once
        uv = str(Path(sys.executable).with_name("uv"))
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(pins)],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(" ".join(done.stderr.split())[-300:])
        stamp.write_text(pins.read_text())
    return str(python)
