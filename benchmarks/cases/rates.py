"""The daemon beside the limit, consuming alone and its own decoder, on the main shape; and where the time goes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from ..bench import Bench, Found, Suite, by_turns, share, spread
from ..report import at_least, at_most
from ..service import Rate

SHARE_OF_LIMIT, SHARE_OF_CONSUMING = 0.9, 0.4
STATE_KIB = 6.0
STAGED = 300_000
"""Records at most that the stages are timed on."""


def measured_daemon(bench: Bench, ran: list[Rate]) -> float:
    """Records/s of one more run, which is kept."""
    ran.append(bench.daemon())
    return ran[-1].records_per_s


def rates(suite: Suite) -> Found:
    """Everything by turns."""
    bench, ran = suite.main, list[Rate]()
    loops = {
        "consume only": bench.limit,
        "limit": lambda: bench.limit("--decode"),
        "its own decoder": lambda: bench.limit(module="benchmarks.decoder"),
        "daemon": lambda: measured_daemon(bench, ran),
    }
    found = by_turns(loops, suite.size.repetitions)
    suite.rate = found["daemon"]["median"]
    of_limit, of_consuming = share(found, "daemon", "limit"), share(found, "daemon", "consume only")
    scored = ran[-1].scored / bench.filled.messages
    bars = [
        at_least("daemon's share of the limit", of_limit, "", SHARE_OF_LIMIT),
        at_least("daemon's share of consuming", of_consuming, "", SHARE_OF_CONSUMING),
        at_least("records scored", scored, "of all", 0.99),
        at_most("compilations in steady state", max(one.compiled for one in ran), "", 0),
    ]
    own = share(found, "daemon", "its own decoder")
    notes = [
        f"share of the limit {of_limit:.3f}, of consuming {of_consuming:.3f}, of its own decoder {own:.3f}",
        f"CPU time of the daemon: {statistics.median(one.cpu_us for one in ran):.2f} us a record",
        f"alerts: {ran[-1].alerts / bench.filled.messages * 1000:.2f} for a thousand records",
        f"resident, whole daemon: {statistics.median(one.rss for one in ran):,.0f} bytes",
    ]
    return Found(
        bars,
        {
            "rates": found,
            "notes": notes,
            "stages": {
                "daemon, wall": {
                    name: statistics.median(one.stages_us[name] for one in ran) for name in ran[-1].stages_us
                }
            },
            "size": {**suite.size._asdict(), **bench.filled._asdict()},
        },
    )


def stages(suite: Suite) -> Found:
    """The steps one at a time, on resident records; of them the scorer alone."""
    settings = suite.main.settings("stages")
    options = ["--config", str(settings.file), "--records", str(min(suite.main.filled.messages, STAGED))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stages", *options], check=True, stdout=subprocess.PIPE, text=True
    )
    seen = json.loads(done.stdout)
    state, resident = seen["bytes_per_entity"], seen["rss_per_entity"]
    told = f"state per entity: {state:,.0f} bytes, resident: {resident:,.0f} bytes"
    return Found(
        [at_most("state per entity, all but model parameters", state / 1024, "KiB", STATE_KIB)],
        {
            "rates": {"scorer alone, on resident records": spread([1e6 / seen["microseconds"]["score"]])},
            "notes": [told],
            "stages": {"on resident records": seen["microseconds"]},
            **seen,
        },
    )
