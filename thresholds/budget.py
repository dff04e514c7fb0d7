"""The alert budget: how many false alerts the operator accepts."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

DAYS: Final = {"hour": 1.0 / 24.0, "day": 1.0, "week": 7.0}
FORM: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(hour|day|week)(\s+per\s+entity)?\s*")
FEW_ENTITIES: Final = 20


class Budget(NamedTuple):
    """So many alerts a day, of the whole stream or of each entity."""

    per_day: float
    per_entity: bool
    text: str

    def share(self, entities: int) -> float:
        """Openings a day that one of so many entities may have."""
        return self.per_day if self.per_entity else self.per_day / max(entities, 1)


def parse_budget(text: str) -> Budget:
    """Read a budget such as "20/day", "1/week per entity" or "0.5/hour per entity".

    Raises:
        ValueError: it is of another form, or zero.
    """
    found = FORM.fullmatch(text)
    if not found or not float(found[1]) > 0.0:
        raise ValueError(
            f'"{text}" is no alert budget: write a number above 0 and "/hour", "/day" or "/week", for all '
            'entities together or "per entity": "20/day", "1/week per entity", "0.5/hour per entity"'
        )
    return Budget(float(found[1]) / DAYS[found[2]], found[3] is not None, text.strip())


def default_budget(entities: int) -> Budget:
    """The budget where none is set: a day's alert per entity for few entities, else 20 a day in all."""
    return parse_budget("1/day per entity" if entities <= FEW_ENTITIES else "20/day")
