"""A cluster that asks who is there and lets each do only what it must: TLS, SASL, least rights, signed changes.

What a secret would be worth is tried with one that is planted: nothing that any of this says may show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from rigs.certificates import Authority
from rigs.daemon import Daemon, Home, assert_same, replayed, scored, until
from rigs.fixtures import SECRET, USERS
from rigs.kafka import Rig
from rigs.target import Receiver, receiving
from telemetry import keys, messages
from tocsin.detector.changes import BudgetChange, message_of
from tocsin.detector.cli import main
from tocsin.detector.control import artefacts_of, publish
from tocsin.detector.settings import HIDDEN, load
from tocsin.detector.signed import signed_by
from tocsin.models.signing import PRIVATE_NAME
from tocsin.pipelines.brokers.kafka import KafkaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ALLOW = AclPermissionType.ALLOW
PASSWORD = "TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD"
MECHANISMS = ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"]
RIGHTS = {
    "daemon": {
        "input": "READ",
        "changelog": "READ WRITE",
        "control": "READ WRITE",
        "alerts": "WRITE",
        "dead_letter": "WRITE",
        "scores": "WRITE",
    },
    "analyst": {
        "input": "READ",
        "changelog": "READ",
        "control": "READ WRITE",
        "alerts": "READ",
        "scores": "READ",
    },
    "pager": {"alerts": "READ", "groups": "READ WRITE"},
}
"""What each user may do with each topic, as docs/security.md says."""
GROUPS = {"daemon": ("group",), "analyst": (), "pager": ("group.groups", "group.forward.webhook")}
"""Of which consumer groups each may READ."""


class Said(NamedTuple):
    """What a command said, all of it."""

    code: int
    text: str


class Rights:
    """Who may do what on the cluster, given and taken by one who may do everything."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def allow(self, user: str, kind: str, name: str, right: str, *, prefix: bool = False) -> None:
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        rule = AclBinding(ResourceType[kind], name, pattern, f"User:{user}", "*", AclOperation[right], ALLOW)
        for future in self._admin.create_acls([rule]).values():
            future.result()

    def deny(self, user: str, kind: str, name: str, right: str) -> None:
        """Take back what was allowed."""
        literal = ResourcePatternType.LITERAL
        rule = AclBindingFilter(
            ResourceType[kind], name, literal, f"User:{user}", "*", AclOperation[right], ALLOW
        )
        for future in self._admin.delete_acls([rule]).values():
            assert len(future.result()) == 1


