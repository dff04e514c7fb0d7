"""Writes what is made from the code: pages of what it lists, and schemas. `make docs` runs it."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tocsin import errors
from tocsin.detector.alerts import alert_schema
from tocsin.detector.cli import load_command
from tocsin.detector.cli.table import COMMANDS
from tocsin.detector.group_messages import group_schema
from tocsin.detector.metric_defs import DEFINITIONS, Definition
from tocsin.detector.settings_pages import markdown as settings

FOLDER = Path(__file__).resolve().parent
NOTE = "Made from the code by `make docs`; do not edit."


def metrics() -> str:
    """The page of the metrics: the list, in its order."""
    lines = [
        "# Metrics",
        "",
        NOTE,
        "",
        "What `/metrics` shows. Labels never name an entity, except in `tocsin_entity_score`, which is off",
        "by default. The usual `process_…` and `python_…` metrics are there as well. Quantiles come from",
        "the histograms:",
        "`histogram_quantile(0.99, sum by (le) (rate(tocsin_alert_latency_seconds_bucket[5m])))`.",
        "Those whose bounds begin below 0 have no `_sum` and `_count`; their bucket `+Inf` is the count.",
        "",
        "| name | type | labels | what it is |",
        "|---|---|---|---|",
        *(_row(definition) for definition in DEFINITIONS),
        "",
        "## Buckets",
        "",
    ]
    lines += [
        f"- `{definition.name}`: {', '.join(f'{bound:g}' for bound in definition.buckets)}"
        for definition in DEFINITIONS
        if definition.buckets
    ]
    return "\n".join(lines) + "\n"


def _row(definition: Definition) -> str:
    choices = dict(definition.choices)
    labels = ", ".join(
        f"`{label}`" + (f" ({', '.join(choices[label])})" if label in choices else "")
        for label in definition.labels
    )
    return f"| `{definition.name}` | {definition.kind} | {labels} | {definition.help} |"


def commands() -> str:
    """The page of the commands: every help text."""
    lines = ["# Commands", "", NOTE, ""]
    lines += ["Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.", ""]
    for name in COMMANDS:
        for path, text in _helps(load_command(name), f"tocsin {name}"):
            lines += [f"{'##' if path.count(' ') == 1 else '###'} {path}", "", "```", text, "```", ""]
    return "\n".join(lines)


def _helps(command: Any, path: str) -> Iterator[tuple[str, str]]:
    context = command.context_class(command, info_name=path, terminal_width=100)
    yield path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    for name, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, f"{path} {name}")


PACKAGES = ("detector", "pipelines", "models", "thresholds")


def modules() -> str:
    """The page of the modules: the first sentence of each docstring, folder by folder."""
    root = FOLDER.parent
    lines = [
        "# Modules",
        "",
        NOTE,
        "",
        "What each module is for. [Architecture](architecture.md) says how they fit together.",
        "",
    ]
    lines += [f"- `errors.py`: {_about(root / 'errors.py')}", ""]
    for package in PACKAGES:
        folders = sorted({path.parent for path in (root / package).rglob("*.py")})
        for folder in folders:
            lines += [f"## {folder.relative_to(root)}", "", _about(folder / "__init__.py"), ""]
            lines += [
                f"- `{path.name}`: {_about(path)}"
                for path in sorted(folder.glob("*.py"))
                if path.name != "__init__.py"
            ]
            lines += [""]
    return "\n".join(lines)


def _about(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def messages() -> str:
    """The page of the messages: every error that the code makes with a text of its own, by class."""
    root = FOLDER.parent
    found: dict[str, set[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name, text = ast.unparse(node.func).rpartition(".")[2], _text(node.args[0])
                if text and issubclass(getattr(errors, name, ValueError), errors.TocsinError):
                    found.setdefault(name, set()).add(text)
    lines = [
        "# What does an error say?",
        "",
        NOTE,
        "",
        "A command that fails says so on standard error in one message, with exit code 2 where a setting or a flag is",
        "wrong and 1 otherwise; the daemon's last log line says the same. `…` stands for what was found. A traceback",
        "is a bug in Tocsin.",
        "",
    ]
    for name, kind in vars(errors).items():
        if name in found:
            lines += [f"## {name}", "", str(kind.__doc__), ""]
            lines += [f"- {text}" for text in sorted(found[name], key=str.lower)] + [""]
    return "\n".join(lines)


def _text(node: ast.expr) -> str:
    """A message as it stands in the code, what it is filled in with as an ellipsis; empty where it has no words."""
    parts: list[Any] = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
    words = " ".join(re.sub(r"([<>*_|])", r"\\\1", text).split())
    return words if re.search(r"[a-z]{3}", words) else ""


def schema() -> str:
    """The JSON Schema of an alert, published here and shipped in the package."""
    return json.dumps(alert_schema(), indent=2, ensure_ascii=False) + "\n"


def schema_of_groups() -> str:
    """The JSON Schema of a group of alerts, likewise."""
    return json.dumps(group_schema(), indent=2, ensure_ascii=False) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics,
    "settings.md": settings,
    "commands.md": commands,
    "modules.md": modules,
    "errors.md": messages,
    "alert.schema.json": schema,
    "../detector/schemas/alert.schema.json": schema,
    "group.schema.json": schema_of_groups,
    "../detector/schemas/group.schema.json": schema_of_groups,
}


def main() -> None:
    """Write all pages, and the JSON Schemas."""
    for name, page in PAGES.items():
        path = (FOLDER / name).resolve()
        path.write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(FOLDER.parent)}\n")


if __name__ == "__main__":
    main()
