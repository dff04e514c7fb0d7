"""What can be set: one Struct per section of `tocsin.toml`, every field with its range, default and reason.

The commented file of `tocsin init`, the page docs/settings.md and the messages about wrong settings are all
made from these annotations, so what is written here is what people read.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .settings_forward import Forward
from .settings_group import Group
from .settings_http import Http
from .settings_kinds import BUDGET, Duration, Scalar, span, text
from .settings_stream import Stream


class Kafka(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster that every stream reads from and writes to."""

    bootstrap: Annotated[
        str,
        Meta(
            description="Brokers to ask first, `host:port`, several separated by commas.",
            min_length=1,
        ),
    ] = "localhost:9092"
    partitions: Annotated[
        int,
        Meta(
            description="Partitions of an input topic that `check --create-topics` has to create; one "
            "that exists "
            "keeps its own, and the changelog follows the input.",
            ge=1,
            le=10_000,
        ),
    ] = 4
    replication: Annotated[
        int,
        Meta(
            description="Replicas of a topic that is created; -1 is the cluster's own default.", ge=-1, le=15
        ),
    ] = -1
    librdkafka: Annotated[
        dict[str, Scalar],
        Meta(
            description="Client properties passed on as they are, for instance `security.protocol` or "
            "`sasl.password`. Secrets are better given by environment: "
            "`TOCSIN__KAFKA__LIBRDKAFKA__SASL_PASSWORD_FILE` names a file that holds the value."
        ),
    ] = {}


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """Where model versions lie and whom to trust."""

    path: Annotated[
        str, Meta(description="Folder of the model versions; relative to this file.", min_length=1)
    ] = "registry"
    public_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="PEM files of the keys whose signature is trusted. Empty: the local one, which "
            "the first "
            "`tocsin train` makes."
        ),
    ] = ()
    encryption_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="Files of 64 hexadecimal digits (`openssl rand -hex 32`), readable by their owner alone. The "
            "first encrypts what is written of models, all read it. Empty: nothing is encrypted."
        ),
    ] = ()
    private_key: (
        Annotated[
            str,
            Meta(
                description="PEM file of the key that signs. Empty: the local one in the user's "
                "configuration folder."
            ),
        ]
        | None
    ) = None


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Who may change what decides."""

    require_signature: Annotated[
        bool,
        Meta(
            description="Only changes of the control topic act that a key of `[registry] public_keys` has signed, for "
            "that stream and that place; others are refused, counted and audited. Set it alike for all daemons and "
            "commands."
        ),
    ] = False


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """How many false alerts are accepted; everything else about thresholds follows from the data."""

    budget: (
        Annotated[
            str,
            text(
                "The alert budget: how many false alerts each stream may raise, or each of its entities. "
                "Empty: "
                '"1/day per entity" up to 20 entities, else "20/day".',
                BUDGET,
                'for instance "5/day", "20/hour" or "1/week per entity"',
            ),
        ]
        | None
    ) = None
    max_incidents: (
        Annotated[
            int,
            Meta(
                description="Incidents of an entity and day of event time before the rest becomes one "
                "digest. Empty: ten "
                "times its share of the budget, at least 5.",
                ge=1,
                le=1_000_000,
            ),
        ]
        | None
    ) = None


class Incidents(msgspec.Struct, frozen=True, kw_only=True):
    """When an incident opens and when it is over."""

    k: Annotated[int, Meta(description="Anomalous records that open an incident …", ge=1, le=7)] = 2
    m: Annotated[int, Meta(description="… among this many in a row.", ge=1, le=7)] = 3
    exit_k: Annotated[
        int, Meta(description="Records in a row that end an incident, all of them below …", ge=1, le=100)
    ] = 5
    exit_margin: Annotated[
        float,
        Meta(description="… the threshold by at least this.", ge=0.0, le=5.0),
    ] = 0.1
    fast_margin: Annotated[
        float,
        Meta(description="A score this far above the threshold opens at once, as critical.", ge=0.1, le=20.0),
    ] = 2.0
    flap_after: Annotated[
        int,
        Meta(
            description="An entity flaps from this many incidents in a row on, each opened within `flap_within` of the "
            "recovery before it: the quiet that ends one then doubles with each. 0: never.",
            ge=0,
            le=100,
        ),
    ] = 3
    flap_within: Annotated[
        Duration, span("How soon after a recovery the next incident is in a row with it.", "0s", "7d")
    ] = Duration.parse("1h")
    gone_after: Annotated[
        Duration,
        span(
            "An incident whose entity was not seen for this long, by its partition's newest event time, "
            "is resolved as `gone`.",
            "1m",
        ),
    ] = Duration.parse("24h")
    absent_after: (
        Annotated[
            Duration,
            span(
                "An alert of kind `absence` for each entity not seen for this long, by its partition's newest event "
                "time; shorter than `gone_after`. Empty: none, for where entities come and go every one that ends "
                "would raise one.",
                "1s",
            ),
        ]
        | None
    ) = None
    behind_after: (
        Annotated[
            Duration,
            span(
                "An alert of kind `lateness` for each entity whose records lie this far behind its partition's newest "
                "event time; it ends at half of that. Empty: none.",
                "1s",
            ),
        ]
        | None
    ) = None
    partial_after: (
        Annotated[
            Duration,
            span(
                "An alert of kind `partial` for each entity whose every record for this long lacked a feature that "
                "it had sent before. Empty: none.",
                "1s",
            ),
        ]
        | None
    ) = None
    level_change_after: Annotated[
        Duration,
        span("An incident this long is resolved as `level_change`: what it shows is the new ordinary.", "1m"),
    ] = Duration.parse("1d")


class Train(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is trained on and how."""

    min_records: Annotated[
        int, Meta(description="Records of an entity that are enough to train on.", ge=100, le=100_000_000)
    ] = 1_000
    min_span: Annotated[
        Duration, span("Event time of an entity that is enough to train on, where records are rare.", "1s")
    ] = Duration.parse("1h")
    steps: Annotated[int, Meta(description="Most optimiser steps.", ge=10, le=1_000_000)] = 800
    seed: Annotated[int, Meta(description="Seed of every random number of a training.", ge=0, lt=2**31)] = 0
    time_of_day: Annotated[
        bool,
        Meta(
            description="Condition the VAE on the time of day: a level that is ordinary at noon is then strange at "
            "night. Needs several days of records."
        ),
    ] = False
    stack: Annotated[
        int,
        Meta(
            description="Models that are trained in one compiled loop, where entities have their own; 1 is one at a "
            "time. Memory grows with it, and the last bits of a model depend on it.",
            ge=1,
            le=64,
        ),
    ] = 8
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Meta(
            description="Of the matrix products in training. Weights, losses and scores are float32 either way. "
            "`bfloat16` was slower on a processor and on an H100: the models are small."
        ),
    ] = "float32"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How often state is written, and of how many entities there is any."""

    commit_every: Annotated[
        Duration,
        span(
            "What was read is committed this often, once what it brought is acknowledged; rekeying goes by it too. "
            "After a crash what came since is read again.",
            "100ms",
            "1m",
        ),
    ] = Duration.parse("1s")

    snapshot_every: Annotated[
        Duration,
        span(
            "A partition's snapshot is written this often, or less often where it would exceed a tenth "
            "of the input.",
            "1s",
            "1d",
        ),
    ] = Duration.parse("30s")

    max_entities: Annotated[
        int,
        Meta(
            description="Most entities that are held of a partition. A new one beyond takes the place of the least "
            "recently seen, never of one with an open alert.",
            ge=1,
            le=10_000_000,
        ),
    ] = 50_000

    forget_after: (
        Annotated[
            Duration,
            span(
                "An entity not seen for this long, by its partition's newest event time, is forgotten; at least "
                "`gone_after`. Empty: never, for one that comes again starts from the model's calibration.",
                "1m",
            ),
        ]
        | None
    ) = None

    max_new_entities: Annotated[
        int,
        Meta(
            description="Most new entities among each 1000 records of a partition; the records of further ones are "
            "dead letters. Those that the model knows do not count. 0: any number.",
            ge=0,
            le=1000,
        ),
    ] = 0


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """What a message may be, and when to stop."""

    max_message_bytes: Annotated[
        int, Meta(description="A larger message is a dead letter.", ge=64, le=1 << 28)
    ] = 1 << 20
    breaker_share: Annotated[
        float,
        Meta(
            description="Unreadable share of a partition's last `breaker_records` that stops the daemon.",
            gt=0,
            le=1,
        ),
    ] = 0.5
    breaker_records: Annotated[
        int,
        Meta(description="How many records of a partition that share is taken over.", ge=10, le=10_000_000),
    ] = 1_000


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon says."""

    format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="`auto`: text on a terminal, else a JSON object per line."),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least that is said.")
    ] = "info"


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "stream": Stream,
    "kafka": Kafka,
    "registry": Registry,
    "control": Control,
    "thresholds": Thresholds,
    "incidents": Incidents,
    "train": Train,
    "state": State,
    "decode": Decode,
    "http": Http,
    "forward": Forward,
    "group": Group,
    "log": Log,
}
