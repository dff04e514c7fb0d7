"""Who makes a change, when and why: the fields that every change carries."""

from __future__ import annotations

from typing import TypedDict


class Signed(TypedDict):
    """The common fields of a change."""

    id: str
    author: str
    reason: str
    created_at: str


def signed_by(author: str | None, reason: str) -> Signed:
    """A fresh id, the author (by default the login name), the reason and the time now."""
    import getpass
    import time
    import uuid

    from .wire import rfc3339

    if author is None:
        try:
            author = getpass.getuser()
        except (KeyError, OSError):  # a container whose user has no name
            author = "unknown"
    created = rfc3339(time.time_ns() // 1000)
    return Signed(id=str(uuid.uuid4()), author=author, reason=reason, created_at=created)
