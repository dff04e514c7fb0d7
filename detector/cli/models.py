"""`tocsin models`: what the registry holds, whether it can be trusted, and which version serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import epochs
from .common import (
    ConfigOption,
    JsonOption,
    StreamOption,
    command_app,
    load_settings,
    moment,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ...models.artefact import Manifest
    from ...models.registry import Registry
    from ...models.signing import TrustedKey
    from ..promotion import Kind

app = command_app()

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit.")]
AuthorOption = Annotated[str | None, typer.Option("--author", metavar="NAME", help="Who; by default you.")]
LocalOption = Annotated[
    bool, typer.Option("--local", help="Move only the registry's own pointer, for work with files alone.")
]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A name, a unique beginning of one, `latest` or `champion`.")
]


@app.command("list")
def list_versions(config: ConfigOption = None, stream: StreamOption = None, json: JsonOption = False) -> None:
    """List the versions of a stream, oldest first, and whether each can be trusted."""
    from ...errors import ArtefactError

    registry, trusted = _open(config, stream)
    pointer = registry.champion()
    rows: list[dict[str, Any]] = []
    for name in registry.versions():
        row: dict[str, Any] = {"version": name, "champion": pointer is not None and pointer.version == name}
        try:
            manifest = registry.load(name, trusted).manifest
        except ArtefactError as fault:
            row |= {"verified": False, "fault": str(fault)}
        else:
            row |= {"verified": True, **_facts(manifest)}
        rows.append(row)
    if json:
        print_json(rows)
        return
    columns = ("version", "created", "profile", "entities", "records", "")
    print_table(
        columns,
        [
            (
                row["version"],
                moment(row.get("created")),
                *(row.get(key) for key in ("profile", "entities", "records")),
                f"NOT TRUSTED: {row['fault']}"
                if not row["verified"]
                else "champion"
                if row["champion"]
                else "",
            )
            for row in rows
        ],
        wrap=("",),
    )


@app.command()
def show(
    version: VersionArgument = "champion",
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a version says of itself: training, features, history."""
    import msgspec

    registry, trusted = _open(config, stream)
    loaded = registry.load(registry.resolve(version), trusted)
    manifest = loaded.manifest
    if json:
        print_json({**msgspec.to_builtins(manifest), "path": str(loaded.path), "signed_by": loaded.key})
        return
    facts = {
        "version": manifest.name,
        "path": loaded.path,
        "signed by": loaded.key,
        "encrypted with": manifest.encrypted or "no key",
        **_facts(manifest),
        "members": ", ".join(manifest.members),
        "features": f"{len(manifest.columns)} of {len(manifest.features)}: {', '.join(manifest.columns)}",
        "lags": manifest.lags,
        "schema": manifest.schema_hash[:16],
        "seconds": manifest.training.get("seconds"),
        "libraries": ", ".join(f"{name} {number}" for name, number in manifest.libraries.items()),
        **{f"warning {i + 1}": text for i, text in enumerate(manifest.training.get("warnings", []))},
    }
    print_table(("", ""), facts.items())
    if manifest.history:
        typer.echo("\n" + epochs.HEADER)
        for row in manifest.history:
            typer.echo(epochs.line(row))


@app.command()
def verify(
    versions: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION]…", help="Which; all of them by default.")
    ] = None,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Check signatures, checksums and contents; fails if any version cannot be trusted."""
    from ...errors import ArtefactError, ModelNotFound
    from ...models.packing import unpack

    registry, trusted = _open(config, stream)
    names = [registry.resolve(text) for text in versions] if versions else registry.versions()
    if not names:
        raise ModelNotFound(f"there is nothing to verify: {registry.folder} holds no version")
    faults: dict[str, str] = {}
    for name in names:
        try:
            unpack(registry.load(name, trusted))
        except ArtefactError as fault:
            faults[name] = str(fault)
    if json:
        print_json([{"version": name, "fault": faults.get(name)} for name in names])
    else:
        for name in names:
            typer.echo(f"{name}: {faults.get(name, 'good')}")
    if faults:
        raise typer.Exit(1)


@app.command()
def export(
    version: VersionArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The tar file; VERSION.tar by default.")
    ] = None,
    config: ConfigOption = None,
    stream: StreamOption = None,
) -> None:
    """Write a verified version as a tar file; the same version always gives the same bytes."""
    registry, trusted = _open(config, stream)
    name = registry.resolve(version)
    typer.echo(registry.export(name, trusted, out or Path(f"{name}.tar")))


@app.command()
def promote(
    version: VersionArgument,
    reason: ReasonOption = "",
    author: AuthorOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Let a version score from now on: running daemons swap to it without a pause."""
    registry, _ = _open(config, stream)
    said = (reason, author, local, json)
    _serve(registry, registry.resolve(version), "promotion", said, config, stream)


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Which; by default the one before the present.")
    ] = None,
    reason: ReasonOption = "",
    author: AuthorOption = None,
    local: LocalOption = False,
    config: ConfigOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Go back to an earlier version."""
    registry, _ = _open(config, stream)
    name = registry.resolve(version) if version else None
    _serve(registry, name, "rollback", (reason, author, local, json), config, stream)


def _open(config: Path | None, stream: str | None) -> tuple[Registry, tuple[TrustedKey, ...]]:
    from ..registry import open_registry, trusted_keys

    settings = load_settings(config)
    return open_registry(settings, settings.stream(stream)), trusted_keys(settings)


def _serve(
    registry: Registry,
    name: str | None,
    kind: Kind,
    said: tuple[str, str | None, bool, bool],
    config: Path | None,
    stream: str | None,
) -> None:
    from ...pipelines.brokers import open_broker
    from ..control import artefacts_of
    from ..promotion import move, move_local
    from ..signed import signed_by
    from ..startup import check_promotable

    reason, author, local, json = said
    signed: dict[str, str] = {**signed_by(author, reason or kind)}  # type: ignore[dict-item]
    settings = load_settings(config)
    chosen = settings.stream(stream)

    def check(version: str) -> None:
        check_promotable(version, registry, settings, chosen)

    if local:
        moved = move_local(registry, check, name, signed)
    else:
        broker = open_broker(settings.kafka.bootstrap, settings.kafka.librdkafka)
        try:
            artefacts = artefacts_of(settings, chosen)
            moved = move(registry, check, broker, chosen.control, artefacts, name, kind, signed)
        finally:
            broker.close()
    if json:
        print_json(moved)
        return
    how = "the registry's pointer alone" if moved.change is None else f"change {moved.change}"
    before = f", before it {moved.previous}" if moved.previous else ""
    typer.echo(f"{moved.model} serves now ({how}){before}")


def _facts(manifest: Manifest) -> dict[str, Any]:
    training = manifest.training
    return {
        "created": manifest.created,
        "profile": manifest.profile,
        "entities": len(manifest.entities),
        "records": training.get("records"),
        "from": training.get("from"),
        "until": training.get("until"),
    }
