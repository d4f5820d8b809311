"""A dossier as a signed statement: an in-toto statement about the version in a DSSE envelope, by the platform's key.

Two kinds: what the gates found, and how the rollout ended. Each is a Sigstore bundle as `protocol/bundle.py` writes it,
so that any tool which checks DSSE can check it.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from stoker.protocol import bundle, signing
from stoker.protocol.bundle import BadBundle, Bundle
from stoker.protocol.signing import PrivateKey, PublicKey
from stoker.types.releases import Dossier

GATES: Final = "https://stoker.dev/release/v1"
ROLLOUT: Final = "https://stoker.dev/rollout/v1"
STATEMENT_BYTES_MAX: Final = 1 << 20


def sign(dossier: Dossier, key: PrivateKey) -> str:
    """Return the signed statement of what the gates found."""
    return _signed(dossier, GATES, msgspec.to_builtins(dossier), key)


def sign_verdict(dossier: Dossier, verdict: dict[str, Any], key: PrivateKey) -> str:
    """Return the signed statement of how the rollout of the dossier's revision ended."""
    about = {"project": dossier.project, "endpoint": dossier.endpoint, "revision": dossier.revision}
    return _signed(dossier, ROLLOUT, {**about, **verdict}, key)


def verify(text: str | bytes, key: PublicKey) -> dict[str, Any]:
    """Return the statement that `key` signed. Raises BadBundle when it did not, or it is no statement of a release."""
    if len(text) > STATEMENT_BYTES_MAX:
        raise BadBundle(f"it is larger than {STATEMENT_BYTES_MAX} bytes")
    try:
        raw = msgspec.json.decode(text)
        envelope = raw["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        said = msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, binascii.Error, KeyError, TypeError, ValueError) as error:
        raise BadBundle(f"it is no Sigstore bundle with a statement in it: {error}") from error
    if envelope.get("payloadType") != bundle.PAYLOAD_TYPE or len(signatures) != 1:
        raise BadBundle("it has not exactly one signature of an in-toto statement")
    if not signing.holds(Bundle(payload, signatures[0], "", {}), key):
        raise BadBundle("the platform's key did not sign it, or it was changed since")
    if said.get("_type") != bundle.STATEMENT_TYPE or said.get("predicateType") not in (GATES, ROLLOUT):
        raise BadBundle(f"it states {said.get('predicateType')}, which is not about a release")
    return said


def _signed(dossier: Dossier, kind: str, predicate: Any, key: PrivateKey) -> str:
    subject = {"name": dossier.model, "digest": {"sha256": dossier.digest.removeprefix("sha256:")}}
    statement = {
        "_type": bundle.STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": kind,
        "predicate": predicate,
    }
    return signing.sign_payload(msgspec.json.encode(statement, order="sorted"), key)
