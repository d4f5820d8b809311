"""From uploaded files to the manifest of a version: format, entry, tasks, signature, default options.

Precedence: what the pusher said, then `stoker.yaml` in the files, then what the model says itself. Nothing is written
but a scratch folder that is removed again; the caller keeps the version (and on a refusal calls `collect.discard`).
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from stoker.blob.port import BlobStore
from stoker.core.gate import golden
from stoker.core.gate.golden import BadGolden
from stoker.core.reference import Misplaced, bind
from stoker.core.secrets import literals
from stoker.core.watched import seen_of
from stoker.protocol.manifest import ManifestError, load_struct
from stoker.registry import inspector, layout
from stoker.registry.formats import CARD, Found, detect
from stoker.registry.inspection import Inspection, InspectionJob
from stoker.registry.paths import check_entries
from stoker.types.drift import REFERENCE_BYTES_MAX, REFERENCE_FILE, decode_reference
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact
from stoker.types.models import FileEntry, Format, Lineage, Signature, TensorSpec, VersionManifest
from stoker.types.releases import GOLDEN_BYTES_MAX, GOLDEN_FILE
from stoker.types.resources import Task

CARD_BYTES_MAX = 2**18
METADATA_MAX = 128
METADATA_CHARACTERS_MAX = 4_096

Scalar = str | int | float | bool


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the pusher said about a version; None means: find out."""

    format: Format | None = None
    entry: str | None = None
    tasks: tuple[str, ...] | None = None
    options: dict[str, Scalar] | None = None
    metadata: dict[str, Scalar | list[str] | None] | None = None
    lineage: Lineage = Lineage()


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"class_name": "class"}):
    """`stoker.yaml` in a version's files: what the files themselves cannot say."""

    format: Format | None = None
    entry: str | None = None
    class_name: str = ""
    tasks: tuple[Task, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    options: dict[str, Scalar] = {}
    metadata: dict[str, Scalar | list[str] | None] = {}


def build_manifest(files: Sequence[FileEntry], blobs: BlobStore, given: Given, *, scratch: Path) -> VersionManifest:
    """Return the manifest of the version that `files` make; blocks for a second or more.

    The blobs are touched, so that a collection at the same time keeps them. `scratch` is a folder on the same
    filesystem as the blobs (home.tmp); what is made in it is gone when this returns.

    Raises:
        NotFound: a blob is missing; upload it first.
        RefusedArtifact: a file is damaged, hostile or of no format that can be served.
        InvalidInput: what the pusher said does not hold.
        Unsupported: a package that reads the format is not installed.
    """
    ordered = tuple(sorted(files, key=lambda entry: entry.path))
    _check_given(given)
    if given.format == "remote" and not ordered:
        return _manifest(ordered, Found("remote", "."), Inspection(tasks=("chat",)), Card(), given)
    check_entries(ordered)
    _check_blobs(ordered, blobs)
    card = _card(ordered, blobs)
    paths = tuple(entry.path for entry in ordered)
    found = detect(paths, given.format or card.format, given.entry or card.entry)
    seconds, memory_bytes = inspector.limits(sum(entry.size_bytes for entry in ordered))
    folder = scratch / f"{layout.PARTIAL_PREFIX}{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
        layout.stage(ordered, blobs, folder / "files")
        job = InspectionJob(
            str(folder / "files"), paths, found.format, found.entry, seconds, memory_bytes, card.class_name
        )
        inspection = inspector.inspect(job, folder)
    finally:
        layout.remove(folder)
    if found.format is None:
        # Only now: a pickle is told that it is one, rather than that its format is unknown.
        raise RefusedArtifact(found.problem, field="files")
    manifest = _manifest(ordered, found, inspection, card, given)
    _check_reference(manifest, blobs)
    _check_golden(manifest, blobs)
    return manifest


def _manifest(
    files: tuple[FileEntry, ...], found: Found, inspection: Inspection, card: Card, given: Given
) -> VersionManifest:
    if found.format is None:
        raise AssertionError("unreachable: a manifest needs a format")
    tasks = given.tasks or card.tasks or inspection.tasks
    if not tasks:
        raise RefusedArtifact(f"what {found.entry} is for is not known; say it: tasks in {CARD}, or with the push")
    return VersionManifest(
        format=found.format,
        files=files,
        entry=found.entry,
        signature=Signature(
            inputs=card.inputs or inspection.signature.inputs, outputs=card.outputs or inspection.signature.outputs
        ),
        tasks=tasks,
        metadata=inspection.metadata | card.metadata | (given.metadata or {}),
        options=inspection.options | card.options | (given.options or {}),
        lineage=given.lineage,
    )


def _check_given(given: Given) -> None:
    for task in given.tasks or ():
        if task not in get_args(Task):
            raise InvalidInput(f"{task!r} is not a task; known: {', '.join(get_args(Task))}", field="tasks")
    for field, why in literals(given.options or {}, {}):
        raise InvalidInput(why, field=field.removeprefix("spec."))
    for name, values in (("metadata", given.metadata or {}), ("options", given.options or {})):
        if len(values) > METADATA_MAX or any(
            len(key) + len(str(value)) > METADATA_CHARACTERS_MAX for key, value in values.items()
        ):
            raise InvalidInput(
                f"more than {METADATA_MAX} entries, or one longer than {METADATA_CHARACTERS_MAX} characters", field=name
            )


def _check_blobs(files: Sequence[FileEntry], blobs: BlobStore) -> None:
    if missing := [entry.path for entry in files if not blobs.touch(entry.digest)]:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise NotFound(f"not uploaded yet: {shown}; PUT the blobs first", field="files")
    for entry in files:
        actual = blobs.size(entry.digest)
        if actual != entry.size_bytes:
            raise RefusedArtifact(f"{entry.path} has {actual} bytes, not {entry.size_bytes}", field="files")
        # Also what was uploaded long ago: pushing again is how a version whose bytes went bad on disk is mended.
        if not blobs.verify(entry.digest):
            raise RefusedArtifact(f"the stored bytes of {entry.path} had changed and were removed; push again")


def _check_reference(manifest: VersionManifest, blobs: BlobStore) -> None:
    """Refuse statistics of good data that are damaged, or not of this model. Raises RefusedArtifact."""
    entry = next((one for one in manifest.files if one.path == REFERENCE_FILE), None)
    if entry is None:
        return
    if entry.size_bytes > REFERENCE_BYTES_MAX:
        raise RefusedArtifact(f"{REFERENCE_FILE} is larger than {REFERENCE_BYTES_MAX} bytes", field="files")
    try:
        reference = decode_reference(blobs.path(entry.digest).read_bytes())
    except ValueError as wrong:
        raise RefusedArtifact(f"{REFERENCE_FILE}: {wrong}", field="files") from wrong
    seen = [seen_of(task, manifest.signature) for task in manifest.tasks]
    bound = [bind(reference, one.signature, one.planes) for one in seen]
    if bound and all(isinstance(one, Misplaced) for one in bound):
        said = "; ".join(one.message for one in bound if isinstance(one, Misplaced))
        raise RefusedArtifact(f"{REFERENCE_FILE}: {said}", field="files")


def _check_golden(manifest: VersionManifest, blobs: BlobStore) -> None:
    """Refuse examples that cannot be read, or not be sent to this model. Raises RefusedArtifact with their lines."""
    entry = next((one for one in manifest.files if one.path == GOLDEN_FILE), None)
    if entry is None:
        return
    if entry.size_bytes > GOLDEN_BYTES_MAX:
        raise RefusedArtifact(f"{GOLDEN_FILE} is larger than {GOLDEN_BYTES_MAX} bytes", field="files")
    try:
        examples = golden.read(blobs.path(entry.digest).read_bytes())
    except BadGolden as wrong:
        raise RefusedArtifact(f"{GOLDEN_FILE}: {wrong}", field="files") from wrong
    faults = [golden.misfit(examples, task, manifest.signature) for task in manifest.tasks]
    if all(faults):
        raise RefusedArtifact(f"{GOLDEN_FILE}: {faults[0]}", field="files")


def _card(files: Sequence[FileEntry], blobs: BlobStore) -> Card:
    for entry in files:
        if entry.path == CARD:
            if entry.size_bytes > CARD_BYTES_MAX:
                raise RefusedArtifact(f"{CARD} is larger than {CARD_BYTES_MAX} bytes")
            try:
                return load_struct(blobs.path(entry.digest).read_bytes(), Card)
            except ManifestError as error:
                raise RefusedArtifact(f"{CARD}: {error.message}", field="files") from error
    return Card()
