"""The settings as text: what each allows, the commented file of `tocsin init`, the page docs/settings.md."""

from __future__ import annotations

import json
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from .settings_kinds import Duration, plain
from .settings_sections import SECTIONS


class Field(NamedTuple):
    """One setting, as its annotations describe it."""

    section: str
    key: str
    type: Any
    description: str
    allowed: str
    default: Any
    required: bool
    optional: bool
    """An empty value means that it is not set."""
    text: bool
    many: bool
    least: Duration
    most: Duration


@lru_cache
def fields(section: str) -> tuple[Field, ...]:
    """The settings of a section, in the order in which they are written."""
    struct = SECTIONS[section]
    hints = get_type_hints(struct, include_extras=True)
    return tuple(_field(section, info, hints[info.name]) for info in msgspec.structs.fields(struct))


def _field(section: str, info: msgspec.structs.FieldInfo, annotated: Any) -> Field:
    optional = get_origin(annotated) in (Union, UnionType)
    annotated = get_args(annotated)[0] if optional else annotated
    kind, *metas = get_args(annotated)
    merged: dict[str, Any] = {}
    description = ""
    for meta in metas:
        description = meta.description or description
        merged.update(meta.extra or {})
        merged.update({name: getattr(meta, name) for name in ("ge", "gt", "le", "lt", "min_length")})
    default = info.default if info.default is not msgspec.NODEFAULT else None
    if info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    return Field(
        section=section,
        key=info.name,
        type=annotated,
        description=description,
        allowed=_allowed(kind, merged) + (", or empty" if optional else ""),
        default=default,
        required=info.required,
        optional=optional,
        text=kind is str,
        many=get_origin(kind) is tuple,
        least=merged.get("least", Duration()),
        most=merged.get("most", Duration()),
    )


def _allowed(kind: Any, meta: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "allowed" in meta:
        return str(meta["allowed"])
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(kind))
    if kind is Duration:
        return f"a duration from {meta['least']} to {meta['most']}, for instance 30s, 5m, 24h or 1d"
    if get_origin(kind) is tuple:
        return 'a list of texts, for instance ["a", "b"]'
    if get_origin(kind) is dict:
        return "a table of names and values"
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        low = f"from {meta['ge']:g}" if meta["ge"] is not None else f"above {meta['gt']:g}"
        high = f" to {meta['le']}" if meta["le"] is not None else f" to below {meta['lt']}"
        return f"{'an integer' if kind is int else 'a number'} {low}{high}"
    return "a text" + (" that is not empty" if meta["min_length"] else "")


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Duration):
        return json.dumps(str(value))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(plain(value), ensure_ascii=False)


def commented_file(given: dict[str, dict[str, Any]]) -> str:
    """A `tocsin.toml` that explains every setting; those in `given` are set, the others commented out."""
    lines = [
        "# Tocsin's settings. What is commented out shows its default.",
        "# Each can also be given as TOCSIN__SECTION__KEY in the environment, which wins over this file.",
        "# Durations are written 30s, 5m, 24h, 1d. Several streams: [streams.NAME] in the place of [stream].",
    ]
    for section, struct in SECTIONS.items():
        lines += ["", f"# {_first_line(struct)}", f"[{section}]"]
        for field in fields(section):
            value = given.get(section, {}).get(field.key, field.default)
            is_set = field.key in given.get(section, {})
            shown = '""' if value is None else toml(value)
            lines += _wrapped(f"{field.description} Allowed: {field.allowed}.")
            lines.append(f"{'' if is_set else '# '}{field.key} = {shown}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int = 100) -> list[str]:
    import textwrap

    return ["", *(f"# {line}" for line in textwrap.wrap(text, width - 2))]


def _first_line(struct: type) -> str:
    return (struct.__doc__ or "").strip().splitlines()[0]


def markdown() -> str:
    """The page docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`; do not edit.",
        "",
        (
            "Flags win over the environment (`TOCSIN__SECTION__KEY`, `TOCSIN__STREAMS__NAME__KEY`), the "
            "environment over "
            "`tocsin.toml`, the file over the defaults. `TOCSIN__…__KEY_FILE` names a file that holds the "
            "value, for "
            "secrets. An unknown key is an error. One stream is written `[stream]`, several `[streams.NAME]`."
        ),
    ]
    for section, struct in SECTIONS.items():
        lines += [
            "",
            f"## [{section}]",
            "",
            _first_line(struct),
            "",
            "| key | default | allowed | what it does |",
        ]
        lines.append("|---|---|---|---|")
        for field in fields(section):
            default = (
                "required" if field.required else "" if field.default is None else f"`{toml(field.default)}`"
            )
            cells = [f"`{field.key}`", default, field.allowed, field.description]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
