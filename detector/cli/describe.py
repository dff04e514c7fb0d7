"""`tocsin describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from .common import ConfigOption, JsonOption, StreamOption, command_app, load_settings, print_json

if TYPE_CHECKING:
    from ..settings import Settings, Stream

app = command_app()


@app.command()
def describe(config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False) -> None:
    """Print the chain that every record passes, in order. Needs no broker, and no model."""
    settings = load_settings(config)
    streams = (settings.stream(stream),) if stream else settings.streams
    described = [_describe(settings, one) for one in streams]
    if json:
        print_json(described)
        return
    typer.echo("\n\n".join(_text(one) for one in described))


def _describe(settings: Settings, stream: Stream) -> dict[str, Any]:
    from ...pipelines import formats
    from ...pipelines.schema import FeatureSchema
    from ..chain import build_chain
    from ..registry import open_registry, trusted_keys
    from ..startup import bands_of, limits_of, members_of
    from ..state import StreamState

    registry = open_registry(settings, stream)
    manifest = None
    if registry.versions():
        manifest = registry.load(registry.current(), trusted_keys(settings)).manifest
    features = stream.features or (tuple(manifest.features) if manifest else ())
    members = tuple(manifest.members) if manifest else members_of(stream)
    lags = manifest.lags if manifest else stream.lags
    fixed = formats.of(stream.format).identity
    entity, time = fixed or (stream.entity, stream.time)
    # Without features and without a model the first records will tell which there are; one stands for them.
    schema = FeatureSchema(features or ("any",), stream.counters if features else ())
    state = StreamState(schema, stream.window, len(members), limits=limits_of(settings.state))
    bands = bands_of(stream, features) if features else None
    chain = build_chain(state, lags, int(stream.far_ahead), bands=bands)
    return {
        "stream": stream.name,
        "features": list(features),
        "model": registry.current() if manifest else None,
        "profile": manifest.profile if manifest else stream.profile,
        "members": list(members),
        "rekey": f"{', '.join(stream.topics)}, to {stream.rekeyed}, by entity" if stream.rekey else None,
        "read": f"{', '.join(stream.scored)}, {stream.format}; entity {_path(entity, 'the key')}, "
        f"time {_path(time, 'of the message')}",
        "stages": [{"name": name, "does": does} for name, does in chain.lines()],
        "write": f"alerts to {stream.alerts}, state to {stream.changelog}, dead letters to {stream.dead_letter}",
    }


def _path(path: str, otherwise: str) -> str:
    return f"at {path}" if path else otherwise


def _text(one: dict[str, Any]) -> str:
    features = len(one["features"])
    model = f"model {one['model']}" if one["model"] else "no model yet"
    head = (
        f"{one['stream']}: {features or 'all'} features, {model}, profile {one['profile']}, "
        f"members {', '.join(one['members'])}"
    )
    rekey = [("rekey", one["rekey"])] if one["rekey"] else []
    lines = [
        *rekey,
        ("read", one["read"]),
        *((s["name"], s["does"]) for s in one["stages"]),
        ("write", one["write"]),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join([head, *(f"  {name:<{width}}  {does}" for name, does in lines)])
