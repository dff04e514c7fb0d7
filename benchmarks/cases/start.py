"""From the command to `/-/ready`, with empty state: cold, when nothing is compiled, and again with what that left."""

from __future__ import annotations

import statistics

from .. import service
from ..bench import Found, Suite
from ..report import at_most

WARM = 5
WARM_S = 5.0
TOPIC = "nothing"


def measure(suite: Suite) -> Found:
    """One cold start and several warm ones, each of a fresh group on an empty topic."""
    bench, cache = suite.main, suite.folder / "cache"
    service.make_topic(bench.bootstrap, TOPIC)
    environment = {"NUMBA_CACHE_DIR": str(cache / "numba"), "XDG_CACHE_HOME": str(cache)}
    seconds = []
    for number in range(1 + (1 if suite.fast else WARM)):
        with service.running(bench.settings(f"start-{number}", TOPIC), environment) as running:
            seconds.append(running.ready_s)
    cold, *warm = seconds
    middle = statistics.median(warm)
    told = f"ready: {cold:.1f} s cold, {middle:.1f} s warm ({len(warm)} times, {min(warm):.1f} to {max(warm):.1f} s)"
    return Found(
        [at_most("ready after a warm start with empty state", middle, "s", WARM_S)],
        {
            "notes": [told],
            "seconds": seconds,
        },
    )
