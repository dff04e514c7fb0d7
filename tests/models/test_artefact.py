from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from artefacts import manifest, tensors
from tocsin.errors import ArtefactError, ModelNotFound, SignatureError
from tocsin.models import artefact
from tocsin.models.artefact import CALIBRATION, MANIFEST, SIGNATURE, WEIGHTS
from tocsin.models.registry import Champion, Registry
from tocsin.models.signing import ensure_pair, sign, trust


@pytest.fixture
def signer(tmp_path: Path):
    return ensure_pair(tmp_path / "keys" / "key.pem")[0]


@pytest.fixture
def version(tmp_path: Path, signer) -> Path:
    return artefact.write(tmp_path / "hosts", "v0001-aa", manifest(), artefact.encode(*tensors()), signer)


def test_round_trip_is_bit_equal(version: Path, signer) -> None:
    loaded = artefact.load(version, [trust(signer)])
    for expected, found in zip(tensors(), (loaded.weights, loaded.calibration), strict=True):
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()
    assert loaded.key == signer.fingerprint
    assert loaded.manifest.name == version.name
    assert loaded.manifest.columns == ["cpu", "mem"]
    assert set(loaded.manifest.files) == {WEIGHTS, CALIBRATION}


def test_equal_arrays_give_equal_bytes_in_any_order() -> None:
    weights, calibration = tensors()
    turned = dict(reversed(weights.items())), dict(reversed(calibration.items()))
    assert artefact.encode(weights, calibration) == artefact.encode(*turned)
    assert artefact.content_hash(artefact.encode(*tensors(1))) != artefact.content_hash(
        artefact.encode(*tensors())
    )


def test_objects_are_not_tensors() -> None:
    with pytest.raises(ArtefactError, match="numbers only"):
        artefact.encode({"x": np.array([object()])}, {})


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, WEIGHTS, CALIBRATION])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit_anywhere_is_refused(version: Path, signer, name: str, place: str) -> None:
    path = version / name
    data = bytearray(path.read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[place]] ^= 1
    path.write_bytes(bytes(data))
    expected = SignatureError if name in (MANIFEST, SIGNATURE) else ArtefactError
    with pytest.raises(expected):
        artefact.load(version, [trust(signer)])


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
@pytest.mark.parametrize("name", [WEIGHTS, CALIBRATION])
def test_truncated_tensors_are_refused(version: Path, signer, name: str, keep: int) -> None:
    path = version / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtefactError, match=f"{name} is truncated"):
        artefact.load(version, [trust(signer)])


def test_grown_file_is_refused(version: Path, signer) -> None:
    with (version / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtefactError, match="more than"):
        artefact.load(version, [trust(signer)])


def test_signature_is_looked_at_before_anything_else(version: Path, signer, tmp_path: Path) -> None:
    other, _ = ensure_pair(tmp_path / "other" / "key.pem")
    (version / WEIGHTS).write_bytes(b"corrupt")
    (version / "stranger").write_bytes(b"")
    with pytest.raises(SignatureError, match="not trusted"):
        artefact.load(version, [trust(other)])


def test_unsigned_and_incomplete_versions_are_refused(version: Path, signer) -> None:
    (version / WEIGHTS).rename(version / "kept")
    with pytest.raises(ArtefactError, match=f"{WEIGHTS} is missing"):
        artefact.load(version, [trust(signer)])
    (version / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match="not signed"):
        artefact.load(version, [trust(signer)])
    (version / MANIFEST).unlink()
    with pytest.raises(ModelNotFound, match=r"manifest\.json is missing"):
        artefact.load(version, [trust(signer)])
    with pytest.raises(ModelNotFound, match="no model version"):
        artefact.load(version.parent / "v0009-aa", [trust(signer)])


def test_strangers_links_and_renamed_versions_are_refused(version: Path, signer, tmp_path: Path) -> None:
    (version / "extra.py").write_text("print()")
    with pytest.raises(ArtefactError, match=r"does not name: extra\.py"):
        artefact.load(version, [trust(signer)])
    (version / "extra.py").unlink()
    outside = (version / WEIGHTS).rename(tmp_path / "outside")
    (version / WEIGHTS).symlink_to(outside)
    with pytest.raises(ArtefactError, match="links are refused"):
        artefact.load(version, [trust(signer)])
    (version / WEIGHTS).unlink()
    os.mkfifo(version / WEIGHTS)
    with pytest.raises(ArtefactError, match="not a plain file"):
        artefact.load(version, [trust(signer)])
    (version / WEIGHTS).unlink()
    outside.rename(version / WEIGHTS)
    link = version.parent / "v0002-aa"
    link.symlink_to(version)
    with pytest.raises(ArtefactError, match="not a model version's folder"):
        artefact.load(link, [trust(signer)])
    link.unlink()
    with pytest.raises(ArtefactError, match=r"signed as version 'v0001-aa'"):
        artefact.load(version.rename(link), [trust(signer)])


