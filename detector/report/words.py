"""Numbers, times and spans as people read them."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

NOTHING: Final = "–"
_STEPS_S: Final = (
    *(1, 5, 15, 30),
    *(60, 300, 900, 1800),
    *(3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(86400, 2 * 86400, 5 * 86400, 10 * 86400, 30 * 86400, 90 * 86400, 365 * 86400),
)


def number(value: float | None, digits: int = 3) -> str:
    """A number in few digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.{digits}g}" if 1e-3 <= abs(value) < 10**digits else f"{value:.{digits}g}"


def fixed(value: float | None, decimals: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}"


def share(value: float) -> str:
    """A share as per cent."""
    if not math.isfinite(value):
        return NOTHING
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{100 * value:.{1 if value >= 0.001 else 3}f} %"


def count(value: int, one: str, many: str | None = None) -> str:
    """`1 incident`, `2 incidents`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def moment(time_us: int) -> str:
    """`2026-01-31 12:00:05`, UTC."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[s]")).replace("T", " ")


def span(us: float) -> str:
    """A span of time in its two largest units."""
    if not math.isfinite(us):
        return NOTHING
    seconds = round(abs(us) / 1e6)
    sign = "-" if us < 0 and seconds else ""
    for size, unit, small, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // small
            return f"{sign}{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{sign}{seconds} s"


def time_ticks(first_us: int, last_us: int, most: int = 8) -> list[tuple[int, str]]:
    """Round moments within a range, and what stands at each."""
    length_s = max((last_us - first_us) / 1e6, 1.0)
    step_s = next((step for step in _STEPS_S if length_s / step <= most), _STEPS_S[-1])
    step_us = step_s * 1_000_000
    moments = range(-(-first_us // step_us) * step_us, last_us + 1, step_us)
    return [(at, _tick(at, step_s)) for at in list(moments)[: 2 * most]]


def _tick(at_us: int, step_s: int) -> str:
    written = moment(at_us)
    if step_s >= 86400:
        return written[:10] if step_s >= 30 * 86400 else written[5:10]
    clock = written[11:] if step_s < 60 else written[11:16]
    return written[5:10] if clock.startswith("00:00") else clock


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within a range."""
    raw = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 9) for i in range(first, math.floor(high / step + 1e-9) + 1)]
