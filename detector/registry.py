"""From settings to the registry: where versions lie, who signs, whom to trust."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..models import signing
from ..models.encryption import load_ciphers
from ..models.registry import Registry
from .settings import Settings, Stream, config_folder


def open_registry(settings: Settings, stream: Stream) -> Registry:
    """The versions of a stream.

    Raises:
        ArtefactError: its name cannot name a folder, or a key of `[registry] encryption_keys` cannot be used.
    """
    ciphers = load_ciphers([Path(path) for path in settings.registry.encryption_keys])
    return Registry(Path(settings.registry.path), stream.name, ciphers)


def private_key(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """The key file that signs: `[registry] private_key`, else the one in the user's configuration folder."""
    if settings.registry.private_key:
        return Path(settings.registry.private_key)
    return config_folder(environ) / signing.PRIVATE_NAME


def trusted_keys(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> tuple[signing.TrustedKey, ...]:
    """The keys of `[registry] public_keys`, by default the local one alone.

    Raises:
        SignatureError: a key file is missing or holds no Ed25519 public key.
    """
    paths = [Path(path) for path in settings.registry.public_keys]
    return signing.load_trusted(paths or [signing.public_path(private_key(settings, environ))])
