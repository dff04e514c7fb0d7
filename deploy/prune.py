"""Uninstall all that Tocsin itself does not need, from the environment that this runs in.

constraints.txt pins what development needs as well, and pip cannot install a part of a file whose every line has
hashes; so the image's build installs all of it, and this takes the rest away again, pip last of all.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(root: str, requires: Mapping[str, Iterable[str]]) -> set[str]:
    """`root` and what it needs, however far down; `requires` gives each distribution's requirements."""
    found: set[str] = set()
    left: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, extras = one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        found.add(name)
        for line in requires[name]:
            wanted = Requirement(line)
            applies = (wanted.marker is None) or any(
                wanted.marker.evaluate({"extra": extra}) for extra in (extras or {""})
            )
            if applies:
                left.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))
    return found


def installed() -> dict[str, list[str]]:
    """Each distribution of this environment, and what it requires."""
    return {canonicalize_name(one.metadata["Name"]): one.requires or [] for one in metadata.distributions()}


def unneeded() -> list[str]:
    """What may go; pip is the last."""
    have = installed()
    return sorted(have.keys() - needed("tocsin", have), key=lambda name: (name == "pip", name))


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *unneeded()], check=True)
