"""Settings: flags over environment over `tocsin.toml` over defaults, each checked, every fault said in full.

    settings = load(Path("tocsin.toml"))
    stream = settings.stream()

`settings_sections.py` says what can be set; this module turns what was given into it.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import SettingsError
from ..thresholds.budget import parse_budget
from .settings_forward import Forward
from .settings_group import Group
from .settings_hidden import HIDDEN, redacted, secrets
from .settings_http import Http
from .settings_kinds import SECRET, Duration, plain
from .settings_pages import Field, fields
from .settings_sections import (
    SECTIONS,
    Control,
    Decode,
    Incidents,
    Kafka,
    Log,
    Registry,
    State,
    Thresholds,
    Train,
)
from .settings_source import Given, Sources, Table, cache_folder, config_folder, gather
from .settings_stream import Stream

__all__ = [
    "HIDDEN",
    "Control",
    "Decode",
    "Duration",
    "Forward",
    "Group",
    "Http",
    "Incidents",
    "Kafka",
    "Log",
    "Registry",
    "Settings",
    "State",
    "Stream",
    "Thresholds",
    "Train",
    "cache_folder",
    "check_bands",
    "config_folder",
    "load",
    "plain",
    "redacted",
    "secrets",
    "settings_hash",
    "with_changes",
]
FILES = {"forward": ("header_file",), "http": ("tls_cert", "tls_key", "tls_ca")}
"""Settings that name files, which stand beside the file that names them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was configured. `file` is None where there is none; paths are absolute already."""

    streams: tuple[Stream, ...]
    kafka: Kafka = Kafka()
    registry: Registry = Registry()
    control: Control = Control()
    thresholds: Thresholds = Thresholds()
    incidents: Incidents = Incidents()
    train: Train = Train()
    state: State = State()
    decode: Decode = Decode()
    http: Http = Http()
    forward: Forward = Forward()
    group: Group = Group()
    log: Log = Log()
    file: str | None = None

    def stream(self, name: str | None = None) -> Stream:
        """The stream of that name, or the only one. SettingsError lists those there are."""
        names = [stream.name for stream in self.streams]
        if name is None and len(names) > 1:
            raise SettingsError(
                f"{len(names)} streams are configured; choose one with --stream: {', '.join(names)}."
            )
        for stream in self.streams:
            if name is None or stream.name == name:
                return stream
        raise SettingsError(
            f"there is no stream {name!r}{_did_you_mean(str(name), names)} Configured: {', '.join(names)}."
        )


def load(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Read and check all settings.

    `path` None means that there is no file. `environ` defaults to the process's. `overrides` are flags by
    dotted name, `{"thresholds.budget": "5/day"}`; those that are None were not given. Raises SettingsError.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    sources = gather(path, environ, given)
    for section, table in sources.sections.items():
        if section not in SECTIONS:
            origin = next((found.origin for found in table.values()), str(path))
            raise SettingsError(
                f"{origin}: there is no section [{section}]{_did_you_mean(section, [*SECTIONS, 'streams'])} "
                f"Sections: {', '.join(SECTIONS)}, streams.NAME."
            )
    kwargs: dict[str, Any] = {
        section: _convert(section, section, sources.sections.get(section, {}))
        for section in SECTIONS
        if section != "stream"
    }
    kwargs["registry"] = _absolute(kwargs["registry"], sources)
    for section, keys in FILES.items():
        named = {key: getattr(kwargs[section], key) for key in keys}
        placed = {key: _place(sources, section, key, file) for key, file in named.items() if file}
        kwargs[section] = msgspec.structs.replace(kwargs[section], **placed)
    settings = Settings(streams=_streams(sources), file=str(path) if path else None, **kwargs)
    _check_together(settings, sources)
    return settings


def with_changes(incidents: Incidents, changed: Mapping[str, object]) -> Incidents:
    """The section under what changes on the control topic have set, by dotted name (`incidents.k`).

    Raises SettingsError for a value that is not allowed.
    """
    values = {
        name.removeprefix("incidents."): value
        for name, value in changed.items()
        if name.startswith("incidents.")
    }
    if not values:
        return incidents
    try:
        return msgspec.convert({**plain(incidents), **values}, Incidents, dec_hook=_decode)
    except (msgspec.ValidationError, ValueError) as wrong:
        raise SettingsError(f"the change {values} of [incidents] is not allowed: {wrong}") from None


def settings_hash(settings: Settings, stream: Stream) -> str:
    """SHA-256 (hex) of what can change a decision about the stream's records; addresses and logs do not."""
    ignored = (
        "topics",
        "alerts",
        "groups",
        "scores",
        "dead_letter",
        "changelog",
        "control",
        "group_id",
        "start",
        "late_after",
        "runbook",
        "signed_from",
    )
    content = {
        "stream": {key: value for key, value in plain(stream).items() if key not in ignored},
        "thresholds": plain(settings.thresholds),
        "incidents": plain(settings.incidents),
        "decode": plain(settings.decode),
        "state": {key: value for key, value in plain(settings.state).items() if not key.endswith("_every")},
    }
    if settings.control.require_signature:
        content["control"] = {"signed_from": stream.signed_from}
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _streams(sources: Sources) -> tuple[Stream, ...]:
    if "stream" in sources.sections and sources.streams:
        origin = next(found.origin for found in sources.sections["stream"].values())
        raise SettingsError(
            f"{origin}: [stream] and [streams.{next(iter(sources.streams))}] cannot both be there. "
            "Write one stream as [stream], several as [streams.NAME]."
        )
    if sources.streams:
        tables = {name: ("streams." + name, table) for name, table in sources.streams.items()}
    else:
        tables = {"": ("stream", sources.sections.get("stream", {}))}
    streams = []
    for name, (label, table) in tables.items():
        if name and table.get("name", Given(name, "")).value != name:
            found = table["name"]
            raise SettingsError(
                f"{found.origin}: [{label}] name = {found.value!r}, but its section says {name!r}."
            )
        if name:
            table = {"name": Given(name, f"[{label}]"), **table}
        if "name" not in table:
            raise SettingsError(
                f"{sources.file or 'settings'}: no stream is configured. Add a section [stream] with "
                'name = "…", or set TOCSIN__STREAM__NAME. `tocsin init` writes a file that explains all '
                "of it."
            )
        streams.append(_convert("stream", label, table))
    return tuple(streams)


