"""The audit trail says who, when, why, before and after, also of changes that had no effect."""

from tocsin.detector.audit import AuditEntry, trail
from tocsin.detector.changes import (
    BudgetChange,
    Change,
    Promotion,
    Resolve,
    Revert,
    SettingsChange,
    Versioned,
)
from tocsin.detector.control import Unloadable

WHEN = "2026-01-31T12:00:00.000000Z"


def who(n: int) -> dict[str, str]:
    return {"id": str(n), "author": f"user{n}", "reason": f"why{n}", "created_at": WHEN}


def test_the_trail_is_the_fold() -> None:
    changes: list[Change] = [
        BudgetChange(**who(1), budget="1/day"),
        Promotion(**who(2), model="m1"),
        SettingsChange(**who(3), settings={"incidents.k": 4}),
        SettingsChange(**who(4), settings={"incidents.k": 5, "incidents.m": 6}),
        Resolve(**who(5), alert_id="0" * 32, entity="e", topic="t", partition=0),
        Revert(**who(6), version=4),
        Revert(**who(7), version=99),
        BudgetChange(**who(8), budget="1/day"),
    ]
    log: list[Versioned | Unloadable] = [Versioned(i + 1, change) for i, change in enumerate(changes)]
    log.insert(3, Unloadable(99, "recalibration", "its signature does not hold"))
    found = trail(log)
    assert [(entry.kind, entry.before, entry.after, entry.about, entry.effect) for entry in found] == [
        ("budget", {"budget": None}, {"budget": "1/day"}, "", "in force"),
        ("promotion", {"model": None}, {"model": "m1"}, "", "in force"),
        ("settings", {"settings.incidents.k": None}, {"settings.incidents.k": 4}, "", "in force"),
        ("recalibration", {}, {}, "", "its signature does not hold"),
        (
            "settings",
            {"settings.incidents.k": 4, "settings.incidents.m": None},
            {"settings.incidents.k": 5, "settings.incidents.m": 6},
            "",
            "in force",
        ),
        ("resolve", {}, {}, "alert 00000000000000000000000000000000 of e", "in force"),
        (
            "revert",
            {"settings.incidents.k": 5, "settings.incidents.m": 6},
            {"settings.incidents.k": 4, "settings.incidents.m": None},
            "change 4",
            "in force",
        ),
        ("revert", {}, {}, "change 99", "refused: no change with the version 99 has set anything"),
        ("budget", {}, {}, "", "in force"),
    ]
    assert found[0] == AuditEntry(
        1, "budget", WHEN, "user1", "why1", {"budget": None}, {"budget": "1/day"}, "", "in force"
    )