def resign(version: Path, signer, change) -> None:
    """Change the manifest as somebody with a trusted key could."""
    value = json.loads((version / MANIFEST).read_bytes())
    change(value)
    data = json.dumps(value).encode()
    (version / MANIFEST).write_bytes(data)
    (version / SIGNATURE).write_bytes(sign(signer, data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version="2.0"), "format 2.0"),
        (lambda m: m.pop("schema_version"), "format none"),
        (lambda m: m.pop("columns"), "lacks what this release needs"),
        (lambda m: m["files"].update({"../../etc/passwd": m["files"][WEIGHTS]}), "no plain name"),
        (lambda m: m["files"].update({"/etc/passwd": m["files"][WEIGHTS]}), "no plain name"),
        (lambda m: m["files"].update({MANIFEST: m["files"][WEIGHTS]}), "no plain name"),
        (lambda m: m["files"].pop(CALIBRATION), "does not name calibration"),
        (lambda m: m["files"][WEIGHTS].update(size=-1), "checksum and size"),
        (lambda m: m["files"][WEIGHTS].update(sha256="00"), "checksum and size"),
        (lambda m: m["files"][WEIGHTS].update(size=2**40), "more than the limit"),
        (lambda m: m["files"][WEIGHTS].update(sha256="0" * 64), "corrupt"),
    ],
)
def test_a_signed_manifest_is_still_not_believed_blindly(version: Path, signer, change, message: str) -> None:
    resign(version, signer, change)
    with pytest.raises(ArtefactError, match=message):
        artefact.load(version, [trust(signer)])


def test_later_minor_formats_are_read(version: Path, signer) -> None:
    resign(version, signer, lambda m: m.update(schema_version="1.7", novelty=[1]))
    assert artefact.load(version, [trust(signer)]).manifest.schema_version == "1.7"


def test_signed_nonsense_in_a_tensor_file_is_refused(tmp_path: Path, signer) -> None:
    files = {**artefact.encode(*tensors()), WEIGHTS: b"\xff" * 64}
    path = artefact.write(tmp_path, "v1", manifest(), files, signer)
    with pytest.raises(ArtefactError, match="not a safetensors file"):
        artefact.load(path, [trust(signer)])


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_crash_before_the_rename_leaves_nothing(
    tmp_path: Path, signer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", crash) if step == "fsync" else (Path, "rename", crash)))
    with pytest.raises(ArtefactError, match="No space left"):
        artefact.write(tmp_path / "hosts", "v0001-aa", manifest(), artefact.encode(*tensors()), signer)
    assert list((tmp_path / "hosts").iterdir()) == []


def test_a_killed_training_leaves_a_hidden_folder_that_nobody_reads(
    tmp_path: Path, signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL runs no handler: here a rename that never happens and a clean-up that never runs."""
    registry = Registry(tmp_path, "hosts")
    files = artefact.encode(*tensors())
    first = registry.register(manifest(), files, signer)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(artefact.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            registry.register(manifest(), files, signer)
    assert len(list(registry.folder.glob(".new-*"))) == 1
    assert registry.versions() == [first]
    assert registry.load(registry.latest(), [trust(signer)]).manifest.name == first
    second = registry.register(manifest(), artefact.encode(*tensors(1)), signer)
    assert second.startswith("v0002-")
    assert list(registry.folder.glob(".new-*")) == []


def test_registry_counts_lists_and_keeps_the_first_as_champion(tmp_path: Path, signer) -> None:
    registry = Registry(tmp_path, "hosts")
    assert registry.versions() == []
    with pytest.raises(ModelNotFound, match="tocsin train"):
        registry.latest()
    names = [registry.register(manifest(), artefact.encode(*tensors(i)), signer) for i in range(11)]
    assert registry.versions() == names
    assert registry.latest() == names[-1]
    assert registry.current() == names[0]
    assert registry.resolve("v0003") == names[2]
    assert registry.resolve("champion") == names[0]
    for wrong in ("", "v00", "v9", "../hosts"):
        with pytest.raises(ModelNotFound):
            registry.resolve(wrong)
    registry.point(Champion(version=names[4], previous=names[0], author="me", reason="better"))
    assert registry.current() == names[4]
    with pytest.raises(ModelNotFound):
        registry.point(Champion(version="v0099-00000000"))
    (registry.folder / "champion.json").write_text("{")
    with pytest.raises(ArtefactError, match="models promote"):
        registry.current()


def test_a_version_of_another_stream_or_key_is_refused_and_the_last_good_one_stays(
    tmp_path: Path, signer
) -> None:
    registry = Registry(tmp_path / "registry", "hosts")
    good = registry.register(manifest(), artefact.encode(*tensors()), signer)
    other, _ = ensure_pair(tmp_path / "other" / "key.pem")
    bad = registry.register(manifest(), artefact.encode(*tensors(1)), other)
    with pytest.raises(SignatureError, match="not trusted"):
        registry.load(bad, [trust(signer)])
    assert registry.load(registry.current(), [trust(signer)]).manifest.name == good
    stranger = Registry(tmp_path / "registry", "disks")
    stranger.folder.mkdir()
    (registry.folder / good).rename(stranger.folder / good)
    with pytest.raises(ArtefactError, match="signed for stream 'hosts'"):
        stranger.load(good, [trust(signer)])


@pytest.mark.parametrize("name", ["..", "", "a/b", ".hidden", "a" * 201])
def test_stream_names_cannot_leave_the_registry(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="cannot name"):
        Registry(tmp_path, name)


def test_export_is_the_same_bytes_each_time_and_only_of_what_verifies(tmp_path: Path, signer) -> None:
    registry = Registry(tmp_path, "hosts")
    name = registry.register(manifest(), artefact.encode(*tensors()), signer)
    one = registry.export(name, [trust(signer)], tmp_path / "one.tar").read_bytes()
    os.utime(registry.folder / name / WEIGHTS, (1, 1))
    assert registry.export(name, [trust(signer)], tmp_path / "two.tar").read_bytes() == one
    (registry.folder / name / WEIGHTS).write_bytes(b"x")
    with pytest.raises(ArtefactError):
        registry.export(name, [trust(signer)], tmp_path / "three.tar")
    assert not (tmp_path / "three.tar").exists()
