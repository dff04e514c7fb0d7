"""The members of the panel: one file and one entry of `TABLE` each, in the order of the scored columns."""

from __future__ import annotations

from . import errs, half, jump, vae
from .base import Member

TABLE: dict[str, Member] = {m.name: m for m in (vae.MEMBER, half.MEMBER, errs.MEMBER, jump.MEMBER)}
UNTRAINED: tuple[str, ...] = tuple(name for name, member in TABLE.items() if not member.trained)

__all__ = ["TABLE", "UNTRAINED", "Member"]
