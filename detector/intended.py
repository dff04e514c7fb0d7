"""What the configuration intends, against what is in force: the changes that bring the one to the other."""

from __future__ import annotations

from ..models.registry import Registry
from .changes import BudgetChange, Change, InForce, Promotion, SettingsChange
from .settings import Incidents, Settings, plain
from .signed import signed_by


def first_changes(now: InForce, settings: Settings, registry: Registry) -> list[Change]:
    """What a first start publishes, so that the control topic says all that decides: model, budget, rules."""
    changes: list[Change] = []
    reason = "first start"
    if now.model is None:
        changes.append(Promotion(model=registry.current(), **signed_by(None, reason)))
    if now.budget is None and settings.thresholds.budget is not None:
        changes.append(
            BudgetChange(
                budget=settings.thresholds.budget,
                max_incidents=settings.thresholds.max_incidents,
                **signed_by(None, reason),
            )
        )
    if not now.settings:
        changes.append(SettingsChange(settings=deciding(settings.incidents), **signed_by(None, reason)))
    return changes


def deciding(incidents: Incidents) -> dict[str, object]:
    """The settings that decide, by their dotted names."""
    return {f"incidents.{name}": value for name, value in plain(incidents).items()}


def differences(now: InForce, settings: Settings) -> dict[str, tuple[object, object]]:
    """Where the file and the control topic disagree: name -> (file's, in force). The control topic wins."""
    mine = deciding(settings.incidents)
    found: dict[str, tuple[object, object]] = {
        name: (mine[name], value) for name, value in now.settings.items() if mine.get(name, value) != value
    }
    budget = settings.thresholds.budget
    if now.budget is not None and budget is not None and now.budget != budget:
        found["thresholds.budget"] = (budget, now.budget)
    most = settings.thresholds.max_incidents
    if now.max_incidents is not None and most is not None and now.max_incidents != most:
        found["thresholds.max_incidents"] = (most, now.max_incidents)
    return found


def reloaded(now: InForce, settings: Settings) -> list[Change]:
    """The changes that bring what is in force to what the file says now."""
    different = differences(now, settings)
    reason = "configuration reloaded"
    changes: list[Change] = []
    rules = {name: pair[0] for name, pair in different.items() if name.startswith("incidents.")}
    if rules:
        changes.append(SettingsChange(settings=rules, **signed_by(None, reason)))
    if len(rules) < len(different):
        budget = settings.thresholds.budget or now.budget
        assert budget is not None
        changes.append(
            BudgetChange(
                budget=budget, max_incidents=settings.thresholds.max_incidents, **signed_by(None, reason)
            )
        )
    return changes