def _convert(section: str, label: str, table: Table) -> Any:
    """One section's Struct from what was given, key by key, so that a message can name the key."""
    known = {field.key: field for field in fields(section)}
    values = {}
    for key, found in table.items():
        if key not in known:
            raise SettingsError(
                f"{found.origin}: [{label}] has no setting {key!r}{_did_you_mean(key, list(known))} "
                f"It has: {', '.join(known)}."
            )
        values[key] = _value(known[key], found, label)
    return SECTIONS[section](**values)


def _value(field: Field, found: Given, label: str) -> Any:
    value = found.value
    if value == "" and field.optional:
        return None
    if field.key == "librdkafka" and isinstance(value, dict):
        value = _flatten(value)
    if isinstance(value, str) and field.many:
        value = [part.strip() for part in value.split(",") if part.strip()]
    secret = SECRET.search(field.key) or field.key in ("librdkafka", "url")
    shown = HIDDEN if secret else repr(found.value)
    try:
        # A number where text is wanted comes from the environment, where 007 and 7 look alike.
        if isinstance(value, int) and not isinstance(value, bool) and field.text:
            value = str(value)
        converted = msgspec.convert(value, field.type, strict=True, dec_hook=_decode)
        if isinstance(converted, Duration) and not field.least <= converted <= field.most:
            raise ValueError
    except (msgspec.ValidationError, ValueError):
        raise SettingsError(
            f"{found.origin}: [{label}] {field.key} = {shown}: allowed is {field.allowed}. "
            f"({field.description})"
        ) from None
    return converted


def _decode(kind: type, value: object) -> object:
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    if kind is Duration and isinstance(value, Duration):
        return value
    raise ValueError


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`sasl.password = "x"` in TOML is a table in a table; client properties are flat."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return flat


def _absolute(registry: Registry, sources: Sources) -> Registry:
    """The registry's paths, those from the file relative to the file's folder."""

    def place(key: str, path: str) -> str:
        return _place(sources, "registry", key, path)

    return Registry(
        path=place("path", registry.path),
        public_keys=tuple(place("public_keys", path) for path in registry.public_keys),
        encryption_keys=tuple(place("encryption_keys", path) for path in registry.encryption_keys),
        private_key=place("private_key", registry.private_key) if registry.private_key else None,
    )


