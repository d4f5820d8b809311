"""Model versions: from uploaded blobs to a row, aliases, and the removal of what nothing uses.

A push is whole or not there: the row is the last thing written, and a refusal takes the blobs with it. Rows and the
removal of refused blobs go through the database's one writer, so that no push loses a blob to another's refusal.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from stoker.blob.port import BlobStore
from stoker.control import allowances, changes, signatures
from stoker.control.allowances import Samples, no_samples
from stoker.control.compare import Comparer
from stoker.control.policies import Admission
from stoker.control.quantize import Quantizer
from stoker.control.signatures import UNSIGNED, SignedPush
from stoker.core.access import allows
from stoker.core.refs import ModelRef, is_alias, parse_version
from stoker.registry import collect
from stoker.registry.versions import Given, build_manifest
from stoker.store import journal, models, releases, revisions
from stoker.store.engine import Connection, Database
from stoker.types.access import EVERYWHERE, Grant, Permission
from stoker.types.errors import Busy, Forbidden, InvalidInput, NotFound, OverQuota, PolicyDenied, RefusedArtifact
from stoker.types.ids import DEFAULT_PROJECT, ModelName, is_name
from stoker.types.models import FileEntry, ModelVersion, VersionManifest
from stoker.types.policies import PLATFORM, Actor

# Each inspection is a process that may map gigabytes.
PUSHES_AT_ONCE: Final = 2
PUSHES_WAITING_MAX: Final = 32
UPLOADS_MAX: Final = 10_000  # that are counted before a version has them; the oldest are forgotten


class Upload(msgspec.Struct, frozen=True):
    """Bytes that were uploaded, or are being, for a project and that no version has yet."""

    project: str
    size: int
    at_s: float


class ModelRegistry:
    """What the API does with models."""

    def __init__(
        self, database: Database, blobs: BlobStore, models_dir: Path, scratch: Path, admission: Admission
    ) -> None:
        self.blobs = blobs
        self._database = database
        self._models_dir = models_dir
        self._scratch = scratch
        self._admission = admission
        self._slots = asyncio.Semaphore(PUSHES_AT_ONCE)
        self._pushes = 0
        self.samples: Samples = no_samples
        self._uploads: OrderedDict[str, Upload] = OrderedDict()  # by digest: what no version has yet
        self.quantizer = Quantizer(blobs, scratch)
        self.comparer = Comparer(blobs, models_dir, scratch)

    async def admit_upload(self, project: str, digest: str, size: int, now_s: float) -> int | None:
        """Count `size` bytes that are about to be uploaded; return how many more may come, None for any.

        Raises OverQuota. Call `uploaded` with what did come. What is registered is counted by its version from then on.
        """
        left, counted = await self._database.reading(lambda each: allowances.room(each, project, self.samples))
        if left is None or digest in counted:
            return None
        while self._uploads and next(iter(self._uploads.values())).at_s < now_s - collect.GRACE_S:
            self._uploads.popitem(last=False)
        others = (each for name, each in self._uploads.items() if name != digest and name not in counted)
        left -= sum(each.size for each in others if project in (each.project, allowances.WHOLE))
        if size > left:
            raise allowances.over_storage(size, left)
        self.uploaded(project, digest, size, now_s)
        return left

    def uploaded(self, project: str, digest: str, size: int, now_s: float) -> None:
        """Know that `size` bytes lie there that no version has yet; 0: none."""
        self._uploads.pop(digest, None)
        if size > 0:
            self._uploads[digest] = Upload(project, size, now_s)
        while len(self._uploads) > UPLOADS_MAX:
            self._uploads.popitem(last=False)

    async def push(
        self,
        name: str,
        files: Sequence[FileEntry],
        given: Given,
        signed: SignedPush = UNSIGNED,
        who: Actor = PLATFORM,
    ) -> tuple[ModelVersion, bool]:
        """Register the version that uploaded `files` make; return it and whether it is new.

        A signature among the files is kept as one, and is no part of the version: the same files are the same version
        whoever signs them.

        Raises:
            InvalidInput, NotFound, Unsupported: the files or what was said of them do not make a version.
            RefusedArtifact: a file is damaged or hostile, or a signature does not hold, or one that the project
                demands is not there; the blobs are gone unless another version has them.
            PolicyDenied, OverQuota: a policy refuses the version, or it fits into no quota; the blobs likewise.
            Busy: too many pushes wait.
        """
        if not is_name(name):
            raise InvalidInput(f"{name!r} cannot name a model; use lower-case letters, digits and dashes", field="name")
        if self._pushes >= PUSHES_WAITING_MAX:
            raise Busy(f"{self._pushes} pushes are under way", retry_after_s=5.0)
        self._pushes += 1
        try:
            model_files, bundles = await asyncio.to_thread(signatures.apart, files, signed.bundles, self.blobs)
            async with self._slots:
                manifest = await asyncio.to_thread(
                    build_manifest, model_files, self.blobs, given, scratch=self._scratch
                )
            await self._database.reading(
                lambda connection: signatures.admit(connection, name, manifest, bundles, signed.project)
            )
        except RefusedArtifact as refused:
            await self._refuse(name, files, refused.message)
            raise
        finally:
            self._pushes -= 1

        now_s = time.time()

        def register(connection: Connection) -> tuple[tuple[ModelVersion, bool], list[changes.Change]]:
            missing = [entry.path for entry in model_files if not self.blobs.touch(entry.digest)]
            if missing:
                raise NotFound(f"{missing[0]} went while it was registered; push again", field="files")
            version, is_new = self._add(connection, name, manifest, now_s, signed.grant)
            if is_new:
                because = f"{len(model_files)} files pushed as {manifest.format}"
                journal.add(connection, journal.Entry(now_s, "PushVersion", because, subject=version.ref))
            for bundle in bundles:
                signatures.keep(connection, version, bundle, now_s)
            pushed = [changes.of_model("push", version, signed.project)] if is_new else []
            return (version, is_new), pushed

        try:
            return (await self._admission.make(register, who)).value
        except (PolicyDenied, OverQuota) as denied:
            await self._refuse(name, files, denied.message)
            raise

    async def set_alias(self, name: str, alias: str, number: int, who: Actor = PLATFORM) -> None:
        """Point an alias at a version. Raises InvalidInput, NotFound, PolicyDenied (also for who follows it)."""
        if not is_alias(alias):
            raise InvalidInput(f"{alias!r} cannot be an alias; use a name that is not a number", field="alias")

        def change(connection: Connection) -> tuple[None, list[changes.Change]]:
            models.set_alias(connection, name, alias, number)
            entry = journal.Entry(time.time(), "SetAlias", f"it means version {number} now", subject=f"{name}@{alias}")
            journal.add(connection, entry)
            version = models.get(connection, ModelRef(ModelName(name), number))
            moved = changes.of_model("alias", version, who.project or DEFAULT_PROJECT, alias)
            return None, [moved, *changes.followers(connection, version, alias)]

        await self._admission.make(change, who)

    async def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias. Raises NotFound; Conflict while an endpoint follows it."""

        def change(connection: Connection) -> None:
            models.remove_alias(connection, name, alias)
            journal.add(connection, journal.Entry(time.time(), "RemoveAlias", "asked to", subject=f"{name}@{alias}"))

        await self._database.writing(change)

    async def remove(self, name: str, which: str) -> None:
        """Delete a version; its files go with a later collection. Raises NotFound, or Conflict while it is used."""

        def change(connection: Connection) -> None:
            version = models.get(connection, reference(name, which))
            models.remove(connection, version)
            journal.add(connection, journal.Entry(time.time(), "RemoveVersion", "asked to", subject=version.ref))

        await self._database.writing(change)

    async def collect(self) -> collect.Collected:
        """Remove what no version and no revision needs and nobody touched for an hour."""
        found, folders = await asyncio.to_thread(collect.survey, self.blobs, self._models_dir)

        def inventory(connection: Connection) -> collect.Inventory:
            every = models.everything(connection)
            used = frozenset(revision.config.digest for revision in revisions.everything(connection))
            held = releases.golden_digests(connection)
            return collect.Inventory(versions=tuple(every), used=used, blobs=found, folders=folders, held=held)

        garbage = collect.decide(await self._database.reading(inventory), time.time())
        return await asyncio.to_thread(collect.collect, garbage, self.blobs, self._models_dir)

    def _add(
        self, connection: Connection, name: str, manifest: VersionManifest, now_s: float, grant: Grant
    ) -> tuple[ModelVersion, bool]:
        refuse_push(connection, name, grant)
        known, own = models.owner(connection, name), grant.only or models.SHARED
        owner = own if known is None else known
        left, _ = allowances.room(connection, owner, self.samples)
        added = models.add(connection, ModelName(name), manifest, now_s, own)
        allowances.admit_stored(connection, owner, left, self.samples)
        return added

    async def _refuse(self, name: str, files: Sequence[FileEntry], why: str) -> None:
        def discard(connection: Connection) -> None:
            collect.discard(files, self.blobs, models.everything(connection), releases.golden_digests(connection))
            journal.add(connection, journal.Entry(time.time(), "RefusePush", why, subject=name))

        await self._database.writing(discard)


def may(grant: Grant, permission: Permission, owner: str) -> bool:
    """Return whether a grant allows something of a model of `owner`. What is everybody's is read by all."""
    if owner != models.SHARED:
        return allows(grant, permission, owner)
    return permission in grant.permissions if permission == "models:read" else allows(grant, permission, EVERYWHERE)


def refuse_push(connection: Connection, name: str, grant: Grant) -> None:
    """Raise Forbidden where a name is taken by a model that may not be pushed to."""
    owner = models.owner(connection, name)
    if owner is not None and not may(grant, "models:push", owner):
        raise Forbidden(
            f"the name {name!r} is taken by a model that this key may not push to; take another", field="name"
        )


def reference(name: str, which: str) -> ModelRef:
    """Return the reference to version `which` of model `name`. Raises InvalidInput."""
    try:
        return parse_version(ModelName(name), which)
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="version") from wrong
