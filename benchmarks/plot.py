"""A run of `make bench` as a picture: the daemon's rate beside the limit and the peers.

    python -m benchmarks.plot IN.json OUT.svg

It is drawn by the interpreter of `make bench-detection`'s environment, which has matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SHOWN = ("rates", "peers")


def plot(measured: dict[str, Any], out: Path) -> None:
    """Medians as bars on a logarithmic axis, from least to most as whiskers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "tocsin", "svg.fonttype": "none", "font.size": 9})
    rates = {name: one for case in SHOWN for name, one in measured.get(case, {}).get("rates", {}).items()}
    order = sorted(rates, key=lambda name: rates[name]["median"])
    medians = [rates[name]["median"] for name in order]
    ends = [[rates[name]["median"] - rates[name]["least"] for name in order]]
    ends.append([rates[name]["most"] - rates[name]["median"] for name in order])
    figure = Figure(figsize=(8, 0.4 * len(order) + 0.8), layout="constrained")
    axes = figure.subplots()
    colours = ["C1" if name == "daemon" else "C0" for name in order]
    axes.barh(order, medians, color=colours, xerr=ends, error_kw={"elinewidth": 0.8})
    axes.set_xscale("log")
    axes.set_xlabel("records/s, median of the turns, least to most")
    for place, rate in enumerate(medians):
        axes.annotate(f" {rate:,.0f}", (ends[1][place] + rate, place), va="center")
    axes.margins(x=0.15)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text())["measured"], Path(sys.argv[2]))
