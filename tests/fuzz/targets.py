"""Everything that reads bytes which somebody else may have written. HTTP has tests of its own."""

from __future__ import annotations

from fuzz import artefacts, messages, records, settings
from fuzz.limits import Target

TABLE: dict[str, Target] = {
    target.name: target
    for target in (*records.TARGETS, *settings.TARGETS, *messages.TARGETS, *artefacts.TARGETS)
}
