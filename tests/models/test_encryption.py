from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from artefacts import manifest, tensors
from hypothesis import given
from hypothesis import strategies as st
from tocsin.errors import ArtefactError
from tocsin.models import artefact, encryption
from tocsin.models.artefact import CALIBRATION, MANIFEST, SIGNATURE, WEIGHTS
from tocsin.models.checkpoints import Checkpoints
from tocsin.models.course import Kept
from tocsin.models.encryption import Cipher, decrypt, encrypt, load_ciphers
from tocsin.models.registry import Registry
from tocsin.models.signing import Signer, ensure_pair, sign, trust


def written(path: Path, digit: str) -> Path:
    path.touch(0o600)
    path.write_text(digit * 64 + "\n")
    return path


@pytest.fixture(scope="module")
def ciphers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cipher, ...]:
    folder = tmp_path_factory.mktemp("keys")
    return load_ciphers([written(folder / digit, digit) for digit in "ab"])


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return ensure_pair(tmp_path / "keys" / "key.pem")[0]


def encrypted(folder: Path, signer: Signer, cipher: Cipher, name: str = "v0001-aa") -> Path:
    return artefact.write(folder, name, manifest(), artefact.encode(*tensors()), signer, cipher)


def test_a_key_is_named_by_the_beginning_of_its_checksum(ciphers: tuple[Cipher, ...]) -> None:
    # sha256 of 32 bytes 0xaa and 0xbb, as sha256sum(1) tells them
    assert [one.fingerprint for one in ciphers] == ["e0e77a507412b120", "4ca14526b2751b64"]


