"""Signing a list of files with a key, and holding signatures against whom one trusts. Offline: no service is asked.

EC keys (P-256, P-384, P-521, as OpenSSF's tool takes them) and Ed25519, by the `cryptography` package.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from stoker.core.trust import standing
from stoker.protocol import bundle, keyless
from stoker.protocol.bundle import BadBundle, Bundle
from stoker.protocol.siglog import NotKnown
from stoker.types.errors import InvalidInput, SignatureRefused
from stoker.types.models import FileEntry
from stoker.types.signing import Finding, SignedVersion, TrustRoot

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_KINDS: Final = "an EC key (P-256, P-384, P-521) or an Ed25519 key, in PEM"


class NeedsPassword(InvalidInput):
    """The private key is encrypted, and no password or a wrong one was given."""


def private_key(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """Return a private key. Raises NeedsPassword, InvalidInput."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError as error:  # what `cryptography` raises without a password, or with one too many
        raise NeedsPassword(f"the key cannot be opened: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        kind = NeedsPassword if password is not None else InvalidInput
        raise kind(f"this is not {_KINDS}, or the password is wrong: {error}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _HASHES
    ):
        return key
    raise InvalidInput(f"this key cannot sign models; use {_KINDS}")


def public_key(pem: str) -> PublicKey:
    """Return a public key. Raises InvalidInput; for a private key it says so without showing it."""
    if "PRIVATE KEY" in pem:
        raise InvalidInput("this is a private key; give the public one (openssl pkey -in KEY -pubout)")
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"this is not the public part of {_KINDS}") from error
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES
    ):
        return key
    raise InvalidInput(f"signatures of this key cannot be checked; use {_KINDS}")


def public_pem(key: PublicKey) -> str:
    """Return a public key in the one form that its fingerprint is taken of."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def fingerprint(key: PublicKey) -> str:
    """Return how signatures name a key: the SHA-256 of its PEM, in hex."""
    return hashlib.sha256(public_pem(key).encode()).hexdigest()


def sign(name: str, files: Sequence[FileEntry], key: PrivateKey) -> str:
    """Return the bundle that says: these are the files of `name`. Raises InvalidInput where there are none."""
    if not files:
        raise InvalidInput(f"{name} has no files that could be signed; it is only an address")
    return sign_payload(bundle.statement(name, files), key)


def sign_payload(payload: bytes, key: PrivateKey) -> str:
    """Return the bundle around an in-toto statement."""
    return bundle.write(payload, sign_bytes(bundle.signed_bytes(payload), key), fingerprint(key.public_key()))


def sign_bytes(data: bytes, key: PrivateKey) -> bytes:
    """Return the signature of bytes. The caller says in them what they are, so that they are taken for nothing else."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(_HASHES[key.curve.name]))


def examine(text: str | bytes, files: Sequence[FileEntry], roots: Sequence[TrustRoot]) -> Finding:
    """Return what one signature of `files` is worth to who trusts `roots`."""
    try:
        found = bundle.read(text)
    except BadBundle as bad:
        return Finding("bad", why=str(bad))
    if different := bundle.difference(found, files):
        return Finding("bad", fingerprint=found.fingerprint, why=different)
    if found.certificate:
        return _keyless(found, [each for each in roots if each.keyless is not None])
    for root in roots:
        if root.keyless is not None:
            continue
        key = public_key(root.public_key)
        if found.fingerprint in ("", fingerprint(key)):
            if holds(found, key):
                return Finding("verified", root.name, fingerprint(key))
            if found.fingerprint:
                why = f"it was not made with the key {root.name} that it names, or it was changed since"
                return Finding("bad", root.name, found.fingerprint, why)
    return Finding("unknown", fingerprint=found.fingerprint, why="no key of the project's trust made it")


def _keyless(found: Bundle, roots: Sequence[TrustRoot]) -> Finding:
    """Return what a signature by a certificate is worth."""
    try:
        who = keyless.signer(found)
    except BadBundle as bad:
        return Finding("bad", why=str(bad))
    mark = _mark(who)
    key = who.key
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or not holds(found, key):
        return Finding("bad", fingerprint=mark, why="it was not made with the key of its certificate")
    worst = Finding("unknown", fingerprint=mark, why=f"nobody trusts {who}")
    for root in roots:
        if root.keyless is None or not keyless.is_meant(root.keyless, who):
            continue
        try:
            at = keyless.check(found, who, root.keyless)
        except NotKnown as unknown:
            worst = Finding("unknown", root.name, mark, str(unknown))
        except BadBundle as bad:
            worst = Finding("bad", root.name, mark, str(bad))
        else:
            return Finding("verified", root.name, mark, f"{who} on {at:%Y-%m-%d %H:%M:%S} UTC")
    return worst


def _mark(who: keyless.Signer) -> str:
    """Return what tells keyless signers apart: their keys live for minutes."""
    return hashlib.sha256(f"{who.issuer} {' '.join(who.identities)}".encode()).hexdigest()


def mark(found: Bundle) -> str:
    """Return what tells the maker of a signature from others: the key that it names, or who its certificate names."""
    if not found.certificate:
        return found.fingerprint
    return _mark(keyless.signer(found))


def demand(named: str, files: Sequence[FileEntry], signed: SignedVersion) -> str:
    """Return what is to be said about a version that may serve ("" for nothing).

    A version without files is only an address: there is nothing to sign, and nothing is demanded.

    Raises SignatureRefused when the project's policy is `required` and nobody it trusts has signed these files.
    """
    if signed.trust.policy == "off" or not files:
        return ""
    finding = standing([examine(text, files, signed.trust.roots) for text in signed.bundles])
    if finding.state == "verified":
        return ""
    words = f"{named} is not signed by anyone this project trusts: {finding.why}"
    if signed.trust.policy == "required":
        how = f"stoker models sign {named} --key FILE" if "@" in named else "stoker push … --sign-key FILE"
        raise SignatureRefused(f"{words}; sign it ({how}) or trust its signer (stoker trust add)")
    return words


def holds(found: Bundle, key: PublicKey) -> bool:
    """Return whether `key` made the signature over what is in the bundle."""
    return is_signed(bundle.signed_bytes(found.payload), found.signature, key)


def is_signed(data: bytes, signature: bytes, key: PublicKey) -> bool:
    """Return whether `key` made that signature of bytes."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True
