"""Topics: made as they must be, and every deviation named with its fix, on both brokers."""

import itertools

import pytest
from rigs.kafka import Rig
from tocsin.detector.changelog import PIECE_BYTES
from tocsin.detector.settings import Settings, Stream, load
from tocsin.detector.topic_limits import BYTES, ROOM_BYTES
from tocsin.detector.topics import check, needs
from tocsin.errors import BrokerUnavailable
from tocsin.pipelines.brokers import Broker, TopicInfo
from tocsin.pipelines.brokers.embedded import EmbeddedAdmin, EmbeddedBroker
from tocsin.pipelines.brokers.kafka import KafkaBroker


def settings_for(name: str, **more: str) -> Settings:
    return load(None, {"TOCSIN__STREAM__NAME": name, "HOME": "/tmp", **more})


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("[", "-").replace("]", "")


def test_what_a_stream_needs_follows_its_widest_input() -> None:
    stream = Stream(name="s", topics=("a", "b"), scores="s.scores")
    found = {
        need.topic: need for need in needs(stream, Settings(streams=(stream,)).kafka, {"b": TopicInfo(7, 1)})
    }
    assert {topic: need.partitions for topic, need in found.items()} == {
        "a": 4,
        "b": 7,
        "s.changelog": 7,
        "s.control": 1,
        "s.alerts": 7,
        "s.dead-letters": 7,
        "s.scores": 7,
    }
    assert found["s.changelog"].config == found["s.control"].config == {"cleanup.policy": "compact"}


def test_with_rekeying_what_is_scored_is_followed() -> None:
    stream = Stream(name="s", topics=("a",), rekey=True)
    kafka = Settings(streams=(stream,)).kafka
    found = {need.topic: need for need in needs(stream, kafka, {"a": TopicInfo(7, 1)})}
    assert (found["a"].rights, found["s.rekeyed"].rights) == (
        {"READ", "DESCRIBE"},
        {"READ", "WRITE", "DESCRIBE"},
    )
    assert {found[topic].partitions for topic in ("s.rekeyed", "s.changelog", "s.alerts")} == {7}
    found = {need.topic: need for need in needs(stream, kafka, {"s.rekeyed": TopicInfo(3, 1)})}
    assert {found[topic].partitions for topic in ("s.rekeyed", "s.changelog", "s.alerts")} == {3}


