"""Other shapes of records and models, each beside the limit with as many features; long JSON beside wide."""

from __future__ import annotations

from typing import NamedTuple

from .. import feed
from ..bench import Found, Spread, Suite, by_turns, share
from ..feed import FAST, MAIN, Shape, Size
from ..report import Bar, at_least

REPETITIONS = 3


class Case(NamedTuple):
    """A shape, how much of it is measured, and the daemon's share of the limit that it has to reach."""

    name: str
    shape: Shape
    size: Size
    share: float | None = None


FULL = Size(1000, 300, 400, REPETITIONS, 800, 0, 0)
CASES = (
    Case("25 x 1", MAIN._replace(lags=1), FULL, 1.0),
    Case("38 x 5", MAIN._replace(features=38), FULL),
    Case("25 x 16", MAIN._replace(lags=16), FULL),
    Case("100 x 32", Shape(100, 32), FULL._replace(entities=200, tested=500)),
    # 500 records are the least that a model of an entity's own takes
    Case(
        "25 x 5, per entity",
        MAIN._replace(profile="per_entity"),
        FULL._replace(entities=200, trained=600, tested=2000),
    ),
)
LONG_RECORDS = 60_000


def measure(suite: Suite) -> Found:
    """Each shape by turns with its limit."""
    bars: list[Bar] = []
    rates: dict[str, Spread] = {}
    notes: list[str] = []
    for case in CASES:
        size = FAST._replace(trained=case.size.trained) if suite.fast else case.size
        bench = suite.bench(case.name.replace(" ", "").replace(",", "-"), size, case.shape)
        found = by_turns(
            {
                "limit": lambda b=bench: b.limit("--decode"),
                "daemon": lambda b=bench: b.daemon().records_per_s,
            },
            size.repetitions,
        )
        rates |= {f"{case.name}, {name}": one for name, one in found.items()}
        of_limit = share(found, "daemon", "limit")
        notes.append(f"{case.name}: {of_limit:.3f} of the limit")
        if case.share:
            bars.append(at_least(f"daemon's share of the limit, {case.name}", of_limit, "", case.share))
    found = _long(suite)
    rates |= found
    notes.append(f"long JSON: {share(found, 'long JSON, records', 'wide JSON'):.3f} of wide")
    return Found(bars, {"rates": rates, "notes": notes})


def _long(suite: Suite) -> dict[str, Spread]:
    """The same records by the same model, as one message or as one for each feature."""
    main = suite.main
    rows = feed.tested_rows(main.fleet, main.size)[:LONG_RECORDS]
    shape = main.shape._replace(format="json_long")
    wide = main.beside("wide", feed.messages(main.fleet, rows))
    long = main.beside("long", feed.messages(main.fleet, rows, shape), shape=shape)
    return by_turns(
        {
            "wide JSON": lambda: wide.daemon().records_per_s,
            "long JSON, records": lambda: long.daemon().records_per_s / shape.messages,
        },
        min(main.size.repetitions, REPETITIONS),
    )
