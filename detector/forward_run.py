"""What `tocsin alerts forward` runs: from settings to a forwarder, until SIGTERM or SIGINT."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SettingsError
from .forward_payload import Rules
from .forward_target import Target, target_of
from .forwarder import Forwarder, Plan
from .settings import Settings, Stream
from .standing import stand


def target(settings: Settings) -> Target:
    """The target of `[forward]`. SettingsError where it is not said, or cannot be one."""
    chosen = settings.forward
    if chosen.to is None or chosen.url is None:
        raise SettingsError(
            "say where alerts go: --to alertmanager|webhook and --url, or [forward] to and url."
        )
    return target_of(chosen.url, chosen.to, chosen.timeout.seconds, chosen.header_file)


def plan(settings: Settings, streams: Sequence[Stream], *, groups: bool = False) -> Plan:
    """What is forwarded for these streams: alerts, or groups. The consumer group bears the stream's name."""
    chosen = settings.forward
    topics = {stream.groups if groups else stream.alerts for stream in streams}
    kind = f"groups.{chosen.to}" if groups else chosen.to
    stem = streams[0].group_id if len(streams) == 1 else "tocsin"
    return Plan(
        topics=tuple(sorted(topics)),
        group=chosen.group_id or f"{stem}.forward.{kind}",
        start=chosen.start,
        rules=Rules(int(chosen.hold), chosen.source_url) if chosen.to == "alertmanager" else None,
        resend_s=chosen.resend.seconds,
    )


def run(settings: Settings, streams: Sequence[Stream], to: Target, *, groups: bool = False) -> None:
    """Forward until SIGTERM or SIGINT.

    Raises:
        TocsinError: what a person must see to.
    """
    chosen = plan(settings, streams, groups=groups)
    stand(
        "forward",
        settings,
        lambda broker, stopping, clocks: Forwarder(broker, chosen, to, stopping, clocks).run(),
    )
