"""What policies may know of a change, read from the database, and the document that is made of it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from stoker.blob.port import BlobStore
from stoker.control.changes import Change, Judged
from stoker.core.refs import ModelRef, parse_ref
from stoker.core.trust import standing
from stoker.protocol import signing as keys
from stoker.protocol.policies import plain
from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.store import endpoints, models, policies, projects, signing
from stoker.store.engine import Connection
from stoker.types.errors import NotFound
from stoker.types.ids import ModelName
from stoker.types.models import FileEntry, ModelVersion
from stoker.types.policies import (
    Actor,
    Document,
    FileFacts,
    NodeFacts,
    PoolFacts,
    ProjectFacts,
    SloFacts,
    VersionFacts,
)
from stoker.types.process import NodeStatus
from stoker.types.resources import Endpoint, Policy, Project
from stoker.types.signing import ProjectTrust

# The only format that may bring pickles (registry/scan.py refuses them with every other).
PICKLED: Final = "python"


class Known(msgspec.Struct, frozen=True):
    """A change with all that the database says around it; two that are equal have the same verdicts."""

    change: Change
    policies: tuple[Policy, ...]
    project: Project
    version: ModelVersion | None = None
    trust: ProjectTrust = ProjectTrust()
    bundles: tuple[str, ...] = ()


def gather(connection: Connection, changes: Iterable[Change]) -> tuple[Known, ...]:
    """Return the changes that a policy may look at, with what surrounds them now."""
    held = tuple(each for each in policies.everything(connection) if each.spec.enabled)
    if not held:
        return ()
    return tuple(
        _known(connection, change, held) for change in changes if any(_may_look(each, change) for each in held)
    )


def everything(connection: Connection, held: Sequence[Policy]) -> tuple[Known, ...]:
    """Return every endpoint, project and receiver as if it were asked for again, under `held` alone."""
    found: list[Change] = [
        Change("update", state.resource, state.resource)
        for state in endpoints.everything(connection)
        if not state.is_deleting
    ]
    found += [Change("update", row.resource, row.resource) for row in projects.everything(connection)]
    return tuple(_known(connection, change, tuple(held)) for change in found)


def pool(nodes: Iterable[NodeStatus]) -> PoolFacts:
    """Return the sizes of nodes."""
    known = tuple(NodeFacts(str(node.node), node.cores, node.memory_bytes, node.pool) for node in nodes)
    return PoolFacts(known, sum(node.cores for node in known), sum(node.memory_bytes for node in known))


def document(known: Known, who: Actor, nodes: PoolFacts, blobs: BlobStore, now_s: float) -> Document:
    """Return what rules look at."""
    change = known.change
    there = change.resource
    spec = there.spec if isinstance(there, Endpoint) else None
    labels = known.project.metadata.labels
    return Document(
        operation=change.operation,
        resource=_plain(change.resource),
        old=_plain(change.old),
        actor=who,
        project=ProjectFacts(known.project.metadata.name, labels, known.project.spec.signatures),
        version=None if known.version is None else _version(known, known.version, blobs, now_s),
        dossier=change.dossier,
        pool=nodes,
        slos=tuple(SloFacts(each.name, each.sli, each.target, each.tenant) for each in spec.slos) if spec else (),
    )


def _plain(resource: Judged | None) -> dict[str, Any] | None:
    return None if resource is None else plain(resource)


def _may_look(held: Policy, change: Change) -> bool:
    match = held.spec.match
    is_there = held.spec.all_projects or held.metadata.project == change.project
    return is_there and change.operation in match.operations and change.kind in match.kinds


def _known(connection: Connection, change: Change, held: tuple[Policy, ...]) -> Known:
    project = projects.find(connection, change.project)
    if project is None:
        # It was deleted by this change; rules see it as it was.
        assert isinstance(change.old, Project), "only a project can be without itself"
        return Known(change, held, change.old)
    version = change.version
    if version is None and isinstance(change.resource, Endpoint) and not change.resource.spec.backends:
        version = _served(connection, change.resource)
    if version is None:
        return Known(change, held, project)
    return Known(
        change,
        held,
        project,
        version,
        signing.trust(connection, change.project),
        signing.bundles(connection, version.name, version.number),
    )


def _served(connection: Connection, endpoint: Endpoint) -> ModelVersion | None:
    """Return the version that the stored endpoint means."""
    try:
        ref = parse_ref(endpoint.spec.model)
        if ref.is_newest:
            pinned = endpoints.get(connection, endpoint.metadata.project, endpoint.metadata.name).pinned
            ref = ModelRef(name=ModelName(ref.name), number=pinned)
        return models.get(connection, ref)
    except (ValueError, NotFound):
        return None


def _version(known: Known, version: ModelVersion, blobs: BlobStore, now_s: float) -> VersionFacts:
    manifest = version.manifest
    findings = [keys.examine(text, manifest.files, known.trust.roots) for text in known.bundles]
    return VersionFacts(
        ref=version.ref,
        name=version.name,
        number=version.number,
        digest=version.digest,
        format=manifest.format,
        size_bytes=version.size_bytes,
        signature=standing(findings).state,
        signed_by=tuple(sorted({each.signer for each in findings if each.state == "verified"})),
        tasks=manifest.tasks,
        files=tuple(
            FileFacts(file.path, file.size_bytes, manifest.format == PICKLED and _is_pickle(file, blobs))
            for file in manifest.files
        ),
        lineage=msgspec.to_builtins(manifest.lineage),
        metadata=manifest.metadata,
        age_s=max(0, int(now_s - version.made_at_s)),
    )


def _is_pickle(file: FileEntry, blobs: BlobStore) -> bool:
    try:
        with blobs.path(file.digest).open("rb") as opened:
            return bool(pickle_reason(opened.read(HEAD_BYTES)))
    except OSError:
        return True  # what cannot be read cannot be shown to be none
