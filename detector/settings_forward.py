"""What can be set of the forwarder: the section `[forward]`, in the form of `settings_sections.py`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .settings_kinds import Duration, span, text, topic


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Where `tocsin alerts forward` brings alerts to."""

    to: (
        Annotated[
            Literal["alertmanager", "webhook"],
            Meta(
                description="What stands there: an Alertmanager (its API v2), or anything that takes an alert's "
                "JSON by POST."
            ),
        ]
        | None
    ) = None
    url: (
        Annotated[
            str,
            text(
                "Its address, of an Alertmanager without `/api/v2/alerts`. Only scheme, host and port are ever shown, "
                "for the rest may hold secrets; `TOCSIN__FORWARD__URL_FILE` names a file that holds it.",
                r"^https?://[^\s/?#]+([/?][^\s#]*)?$",
                "http://… or https://…",
            ),
        ]
        | None
    ) = None
    header_file: (
        Annotated[
            str,
            Meta(
                description="A file of headers to send along, one `Name: value` a line, for instance "
                "`Authorization: Bearer …`; relative to this file. Their values are never shown."
            ),
        ]
        | None
    ) = None
    group_id: Annotated[
        str,
        topic(
            "Consumer group of the forwarder. Empty: the stream's, with `.forward.` and the target's kind."
        ),
    ] = ""
    start: Annotated[
        Literal["earliest", "latest"],
        Meta(
            description="Where a new group begins: with all alerts that the topic still holds, or with what comes. "
            "An Alertmanager is told of open incidents in either case."
        ),
    ] = "earliest"
    resend: Annotated[
        Duration, span("How often an Alertmanager is told again of every open incident.", "1s", "4m")
    ] = Duration.parse("1m")
    hold: Annotated[
        Duration,
        span(
            "How long an Alertmanager takes an incident as open without being told again; at least twice `resend`.",
            "2s",
            "1d",
        ),
    ] = Duration.parse("10m")
    timeout: Annotated[Duration, span("How long an answer is waited for.", "100ms", "1m")] = Duration.parse(
        "10s"
    )
    source_url: Annotated[
        str,
        text(
            "Link to the source in an Alertmanager (generatorURL), for instance of a dashboard; {stream}, {entity} and "
            "{alert_id} are filled in. Empty: none.",
            r"^$|^https?://\S+$",
            "http://… or https://…, or empty",
        ),
    ] = ""
