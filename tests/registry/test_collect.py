import os
import shutil

from hypothesis import given
from hypothesis import strategies as st

from stoker.blob.port import BlobInfo
from stoker.registry import collect, layout
from stoker.registry.collect import Folder, Inventory, decide
from stoker.types.ids import Digest, ModelName
from stoker.types.models import FileEntry, ModelVersion, VersionManifest, manifest_digest
from tests.registry.rig import Registry

NOW_S = 1_000_000.0
OLD_S = NOW_S - 10_000.0


def blob(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def version(
    name: str, number: int, blobs: tuple[int, ...], aliases: tuple[str, ...] = (), at_s: float = OLD_S
) -> ModelVersion:
    files = tuple(FileEntry(f"f{at}", blob(at), 1) for at in blobs)
    manifest = VersionManifest(format="onnx", files=files, entry="f", metadata={"n": number})
    return ModelVersion(ModelName(name), number, manifest_digest(manifest), manifest, at_s, 1, aliases)


def info(number: int, used_at_s: float = OLD_S) -> BlobInfo:
    return BlobInfo(blob(number), 1, used_at_s)


def test_a_blob_goes_when_no_version_has_it_and_its_grace_is_over() -> None:
    inventory = Inventory((version("m", 1, (1, 2)),), frozenset(), (info(1), info(2), info(3), info(4, NOW_S - 60)))
    assert decide(inventory, NOW_S).blobs == (blob(3),)


def test_a_blob_that_belongs_to_no_version_but_is_held_stays() -> None:
    inventory = Inventory((), frozenset(), (info(1), info(2)), held=frozenset({blob(2)}))
    assert decide(inventory, NOW_S).blobs == (blob(1),)


def test_a_folder_goes_when_no_revision_uses_its_version() -> None:
    used, unused = version("m", 1, (1,)), version("m", 2, (2,))
    inventory = Inventory(
        (used, unused),
        frozenset({used.digest}),
        folders=(Folder(used.digest, OLD_S), Folder(unused.digest, OLD_S), Folder(blob(9), NOW_S)),
    )
    assert decide(inventory, NOW_S).folders == (unused.digest,)


def test_versions_stay_unless_it_is_said_how_many_to_keep() -> None:
    versions = tuple(version("m", number, (number,)) for number in (1, 2, 3))
    assert decide(Inventory(versions, frozenset()), NOW_S).versions == ()
    assert [gone.number for gone in decide(Inventory(versions, frozenset()), NOW_S, keep_versions=2).versions] == [1]


def test_old_versions_in_use_with_an_alias_or_fresh_stay() -> None:
    versions = (
        version("m", 1, (1,)),
        version("m", 2, (2,), aliases=("prod",)),
        version("m", 3, (3,), at_s=NOW_S),
        version("m", 4, (4,)),
        version("m", 5, (5,)),
    )
    found = decide(Inventory(versions, frozenset({versions[0].digest})), NOW_S, keep_versions=1)
    assert [gone.number for gone in found.versions] == [4]


numbers = st.integers(0, 12)


@given(
    made=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(numbers, min_size=1, max_size=4).map(tuple), st.booleans()),
        max_size=8,
    ),
    used=st.sets(st.integers(0, 7)),
    blobs=st.lists(st.tuples(numbers, st.sampled_from([OLD_S, NOW_S])), max_size=13, unique_by=lambda item: item[0]),
    keep=st.none() | st.integers(0, 3),
)
def test_nothing_that_a_revision_uses_or_that_is_fresh_ever_goes(
    made: list[tuple[str, tuple[int, ...], bool]],
    used: set[int],
    blobs: list[tuple[int, float]],
    keep: int | None,
) -> None:
    versions = [
        version(name, at + 1, files, ("prod",) if alias else ()) for at, (name, files, alias) in enumerate(made)
    ]
    needed = [one for at, one in enumerate(versions) if at in used]
    folders = tuple(Folder(one.digest, OLD_S) for one in versions)
    inventory = Inventory(
        tuple(versions), frozenset(one.digest for one in needed), tuple(info(at, when) for at, when in blobs), folders
    )
    garbage = decide(inventory, NOW_S, keep_versions=keep)
    kept = [one for one in versions if one not in garbage.versions]
    assert all(one in kept for one in needed)
    assert not {one.digest for one in needed} & set(garbage.folders)
    assert not {entry.digest for one in kept for entry in one.manifest.files} & set(garbage.blobs)
    assert not {blob(at) for at, when in blobs if when == NOW_S} & set(garbage.blobs)
    assert all(not one.aliases for one in garbage.versions)


def test_a_collection_removes_what_was_decided_and_spares_what_was_touched_since(registry: Registry) -> None:
    files = registry.upload({"a": b"1", "b": b"22", "c": b"333"})
    manifest = VersionManifest(format="python", files=(files[0],), entry="a")
    folder = layout.lay_out(manifest, registry.blobs, registry.models)
    for entry in files:
        os.utime(registry.blobs.path(entry.digest), (OLD_S, OLD_S))
    os.utime(folder, (OLD_S, OLD_S))
    blobs, folders = collect.survey(registry.blobs, registry.models)
    kept = ModelVersion(ModelName("m"), 1, manifest_digest(manifest), manifest, OLD_S, 1)
    garbage = decide(Inventory((kept,), frozenset(), blobs, folders), NOW_S)
    assert set(garbage.blobs) == {files[1].digest, files[2].digest}
    registry.blobs.touch(files[2].digest)
    assert collect.collect(garbage, registry.blobs, registry.models) == collect.Collected(1, 1, 2)
    assert [registry.blobs.has(entry.digest) for entry in files] == [True, False, True]
    assert registry.leftovers() == []
    assert collect.collect(garbage, registry.blobs, registry.models) == collect.Collected(0, 0, 0)


def test_a_refused_push_takes_its_blobs_but_not_those_of_a_version(registry: Registry) -> None:
    shared, own = registry.upload({"shared": b"s", "own": b"o"})
    manifest = VersionManifest(format="python", files=(shared,), entry="shared")
    kept = ModelVersion(ModelName("m"), 1, manifest_digest(manifest), manifest, OLD_S, 1)
    assert collect.discard([shared, own], registry.blobs, [kept]) == 1
    assert [registry.blobs.has(entry.digest) for entry in (shared, own)] == [True, False]


def test_a_survey_of_folders_that_are_not_there_is_empty(registry: Registry) -> None:
    shutil.rmtree(registry.models)
    assert collect.survey(registry.blobs, registry.models) == ((), ())
