"""Which model version serves: moved through the control topic, or, for files alone, in the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from ..errors import BrokerUnavailable, ModelNotFound, UnknownTopic
from ..models.registry import Champion, Registry
from ..pipelines.brokers import Broker
from .changes import START, Promotion, Rollback, Versioned, apply
from .control import Artefacts, Unloadable, publish, read_all

Kind = Literal["promotion", "rollback"]


class Moved(NamedTuple):
    """What serves now. `change` is the version of the change, None where only the local pointer moved."""

    model: str
    previous: str | None
    change: int | None


def served(changes: Iterable[Versioned | Unloadable]) -> list[str]:
    """The versions that the control topic has let serve, in order; each differs from the one before."""
    effective = START
    names: list[str] = []
    for change in changes:
        if isinstance(change, Unloadable):
            continue
        effective = apply(effective, change)
        model = effective.in_force.model
        if model is not None and names[-1:] != [model]:
            names.append(model)
    return names


def before(names: Sequence[str]) -> str:
    """The version to go back to. Raises ModelNotFound where there is none."""
    if len(names) < 2:
        raise ModelNotFound(
            "there is no version before the present one to go back to; name one: `tocsin models rollback "
            "VERSION`"
        )
    return names[-2]


def move(
    registry: Registry,
    check: Callable[[str], None],
    broker: Broker,
    control: str,
    artefacts: Artefacts,
    name: str | None,
    kind: Kind,
    signed: Mapping[str, str],
) -> Moved:
    """Publish that a version serves, and let the registry's pointer follow.

    `check` loads a version whole and raises ArtefactError where it cannot be trusted or does not fit the stream; it is
    asked before anything is said. `name` None is the version before the present one. `signed` holds id, author, reason
    and created_at.

    Raises:
        ArtefactError: the version is missing, or cannot be trusted or used.
        BrokerError: nobody answers, the control topic does not exist, or it did not take the change.
    """
    try:
        names = served(read_all(broker, control, artefacts))
        chosen = name or before(names)
        check(chosen)
        content = (
            Promotion(model=chosen, **signed) if kind == "promotion" else Rollback(model=chosen, **signed)
        )
        change = publish(broker, control, content, artefacts)
    except (BrokerUnavailable, UnknownTopic) as error:
        raise type(error)(
            f"{error} Nothing was changed. To move only the registry's own pointer, for work with files "
            f"alone, add --local."
        ) from error
    point(registry, chosen, signed)
    return Moved(chosen, names[-1] if names else None, change)


def move_local(
    registry: Registry, check: Callable[[str], None], name: str | None, signed: Mapping[str, str]
) -> Moved:
    """Move only the registry's pointer. Raises ArtefactError as `move` does."""
    pointer = registry.champion()
    present = pointer.version if pointer else None
    if name is None:
        name = before([text for text in ((pointer.previous if pointer else ""), present) if text])
    check(name)
    point(registry, name, signed)
    return Moved(name, present, None)


def point(registry: Registry, name: str, signed: Mapping[str, str]) -> None:
    """Let the registry's pointer name a version, remembering the one before."""
    pointer = registry.champion()
    if pointer is not None and pointer.version == name:
        return
    registry.point(
        Champion(
            version=name,
            previous=pointer.version if pointer else "",
            author=signed["author"],
            reason=signed["reason"],
            changed=signed["created_at"],
        )
    )
