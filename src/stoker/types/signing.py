"""Signatures of model versions: what a project demands, whom it trusts, and how a version stands with it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name

SIGNATURE_FILE = "model.sig"  # beside the files of a model; what signing tools write
SIGNATURE_BYTES_MAX = 4 * 2**20  # 10,000 files take about 2 MiB
SIGNATURES_MAX = 8  # of one version
ROOTS_MAX = 100  # of one project
PUBLIC_KEY_BYTES_MAX = 4_096
TRUSTED_ROOT_BYTES_MAX = 64 * 2**10  # Sigstore's own has 10 KiB
IDENTITY_MAX = 500

# off: signatures are not asked for. warn: what is not signed by a trusted key serves, and it is said. required: it does
# not serve.
SignaturePolicy = Literal["off", "warn", "required"]
# verified: by a key the project trusts. unknown: by another key, so that nobody can say. bad: it does not hold.
SignatureState = Literal["verified", "unknown", "bad", "unsigned"]


class Keyless(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who signs without a key: who that is, who says so, and by which authorities and logs.

    identity: a mail address, or the URL of a workflow; `*` stands for anything. trusted_root: Sigstore's TrustedRoot as
    JSON.
    """

    identity: Annotated[str, Meta(min_length=1, max_length=IDENTITY_MAX)]
    issuer: Annotated[str, Meta(min_length=1, max_length=IDENTITY_MAX)]
    trusted_root: Annotated[str, Meta(max_length=TRUSTED_ROOT_BYTES_MAX)]


class TrustRoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose signatures a project believes: those of a public key (PEM, with its SHA-256 as signatures name it), or of
    somebody without one; then public_key is "".
    """

    name: Name
    public_key: Annotated[str, Meta(max_length=PUBLIC_KEY_BYTES_MAX)]
    fingerprint: str = ""
    created_at_s: float = 0.0
    keyless: Keyless | None = None


class ProjectTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a project demands of the versions it serves, and whose signatures count."""

    policy: SignaturePolicy = "off"
    roots: tuple[TrustRoot, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """What one signature is worth to a project. `why` says what does not hold."""

    state: SignatureState
    signer: str = ""  # the name of the trust root
    fingerprint: str = ""  # of the key that it says it was made with; of a keyless one, of who it says signed
    why: str = ""


class SignedVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a replica must hold a version to before it opens it: the project's trust and the version's signatures."""

    trust: ProjectTrust = ProjectTrust()
    bundles: tuple[str, ...] = ()
