r"""Dotted paths into JSON objects, and msgspec types that read exactly what a set of paths asks for.

`system.cpu.load` is the key `load` in the object `cpu` in the object `system`. A dot that belongs to a key is
written `\.`, a backslash `\\`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec

from ..errors import SettingsError

_KEY = r"(?:\\.|[^.\\])+"
_PATH = re.compile(rf"{_KEY}(?:\.{_KEY})*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class NotAnObject(Exception):
    """A path leads through something that is not an object; its text is the key where that is."""


@lru_cache
def split(path: str) -> tuple[str, ...]:
    """The keys of a path. Raises SettingsError for an empty path or an empty key."""
    if not _PATH.fullmatch(path):
        raise SettingsError(rf"'{path}' is not a path: keys joined by dots, a dot inside a key as '\.'")
    return tuple(_ESCAPED.sub(r"\1", key) for key in re.findall(_KEY, path, re.DOTALL))


def escape(key: str) -> str:
    """A key as it stands in a path."""
    return key.replace("\\", "\\\\").replace(".", r"\.")


def lookup(content: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[bool, Any]:
    """Whether the path is there, and what it holds. Raises NotAnObject; a null on the way is "not there"."""
    at: Any = content
    for key in keys:
        if at is None:
            return False, None
        if not isinstance(at, dict):
            raise NotAnObject(key)
        if key not in at:
            return False, None
        at = at[key]
    return True, at


def leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not an object, with its path, in order."""
    for key, value in content.items():
        path = above + escape(key)
        if isinstance(value, dict):
            yield from leaves(value, path + ".")
        else:
            yield path, value


class Leaf(NamedTuple):
    """What stands at a path: a type and its default where the path is absent."""

    name: str
    keys: tuple[str, ...]
    type: Any
    default: Any


class Shape(NamedTuple):
    """A msgspec Struct type, nested where the paths are, and a getter for each leaf's name."""

    type: Any
    attribute: dict[str, str]

    def getter(self, *names: str) -> Callable[[Any], Any]:
        """One call per struct: the value (one name) or the tuple of values (several)."""
        return attrgetter(*(self.attribute[name] for name in names))

    def rows(self, names: Sequence[str]) -> Callable[[Iterable[Any]], Iterable[tuple[Any, ...]]]:
        """From many structs to the tuples of these leaves' values."""
        fields = [self.attribute[name] for name in names]
        if fields == list(self.type.__struct_fields__[: len(fields)]):  # none nested: a third faster
            cut = itemgetter(slice(0, len(fields)))
            return lambda structs: map(cut, map(msgspec.structs.astuple, structs))
        if len(fields) == 1:
            get = attrgetter(fields[0])
            return lambda structs: ((get(struct),) for struct in structs)
        return lambda structs: map(attrgetter(*fields), structs)


def shape(leaves: list[Leaf]) -> Shape:
    """The type that reads these leaves and skips everything else.

    Raises SettingsError where two leaves share a path, or one path leads through another.
    """
    tree: dict[str, Any] = {}
    for leaf in leaves:
        at = tree
        for key in leaf.keys[:-1]:
            at = at.setdefault(key, {})
            if isinstance(at, Leaf):
                raise _clash(leaf, at)
        there = at.setdefault(leaf.keys[-1], leaf)
        if there is not leaf:
            raise _clash(leaf, there if isinstance(there, Leaf) else _any_leaf(there))
    attribute: dict[str, str] = {}
    return Shape(_struct(tree, "", attribute), attribute)


def _struct(tree: dict[str, Any], above: str, attribute: dict[str, str]) -> Any:
    fields: list[tuple[str, Any, Any]] = []
    rename = {}
    for number, (key, node) in enumerate(tree.items()):
        field = f"f{number}"
        rename[field] = key
        if isinstance(node, Leaf):
            attribute[node.name] = above + field
            fields.append((field, node.type, node.default))
        else:
            inner = _struct(node, f"{above}{field}.", attribute)
            fields.append((field, inner, msgspec.field(default_factory=inner)))
    return msgspec.defstruct("Message", fields, rename=rename, gc=False)


def _any_leaf(tree: dict[str, Any]) -> Leaf:
    node: Any = tree
    while not isinstance(node, Leaf):
        node = next(iter(node.values()))
    return node


def _clash(one: Leaf, other: Leaf) -> SettingsError:
    a, b = (".".join(map(escape, leaf.keys)) for leaf in (one, other))
    return SettingsError(
        f"{one.name} at '{a}' and {other.name} at '{b}' cannot both be read: two paths must neither be equal "
        "nor lead through each other"
    )
