import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from stoker.registry import layout, versions
from stoker.registry.versions import Given
from stoker.types.errors import NotFound, RefusedArtifact
from stoker.types.models import VersionManifest, manifest_digest
from tests.registry.rig import Registry

FILES = {"model.bin": b"weights", "deep/er/tokenizer.json": b"{}"}


def manifest(registry: Registry, files: dict[str, bytes] = FILES) -> VersionManifest:
    return VersionManifest(format="python", files=tuple(registry.upload(files)), entry="model.bin")


def test_a_version_becomes_a_read_only_folder_of_links_named_by_its_digest(registry: Registry) -> None:
    version = manifest(registry)
    folder = layout.lay_out(version, registry.blobs, registry.models)
    assert folder.name == manifest_digest(version).removeprefix("sha256:")
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    for path in (folder, folder / "deep", folder / "deep/er", folder / "model.bin"):
        assert path.stat().st_mode & 0o222 == 0, path
    assert (folder / "model.bin").samefile(registry.blobs.path(version.files[0].digest))
    assert layout.verify(folder, version) == []
    assert [path.name for path in registry.models.iterdir()] == [folder.name]


def test_laying_out_again_changes_nothing(registry: Registry) -> None:
    version = manifest(registry)
    folder = layout.lay_out(version, registry.blobs, registry.models)
    before = folder.stat().st_ino
    assert layout.lay_out(version, registry.blobs, registry.models).stat().st_ino == before


def test_a_folder_with_a_file_missing_or_cut_is_made_anew(registry: Registry) -> None:
    version = manifest(registry)
    folder = layout.lay_out(version, registry.blobs, registry.models)
    folder.chmod(0o755)
    (folder / "model.bin").unlink()
    assert layout.verify(folder, version) == ["model.bin"]
    layout.lay_out(version, registry.blobs, registry.models)
    assert layout.verify(folder, version) == []
    assert [path.name for path in registry.models.iterdir()] == [folder.name]


def test_a_blob_that_went_bad_is_refused_removed_and_a_new_push_mends_the_folder(registry: Registry) -> None:
    version = manifest(registry)
    folder = layout.lay_out(version, registry.blobs, registry.models)
    blob = registry.blobs.path(version.files[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"wEights")
    assert layout.verify(folder, version) == ["model.bin"]
    with pytest.raises(RefusedArtifact, match=r"had changed and were removed; push again"):
        versions.build_manifest(version.files, registry.blobs, Given(), scratch=registry.tmp)
    assert manifest(registry) == version
    assert layout.verify(layout.lay_out(version, registry.blobs, registry.models), version) == []


def test_damage_found_while_a_folder_is_made_is_refused_and_the_blob_removed(registry: Registry) -> None:
    version = manifest(registry)
    blob = registry.blobs.path(version.files[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"wEights")
    with pytest.raises(RefusedArtifact, match=r"changed on disk.*push the model again"):
        layout.lay_out(version, registry.blobs, registry.models)
    assert not registry.blobs.has(version.files[0].digest)
    assert registry.leftovers() == []


def test_old_bytes_in_a_link_are_replaced_when_the_blob_came_again(registry: Registry) -> None:
    version = manifest(registry)
    folder = layout.lay_out(version, registry.blobs, registry.models)
    registry.blobs.delete(version.files[0].digest)
    manifest(registry)
    layout.lay_out(version, registry.blobs, registry.models)
    assert (folder / "model.bin").samefile(registry.blobs.path(version.files[0].digest))


def test_a_missing_blob_leaves_nothing_half_made(registry: Registry) -> None:
    version = manifest(registry)
    registry.blobs.delete(version.files[1].digest)
    with pytest.raises(NotFound):
        layout.lay_out(version, registry.blobs, registry.models)
    assert registry.leftovers() == []


def test_a_manifest_that_would_leave_its_folder_is_refused(registry: Registry) -> None:
    version = manifest(registry, {"../evil": b"x"})
    with pytest.raises(RefusedArtifact, match="empty part"):
        layout.lay_out(version, registry.blobs, registry.models)


def test_a_remote_model_is_an_empty_folder(registry: Registry) -> None:
    folder = layout.lay_out(VersionManifest(format="remote", files=(), entry="."), registry.blobs, registry.models)
    assert list(folder.iterdir()) == []


def test_many_threads_laying_out_the_same_version_make_one_folder(registry: Registry) -> None:
    version = manifest(registry)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            folder = layout.lay_out(version, registry.blobs, registry.models)
            assert (folder / "model.bin").read_bytes() == b"weights"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(registry.models.iterdir())) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from stoker.blob.folder import FolderBlobs
from stoker.registry import layout, versions
from stoker.registry.versions import Given
from stoker.types.models import VersionManifest
root = Path(sys.argv[1])
version = msgspec.json.decode(sys.stdin.buffer.read(), type=VersionManifest)
layout.sync_folder = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
layout.lay_out(version, FolderBlobs(root / "blobs", root / "tmp"), root / "models")
"""


def test_a_process_killed_before_the_rename_leaves_what_the_next_start_cleans(registry: Registry) -> None:
    version = manifest(registry)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(registry.root)], input=msgspec.json.encode(version), check=False
    )
    assert done.returncode == -9
    (partial,) = registry.models.iterdir()
    assert partial.name.startswith(".partial-")
    assert layout.clean(registry.models) == 1
    assert registry.leftovers() == []
    assert layout.verify(layout.lay_out(version, registry.blobs, registry.models), version) == []


def test_another_filesystem_gets_copies(registry: Registry) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == registry.root.stat().st_dev:
        pytest.skip("there is no second filesystem here")
    version = manifest(registry)
    models = shared / f"stoker-test-{os.getpid()}"
    models.mkdir()
    try:
        folder = layout.lay_out(version, registry.blobs, models)
        assert layout.verify(folder, version) == []
        assert layout.lay_out(version, registry.blobs, models) == folder
        layout.remove(folder)
    finally:
        models.rmdir()
