"""Which features a topic holds, seen from a sample of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import decoding, paths


def wide_features(values: Iterable[bytes | None], *, apart: Iterable[str]) -> tuple[str, ...]:
    """Paths of every number in wide messages, in order of first appearance.

    `apart` are the paths that are no features: entity, time, label. A path that ever holds something other
    than a number, a string with a number or null is left out, as is one that only ever holds null. Messages
    that cannot be read are passed over.
    """
    left_out = {paths.split(path) for path in apart if path}
    found: dict[str, bool] = {}
    spoilt: set[str] = set()
    for content in _readable(values):
        for path, value in paths.leaves(content):
            try:
                decoding.number(value)
            except ValueError:
                spoilt.add(path)
                continue
            found[path] = found.get(path, False) or value is not None
    kept = [path for path, seen in found.items() if seen and path not in spoilt]
    return tuple(path for path in kept if paths.split(path) not in left_out)


def long_features(values: Iterable[bytes | None], *, name: str, value: str) -> tuple[str, ...]:
    """Names of every metric in long messages, sorted: their order in a topic is chance."""
    at_name, at_value = paths.split(name), paths.split(value)
    found: set[str] = set()
    for content in _readable(values):
        try:
            metric = decoding.find(name, content, at_name)
            decoding.number(decoding.find(value, content, at_value))
        except (decoding.Refused, ValueError):
            continue
        if isinstance(metric, str) and metric:
            found.add(metric)
    return tuple(sorted(found))


def _readable(values: Iterable[bytes | None]) -> Iterable[dict[str, Any]]:
    for value in values:
        try:
            yield decoding.read_object(value or b"")
        except decoding.Refused:
            continue
