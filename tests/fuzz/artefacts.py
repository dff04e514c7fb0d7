"""What lies on disk: model versions, keys and signatures, checkpoints, the pointer, compiled code's index.

Manifests and tensors are damaged and then signed by the trusted key: what is behind the signature is reached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
from fuzz.limits import Prepared, Target, each
from tocsin.detector import compiled
from tocsin.detector.rulings import calibration_of
from tocsin.errors import ArtefactError, SignatureError
from tocsin.models import artefact, encryption, packing, registry, signing
from tocsin.models.artefact import CALIBRATION, MANIFEST, SIGNATURE, WEIGHTS, Manifest
from tocsin.models.checkpoints import Checkpoints
from tocsin.models.course import Kept
from tocsin.models.members.errs import ErrsParams
from tocsin.models.members.half import HalfParams
from tocsin.models.panel import PanelParams
from tocsin.models.version import Version
from tocsin.models.whitening import Whitening
from tocsin.thresholds.constants import BINS, LEVELS

NAME = "v0001-00000000"
COLUMNS, LAGS = 2, 2
KEY = hashlib.sha256(b"records").hexdigest()


def _version() -> Version:
    """A small one, of the members that take little."""
    size, past = COLUMNS * LAGS, COLUMNS * (LAGS - 1)

    def ones(*shape: int) -> Any:
        return np.ones((1, *shape), np.float32)

    members = {"half": HalfParams(), "errs": ErrsParams(ones(past, COLUMNS), ones(COLUMNS), ones(COLUMNS))}
    rows = 2
    calibration = {
        "counts": np.ones((rows, BINS), np.float32),
        "openings": np.ones((rows, LEVELS), np.float32),
        "span_us": np.ones(rows, np.int64),
        "level": np.ones(rows),
        "median": np.zeros((rows, 2)),
        "floor": np.zeros((rows, 2)),
        "half_life": np.ones(rows),
        "trained_from_us": np.ones(rows, np.int64),
        "trained_to_us": np.ones(rows, np.int64),
    }
    return Version(
        name=NAME,
        columns=("cpu", "mem"),
        schema_hash="x",
        lags=LAGS,
        profile="shared",
        members=tuple(members),
        params=PanelParams(Whitening(ones(size), ones(size, size), ones(size)), ones(2), members),
        entities={"a": 0},
        panel=np.zeros(rows, np.int32),
        location=np.ones((rows, 4, COLUMNS), np.float32),
        calibration=calibration,
        reference={"mean": np.zeros(3), "sd": np.ones(3)},
        trained_entities=1,
    )


def _manifest(version: Version) -> Manifest:
    return Manifest(
        stream="web",
        created="2026-01-31T12:00:00Z",
        features=["cpu", "mem"],
        schema_hash="x",
        columns=list(version.columns),
        profile=version.profile,
        lags=version.lags,
        members=list(version.members),
        entities=list(version.entities),
        trained_entities=1,
        training={"seed": 1, "range": [1, 2]},
        history=[{"epoch": 1, "elbo": 0.5}],
        reference={"mean": 0.0},
    )


def _written(folder: Path, cipher: encryption.Cipher | None = None) -> tuple[Path, signing.Signer]:
    signer, _ = signing.ensure_pair(folder / "keys" / signing.PRIVATE_NAME)
    version = _version()
    files = artefact.encode(*packing.pack(version))
    return artefact.write(folder / "web", NAME, _manifest(version), files, signer, cipher), signer


def _loaded(path: Path, signer: signing.Signer) -> None:
    calibration_of(packing.unpack(artefact.load(path, [signing.trust(signer)])))


def _signed(path: Path, signer: signing.Signer, manifest: bytes) -> None:
    (path / MANIFEST).write_bytes(manifest)
    (path / SIGNATURE).write_bytes(signing.sign(signer, manifest))


def _manifests(folder: Path) -> Prepared:
    path, signer = _written(folder)

    def read(data: bytes) -> None:
        _signed(path, signer, data)
        _loaded(path, signer)

    return Prepared([(path / MANIFEST).read_bytes()], read)


def _tensors(name: str) -> Callable[[Path], Prepared]:
    """A file of tensors: its header (a line of JSON) and what is behind it."""

    def prepare(folder: Path) -> Prepared:
        path, signer = _written(folder)
        whole = (path / name).read_bytes()
        length = int.from_bytes(whole[:8], "little")
        manifest = json.loads((path / MANIFEST).read_bytes())

        def tried(content: bytes) -> None:
            (path / name).write_bytes(content)
            manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            _signed(path, signer, json.dumps(manifest).encode())
            _loaded(path, signer)

        def read(data: bytes) -> None:
            each(ArtefactError, lambda: fitting(data), lambda: tried(data))

        def fitting(data: bytes) -> None:
            header, _, body = data.partition(b"\n")
            tried(len(header).to_bytes(8, "little") + header + body)

        return Prepared([whole[8 : 8 + length].rstrip() + b"\n" + whole[8 + length :]], read, fitting)

    return prepare


def _encrypted(folder: Path) -> Prepared:
    """The weights as they lie there encrypted: nonce, ciphertext and tag."""
    cipher = _cipher(folder / "key")
    path, signer = _written(folder, cipher)
    manifest = json.loads((path / MANIFEST).read_bytes())

    def read(data: bytes) -> None:
        (path / WEIGHTS).write_bytes(data)
        manifest["files"][WEIGHTS] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        _signed(path, signer, json.dumps(manifest).encode())
        artefact.load(path, [signing.trust(signer)], [cipher])

    return Prepared([(path / WEIGHTS).read_bytes()], read)


def _cipher(path: Path) -> encryption.Cipher:
    path.touch(0o600)
    path.write_text("ab" * 32)
    return encryption.load_ciphers([path])[0]


def _encryption_key(folder: Path) -> Prepared:
    path = folder / "key"
    _cipher(path)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        encryption.load_ciphers([path])

    return Prepared([path.read_bytes()], read)


def _signatures(folder: Path) -> Prepared:
    path, signer = _written(folder)

    def read(data: bytes) -> None:
        (path / SIGNATURE).write_bytes(data)
        artefact.load(path, [signing.trust(signer)])

    return Prepared([(path / SIGNATURE).read_bytes()], read)


def _keys(folder: Path) -> Prepared:
    private = folder / signing.PRIVATE_NAME
    signing.ensure_pair(private)
    seeds = [private.read_bytes(), signing.public_path(private).read_bytes()]

    def read(data: bytes) -> None:
        private.write_bytes(data)
        each(
            SignatureError,
            lambda: signing.load_signer(private),
            lambda: signing.load_trusted([private]),
        )

    def whole(data: bytes) -> None:
        private.write_bytes(data)
        if data is seeds[0]:
            signing.load_signer(private)
        else:
            signing.load_trusted([private])

    return Prepared(seeds, read, whole)


def _checkpoints(folder: Path) -> Prepared:
    """A checkpoint whose checksum fits: a line of JSON and the tensors. What cannot be used is passed over."""
    told: list[str] = []
    kept = Checkpoints(folder, KEY, told.append, lambda: 0.0, lambda: 0.0)
    keeper = kept.of("fold", 0)
    like = {".weights.a": jax.ShapeDtypeStruct((2, 3), np.float32), ".m": jax.ShapeDtypeStruct((), np.int32)}
    tensors = {name: np.zeros(one.shape, one.dtype) for name, one in like.items()}
    keeper.save(Kept("rehearsal", 3, (), tensors))
    (path,) = folder.glob("*/*.checkpoint")
    _, _, seed = path.read_bytes().partition(b"\n")

    def read(data: bytes) -> None:
        for content in (hashlib.sha256(data).hexdigest().encode() + b"\n" + data, data):
            path.write_bytes(content)
            told.clear()
            loaded = keeper.load(like)
            assert loaded is not None or told
            for text in told:
                text.encode()

    return Prepared([seed], read)


def _index(folder: Path) -> Prepared:
    """The index of compiled code: where it cannot be read, all is compiled again."""
    (folder / "a-cache").write_bytes(b"code")
    compiled._index(folder)
    index = folder / compiled.INDEX

    def read(data: bytes) -> None:
        (folder / "a-cache").write_bytes(b"code")
        index.write_bytes(data)
        compiled._sweep(folder)

    return Prepared([index.read_bytes()], read)


def _champion(folder: Path) -> Prepared:
    path, _ = _written(folder)
    versions = registry.Registry(folder, "web")
    seed = msgspec.json.encode(registry.Champion(version=NAME))

    def read(data: bytes) -> None:
        (path.parent / registry.CHAMPION).write_bytes(data)
        versions.current()

    return Prepared([seed], read)


TARGETS = [
    Target("model: manifest", (ArtefactError,), _manifests, share=0.4),
    Target("model: weights", (ArtefactError,), _tensors(WEIGHTS), share=0.3),
    Target("model: calibration", (ArtefactError,), _tensors(CALIBRATION), share=0.3),
    Target("model: encrypted weights", (ArtefactError,), _encrypted, share=0.3),
    Target("encryption key", (ArtefactError,), _encryption_key),
    Target("model: signature", (ArtefactError,), _signatures, share=0.5),
    Target("keys", (SignatureError,), _keys),
    Target("checkpoint", (), _checkpoints),
    Target("compiled code: index", (), _index),
    Target("registry: pointer", (ArtefactError,), _champion),
]
