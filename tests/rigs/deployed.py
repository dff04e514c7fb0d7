"""What lies in deploy/, docker-compose.yml and Dockerfile, as tests read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from rigs.source import ROOT

DEPLOY = ROOT / "deploy"
IMAGE_OF_OURS = "tocsin:"


class Query(NamedTuple):
    """A PromQL expression, where it stands, and the labels that the text beside it uses."""

    where: str
    expr: str
    shown: frozenset[str]


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def services() -> dict[str, dict[str, Any]]:
    return dict(compose()["services"])


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rule_tests() -> list[dict[str, Any]]:
    return list(yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"])


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "tocsin.json").read_text())
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def plain(expr: str) -> str:
    """An expression of the dashboard as Prometheus is asked it: Grafana's variables replaced."""
    return expr.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$stream", ".*")


def queries() -> Iterator[Query]:
    """Every expression of the rules and of the dashboard."""
    for rule in rules():
        text = " ".join(rule["annotations"].values())
        yield Query(rule["alert"], rule["expr"], frozenset(re.findall(r"\$labels\.(\w+)", text)))
    for panel in panels():
        for target in panel["targets"]:
            labels = frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield Query(panel["title"], plain(target["expr"]), labels)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (FROM, the rest of its lines)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]
