"""Which revisions want a dossier: those that specs ask for, do not serve, and were not judged by the gates of now."""

from typing import Any

import msgspec

from stoker.core.gate import law, likeness
from stoker.core.refs import ModelRef, parse_ref
from stoker.core.rollout.release import REJECTED
from stoker.core.snapshot import EndpointState, Revision
from stoker.store import endpoints, models, policies, releases, revisions, rollouts, signing
from stoker.store.engine import Connection
from stoker.types.errors import NotFound
from stoker.types.ids import ModelName
from stoker.types.models import ModelVersion, Signature, sha256_digest
from stoker.types.releases import Dossier, Gates, GoldenSet
from stoker.types.signing import SignedVersion


class Need(msgspec.Struct, frozen=True):
    """A revision to be judged, and what it is judged beside. basis: tells other circumstances apart.

    base: the version that it is compared with as a language model, where it is and there is one.
    """

    state: EndpointState
    revision: Revision
    version: ModelVersion
    parent: Revision | None
    parent_version: ModelVersion | None
    golden: GoldenSet | None
    signed: SignedVersion
    basis: str
    base: ModelVersion | None = None
    base_signed: SignedVersion = SignedVersion()
    number: int = 0  # of the dossier that was begun; 0: none was
    swapped: bool = False  # it says that what serves may go, for the rest of its gates needs the place

    @property
    def key(self) -> tuple[str, float, str, str]:
        """What a judgement is of: the revision, its gates, the circumstances."""
        return (self.revision.revision, self.revision.created_at_s, law.law(self.gates), self.basis)

    @property
    def recreates(self) -> bool:
        """Whether what serves goes first, so that both are never there at once."""
        return self.parent is not None and self.state.resource.spec.rollout.strategy == "recreate"

    @property
    def seen(self) -> Signature:
        """What clients send to the revision, and read of it: its version's signature, mapped where a spec says so."""
        return self.revision.config.seen(self.version.manifest.signature)

    @property
    def gates(self) -> Gates:
        """The gates of the endpoint."""
        return self.state.resource.spec.gates

    def dossier(self) -> Dossier:
        """Return the dossier before anything is known."""
        revision = self.revision
        return Dossier(
            project=revision.project,
            endpoint=revision.endpoint,
            revision=revision.revision,
            born_s=revision.created_at_s,
            model=revision.config.ref,
            digest=revision.config.digest,
            config_digest=revision.digest,
            parent=self.parent.revision if self.parent is not None else "",
            parent_model=self.parent.config.ref if self.parent is not None else "",
            gates=self.gates,
            state="pending",
            because="its gates begin",
            swapped=self.swapped,
        )


def find(connection: Connection) -> list[Need]:
    """Return what there is to judge. What was taken back waits until somebody has it tried again."""
    asked = {
        each.status.revision: each
        for each in endpoints.everything(connection)
        if not each.is_deleting and not each.resource.spec.backends and each.status.revision not in ("", each.serving)
    }
    if not asked:
        return []
    rows = releases.standing(connection)
    taken_back = {each.state.canary for each in rollouts.newest(connection) if each.state.phase in REJECTED}
    found = []
    for name, state in asked.items():
        mine = {each.revision: each for each in revisions.everything(connection, state.project, state.name)}
        revision = next((each for each in mine.values() if each.revision == name), None)
        if revision is None or name in taken_back:  # none of its replicas runs, so nothing could be asked of it
            continue
        begun = rows.get((revision.revision, revision.created_at_s))
        kept = begun.kept if begun is not None else None
        stands = law.stands(kept, state.resource.spec.gates, serves=False)
        if stands.state == "complete":
            continue
        parent = next((each for each in mine.values() if each.revision == state.serving), None)
        need = _need(connection, state, revision, parent)
        is_same = begun is not None and begun.basis == need.basis and begun.kept.gates == law.law(need.gates)
        if stands.state == "refused" and is_same:
            continue
        if begun is not None and is_same and begun.kept.state == "pending":
            need = msgspec.structs.replace(need, number=begun.number, swapped=begun.kept.swaps)
        found.append(need)
    return found


def _need(connection: Connection, state: EndpointState, revision: Revision, parent: Revision | None) -> Need:
    golden = releases.golden(connection, state.project, state.name)
    config = revision.config
    beside = parent.digest if parent is not None else ""
    signed = signing.signed(connection, state.project, config.model, config.number)
    held = golden.digest if golden is not None else ""
    version = _version(connection, revision)
    parent_version = _version(connection, parent) if parent is not None else None
    circumstances: list[Any] = [beside, held, signed, policies.everything(connection)]
    base, base_signed = None, SignedVersion()
    gate = state.resource.spec.gates.likeness
    if likeness.is_asked(gate, version.manifest):
        base = _origin(connection, version) or (parent_version if gate.when == "always" else None)
        if base is not None:
            base_signed = signing.signed(connection, state.project, base.name, base.number)
        circumstances += [base.ref if base is not None else "", base_signed]
    return Need(
        state=state,
        revision=revision,
        version=version,
        parent=parent,
        parent_version=parent_version,
        golden=golden,
        signed=signed,
        basis=sha256_digest(msgspec.json.encode(circumstances)),
        base=base,
        base_signed=base_signed,
    )


def _origin(connection: Connection, version: ModelVersion) -> ModelVersion | None:
    """Return the version that another says it was made from; None where it says none that is there."""
    try:
        ref = parse_ref(likeness.origin(version.manifest))
        found = models.get(connection, ref) if ref.number is not None else None
    except (ValueError, NotFound):
        return None
    return found if found is not None and found.ref != version.ref else None


def _version(connection: Connection, revision: Revision) -> ModelVersion:
    return models.get(connection, ModelRef(name=ModelName(revision.config.model), number=revision.config.number))
