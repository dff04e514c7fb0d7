"""Rules and dashboard: they ask for what exists, fire where they should, and say what to do."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from rigs.deployed import DEPLOY, dashboard, panels, plain, queries, rule_tests, rules, services
from rigs.source import ROOT
from tocsin.detector.alerts import ALERT_NAMES
from tocsin.detector.metric_defs import DEFINITIONS, Definition
from tocsin.detector.metrics import Metrics

RULES = DEPLOY / "prometheus" / "rules.yml"
ALERTS = [rule["alert"] for rule in rules()]
KNOWN = {definition.name: definition for definition in DEFINITIONS}
TARGET = {"job", "instance"}
RUNBOOK = ROOT / "docs" / "runbook.md"


def others() -> set[str]:
    """Metrics that are not Tocsin's own: of every target, and of the process as the client library tells it."""
    names = {"up"}
    registry = CollectorRegistry()
    Metrics(registry)
    for family in registry.collect():
        names |= {sample.name for sample in family.samples if sample.name.startswith("process_")}
    return names


def definition(name: str) -> Definition | None:
    return KNOWN.get(name) or KNOWN.get(re.sub(r"_(bucket|sum|count)$", "", name))


def labels(name: str) -> set[str]:
    """The labels that a series of this name has."""
    found = definition(name)
    own = set(found.labels) if found else set()
    return own | TARGET | ({"le"} if name.endswith("_bucket") else set())


def names(expr: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on|without|ignoring)\s*\([^)]*\)", " ", expr)
    words = re.findall(r"(?<![\w.])[a-z_]\w*(?!\w*\s*\()", bare)
    return set(words) - {"and", "or", "unless", "offset", "by", "on", "h", "m"} - {"e"}


def selectors(expr: str) -> Iterator[tuple[str, str, str]]:
    """Metric, label and value of every matcher."""
    for name, inside in re.findall(r"(\w+)\{([^}]*)\}", expr):
        for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', inside):
            yield name, label, value


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: query.where)
def test_every_metric_and_label_exists(query) -> None:  # type: ignore[no-untyped-def]
    found = names(query.expr)
    assert found
    assert found <= {name for name in found if definition(name)} | others(), query.expr
    for name, label, value in selectors(query.expr):
        assert label in labels(name), f"{name} has no label {label}"
        choices = dict(definition(name).choices) if definition(name) else {}  # type: ignore[union-attr]
        if label in choices and value != ".*":
            assert set(value.split("|")) <= set(choices[label])
    everything = {label for name in found for label in labels(name)}
    groups = [set(re.findall(r"\w+", one)) for one in re.findall(r"\b(?:by|on) \(([^)]*)\)", query.expr)]
    assert set().union(*groups) <= everything, query.expr
    assert query.shown <= (set().union(*groups) if groups else TARGET)


@pytest.mark.parametrize("test", rule_tests(), ids=lambda test: test["name"])
def test_every_series_of_the_rules_tests_could_be(test: dict) -> None:  # type: ignore[type-arg]
    for one in test["input_series"]:
        name, inside = re.fullmatch(r"(\w+)\{(.*)\}", one["series"]).groups()  # type: ignore[union-attr]
        given = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        assert definition(name) or name in others(), name
        assert given.keys() == labels(name), one["series"]
        found = definition(name)
        for label, values in found.choices if found else ():
            assert given[label] in values


@pytest.mark.prometheus
def test_each_alert_fires_and_keeps_quiet_as_its_tests_say() -> None:
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_is_tested_both_ways(alert: str) -> None:
    found = [
        one["exp_alerts"]
        for test in rule_tests()
        for one in test["alert_rule_test"]
        if one["alertname"] == alert
    ]
    assert any(found), "it never fires"
    assert not all(found), "it is never quiet"


def slugs(page: Path) -> list[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_says_how_bad_it_is_and_what_to_do(rule: dict) -> None:  # type: ignore[type-arg]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in slugs(ROOT / page)


def test_the_runbook_knows_no_other_alerts() -> None:
    assert {slug for slug in slugs(RUNBOOK) if slug.startswith("tocsin")} == {
        alert.lower() for alert in ALERTS
    }


@pytest.mark.prometheus
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    exprs = [plain(target["expr"]) for panel in panels() for target in panel["targets"]]
    assert len(exprs) > 40
    assert not any("$" in expr for expr in exprs)
    records = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(exprs)} rules found" in done.stdout


def test_the_dashboard_shows_every_metric_that_is_worth_a_look() -> None:
    shown = {name for query in queries() for name in names(query.expr)}
    bare = {re.sub(r"_bucket$", "", name) for name in shown}
    unseen = {
        "tocsin_scorer_compilations",
        "tocsin_batch_records",
        "tocsin_last_commit_timestamp_seconds",
        "tocsin_incidents_opened_total",
        "tocsin_entity_score",
        "tocsin_drift_block_mean",
        "tocsin_drift_decisions_total",
        "tocsin_state_snapshots_total",
        "tocsin_state_restore_seconds",
        "tocsin_state_replay_records",
        "tocsin_state_replayed_records_total",
        "tocsin_build_info",
    }
    assert set(KNOWN) - bare == unseen


def test_the_dashboard_is_laid_out_and_provisioned() -> None:
    content = dashboard()
    ids = [panel["id"] for panel in content["panels"]]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in content["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not mine & cells, f"{panel['title']} covers another"
        cells |= mine
    for panel in panels():
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
    folder = DEPLOY / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    [provider] = yaml.safe_load((folder / "dashboards" / "tocsin.yml").read_text())["providers"]
    mounts = [mount.split(":") for mount in services()["grafana"]["volumes"]]
    assert provider["options"]["path"] in [mount[1] for mount in mounts]
    variables = {one["name"] for one in content["templating"]["list"]}
    used = {
        name
        for panel in panels()
        for one in panel["targets"]
        for name in re.findall(r"\$([a-z]\w*)", one["expr"])
    }
    assert used <= variables


@pytest.mark.alertmanager
def test_alertmanager_takes_its_configuration_and_sends_each_alert_the_right_way() -> None:
    path = str(DEPLOY / "alertmanager" / "alertmanager.yml")
    check = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    ways = {(f"alertname={alert}", "stream=web"): "operators" for alert in ALERTS}
    ways |= {
        (f"alertname={alert}", "stream=web", "entity=web-03"): "owners" for alert in ALERT_NAMES.values()
    }
    for labels, receiver in ways.items():
        command = ["amtool", "config", "routes", "test", f"--config.file={path}", *labels]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == receiver
    assert all("entity" not in rule["expr"].replace("entities", "") for rule in rules())


def test_what_is_inhibited_exists() -> None:
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            label, value = re.fullmatch(r'(\w+)=~?"(.*)"', matcher).groups()  # type: ignore[union-attr]
            assert label == "alertname"
            matched = [alert for alert in ALERTS if re.fullmatch(value, alert)]
            assert len(matched) == value.count("|") + 1, value
