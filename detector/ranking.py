"""What to look at first among the incidents that are open: Benjamini and Hochberg's rule on their p-values. No I/O.

An alert whose p-value is missing or extrapolated is never a discovery: what such a number is worth is not known well
enough. It has its place by severity and score, a critical one in front of all, for its score lay far beyond the
threshold, any other behind the discoveries and before those whose p-value is not small enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .alerts import Basis, Severity


class Candidate(NamedTuple):
    """What the rank of an open incident depends on."""

    alert_id: str
    severity: str
    score: float | None
    p_value: float | None
    basis: str


class Ranked(NamedTuple):
    """An open incident at its place."""

    alert_id: str
    discovery: bool
    """Its p-value is small among those of all that are open."""


def discoveries(p_values: Mapping[str, float], q: float) -> frozenset[str]:
    """The names that pass: the k smallest, k being the largest number whose k-th p-value is at most q k / m."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    passing = (k for k, (_, p) in enumerate(ordered, 1) if p <= q * k / len(ordered))
    return frozenset(name for name, _ in ordered[: max(passing, default=0)])


def ranked(candidates: Iterable[Candidate], q: float) -> list[Ranked]:
    """All of them, the one to look at first in front."""
    known = list(candidates)
    judged = {one.alert_id: one.p_value for one in known if _usable(one)}
    found = discoveries({name: p for name, p in judged.items() if p is not None}, q)

    def place(one: Candidate) -> tuple[int, float, bool, float, str]:
        critical = one.severity == Severity.CRITICAL
        tier = 1 if one.alert_id in found else 3 if one.alert_id in judged else 0 if critical else 2
        p = judged.get(one.alert_id) or 0.0
        score = -one.score if one.score is not None else float("inf")
        return tier, p, not critical, score, one.alert_id

    return [Ranked(one.alert_id, one.alert_id in found) for one in sorted(known, key=place)]


def _usable(one: Candidate) -> bool:
    return one.p_value is not None and 0.0 <= one.p_value <= 1.0 and one.basis != Basis.EXTRAPOLATED
