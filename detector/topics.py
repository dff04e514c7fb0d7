"""The topics of a stream: what each must be, what is wrong with it, and making those that are missing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import BrokerError, BrokerUnavailable
from ..pipelines.brokers.administration import Admin, TopicInfo
from ..pipelines.brokers.base import Broker
from . import topic_limits
from .settings import Kafka, Settings, Stream

COMPACT = {"cleanup.policy": "compact"}
DELETE = {"cleanup.policy": "delete"}
ABSENT = "does not exist, or this client may not see it"
HEARD_S, AGAIN_S = 5.0, 0.2
"""How long a node of a cluster may take to hear of a topic that another has made, and how often it is asked."""


class Need(NamedTuple):
    """What a topic must be for a stream."""

    stream: str
    role: str
    topic: str
    partitions: int
    """How many it is made with."""
    exact: bool
    """Whether another number is an error."""
    config: Mapping[str, str]
    rights: frozenset[str]


class Finding(NamedTuple):
    """Something that is wrong, or worth knowing, and what to do about it."""

    stream: str
    subject: str
    problem: str
    fix: str
    fatal: bool = True


class Report(NamedTuple):
    """What was looked at, made and found."""

    needs: list[Need]
    created: list[str]
    findings: list[Finding]

    @property
    def good(self) -> bool:
        """Nothing stands in the way of a daemon."""
        return not any(finding.fatal for finding in self.findings)


def needs(
    stream: Stream, kafka: Kafka, existing: Mapping[str, TopicInfo], *, groups: bool = False
) -> list[Need]:
    """The topics of a stream, inputs first; what follows the input follows the one that is there.
    With `groups` also what `tocsin alerts group` needs.

    Partition p of the changelog holds the state of partition p of every topic that is scored, so it has as many
    partitions as the largest of them.
    """
    inputs = {
        topic: existing[topic].partitions if topic in existing else kafka.partitions
        for topic in stream.topics
    }
    widest = max(inputs.values())
    rekeyed = existing[stream.rekeyed].partitions if stream.rekeyed in existing else widest
    parts = rekeyed if stream.rekey else widest
    read, write = frozenset({"READ", "DESCRIBE"}), frozenset({"WRITE", "DESCRIBE"})

    def need(
        role: str,
        topic: str,
        partitions: int,
        config: Mapping[str, str],
        rights: frozenset[str],
        exact: bool = False,
    ) -> Need:
        return Need(stream.name, role, topic, partitions, exact, config, rights)

    found = [need("input", topic, partitions, {}, read) for topic, partitions in inputs.items()]
    if stream.rekey:
        found.append(need("rekeyed", stream.rekeyed, parts, DELETE, read | write))
    found += [
        need("changelog", stream.changelog, parts, COMPACT, read | write, exact=True),
        need("control", stream.control, 1, COMPACT, read | write, exact=True),
        need("alerts", stream.alerts, parts, DELETE, read | write if groups else write),
        need("dead letters", stream.dead_letter, parts, DELETE, write),
    ]
    if stream.scores:
        found.append(need("scores", stream.scores, parts, DELETE, write))
    if groups:
        found.append(need("groups", stream.groups, parts, DELETE, read | write))
    return found


def check(
    broker: Broker,
    settings: Settings,
    streams: Iterable[Stream],
    *,
    create: bool = False,
    groups: bool = False,
) -> Report:
    """Look at every topic that the streams need and, with `create`, make those that are missing.
    With `groups` also at what `tocsin alerts group` needs.

    Raises BrokerUnavailable where nobody answers, and BrokerError where a topic cannot be made.
    """
    admin, asked = broker.admin(), list(streams)
    try:
        report = _looked(broker, admin, settings, asked, create=create, groups=groups)
        give_up = time.monotonic() + HEARD_S
        while create and any(one.problem == ABSENT for one in report.findings) and time.monotonic() < give_up:
            time.sleep(AGAIN_S)  # the answer came from a node that has not heard of them yet
            again = _looked(broker, admin, settings, asked, create=False, groups=groups)
            report = again._replace(created=report.created)
        return report
    finally:
        admin.close()


def _looked(
    broker: Broker, admin: Admin, settings: Settings, streams: list[Stream], *, create: bool, groups: bool
) -> Report:
    existing = admin.topics()
    report = Report([], [], [])
    every_s = settings.state.snapshot_every.seconds
    for stream in streams:
        largest = 0
        for need in needs(stream, settings.kafka, existing, groups=groups):
            report.needs.append(need)
            if need.topic not in existing and create:
                limits = topic_limits.config_for(need.role, largest)
                config = {**need.config, **limits} if broker.capabilities.admin else {}
                replicas = settings.kafka.replication if settings.kafka.replication > 0 else None
                if admin.create(need.topic, need.partitions, config, replicas):
                    report.created.append(need.topic)
                existing = admin.topics()
            info = existing.get(need.topic)
            report.findings.extend(_examine(need, info, admin, broker))
            if info is None or not broker.capabilities.admin:
                continue
            held, unread = _settings(need, admin)
            if need.role == "input":  # the inputs come first
                largest = max(largest, int(held.get(topic_limits.BYTES, "0")))
            report.findings.extend([*unread, *_configured(need, held, largest, every_s)])
        if stream.guarantee == "exactly_once" and not broker.capabilities.transactions:
            report.findings.append(
                Finding(
                    stream.name,
                    '[stream] guarantee = "exactly_once"',
                    "cannot be kept: this broker has no transactions",
                    "set it to at_least_once, or use a Kafka cluster",
                )
            )
        if broker.capabilities.security:
            for group in (stream.group_id, *([stream.rekey_group] if stream.rekey else [])):
                report.findings.extend(_group(stream, group, admin))
    return report


def _examine(need: Need, info: TopicInfo | None, admin: Admin, broker: Broker) -> list[Finding]:
    subject = f"{need.role} topic {need.topic}"
    if info is None:
        return [
            Finding(
                need.stream,
                subject,
                ABSENT,
                f"make it with {need.partitions} partition{'s' * (need.partitions > 1)}"
                f"{' and cleanup.policy=compact' * (need.config == COMPACT)}, or run "
                f"`tocsin check --connect --create-topics{' --groups' * (need.role == 'groups')}`; on a secured "
                f"cluster allow {' and '.join(sorted(need.rights - {'DESCRIBE'}))}",
            )
        ]
    found = []
    if need.role == "input" and info.partitions == 1:
        found.append(
            Finding(
                need.stream,
                subject,
                "has one partition, so only one daemon can ever work on it",
                "where one will not be enough, give it more before there is state",
                fatal=False,
            )
        )
    if need.role == "changelog" and info.partitions < need.partitions:
        found.append(
            Finding(
                need.stream,
                subject,
                f"has {info.partitions} partitions where {need.partitions} are needed",
                "where an input topic has been given more partitions, stop all daemons of the stream and run `tocsin "
                "check --accept-partitions`; it forgets the state of that topic",
            )
        )
    elif need.exact and info.partitions != need.partitions:
        found.append(
            Finding(
                need.stream,
                subject,
                f"has {info.partitions} partitions where {need.partitions} are needed",
                "delete it where nothing in it is needed yet and run `tocsin check --connect "
                "--create-topics`, or "
                f"name another one as [stream] {need.role}",
            )
        )
    if broker.capabilities.security:
        found += _rights(need, subject, admin)
    return found


def _settings(need: Need, admin: Admin) -> tuple[dict[str, str], list[Finding]]:
    """A topic's settings; none, and why, where they cannot be read."""
    try:
        return admin.describe_config(need.topic), []
    except BrokerUnavailable:
        raise
    except BrokerError as fault:
        problem, allow = f"its settings cannot be read: {fault}", "allow DESCRIBE_CONFIGS, or look yourself"
        return {}, [Finding(need.stream, f"{need.role} topic {need.topic}", problem, allow, fatal=False)]


