"""What a record costs beside what it cost in the first chain."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np

from ..report import Bar, at_most
from . import data
from .bench import Bench

COST_ROUNDS = 3


def cost(bench: Bench) -> tuple[list[Bar], dict[str, Any]]:
    """CPU time per record of the daemon, beside the first chain's: in a venv of its own, runs alternated."""
    (commit,) = (word for word in (data.ROOT / "benchmarks" / "first-chain.txt").read_text().split()[:1])
    first = bench.folder / "first-chain"
    subprocess.run(["git", "clone", "-q", str(data.ROOT), str(first)], check=True)
    subprocess.run(["git", "-C", str(first), "checkout", "-q", commit], check=True)
    subprocess.run(["make", "install", "kafka"], cwd=first, check=True, stdout=subprocess.DEVNULL)
    spent: dict[str, list[float]] = {"first chain": [], "now": []}
    for number in range(COST_ROUNDS):
        for who, root in (("first chain", first), ("now", data.ROOT)):
            out = bench.folder / f"cost-{number}.json"
            told = ["--only", "rates", "--repetitions", "1", "--out", str(out)]
            subprocess.run(
                [str(root / ".venv/bin/python"), "-m", "benchmarks.throughput", *told],
                cwd=root,
                check=False,  # its own bar is not this one's
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            spent[who].append(json.loads(out.read_text())["measured"]["daemon_cpu_us"])
            bench.say(f"cost: {who}, {spent[who][-1]:.2f} us of CPU a record")
    added = float(np.median(spent["now"]) / np.median(spent["first chain"]) - 1)
    return [at_most("CPU time per record added to the first chain's", added, "", 0.3)], {"cpu_us": spent}
