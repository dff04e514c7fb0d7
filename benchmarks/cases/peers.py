"""The daemon beside its peers on the same topic: those that score record by record over a time, not all records."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import feed
from ..bench import Bench, Found, Suite, by_turns, share
from ..peers.environments import Unavailable, python_of
from ..report import Bar, at_least, say

REPETITIONS = 3
SECONDS, PROBE_S = 20.0, 0.5


class Peer(NamedTuple):
    """A program, and the environment that it runs in (empty: the product's)."""

    module: str
    environment: str


QUIX, PYOD, BATCHED = "quix-streams, no model", "PyOD VAE, each record", "PyOD VAE, batches of 1,000"
RIVER, NUMALOGIC, JAX = (
    "river HalfSpaceTrees, one per entity",
    "numalogic Conv1dVAE, each record",
    "naive JAX, each record",
)
PEERS = {
    QUIX: Peer("quix", "quix"),
    PYOD: Peer("pyod_vae", "pyod"),
    BATCHED: Peer("pyod_batched", "pyod"),
    RIVER: Peer("river_trees", "river"),
    NUMALOGIC: Peer("numalogic_vae", "numalogic"),
    JAX: Peer("naive_jax", ""),
}
DEEP = (PYOD, NUMALOGIC)
RATIOS = {QUIX: 1.0, BATCHED: 1.5, RIVER: 30.0}
DEEP_RATIO = 20.0


def peer_rate(bench: Bench, trained: Path, peer: Peer, seconds: float) -> float:
    """Records/s of a peer."""
    python = python_of(peer.environment) if peer.environment else sys.executable
    told = ("--trained", str(trained), "--seconds", str(seconds))
    return float(bench.loop(f"benchmarks.peers.{peer.module}", *told, python=python)["records_per_s"])


def measure(suite: Suite) -> Found:
    """By turns with the daemon; a peer that cannot be had is named, and its bar left out."""
    bench = suite.main
    trained = suite.folder / "trained.npz"
    rows = feed.trained_rows(bench.fleet, bench.size)
    np.savez(trained, values=bench.fleet.values[rows].astype(np.float32), entity=bench.fleet.entity[rows])
    loops = {"daemon": lambda: bench.daemon().records_per_s}
    notes: list[str] = []
    for name, peer in PEERS.items():
        try:
            say(f"{name}: {peer_rate(bench, trained, peer, PROBE_S):,.0f}/s at first sight")
        except (Unavailable, RuntimeError) as why:
            notes.append(f"{name}: not measured, for it cannot be had here: {why}")
            say(notes[-1])
        else:
            seconds = PROBE_S if suite.fast else SECONDS
            loops[name] = partial(peer_rate, bench, trained, peer, seconds)
    rates = by_turns(loops, min(REPETITIONS, suite.size.repetitions))
    faster = {name: share(rates, "daemon", name) for name in rates if name != "daemon"}
    notes += [f"daemon / {name}: {ratio:,.2f}" for name, ratio in faster.items()]
    bars: list[Bar] = [
        at_least(f"daemon / {name}", faster[name], "times", least)
        for name, least in RATIOS.items()
        if name in faster
    ]
    if deep := {name: faster[name] for name in DEEP if name in faster}:
        fastest = min(deep, key=deep.__getitem__)
        bars.append(at_least(f"daemon / fastest deep peer ({fastest})", deep[fastest], "times", DEEP_RATIO))
    return Found(bars, {"rates": rates, "notes": notes})
