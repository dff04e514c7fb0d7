"""The settings of what the daemon shows over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics, health and status over HTTP."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on. Anything but loopback needs tokens, or `open`.",
            min_length=1,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(description="Port to listen on. 0: any free one, which the log names.", ge=0, le=65535)
    ] = 9469
    token: (
        Annotated[
            str,
            Meta(
                description="Bearer token of the viewer that commands here are; the daemon lets it in. With one, or "
                "with `viewer_hashes`, all but `/-/healthy` and `/-/ready` needs one. A secret: give it by "
                "`TOCSIN__HTTP__TOKEN_FILE`.",
                min_length=16,
            ),
        ]
        | None
    ) = None
    viewer_hashes: Annotated[
        tuple[Annotated[str, Meta(pattern="^(sha256:)?[0-9a-f]{64}$")], ...],
        Meta(
            description="SHA-256 (hex) of further tokens that may read. Tokens are random: `openssl rand -hex 32 | tee "
            "token | tr -d '\\n' | sha256sum`.",
        ),
    ] = ()
    tls_cert: (
        Annotated[
            str, Meta(description="PEM file of the certificate, with those that vouch for it. Empty: no TLS.")
        ]
        | None
    ) = None
    tls_key: Annotated[str, Meta(description="PEM file of its key.")] | None = None
    tls_ca: (
        Annotated[
            str,
            Meta(
                description="PEM file of the authorities that commands trust when they ask the daemon. Empty: those of "
                "the system."
            ),
        ]
        | None
    ) = None
    open: Annotated[
        bool,
        Meta(
            description="Listen elsewhere than on loopback without tokens: everybody who reaches the address can read "
            "entity names and values."
        ),
    ] = False
    top_k_entities: Annotated[
        int,
        Meta(
            description="Entities with the highest scores that get a metric of their own. 0: none, as a "
            "label per "
            "entity makes monitoring slow.",
            ge=0,
            le=50,
        ),
    ] = 0
