"""What can be set of grouping: the section `[group]`, in the form of `settings_sections.py`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .settings_kinds import Duration, span, topic


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What `tocsin alerts group` takes for one thing that happened to many, and what is shown first."""

    wait: Annotated[
        Duration,
        span(
            "How long after the first alert it is waited for others before a group is told; what is published within "
            "twice this time belongs to it.",
            "1s",
            "1h",
        ),
    ] = Duration.parse("30s")
    least: Annotated[int, Meta(description="Different entities that make a group.", ge=2, le=100_000)] = 3
    members: Annotated[
        int, Meta(description="Members that a message lists; the rest is counted.", ge=1, le=1_000)
    ] = 20
    q: Annotated[
        float,
        Meta(
            description="The level of Benjamini and Hochberg's rule by which open incidents are ranked: the "
            "smaller, the fewer are marked as discoveries.",
            gt=0,
            lt=1,
        ),
    ] = 0.1
    group_id: Annotated[str, topic("Consumer group that groups. Empty: the stream's, with `.groups`.")] = ""
    start: Annotated[
        Literal["earliest", "latest"],
        Meta(
            description="Where a new consumer group begins: with all alerts that the topic still holds, or with what "
            "comes. Groups that are open are told in either case."
        ),
    ] = "earliest"
