"""The commands of `tocsin`, in the order of its help: name, module, and one line about it."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command or a group of commands. `module` stands in this package and has a Typer application `app`."""

    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo", "Everything on this machine: telemetry, a fault, an alert, a recalibration."),
    "init": Entry("init", "Write a commented tocsin.toml."),
    "check": Entry(
        "check", "Validate the configuration; with --connect also the broker, its topics and rights."
    ),
    "train": Entry("train", "Train and register a model version, from files or from the input topics."),
    "alerts": Entry("alerts", "Follow, list and show alerts; resolve one."),
    "models": Entry("models", "List, show, verify, promote, roll back and export model versions."),
    "audit": Entry("audit", "Who changed what decides, when and why."),
    "run": Entry("run", "Run the daemon: score, alert, and train first where there is no model."),
    "replay": Entry("replay", "Score records from files or Kafka anew, from empty state."),
}
