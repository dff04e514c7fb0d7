from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors import SignatureError
from tocsin.models.signing import (
    PRIVATE_NAME,
    ensure_pair,
    load_signer,
    load_trusted,
    public_path,
    sign,
    trust,
    verify,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    signer, _ = ensure_pair(tmp_path_factory.mktemp("keys") / PRIVATE_NAME)
    return signer


def test_pair_is_made_once_private_and_trusted_by_its_public_file(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "tocsin"
    private = folder / PRIVATE_NAME
    signer, made = ensure_pair(private)
    again, remade = ensure_pair(private)
    assert (made, remade) == (True, False)
    assert signer.fingerprint == again.fingerprint
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in folder.iterdir()) == ["signing-key.pem", "signing-key.pub.pem"]
    trusted = load_trusted([public_path(private)])
    assert verify(b"data", sign(signer, b"data"), trusted, "it") == signer.fingerprint


def test_key_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SignatureError, match="cannot be written"):
        ensure_pair(tmp_path / "file" / PRIVATE_NAME)


def test_lost_public_file_is_written_again(tmp_path: Path) -> None:
    private = tmp_path / PRIVATE_NAME
    signer, _ = ensure_pair(private)
    public_path(private).unlink()
    ensure_pair(private)
    assert load_trusted([public_path(private)])[0].fingerprint == signer.fingerprint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    private = tmp_path / PRIVATE_NAME
    ensure_pair(private)
    private.chmod(mode)
    with pytest.raises(SignatureError, match="chmod 600"):
        load_signer(private)
    with pytest.raises(SignatureError, match="chmod 600"):
        ensure_pair(private)


def test_missing_and_foreign_keys_are_refused_with_the_path(tmp_path: Path) -> None:
    private = tmp_path / PRIVATE_NAME
    with pytest.raises(SignatureError, match=r"signing-key\.pem cannot be read"):
        load_signer(private)
    with pytest.raises(SignatureError, match="public_keys"):
        load_trusted([tmp_path / "absent.pub"])
    other = generate_private_key(SECP256R1())
    private.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    with pytest.raises(SignatureError, match="not an Ed25519 key"):
        load_signer(private)
    private.write_bytes(b"nonsense")
    with pytest.raises(SignatureError, match="not an unencrypted PEM"):
        load_signer(private)
    public = public_path(private)
    public.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SignatureError, match="not an Ed25519 public key"):
        load_trusted([public])


def test_another_key_is_refused_even_when_it_claims_the_trusted_name(tmp_path: Path, pair) -> None:
    other, _ = ensure_pair(tmp_path / PRIVATE_NAME)
    with pytest.raises(SignatureError, match="not trusted here"):
        verify(b"data", sign(other, b"data"), [trust(pair)], "the model")
    borrowed = sign(other, b"data").replace(other.fingerprint.encode(), pair.fingerprint.encode())
    with pytest.raises(SignatureError, match="the model"):
        verify(b"data", borrowed, [trust(pair)], "the model")
    with pytest.raises(SignatureError, match="Trusted: none"):
        verify(b"data", sign(pair, b"data"), [], "the model")


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), in_signature=st.booleans())
def test_any_flipped_bit_is_refused(pair, position: int, bit: int, in_signature: bool) -> None:
    data = b'{"schema_version": "1.0"}'
    signature = sign(pair, data)
    target = bytearray(signature if in_signature else data)
    target[position % len(target)] ^= 1 << bit
    changed = (data, bytes(target)) if in_signature else (bytes(target), signature)
    with pytest.raises(SignatureError):
        verify(*changed, [trust(pair)], "it")


@given(st.binary(max_size=300))
def test_noise_is_no_signature(pair, noise: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(b"data", noise, [trust(pair)], "it")