class Secured:
    """A home whose stream lives on the secured listener, and everything that was ever said there."""

    def __init__(self, home: Home, rig: Rig, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self._rig, self._capture = home, rig, capture
        self.said = ""

    def write(
        self, mechanism: str, user: str = "daemon", stream: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """The configuration of a user, without the password; `more` are properties of the client."""
        assert self._rig.authority is not None
        table = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self._rig.authority.file),
            "sasl.mechanism": mechanism,
            "broker.address.family": "v4",
            "debug": "security,conf",
            **more,
        }
        if mechanism == "OAUTHBEARER":
            table |= {
                "enable.sasl.oauthbearer.unsecure.jwt": True,
                "sasl.oauthbearer.config": f"principal={user}",
            }
        else:
            table["sasl.username"] = user
        self.home.write(
            stream or self.home.stream(groups=self.home.topic("groups")),
            kafka={"bootstrap": self._rig.secure_bootstrap, "librdkafka": table},
            registry={"private_key": str(self.home.folder / "config" / "tocsin" / PRIVATE_NAME)},
            control={"require_signature": True},
            log={"level": "debug", "format": "json"},
            group={"wait": "1s"},
        )

    def tocsin(self, *arguments: str, **environment: str) -> Said:
        """A command in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.home.folder)
            for name, value in {"XDG_CONFIG_HOME": str(self.home.folder / "config"), **environment}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as left:
                main(arguments)
        shown = self._capture.readouterr()
        self.said += shown.out + shown.err
        return Said(int(left.value.code or 0), shown.out + shown.err)


@pytest.fixture(scope="module")
def rights(kafka: Rig) -> Rights:
    return Rights(kafka.bootstrap)


@pytest.fixture(scope="module")
def home(make_home: Callable[..., Home], rights: Rights) -> Home:
    """A home whose topics are there, with all that the users may do."""
    one = make_home("secured")
    one.write(one.stream(groups=one.topic("groups")))
    one.call("check", "--create-topics", "--groups")
    for user, topics in RIGHTS.items():
        for role, operations in topics.items():
            for right in operations.split():
                rights.allow(user, "TOPIC", one.topic(role), right)
        for group in GROUPS[user]:
            rights.allow(user, "GROUP", one.topic(group), "READ")
    return one


@pytest.fixture
def secured(home: Home, kafka: Rig, capfd: pytest.CaptureFixture[str]) -> Iterator[Secured]:
    one = Secured(home, kafka, capfd)
    yield one
    assert SECRET not in one.said


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_check_passes_with_each_mechanism(secured: Secured, rights: Rights, mechanism: str) -> None:
    made = f"{secured.home.name}.by-{mechanism.lower()}"
    secured.write(mechanism, "owner", secured.home.stream(scores=made))
    for kind in ("TOPIC", "GROUP"):
        rights.allow("owner", kind, secured.home.name, "ALL", prefix=True)
    done = secured.tocsin("check", "--create-topics", **{PASSWORD: USERS["owner"]})
    assert (done.code, "6 topics are as they must be" in done.text) == (0, True), done.text
    assert f"made topic {made}" in done.text
    assert "wrong:" not in done.text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("password", "invalid credentials with SASL mechanism SCRAM-SHA-512"),
        ("authority", "certificate could not be verified"),
        ("host", "and that `[kafka] bootstrap` names the host as its certificate does"),
    ],
)
def test_a_login_that_must_fail_says_why_in_one_line(
    secured: Secured, wrong: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KafkaBroker.__init__.__kwdefaults__["request_s"] > 1
    monkeypatch.setitem(KafkaBroker.__init__.__kwdefaults__, "request_s", 1.5)  # how long it is tried
    if wrong == "authority":
        secured.write("SCRAM-SHA-512", **{"ssl.ca.location": str(Authority(tmp_path, "other").file)})
    else:
        secured.write("SCRAM-SHA-512")
    if wrong == "host":
        text = secured.home.config.read_text()
        secured.home.config.write_text(text.replace('"localhost:', '"127.0.0.1:'))
    done = secured.tocsin("check", "--connect", **{PASSWORD: SECRET[::-1] if wrong == "password" else SECRET})
    assert (done.code, len(done.text.splitlines()), why in done.text) == (1, 1, True), done.text
    assert "refuses the connection" in done.text
    assert SECRET[::-1] not in done.text


def test_what_a_daemon_may_not_do_is_named(secured: Secured, rights: Rights) -> None:
    secured.write("SCRAM-SHA-512")
    home = secured.home
    given = [(role, right) for role, operations in RIGHTS["daemon"].items() for right in operations.split()]
    for role, right in [*given, ("group", "READ")]:
        kind = "GROUP" if role == "group" else "TOPIC"
        rights.deny("daemon", kind, home.topic(role), right)
        done = secured.tocsin("check", "--connect", **{PASSWORD: SECRET})
        rights.allow("daemon", kind, home.topic(role), right)
        wrong = [line for line in done.text.splitlines() if line.startswith("wrong:")]
        assert (done.code, len(wrong)) == (1, 1), (role, right, done.text)
        assert home.topic(role) in wrong[0]
        fix = done.text.split(wrong[0])[1].splitlines()[1]
        assert right in fix or f"--operation {right.capitalize()}" in fix, (role, right, fix)
    done = secured.tocsin("check", "--connect", **{PASSWORD: SECRET})
    assert (done.code, "wrong:" in done.text) == (0, False), done.text


def test_transactions_take_a_right_of_their_own_and_without_it_the_daemon_says_which(
    secured: Secured, rights: Rights
) -> None:
    home = secured.home
    secured.write("SCRAM-SHA-512", stream={**home.stream(), "guarantee": "exactly_once"})
    done = secured.tocsin("run", **{PASSWORD: SECRET})
    assert (done.code, "does not allow it" in done.text) == (1, True), done.text
    rights.allow("daemon", "TRANSACTIONAL_ID", f"{home.topic('group')}.", "WRITE", prefix=True)
    daemon = home.background("run", **{PASSWORD: SECRET})
    daemon.ready()
    daemon.stop()
    secured.said += daemon.log_file.read_text()


def test_the_daemon_lives_by_these_rights_and_obeys_signed_changes_alone(
    secured: Secured, trained: Any
) -> None:
    home, fed = secured.home, trained.live
    values, names = messages(fed)[:1500], keys(fed)[:1500]
    password = home.folder / "password"
    password.write_text(SECRET + "\n")

    def start(mechanism: str) -> Daemon:
        secured.write(mechanism)
        daemon = home.background("run", **{f"{PASSWORD}_FILE": str(password)})
        assert daemon.url  # it has read its settings, which the next one finds changed
        return daemon

    def feed(first: int, last: int) -> None:
        home.send(values[first:last], names[first:last])
        home.caught_up()

    def stop(daemon: Daemon, mechanism: str) -> None:
        secured.said += daemon.get("/metrics")[1] + daemon.get("/api/v1/status")[1]
        daemon.stop()
        said = daemon.log_file.read_text()
        assert f"for SASL mechanism {mechanism}" in said  # the client has told of what it does
        secured.said += said

    first = start(MECHANISMS[0])
    first.ready()
    feed(0, 400)
    message = message_of(BudgetChange(budget="9/hour", **signed_by("eve", "no signature")))
    producer = home.broker.producer()
    producer.produce(home.topic("control"), message.value, message.key, 0, message.headers)
    producer.flush(10)
    producer.close()
    until(lambda: first.metric("tocsin_changes_refused_total") == 1, "the refusal")
    feed(400, 700)
    stop(first, MECHANISMS[0])

    # Two that share what it had: each restores over the refused change, and obeys one that is signed.
    others = {mechanism: start(mechanism) for mechanism in MECHANISMS[1:]}
    for daemon in others.values():
        daemon.ready()
        assert daemon.metric("tocsin_changes_refused_total") == 1
    feed(700, 1100)
    settings = load(home.config)
    signed = BudgetChange(budget="2/day per entity", **signed_by("ada", "fewer"))
    newest = publish(home.broker, home.topic("control"), signed, artefacts_of(settings, settings.stream()))
    for daemon in others.values():
        until(lambda one=daemon: one.metric("tocsin_change_version") >= newest, "the change")
    feed(1100, 1500)
    for mechanism, daemon in others.items():
        stop(daemon, mechanism)

    secured.write("SCRAM-SHA-512", "analyst")
    listed = secured.tocsin("audit", "list", **{PASSWORD: SECRET})
    refused = [line for line in listed.text.splitlines() if "refused:" in line]
    assert (listed.code, len(refused)) == (0, 1), listed.text
    assert "of the control topic is not signed" in refused[0]
    for command in (["alerts", "list"], ["recalibrate", "--revert", str(newest)]):
        done = secured.tocsin(*command, **{PASSWORD: SECRET})
        assert done.code == 0, done.text
    verified = secured.tocsin("audit", "verify", **{PASSWORD: SECRET})
    assert verified.code == 0, verified.text
    # Three of the first start, one of the test and one of the command above; the unsigned one is no part of it.
    assert verified.text.splitlines()[:2] == [
        "without a signature that holds: 3; refused",
        "5 signed changes hold together, the last is change 5",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD, SECRET)
        rows_of_replay, _ = replayed(home)
    assert_same(scored(home.read("scores")), rows_of_replay)

    secured.write("PLAIN", "pager")
    with receiving(Receiver()) as receiver:
        words = ("alerts", "forward", "--to", "webhook", "--url", receiver.url)
        standing = [home.background(*one, **{PASSWORD: SECRET}) for one in (("alerts", "group"), words)]
        until(lambda: receiver.posts and home.read("groups"), "alerts and groups of them")
        for one in standing:
            one.stop()
            secured.said += one.log_file.read_text()


def test_the_secret_would_be_found(secured: Secured) -> None:
    """The search itself: what is planted is what the client sends."""
    secured.write("PLAIN")
    assert SECRET not in secured.home.config.read_text()
    done = secured.tocsin("check", "--json", **{PASSWORD: SECRET})
    assert json.loads(done.text)["settings"]["kafka"]["librdkafka"]["sasl.password"] == HIDDEN
