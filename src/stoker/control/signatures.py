"""Signatures of versions: taken from a push, judged by a project's trust, kept beside the version."""

import hashlib
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from stoker.blob.port import BlobStore
from stoker.client.views import SignatureView
from stoker.core.refs import ModelRef
from stoker.protocol import bundle as wire
from stoker.protocol import signing as keys
from stoker.protocol.keyless import read_root
from stoker.store import journal, models, projects, signing
from stoker.store.engine import Connection
from stoker.types.access import EVERYTHING, Grant
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, SignatureRefused
from stoker.types.ids import DEFAULT_PROJECT, ModelName
from stoker.types.models import FileEntry, ModelVersion, VersionManifest, manifest_digest
from stoker.types.signing import (
    SIGNATURE_BYTES_MAX,
    SIGNATURE_FILE,
    Keyless,
    ProjectTrust,
    SignaturePolicy,
    SignedVersion,
    TrustRoot,
)


class SignedPush(msgspec.Struct, frozen=True):
    """What came with a push besides its files: signatures, the project whose demands it is held to, and who it is."""

    bundles: tuple[str, ...] = ()
    project: str = DEFAULT_PROJECT
    grant: Grant = EVERYTHING  # of who pushes: whose a new name is, and which names it may push to


UNSIGNED: Final = SignedPush()


def apart(
    files: Sequence[FileEntry], given: Sequence[str], blobs: BlobStore
) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
    """Return the files of the model itself, and its signatures: those given, and the one among the files.

    Raises RefusedArtifact, NotFound.
    """
    found = list(given)
    for entry in files:
        if entry.path == SIGNATURE_FILE:
            if entry.size_bytes > SIGNATURE_BYTES_MAX:
                raise RefusedArtifact(f"{SIGNATURE_FILE} is larger than {SIGNATURE_BYTES_MAX} bytes", field="files")
            if not blobs.touch(entry.digest):
                raise NotFound(f"not uploaded yet: {SIGNATURE_FILE}; PUT the blobs first", field="files")
            found.append(blobs.path(entry.digest).read_bytes().decode("utf-8", "replace"))
    return tuple(entry for entry in files if entry.path != SIGNATURE_FILE), tuple(found)


def admit(connection: Connection, name: str, manifest: VersionManifest, bundles: Sequence[str], project: str) -> None:
    """Refuse a push with a signature that does not hold, or without the one that the project demands.

    Raises SignatureRefused, NotFound (no such project).
    """
    trust = signing.trust(connection, project)
    for text in bundles:
        finding = keys.examine(text, manifest.files, trust.roots)
        if finding.state == "bad":
            raise SignatureRefused(f"the signature of {name} does not hold: {finding.why}", field="files")
    known = models.resolve(connection, ModelRef(name=ModelName(name), digest=manifest_digest(manifest)))
    stored = signing.bundles(connection, name, known.number) if known is not None else ()
    keys.demand(name, manifest.files, SignedVersion(trust, (*bundles, *stored)))


def demanded(connection: Connection, version: ModelVersion, project: str) -> None:
    """Refuse a version that an engine is about to open, where the project demands a signature that it has not.

    Raises SignatureRefused, NotFound (no such project).
    """
    signed = signing.signed(connection, project, version.name, version.number)
    keys.demand(version.ref, version.manifest.files, signed)


def keep(connection: Connection, version: ModelVersion, text: str, now_s: float) -> None:
    """Keep a signature that was judged. Raises Conflict over the maximum."""
    fingerprint = keys.mark(wire.read(text))
    signing.add(connection, version.name, version.number, fingerprint, text, now_s)
    because = f"signed with the key {fingerprint[:12] or 'of an older signature'}"
    journal.add(connection, journal.Entry(now_s, "SignVersion", because, subject=version.ref))


def sign(connection: Connection, ref: ModelRef, text: str) -> None:
    """Keep a signature of a version that is there. Raises SignatureRefused when it is not of these files."""
    version = models.get(connection, ref)
    finding = keys.examine(text, version.manifest.files, ())
    if finding.state == "bad":
        raise SignatureRefused(f"the signature of {version.ref} does not hold: {finding.why}", field="bundle")
    keep(connection, version, text, time.time())


def views(connection: Connection, ref: ModelRef, project: str) -> list[SignatureView]:
    """Return a version's signatures and what each is worth to a project. Raises NotFound."""
    version = models.get(connection, ref)
    trust = signing.trust(connection, project)
    found = []
    for text in signing.bundles(connection, version.name, version.number):
        finding = keys.examine(text, version.manifest.files, trust.roots)
        found.append(SignatureView(finding.state, finding.signer, finding.fingerprint, finding.why, text))
    return found


def trust_key(connection: Connection, project: str, name: str, pem: str, who: Keyless | None = None) -> TrustRoot:
    """Trust a public key, or somebody who signs without one, under a name. Raises InvalidInput, NotFound, Conflict."""
    root = _keyless(name, who) if who is not None else _keyed(name, pem)
    known = signing.trust(connection, project)
    if any(one.fingerprint == root.fingerprint and one.name != name for one in known.roots):
        field = "public_key" if who is None else "identity"
        raise InvalidInput("this is trusted already, under another name", field=field)
    signing.add_root(connection, project, root)
    said = f"the key {root.fingerprint[:12]}" if who is None else f"{who.identity} ({who.issuer})"
    because = f"{said} is trusted now"
    journal.add(connection, journal.Entry(root.created_at_s, "TrustKey", because, project, subject=name))
    return root


def _keyed(name: str, pem: str) -> TrustRoot:
    key = keys.public_key(pem)
    return TrustRoot(name, keys.public_pem(key), keys.fingerprint(key), time.time())


def _keyless(name: str, who: Keyless) -> TrustRoot:
    if not who.identity.replace("*", ""):
        raise InvalidInput("an identity of stars alone is anybody; say who", field="identity")
    kept = msgspec.structs.replace(who, trusted_root=read_root(who.trusted_root))
    mark = hashlib.sha256(msgspec.json.encode(kept)).hexdigest()
    return TrustRoot(name, "", mark, time.time(), kept)


def distrust(connection: Connection, project: str, name: str) -> None:
    """Trust a key no longer. What runs goes on; what starts is held to it. Raises NotFound."""
    signing.remove_root(connection, project, name)
    journal.add(connection, journal.Entry(time.time(), "DistrustKey", "asked to", project, subject=name))


def set_policy(connection: Connection, project: str, policy: SignaturePolicy) -> ProjectTrust:
    """Say what a project demands of versions. Raises NotFound."""
    found = projects.find(connection, project)
    if found is None:
        raise NotFound(f"no project {project!r}")
    spec = msgspec.structs.replace(found.spec, signatures=policy)
    now_s = time.time()
    projects.put(connection, msgspec.structs.replace(found, spec=spec), now_s)
    journal.add(connection, journal.Entry(now_s, "SetSignaturePolicy", f"signatures are {policy} now", project))
    return signing.trust(connection, project)