def _place(sources: Sources, section: str, key: str, path: str) -> str:
    """A path made absolute: what the file names stands beside it, what flags and environment name, here."""
    table = sources.sections.get(section, {})
    folder = sources.file.resolve().parent if sources.file else Path.cwd()
    in_file = key not in table or (sources.file and table[key].origin.startswith(str(sources.file)))
    try:
        return str(((folder if in_file else Path.cwd()) / Path(path).expanduser()).absolute())
    except RuntimeError as fault:  # `~somebody` whom this machine does not know
        raise SettingsError(f"{sources.file or 'settings'}: [{section}] {key} = {path!r}: {fault}") from None


def _check_together(settings: Settings, sources: Sources) -> None:
    """What no single setting shows."""
    where = f"{sources.file or 'settings'}:"
    if settings.thresholds.budget:
        try:
            parse_budget(settings.thresholds.budget)
        except ValueError as wrong:
            raise SettingsError(f"{where} [thresholds] budget: {wrong}") from None
    if settings.incidents.k > settings.incidents.m:
        raise SettingsError(
            f"{where} [incidents] k = {settings.incidents.k} of m = {settings.incidents.m} can never be "
            "reached: "
            "k must be at most m."
        )
    if settings.incidents.absent_after and settings.incidents.absent_after >= settings.incidents.gone_after:
        raise SettingsError(
            f"{where} [incidents] absent_after = {settings.incidents.absent_after} is not shorter than gone_after = "
            f"{settings.incidents.gone_after}: an entity that is gone is not awaited any more."
        )
    if settings.state.forget_after and settings.state.forget_after < settings.incidents.gone_after:
        raise SettingsError(
            f"{where} [state] forget_after = {settings.state.forget_after} is shorter than [incidents] gone_after = "
            f"{settings.incidents.gone_after}: what is open of an entity ends with that, and until then it is kept."
        )
    if settings.forward.hold < 2 * settings.forward.resend:
        raise SettingsError(
            f"{where} [forward] hold = {settings.forward.hold} is less than twice resend = {settings.forward.resend}: "
            "an open incident would end by itself between two messages."
        )
    claimed: dict[str, str] = {f"group {settings.forward.group_id}": "group_id of [forward]"}
    if settings.group.group_id and f"group {settings.group.group_id}" in claimed:
        raise SettingsError(
            f"{where} [forward] group_id and [group] group_id are both {settings.group.group_id!r}: each needs one of "
            "its own."
        )
    claimed[f"group {settings.group.group_id}"] = "group_id of [group]"
    for stream in settings.streams:
        if stream.lags > stream.window:
            raise SettingsError(
                f"{where} stream {stream.name}: lags = {stream.lags} needs window >= {stream.lags}, "
                f"found window = {stream.window}."
            )
        if unknown := sorted(set(stream.counters) - set(stream.features)) if stream.features else []:
            raise SettingsError(
                f"{where} stream {stream.name}: counters names {unknown[0]!r}, which is not in features"
                f"{_did_you_mean(unknown[0], list(stream.features))}"
            )
        if stream.features:
            check_bands(stream, stream.features, f"{where} ")
        if len(set(stream.features)) < len(stream.features):
            raise SettingsError(f"{where} stream {stream.name}: features names the same path twice.")
        roles = {
            "changelog": stream.changelog,
            "control": stream.control,
            "group_id": f"group {stream.group_id}",
        }
        if stream.rekey:
            roles |= {"rekeyed": stream.rekeyed, "group of rekeying": f"group {stream.rekey_group}"}
        mixed = {
            "alerts": stream.alerts,
            "groups": stream.groups,
            "dead_letter": stream.dead_letter,
            "scores": stream.scores,
        }
        for role, topic in [
            *roles.items(),
            *((f"topics[{i}]", t) for i, t in enumerate(stream.topics)),
            *mixed.items(),
        ]:
            if topic is None:
                continue
            user = f"{role} of stream {stream.name}"
            shareable = role in mixed or role.startswith("topics")
            kind = role.partition("[")[0]
            if topic in claimed and not (
                shareable and claimed[topic].startswith(kind) and stream.name not in claimed[topic]
            ):
                raise SettingsError(
                    f"{where} {user} and {claimed[topic]} are both {topic!r}: each needs one of its own."
                )
            claimed.setdefault(topic, user)


def check_bands(stream: Stream, features: Sequence[str], where: str = "") -> None:
    """Raises SettingsError where a band is of none of the features."""
    if unknown := sorted(set(stream.bands) - set(features)):
        raise SettingsError(
            f"{where}stream {stream.name}: bands names {unknown[0]!r}, which is not among the features"
            f"{_did_you_mean(unknown[0], list(features))}"
        )


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "."
