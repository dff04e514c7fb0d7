"""What the configuration intends, against what is in force: the changes that bring the one to the other."""

from __future__ import annotations

from ..models.registry import Registry
from .changes import DEFAULT_BUDGET, DEFAULT_CAP, BudgetChange, Change, InForce, Promotion, SettingsChange
from .settings import Incidents, Settings, Thresholds, plain
from .signed import signed_by


def first_changes(now: InForce, settings: Settings, registry: Registry) -> list[Change]:
    """What a start publishes of what no change has said yet, so that the control topic says all that decides:
    model, budget, cap and rules. After a first start there is nothing left to say."""
    changes: list[Change] = []
    reason = "first start"
    if now.model is None:
        changes.append(Promotion(model=registry.current(), **signed_by(None, reason)))
    if now.budget is None or now.max_incidents is None:
        budget, most = _limits(settings.thresholds)
        changes.append(
            BudgetChange(
                budget=budget if now.budget is None else now.budget,
                max_incidents=most if now.max_incidents is None else now.max_incidents,
                **signed_by(None, reason),
            )
        )
    unsaid = {name: value for name, value in deciding(settings.incidents).items() if name not in now.settings}
    if unsaid:
        changes.append(SettingsChange(settings=unsaid, **signed_by(None, reason)))
    return changes


def deciding(incidents: Incidents) -> dict[str, object]:
    """The settings that decide, by their dotted names."""
    return {f"incidents.{name}": value for name, value in plain(incidents).items()}


def differences(now: InForce, settings: Settings) -> dict[str, tuple[object, object]]:
    """Where the file and the control topic disagree: name -> (file's, in force). The control topic wins.

    What no change has said yet is no difference: the next start publishes it.
    """
    mine = deciding(settings.incidents)
    found: dict[str, tuple[object, object]] = {
        name: (mine[name], value) for name, value in now.settings.items() if mine.get(name, value) != value
    }
    budget, most = _limits(settings.thresholds)
    if now.budget is not None and now.budget != budget:
        found["thresholds.budget"] = (budget or "the default", now.budget or "the default")
    if now.max_incidents is not None and now.max_incidents != most:
        found["thresholds.max_incidents"] = (most or "the default", now.max_incidents or "the default")
    return found


def reloaded(now: InForce, settings: Settings) -> list[Change]:
    """The changes that bring what is in force to what the file says now."""
    reason = "configuration reloaded"
    changes: list[Change] = []
    rules = {
        name: value
        for name, value in deciding(settings.incidents).items()
        if name not in now.settings or now.settings[name] != value
    }
    if rules:
        changes.append(SettingsChange(settings=rules, **signed_by(None, reason)))
    budget, most = _limits(settings.thresholds)
    if (now.budget, now.max_incidents) != (budget, most):
        changes.append(BudgetChange(budget=budget, max_incidents=most, **signed_by(None, reason)))
    return changes


def _limits(thresholds: Thresholds) -> tuple[str, int]:
    """The file's budget and cap as a change says them: an empty setting is a default rule, not silence."""
    return thresholds.budget or DEFAULT_BUDGET, thresholds.max_incidents or DEFAULT_CAP