def test_what_is_written_is_the_standard_s(
    ciphers: tuple[Cipher, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NIST's AES-256-GCM test case 14 (McGrew and Viega): key, nonce and 16 bytes of zeros."""
    zero = Cipher(encryption.AESGCM(bytes(32)), "")
    monkeypatch.setattr(encryption.os, "urandom", bytes)
    made = encrypt(zero, bytes(16), "")
    assert made == bytes(12) + bytes.fromhex(
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    )


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_encrypted_is_read_again_and_never_twice_the_same(
    ciphers: tuple[Cipher, ...], data: bytes, what: str
) -> None:
    one, other = (encrypt(ciphers[0], data, what) for _ in range(2))
    assert one != other
    assert decrypt(ciphers[0], one, what) == decrypt(ciphers[0], other, what) == data


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_changed_bit_another_key_or_another_name_is_refused(
    ciphers: tuple[Cipher, ...], data: bytes, drawn: st.DataObject
) -> None:
    made = bytearray(encrypt(ciphers[0], data, "a"))
    with pytest.raises(ArtefactError, match="it is not what the key"):
        decrypt(ciphers[1], bytes(made), "a")
    with pytest.raises(ArtefactError, match="it is not what the key"):
        decrypt(ciphers[0], bytes(made), "b")
    made[drawn.draw(st.integers(0, len(made) - 1))] ^= 1 << drawn.draw(st.integers(0, 7))
    with pytest.raises(ArtefactError, match="it is not what the key"):
        decrypt(ciphers[0], bytes(made), "a")


@pytest.mark.parametrize("length", [0, 11, 12, 27])
def test_what_is_too_short_is_refused(ciphers: tuple[Cipher, ...], length: int) -> None:
    with pytest.raises(ArtefactError, match="it is not what the key"):
        decrypt(ciphers[0], bytes(length), "a")


def test_what_is_too_large_is_refused_before_it_is_tried(
    ciphers: tuple[Cipher, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, "LARGEST", 10)
    with pytest.raises(ArtefactError, match="11 bytes cannot be encrypted, at most 10 can"):
        encrypt(ciphers[0], bytes(11), "a")


@pytest.mark.parametrize("text", [b"", b"ab", b"g" * 64, b"a" * 63, b"a" * 65, b"a" * 2000, bytes(32)])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    path = written(tmp_path / "key", "a")
    path.write_bytes(text)
    with pytest.raises(ArtefactError, match="is not an encryption key: 64 hexadecimal digits"):
        load_ciphers([path])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", "a")
    path.chmod(mode)
    with pytest.raises(ArtefactError, match=f"has mode {mode:04o}: others than its owner can use it"):
        load_ciphers([path])


def test_a_key_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"cannot be read \(No such file.*openssl rand"):
        load_ciphers([tmp_path / "key"])


def test_an_encrypted_version_holds_the_same_bits_and_none_of_them_in_sight(
    tmp_path: Path, signer: Signer, ciphers: tuple[Cipher, ...]
) -> None:
    path = encrypted(tmp_path / "hosts", signer, ciphers[0])
    for name, plain in artefact.encode(*tensors()).items():
        on_disk = (path / name).read_bytes()
        for tensor in ("params.w", "counts", "histogram"):
            assert tensor.encode() not in on_disk
        assert plain[-16:] not in on_disk
    for found in (ciphers, ciphers[::-1]):
        loaded = artefact.load(path, [trust(signer)], found)
        assert loaded.manifest.encrypted == ciphers[0].fingerprint
        for expected, read in zip(tensors(), (loaded.weights, loaded.calibration), strict=True):
            assert sorted(expected) == sorted(read)
            for name in expected:
                np.testing.assert_array_equal(expected[name], read[name], strict=True)


def test_without_its_key_a_version_is_refused_by_the_key_s_name(
    tmp_path: Path, signer: Signer, ciphers: tuple[Cipher, ...]
) -> None:
    path = encrypted(tmp_path / "hosts", signer, ciphers[0])
    said = "encrypted with the key 'e0e77a507412b120', which is not here.*There: "
    with pytest.raises(ArtefactError, match=said + "none"):
        artefact.load(path, [trust(signer)])
    with pytest.raises(ArtefactError, match=said + "4ca14526b2751b64"):
        artefact.load(path, [trust(signer)], ciphers[1:])


def test_files_of_another_version_do_not_fit_however_they_are_signed(
    tmp_path: Path, signer: Signer, ciphers: tuple[Cipher, ...]
) -> None:
    one, other = (
        encrypted(tmp_path / "hosts", signer, ciphers[0], name) for name in ("v0001-aa", "v0002-bb")
    )
    for name in (WEIGHTS, CALIBRATION):
        (other / name).write_bytes((one / name).read_bytes())
    signed = (one / MANIFEST).read_bytes().replace(b"v0001-aa", b"v0002-bb")
    (other / MANIFEST).write_bytes(signed)
    (other / SIGNATURE).write_bytes(sign(signer, signed))
    with pytest.raises(
        ArtefactError, match=r"hosts/v0002-bb/calibration\.safetensors: it is not what the key"
    ):
        artefact.load(other, [trust(signer)], ciphers)


def test_a_registry_encrypts_with_its_first_key_and_reads_by_all(
    tmp_path: Path, signer: Signer, ciphers: tuple[Cipher, ...]
) -> None:
    files = artefact.encode(*tensors())
    plain = Registry(tmp_path, "hosts").register(manifest(), files, signer)
    old = Registry(tmp_path, "hosts", ciphers[:1]).register(manifest(), files, signer)
    both = Registry(tmp_path, "hosts", ciphers[::-1])
    new = both.register(manifest(), files, signer)
    loaded = [both.load(name, [trust(signer)]) for name in (plain, old, new)]
    assert [one.manifest.encrypted for one in loaded] == ["", "e0e77a507412b120", "4ca14526b2751b64"]
    assert len({name.split("-")[1] for name in (plain, old, new)}) == 1
    packed = both.export(old, [trust(signer)], tmp_path / "old.tar").read_bytes()
    assert b"params.w" not in packed
    assert (tmp_path / "hosts" / old / WEIGHTS).read_bytes() in packed


def test_checkpoints_are_encrypted_and_one_that_cannot_be_read_is_not_used(
    tmp_path: Path, ciphers: tuple[Cipher, ...]
) -> None:
    told: list[str] = []
    like = {".weights.a": jax.ShapeDtypeStruct((2, 3), np.float32)}
    kept = Kept("rehearsal", 3, (), {".weights.a": np.ones((2, 3), np.float32)})

    def keeper(found: tuple[Cipher, ...]):
        return Checkpoints(tmp_path, "ab" * 32, told.append, lambda: 0.0, lambda: 0.0, b"[]", found).of(
            "fold", 0
        )

    keeper(ciphers[:1]).save(kept)
    (path,) = tmp_path.glob("*/*.checkpoint")
    assert b"weights" not in path.read_bytes()
    assert keeper(ciphers[1:]).load(like) is None
    assert "no key of [registry] encryption_keys has encrypted it" in told[-1]
    assert keeper(()).load(like) is None
    assert "it is corrupt" in told[-1]
    loaded = keeper(ciphers).load(like)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.tensors[".weights.a"], kept.tensors[".weights.a"])