def test_a_node_that_has_not_heard_of_new_topics_is_asked_again(
    embedded: EmbeddedBroker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, true, asked = settings_for(name), EmbeddedAdmin.topics, itertools.count()
    before = embedded.admin().topics()
    monkeypatch.setattr(
        EmbeddedAdmin, "topics", lambda admin: before if next(asked) < 10 else true(admin), raising=False
    )
    report = check(embedded, settings, settings.streams, create=True)
    assert (report.good, len(report.created)) == (True, 5)
    assert next(asked) > 10


@pytest.mark.kafka
def test_a_rekeyed_topic_that_forgets_is_refused(kafka_broker: Broker, name: str) -> None:
    settings = settings_for(name, TOCSIN__STREAM__REKEY="true")
    admin = kafka_broker.admin()
    admin.create(f"{name}.rekeyed", 2, {"cleanup.policy": "compact"})
    admin.close()
    report = check(kafka_broker, settings, settings.streams, create=True)
    finding, size = report.findings
    assert (finding.fatal, size.fatal) == (True, False)
    assert "takes messages of 1048588 bytes" in size.problem
    assert "keeps only the newest message of each entity" in finding.problem


def test_missing_topics_are_named_then_made_then_good(broker: Broker, name: str) -> None:
    settings = settings_for(name)
    before = check(broker, settings, settings.streams)
    assert not before.good
    assert [finding.subject.split()[0] for finding in before.findings] == [
        "input",
        "changelog",
        "control",
        "alerts",
        "dead",
    ]
    assert all("--create-topics" in finding.fix for finding in before.findings)
    made = check(broker, settings, settings.streams, create=True)
    assert (made.good, made.findings, len(made.created)) == (True, [], 5)
    again = check(broker, settings, settings.streams, create=True)
    assert (again.good, again.findings, again.created) == (True, [], [])
    admin = broker.admin()
    topics = admin.topics()
    assert topics[f"{name}.control"].partitions == 1
    assert topics[f"{name}.changelog"].partitions == topics[name].partitions == 4
    if broker.capabilities.admin:
        assert admin.describe_config(f"{name}.changelog")["cleanup.policy"] == "compact"
        assert admin.describe_config(f"{name}.alerts")["cleanup.policy"] == "delete"
    admin.close()


def test_what_grouping_needs_is_looked_at_and_made_only_where_asked_for(broker: Broker, name: str) -> None:
    settings = settings_for(name)
    made = check(broker, settings, settings.streams, create=True)
    assert f"{name}.groups" not in made.created
    (finding,) = check(broker, settings, settings.streams, groups=True).findings
    assert (finding.subject, finding.fatal) == (f"groups topic {name}.groups", True)
    assert "`tocsin check --connect --create-topics --groups`" in finding.fix
    made = check(broker, settings, settings.streams, create=True, groups=True)
    assert (made.good, made.created) == (True, [f"{name}.groups"])
    rights = {need.role: need.rights for need in made.needs}
    assert (rights["alerts"], rights["groups"]) == ({"READ", "WRITE", "DESCRIBE"},) * 2


def test_a_changelog_of_another_width_is_wrong(broker: Broker, name: str) -> None:
    settings = settings_for(name)
    admin = broker.admin()
    admin.create(name, 3)
    admin.create(f"{name}.changelog", 2, {"cleanup.policy": "compact"} if broker.capabilities.admin else None)
    admin.create(f"{name}.control", 2, {"cleanup.policy": "compact"} if broker.capabilities.admin else None)
    admin.close()
    report = check(broker, settings, settings.streams, create=True)
    assert not report.good
    assert [finding.problem for finding in report.findings] == [
        "has 2 partitions where 3 are needed",
        "has 2 partitions where 1 are needed",
    ]


@pytest.mark.kafka
def test_policies_that_would_lose_state_or_alerts(kafka_broker: KafkaBroker, name: str) -> None:
    settings = settings_for(name)
    admin = kafka_broker.admin()
    admin.create(f"{name}.changelog", 4, {"cleanup.policy": "compact,delete"})
    admin.create(f"{name}.alerts", 4, {"cleanup.policy": "compact"})
    admin.close()
    report = check(kafka_broker, settings, settings.streams, create=True)
    assert [(f.subject.split()[0], f.fatal) for f in report.findings] == [
        ("changelog", True),
        ("alerts", False),
    ]
    assert "old state would be deleted by age" in report.findings[0].problem
    assert f"--topic {name}.changelog --add-config cleanup.policy=compact" in report.findings[0].fix


@pytest.mark.kafka
def test_sizes_and_times_that_are_not_enough(kafka_broker: KafkaBroker, name: str) -> None:
    settings = settings_for(name, TOCSIN__STATE__SNAPSHOT_EVERY="1m")
    admin = kafka_broker.admin()
    admin.create(name, 4, {"retention.ms": "119999", "max.message.bytes": "500000"})
    admin.create(f"{name}.changelog", 4, {"cleanup.policy": "compact", "max.message.bytes": "524288"})
    admin.create(f"{name}.dead-letters", 4, {"max.message.bytes": "565535"})
    report = check(kafka_broker, settings, settings.streams, create=True)
    told = {f.subject.split()[0]: (f.fatal, f.problem, f.fix) for f in report.findings}
    assert list(told) == ["input", "changelog", "dead"]
    fatal, problem, fix = told["input"]
    assert (fatal, fix) == (True, f"kafka-configs.sh --alter --topic {name} --add-config retention.ms=120000")
    assert "keeps records for 119.999 s, less than twice [state] snapshot_every (60 s)" in problem
    fatal, problem, fix = told["changelog"]
    assert (fatal, fix.rpartition("=")[2]) == (True, str(PIECE_BYTES + ROOM_BYTES))
    assert "takes messages of 524288 bytes" in problem
    fatal, problem, fix = told["dead"]
    assert (fatal, fix.rpartition("=")[2]) == (False, "565536")
    assert "would stop the stream" in problem
    admin.close()


@pytest.mark.kafka
def test_what_is_made_takes_whatever_the_input_takes(kafka_broker: KafkaBroker, name: str) -> None:
    settings = settings_for(name, TOCSIN__STREAM__REKEY="true")
    assert check(kafka_broker, settings, settings.streams, create=True).findings == []
    admin = kafka_broker.admin()
    largest = int(admin.describe_config(name)[BYTES])
    for topic in (f"{name}.rekeyed", f"{name}.dead-letters"):
        assert int(admin.describe_config(topic)[BYTES]) == largest + ROOM_BYTES
    admin.close()


@pytest.mark.kafka
def test_rights_are_known_on_a_cluster_without_limits(
    kafka: Rig, kafka_broker: KafkaBroker, name: str
) -> None:
    admin = kafka_broker.admin()
    admin.create(name, 1)
    rights = admin.topic_rights(name)
    admin.close()
    assert rights is not None
    assert {"READ", "WRITE", "DESCRIBE"} <= rights


def test_nobody_there() -> None:
    broker = KafkaBroker("127.0.0.1:1", request_s=1)
    settings = settings_for("a")
    with pytest.raises(BrokerUnavailable, match=r"no broker answers at 127\.0\.0\.1:1"):
        check(broker, settings, settings.streams)
    broker.close()
