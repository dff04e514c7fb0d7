"""The settings of a stream: what it reads, how, and where it writes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..pipelines import formats
from .settings_kinds import NAME, TOPIC, Duration, span, text, topic


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deviations of a feature from what was expected count."""

    dead: Annotated[float, Meta(ge=0)] = 0.0
    """Up to this, in the units of the records, none does."""
    direction: Literal["both", "up", "down"] = "both"
    """Which way a deviation must go."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline: input topics, how to read a record, and the topics it writes."""

    name: Annotated[
        str,
        text(
            "What the stream is called, in topics, metrics and alerts.",
            NAME,
            "letters, digits, '.', '_' and '-'",
        ),
    ]
    topics: Annotated[
        tuple[Annotated[str, Meta(pattern=TOPIC)], ...],
        Meta(description="Input topics. Empty: the one topic named like the stream."),
    ] = ()
    format: Annotated[
        str,
        text(
            "; ".join(f"`{name}`: {entry.does}" for name, entry in formats.TABLE.items()) + ".",
            f"^({'|'.join(formats.TABLE)})$",
            "one of " + ", ".join(f'"{name}"' for name in formats.TABLE),
        ),
    ] = "json_wide"
    entity: Annotated[
        str,
        Meta(
            description="Dotted path (in files the column) of what a record is about. Empty: the Kafka key."
        ),
    ] = "entity"
    time: Annotated[
        str,
        Meta(description="Dotted path (in files the column) of the event time. Empty: the Kafka timestamp."),
    ] = "timestamp"
    time_unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns"],
        Meta(
            description="Unit of a numeric event time. `auto` tells it by its size. RFC 3339 text is "
            "read in any case."
        ),
    ] = "auto"
    features: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Dotted paths of the numbers to watch, in the order of the model's columns. "
            "Empty: every "
            "other number, where the records to learn from show which there are."
        ),
    ] = ()
    counters: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Those of the features that only ever count up; they are watched as rates per second."
        ),
    ] = ()
    bands: Annotated[
        dict[str, Band],
        Meta(
            description="Which deviations of a feature count, where not all do: further from what was expected than "
            "`dead`, in the units of the records (of counters per second), and only those `up` or `down`. A record in "
            "which no feature responsible counts opens no incident.",
            extra={
                "allowed": 'a table of features, for instance { cpu = { dead = 0.5, direction = "up" } }, with '
                '"both", "up" or "down"'
            },
        ),
    ] = {}
    metric: Annotated[
        str, Meta(description="`json_long`: dotted path of the metric's name.", min_length=1)
    ] = "metric"
    value: Annotated[
        str, Meta(description="`json_long`: dotted path of the metric's value.", min_length=1)
    ] = "value"
    period: Annotated[
        Duration, span("Long formats: the grid of event time on which metrics become records.", "1ms", "1d")
    ] = Duration.parse("10s")
    wait: Annotated[
        Duration,
        span("Long formats: how long, in event time, a record waits for its last metrics.", "0s", "1d"),
    ] = Duration.parse("10s")
    carry_forward: Annotated[
        Duration,
        span(
            "Long formats: how long the last value of a metric stands in for one that did not come. 0s: never."
        ),
    ] = Duration.parse("0s")
    rekey: Annotated[
        bool,
        Meta(
            description="Send the records on, keyed by entity, before they are scored: for senders whose keys scatter "
            "an entity over partitions, as collectd's do."
        ),
    ] = False
    rekeyed: Annotated[
        str, topic("Topic of the records keyed by entity, with `rekey`. Empty: `NAME.rekeyed`.")
    ] = ""
    alerts: Annotated[str, topic("Topic of the alerts. Empty: `NAME.alerts`.")] = ""
    groups: Annotated[
        str, topic("Topic of what `tocsin alerts group` tells, needed for that alone. Empty: `NAME.groups`.")
    ] = ""
    scores: (
        Annotated[str, topic("Topic of the scores, one message per scored record. Empty: none are written.")]
        | None
    ) = None
    dead_letter: Annotated[
        str, topic("Topic of the messages that could not be read, untouched. Empty: `NAME.dead-letters`.")
    ] = ""
    changelog: Annotated[str, topic("Topic of the state, compacted. Empty: `NAME.changelog`.")] = ""
    control: Annotated[
        str, topic("Topic of the versioned changes, one partition. Empty: `NAME.control`.")
    ] = ""
    group_id: Annotated[str, topic("Consumer group. Empty: `tocsin.NAME`.")] = ""
    start: Annotated[
        Literal["earliest", "latest"],
        Meta(
            description="Where a new consumer group begins: with all that the topics still hold, or with "
            "what comes."
        ),
    ] = "earliest"
    profile: Annotated[
        Literal["auto", "shared", "per_entity"],
        Meta(
            description="One model for all entities, or one each. `auto`: one each up to "
            "`max_entity_models` entities."
        ),
    ] = "auto"
    max_entity_models: Annotated[
        int, Meta(description="Most entities that get a model of their own.", ge=1, le=100_000)
    ] = 200
    members: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Members of the panel that scores, see docs/models.md; empty: all. Like the features they "
            "belong to a stream's state: a model with others needs a stream with a new name."
        ),
    ] = ()
    follow: Annotated[
        float,
        Meta(
            description="What is ordinary moves: a location, mean and spread of each feature, follows its entity so "
            "many times slower than the slow average of the score. 0: it stays as trained.",
            ge=0.0,
            le=1000.0,
        ),
    ] = 16.0
    lags: Annotated[
        int, Meta(description="Records that a model looks at together, the newest included.", ge=1, le=64)
    ] = 5
    window: Annotated[
        int,
        Meta(
            description="Records kept per entity; at least `lags`. What is kept beyond them lets a late "
            "record take "
            "its place and a new model start warm.",
            ge=1,
            le=1024,
        ),
    ] = 16
    far_ahead: Annotated[
        Duration,
        span(
            "A record this much newer than its entity's newest is refused, unless the ones after it agree.",
            "1s",
        ),
    ] = Duration.parse("7d")
    signed_from: Annotated[
        int,
        Meta(
            description="With `[control] require_signature`: the first version of the control topic that must be "
            "signed. Earlier ones act as they did before it was set.",
            ge=0,
        ),
    ] = 0
    late_after: Annotated[
        Duration,
        span("An alert for data older than this when it is published says `late: true`.", "1s"),
    ] = Duration.parse("15m")
    guarantee: Annotated[
        Literal["at_least_once", "exactly_once"],
        Meta(
            description="`exactly_once`: alerts, scores, dead letters, state and offsets share a Kafka transaction, so "
            "that who reads only what is committed meets no alert twice. `at_least_once`: a repeat bears the same id."
        ),
    ] = "at_least_once"
    transactional_id: Annotated[
        str,
        Meta(
            description="With `exactly_once`: what the brokers know this daemon by, of each daemon another. One that "
            "stays the same lets a restart after a crash go on at once. Empty: made up at each start."
        ),
    ] = ""
    runbook: Annotated[
        str, Meta(description="A link that every alert carries: where people find what to do.")
    ] = ""

    def __post_init__(self) -> None:
        """Give every topic that was left empty its name."""
        fill = msgspec.structs.force_setattr
        fill(self, "topics", self.topics or (self.name,))
        fill(self, "rekeyed", self.rekeyed or f"{self.name}.rekeyed")
        fill(self, "alerts", self.alerts or f"{self.name}.alerts")
        fill(self, "groups", self.groups or f"{self.name}.groups")
        fill(self, "dead_letter", self.dead_letter or f"{self.name}.dead-letters")
        fill(self, "changelog", self.changelog or f"{self.name}.changelog")
        fill(self, "control", self.control or f"{self.name}.control")
        fill(self, "group_id", self.group_id or f"tocsin.{self.name}")

    @property
    def scored(self) -> tuple[str, ...]:
        """The topics whose records are scored: the input, or what it is rekeyed to."""
        return (self.rekeyed,) if self.rekey else self.topics

    @property
    def rekey_group(self) -> str:
        """The consumer group that rekeys."""
        return f"{self.group_id}.rekey"
