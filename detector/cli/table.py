"""The commands of `tocsin`, in the order of its help: name, module, and one line about it."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command or a group of commands. `module` stands in this package and has a Typer application `app`."""

    module: str
    help: str
    """At most 60 characters, or help cuts it."""


COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo", "See it work here: telemetry, a fault, an alert."),
    "init": Entry("init", "Write a commented tocsin.toml."),
    "check": Entry("check", "Validate the configuration, the topics and the rights."),
    "describe": Entry("describe", "Print the chain that every record passes."),
    "train": Entry("train", "Train and register a model version."),
    "alerts": Entry("alerts", "Follow, list, explain alerts; bring them to people."),
    "models": Entry("models", "List, verify, promote, roll back model versions."),
    "audit": Entry("audit", "Who changed what decides, when and why."),
    "run": Entry("run", "Run the daemon."),
    "replay": Entry("replay", "Score records from files or Kafka anew, from empty state."),
    "recalibrate": Entry("recalibrate", "Set new thresholds: recent behaviour, or a new budget."),
    "drift": Entry("drift", "Has the telemetry changed? Two windows compared, and advice."),
    "status": Entry("status", "What the running daemon does."),
    "entities": Entry("entities", "Who is watched, how each stands, which are warming and why."),
    "completion": Entry("completion", "Print the script that makes a shell complete."),
}
