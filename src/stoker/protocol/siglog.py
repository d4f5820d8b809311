"""What a log of signatures says: that it took an entry, when, and that the entry is in its tree. Wire form and checks.

Of Rekor, version 1 is known: a later one has its time from another authority.

Source: Sigstore's client specification (verification); RFC 9162 for the tree; C2SP's signed notes for its head.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from stoker.protocol.bundle import BadBundle, Bundle

LogKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_ENTRY: Final = ("dsse", "0.0.1")
_FOREVER: Final = datetime.max.replace(tzinfo=UTC)
_PROOF_MAX: Final = 64  # hashes: a tree of 2^64 entries has no longer one
_SIGNED_BY: Final = re.compile(r"— (\S+) (\S+)\n")


class NotKnown(ValueError):
    """A signature of a kind that cannot be checked here; nobody can say whether it holds."""


class Span(msgspec.Struct):
    """For when something is trusted; without an end, until it is taken out of the root."""

    start: datetime | None = None
    end: datetime | None = None

    def covers(self, at: datetime) -> bool:
        """Return whether it is trusted for a moment."""
        return (self.start or datetime.min.replace(tzinfo=UTC)) <= at <= (self.end or _FOREVER)


class _Key(msgspec.Struct, rename="camel"):
    raw_bytes: bytes
    valid_for: Span = msgspec.field(default_factory=Span)


class _LogId(msgspec.Struct, rename="camel"):
    key_id: bytes


class Log(msgspec.Struct, rename="camel"):
    """A log of a trusted root, of signatures or of certificates."""

    public_key: _Key
    log_id: _LogId


class _Promise(msgspec.Struct, rename="camel"):
    signed_entry_timestamp: bytes


class _Checkpoint(msgspec.Struct):
    envelope: str


class _Proof(msgspec.Struct, rename="camel"):
    log_index: str | int
    root_hash: bytes
    tree_size: str | int
    checkpoint: _Checkpoint
    hashes: list[bytes] = []


class _Kind(msgspec.Struct):
    kind: str
    version: str


class _Entry(msgspec.Struct, rename="camel"):
    log_index: str | int
    log_id: _LogId
    kind_version: _Kind
    canonicalized_body: bytes
    integrated_time: str | int = 0
    inclusion_promise: _Promise | None = None
    inclusion_proof: _Proof | None = None


class _Body(msgspec.Struct):
    kind: str
    spec: dict[str, Any]


def logged(bundle: Bundle, certificate: x509.Certificate, logs: Iterable[Log]) -> datetime:
    """Return when one of `logs` took the entry of a signature. Raises BadBundle, NotKnown."""
    entry = _entry(bundle)
    _is_of(entry, bundle, certificate)
    log = known(logs, entry.log_id.key_id, "log of signatures")
    at = _promised(entry, log)
    _included(entry, log)
    return at


def _entry(bundle: Bundle) -> _Entry:
    try:
        entries = msgspec.convert(bundle.entries, list[_Entry])
    except (msgspec.ValidationError, binascii.Error) as wrong:
        raise BadBundle(f"its log entry cannot be read: {wrong}") from wrong
    if len(entries) != 1:
        raise BadBundle(f"it has {len(entries)} log entries and not one")
    entry = entries[0]
    if (entry.kind_version.kind, entry.kind_version.version) != _ENTRY:
        kind = f"{entry.kind_version.kind} {entry.kind_version.version}"[:100]
        raise NotKnown(f"its log entry is a {kind}, and only those of Rekor v1 ({' '.join(_ENTRY)}) can be checked")
    return entry


def _is_of(entry: _Entry, bundle: Bundle, certificate: x509.Certificate) -> None:
    """Raise BadBundle unless the entry is of this payload, signature and certificate."""
    try:
        body = msgspec.json.decode(entry.canonicalized_body, type=_Body)
        hashed, signatures = body.spec["payloadHash"], body.spec["signatures"]
        logged = x509.load_pem_x509_certificate(base64.b64decode(signatures[0]["verifier"], validate=True))
        is_same = (
            body.kind == _ENTRY[0]
            and (hashed["algorithm"], hashed["value"]) == ("sha256", hashlib.sha256(bundle.payload).hexdigest())
            and len(signatures) == 1
            and base64.b64decode(signatures[0]["signature"], validate=True) == bundle.signature
            and logged == certificate
        )
    except (msgspec.DecodeError, binascii.Error, ValueError, KeyError, IndexError, TypeError) as wrong:
        raise BadBundle(f"its log entry cannot be read: {wrong}") from wrong
    if not is_same:
        raise BadBundle("its log entry is of another signature")


def _promised(entry: _Entry, log: Log) -> datetime:
    """Return when the log took the entry, as it has signed. Raises BadBundle."""
    if entry.inclusion_promise is None:
        raise BadBundle("its log has not signed when it took the entry")
    try:
        at_s, index = int(entry.integrated_time), int(entry.log_index)
        at = datetime.fromtimestamp(at_s, UTC)
    except (ValueError, OverflowError, OSError) as wrong:
        raise BadBundle("its log entry has no time") from wrong
    signed = msgspec.json.encode(
        {
            "body": base64.b64encode(entry.canonicalized_body).decode(),
            "integratedTime": at_s,
            "logID": entry.log_id.key_id.hex(),
            "logIndex": index,
        }
    )
    if not is_made(log_key(log), entry.inclusion_promise.signed_entry_timestamp, signed):
        raise BadBundle("its log entry or the time of it was changed since the log signed it")
    if not log.public_key.valid_for.covers(at):
        raise BadBundle(f"the log's key is not trusted for what was signed on {at:%Y-%m-%d}")
    return at


def _included(entry: _Entry, log: Log) -> None:
    """Raise BadBundle unless the entry is in the tree whose head the log has signed."""
    proof = entry.inclusion_proof
    if proof is None:
        raise BadBundle("it does not prove that its entry is in the log")
    text, _, signatures = proof.checkpoint.envelope.partition("\n\n")
    lines = text.split("\n")
    try:
        size, index = int(proof.tree_size), int(proof.log_index)
        is_head = len(lines) >= 3 and int(lines[1]) == size and base64.b64decode(lines[2]) == proof.root_hash
        signed = [base64.b64decode(made, validate=True) for _, made in _SIGNED_BY.findall(signatures)]
    except (ValueError, binascii.Error) as wrong:
        raise BadBundle(f"the head of its log cannot be read: {wrong}") from wrong
    key = log_key(log)
    ours = [made[4:] for made in signed if made[:4] == log.log_id.key_id[:4]]
    if not is_head or not any(is_made(key, made, f"{text}\n".encode()) for made in ours):
        raise BadBundle("the head of its log is not signed by that log")
    if not is_in_tree(entry.canonicalized_body, index, size, proof.hashes, proof.root_hash):
        raise BadBundle("its entry is not in the log that it names")


def is_in_tree(leaf: bytes, index: int, size: int, path: Iterable[bytes], root: bytes) -> bool:
    """Return whether `path` leads from an entry to the root of a tree of `size` entries (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    here, last = index, size - 1
    digest = hashlib.sha256(b"\0" + leaf).digest()
    for steps, beside in enumerate(path):
        if last == 0 or steps >= _PROOF_MAX:
            return False
        if here & 1 or here == last:
            digest = hashlib.sha256(b"\1" + beside + digest).digest()
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            digest = hashlib.sha256(b"\1" + digest + beside).digest()
        here, last = here >> 1, last >> 1
    return last == 0 and digest == root


def known(logs: Iterable[Log], key_id: bytes, kind: str) -> Log:
    """Return the log of that id. Raises BadBundle."""
    found = next((each for each in logs if each.log_id.key_id == key_id), None)
    if found is None:
        raise BadBundle(f"the trusted root does not know its {kind}, {key_id.hex()[:16]}")
    return found


def log_key(log: Log) -> LogKey:
    """Return the key of a log. Raises ValueError, UnsupportedAlgorithm."""
    key = serialization.load_der_public_key(log.public_key.raw_bytes)
    if isinstance(key, ed25519.Ed25519PublicKey | rsa.RSAPublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES
    ):
        return key
    raise ValueError("the key of a log is of no kind that can be checked")


def is_made(key: LogKey, signature: bytes, data: bytes) -> bool:
    """Return whether the key of a log made that signature of bytes."""
    try:
        match key:
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
            case _:
                key.verify(signature, data, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True
