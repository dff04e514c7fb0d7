"""Where settings come from: file, environment and flags, as one tree whose every leaf knows its origin.

The only module that reads the environment. Names are `TOCSIN__SECTION__KEY` and `TOCSIN__STREAMS__NAME__KEY`,
in any case; a value is read as TOML where it is (`7`, `true`, `["a", "b"]`), else as text. `…_FILE` names a
file that holds the value, for secrets.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SettingsError

PREFIX = "TOCSIN__"
DEEPEST = 16
"""Of tables and arrays in one another; settings have four."""
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*(?:["']([^"']*)["']|([\w-]+))\s*[=.]""")


class Given(NamedTuple):
    """A value and where it was found, as a message names it."""

    value: Any
    origin: str


Table = dict[str, Given]
"""Keys of one section."""


class Sources(NamedTuple):
    """Everything that was given: sections, and streams by name."""

    sections: dict[str, Table]
    streams: dict[str, Table]
    file: Path | None


def environment() -> dict[str, str]:
    """This process's environment, for those who pass it on."""
    return dict(os.environ)


def config_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The user's configuration folder for Tocsin, where the signing key lives; it need not exist."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "tocsin"


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The user's cache folder for Tocsin; what is in it can be made again."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    return Path(base) / "tocsin"


def gather(path: Path | None, environ: Mapping[str, str] | None, overrides: Mapping[str, object]) -> Sources:
    """File, then environment, then flags; the later wins, key by key.

    Raises SettingsError for a file that cannot be read or is no TOML, and for names that cannot be placed.
    """
    sources = Sources({}, {}, path)
    if path is not None:
        _from_file(path, sources)
    _from_environment(os.environ if environ is None else environ, sources)
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        _section(sources, section, f"flag {name}")[key] = Given(value, f"the flag for {name}")
    return sources


def _from_file(path: Path, sources: Sources) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        content = _toml(text)
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file. `tocsin init` writes one.") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path}: cannot be read: {fault}") from None
    except (ValueError, RecursionError) as fault:
        raise SettingsError(f"{path}: is not valid TOML: {fault}") from None
    lines = _lines(text)
    for section, table in content.items():
        if not isinstance(table, dict):
            raise SettingsError(
                f"{path}{lines.get(('', section), '')}: {section} = {table!r} stands outside any section. "
                "Write it under the [section] it belongs to."
            )
        if section != "streams":
            sources.sections[section] = _located(table, path, lines, section)
            continue
        for name, keys in table.items():
            if not isinstance(keys, dict):
                raise SettingsError(
                    f"{path}: [streams] {name}: each stream is a section of its own, [streams.{name}]."
                )
            sources.streams[name] = _located(keys, path, lines, f"streams.{name}")


def _toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError or RecursionError for what is none.

    The parser lets through what TOML does not know, and what would be too much for whoever walks or shows it.
    """
    content = tomllib.loads(text)
    layer: list[Any] = [content]
    for _ in range(DEEPEST):
        inside = [
            one.values() if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)
        ]
        layer = [value for values in inside for value in values]
        if any(isinstance(value, int) and abs(value) >= 1 << 63 for value in layer):
            raise ValueError("an integer of more than 64 bits")
        if not layer:
            return content
    raise ValueError(f"tables or arrays more than {DEEPEST} deep")


def _located(table: dict[str, Any], path: Path, lines: Mapping[tuple[str, str], str], section: str) -> Table:
    return {key: Given(value, f"{path}{lines.get((section, key), '')}") for key, value in table.items()}


def _lines(text: str) -> dict[tuple[str, str], str]:
    """`:LINE` of each key of each section, found by reading lines as people do; without what is written otherwise."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = header[1].replace('"', "").replace(" ", "")
            above, _, last = section.rpartition(".")
            found.setdefault((above, last), f":{number}")
        elif key := _KEY.match(line):
            found.setdefault((section, key[1] or key[2]), f":{number}")
    return found


def _from_environment(environ: Mapping[str, str], sources: Sources) -> None:
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX):
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        origin = f"environment variable {name}"
        if parts[0] == "streams" and len(parts) >= 3:
            table = sources.streams.setdefault(_stream_name(parts[1], sources), {})
            path = parts[2:]
        elif len(parts) >= 2 and all(parts):
            table = _section(sources, parts[0], origin)
            path = parts[1:]
        else:
            raise SettingsError(
                f"{origin}: settings are named TOCSIN__SECTION__KEY or TOCSIN__STREAMS__NAME__KEY."
            )
        value: Any = environ[name]
        if path[-1].endswith("_file"):
            path[-1] = path[-1].removesuffix("_file")
            value = _content(value, origin)
        elif path[0] != "librdkafka":  # whose values are text to the client; a password may look like 1e5
            value = _scalar(value)
        if path[0] == "librdkafka":
            _add_property(table, ".".join(path[1:]).replace("_", "."), value, origin)
        elif len(path) == 1:
            table[path[0]] = Given(value, origin)
        else:
            raise SettingsError(f"{origin}: there are no settings below [{parts[0]}] {path[0]}.")


def _add_property(table: Table, name: str, value: object, origin: str) -> None:
    """One client property beside those already given."""
    before = table.get("librdkafka", Given({}, ""))
    known = before.value if isinstance(before.value, dict) else {}
    table["librdkafka"] = Given({**known, name: value}, " and ".join(filter(None, (before.origin, origin))))


def _section(sources: Sources, section: str, origin: str) -> Table:
    """The section's keys so far; `stream` is the only stream where the file names it in [streams]."""
    if section == "stream" and "stream" not in sources.sections and len(sources.streams) == 1:
        return next(iter(sources.streams.values()))
    if section == "streams":
        raise SettingsError(f"{origin}: name the stream and the key: TOCSIN__STREAMS__NAME__KEY.")
    return sources.sections.setdefault(section, {})


def _stream_name(name: str, sources: Sources) -> str:
    """The stream of the file that a variable means, whose name knows no '-', '.' or capitals."""
    for known in sources.streams:
        if re.sub(r"[-.]", "_", known).lower() == name:
            return known
    return name


def _scalar(text: str) -> Any:
    try:
        return _toml(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _content(path: str, origin: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{origin}: the file {path} cannot be read: {fault}") from None
