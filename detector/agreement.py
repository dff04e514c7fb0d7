"""Whether configuration, control topic and registry agree: what `check --connect` says before a daemon would."""

from __future__ import annotations

from ..errors import ArtefactError, SignatureError
from ..pipelines.brokers.base import Broker
from .changes import Versioned, fold
from .control import Unloadable, artefacts_of, read_all
from .intended import differences
from .registry import open_registry, trusted_keys
from .settings import Settings, Stream
from .topics import Finding


def look(broker: Broker, settings: Settings, stream: Stream) -> list[Finding]:
    """Where they do not. The stream's topics are there."""
    changes = read_all(broker, stream.control, artefacts_of(settings, stream))
    refused = [one.version for one in changes if isinstance(one, Unloadable) and one.unsealed]
    in_force = fold([one for one in changes if isinstance(one, Versioned)]).in_force
    found = [
        Finding(
            stream.name,
            name,
            f"is {mine!r} in the configuration, but {theirs!r} is in force",
            "the control topic wins; SIGHUP to a daemon publishes the configuration's",
            fatal=False,
        )
        for name, (mine, theirs) in differences(in_force, settings).items()
    ]
    if refused:
        found.append(
            Finding(
                stream.name,
                f"control topic {stream.control}",
                f"holds changes that no trusted key signed for their place: {', '.join(map(str, refused[:10]))}"
                f"{' …' * (len(refused) > 10)}",
                "they act nowhere, and `tocsin audit list` shows them; for those from before [control] "
                "require_signature set [stream] signed_from",
                fatal=False,
            )
        )
    registry = open_registry(settings, stream)
    if not registry.versions():
        note = "the daemon will train one from what the topics hold, or run `tocsin train`"
        return [
            *found,
            Finding(stream.name, f"model of {stream.name}", "is not there yet", note, fatal=False),
        ]
    name = in_force.model or registry.current()
    try:
        registry.load(name, trusted_keys(settings))
    except (ArtefactError, SignatureError) as fault:
        fix = "promote a version that `tocsin models list` shows as verified, or train one"
        found.append(Finding(stream.name, f"model {name}", f"cannot be used: {fault}", fix))
    return found