def _configured(
    need: Need, config: Mapping[str, str], largest_input: int, snapshot_every_s: float
) -> list[Finding]:
    """What is wrong with a topic's settings."""
    subject = f"{need.role} topic {need.topic}"
    found = _policy(need, subject, config["cleanup.policy"]) if "cleanup.policy" in config else []
    for one in topic_limits.unfit(need.role, config, largest_input, snapshot_every_s):
        alter = f"kafka-configs.sh --alter --topic {need.topic} --add-config {one.setting}={one.least}"
        found.append(Finding(need.stream, subject, one.problem, alter, one.fatal))
    return found


def _policy(need: Need, subject: str, policy: str) -> list[Finding]:
    wanted = need.config.get("cleanup.policy")
    if wanted is None:
        return []
    held = {part.strip() for part in policy.split(",")}
    if held == {wanted}:
        return []
    alter = f"kafka-configs.sh --alter --topic {need.topic} --add-config cleanup.policy={wanted}"
    if need.config == COMPACT:
        why = "old state would be deleted by age" if "delete" in held else "it would grow for ever"
        return [Finding(need.stream, subject, f"has cleanup.policy={policy}: {why}", alter)]
    why = "it keeps only the newest message of each entity"
    fatal = need.role == "rekeyed"  # where records would be lost, not only what was said of them
    return [Finding(need.stream, subject, f"has cleanup.policy={policy}: {why}", alter, fatal)]


def _rights(need: Need, subject: str, admin: Admin) -> list[Finding]:
    try:
        rights = admin.topic_rights(need.topic)
    except BrokerUnavailable:
        raise
    except BrokerError as fault:
        return [
            Finding(
                need.stream, subject, f"its rights cannot be read: {fault}", "allow DESCRIBE", fatal=False
            )
        ]
    missing = sorted(need.rights - rights) if rights is not None else []
    if not missing:
        return []
    options = " ".join(f"--operation {right.capitalize()}" for right in missing)
    fix = f"kafka-acls.sh --add --allow-principal User:… {options} --topic {need.topic}"
    return [Finding(need.stream, subject, f"this client may not {' and '.join(missing)} it", fix)]


def _group(stream: Stream, group: str, admin: Admin) -> list[Finding]:
    subject = f"consumer group {group}"
    allow = f"kafka-acls.sh --add --allow-principal User:… --operation Read --group {group}"
    try:
        rights = _first_answer(group, admin)
    except BrokerUnavailable as fault:
        later = "try again; a daemon needs the group's coordinator"
        return [Finding(stream.name, subject, f"its rights cannot be read: {fault}", later, fatal=False)]
    except BrokerError as fault:
        return [Finding(stream.name, subject, f"its rights cannot be read: {fault}", allow)]
    if rights is None or "READ" in rights:
        return []
    return [Finding(stream.name, subject, "this client may not READ it", allow)]


def _first_answer(group: str, admin: Admin) -> frozenset[str] | None:
    """Asked twice: a cluster that never had a group times out while it makes its first."""
    try:
        return admin.group_rights(group)
    except BrokerUnavailable:
        return admin.group_rights(group)
