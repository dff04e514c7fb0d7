"""`tocsin alerts rank` and `tocsin alerts group` against a broker."""

import json
from collections.abc import Callable, Iterator

import pytest
from rigs.source import ROOT
from tocsin.detector.alert_topic import publish_alert
from tocsin.detector.alerts import Alert, Basis, Kind, Resolution, Severity, Status
from tocsin.detector.group_messages import group_schema
from tocsin.detector.happenings import Context, Happening, alert_of, top_features, trial_alert
from tocsin.pipelines.brokers import Broker, open_broker

START = 1_700_000_000_000_000
Run = Callable[..., tuple[int, str, str]]


def alert(
    entity: str, p_value: float, basis: Basis = Basis.EMPIRICAL, status: Status = Status.FIRING
) -> Alert:
    what = Happening(
        Kind.ANOMALY,
        status,
        Severity.WARNING,
        entity,
        START,
        START + 20_000_000,
        41,
        44,
        3.0,
        p_value,
        2.0,
        3.5,
        Resolution.RECOVERED if status is Status.RESOLVED else None,
        basis,
    )
    features = top_features(["cpu"], [0.9], [0.2], [1.0])
    return alert_of(what, Context("servers", "servers", "servers", 0, "v0001", "v0001"), features)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    found = open_broker("embedded")
    admin = found.admin()
    admin.create("servers.alerts", 2)
    admin.close()
    for one in (
        alert("large", 0.9),
        alert("over", 1e-6),
        alert("far", 1e-12, Basis.EXTRAPOLATED),
        alert("small", 1e-4),
        alert("over", 1e-6, status=Status.RESOLVED),
        trial_alert("servers", Severity.CRITICAL, START),
    ):
        publish_alert(found, "servers.alerts", one)
    yield found
    found.close()


def test_rank_shows_what_is_open_in_the_order_in_which_to_look(
    tocsin: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = tocsin("alerts", "rank", "--json")
    assert code == 0
    found = [(one["alert"]["labels"]["entity"], one["discovery"]) for one in json.loads(out)]
    assert found == [("small", True), ("far", False), ("large", False)]
    _, out, _ = tocsin("alerts", "rank")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[0], row[3]) for row in rows] == [("yes", "small"), ("-", "far"), ("-", "large")]
    assert "1e-12 (extrapolated)" in out
    monkeypatch.setenv("TOCSIN__GROUP__Q", "0.0001")
    _, out, _ = tocsin("alerts", "rank", "--json")
    assert not any(one["discovery"] for one in json.loads(out))


def test_without_its_topic_group_says_how_to_make_it(tocsin: Run) -> None:
    code, _, err = tocsin("alerts", "group")
    assert code == 1
    assert "The topic of groups 'servers.groups' does not exist" in err
    assert "`tocsin check --create-topics --groups` makes it" in err


def test_the_schema_in_the_package_is_current() -> None:
    """`make docs` writes it."""
    shipped = (ROOT / "detector" / "schemas" / "group.schema.json").read_text()
    assert shipped == json.dumps(group_schema(), indent=2, ensure_ascii=False) + "\n"
