"""Signatures without a key of one's own: a certificate that lived for minutes and names who signed, and an entry in a
public log that says when. Checked offline against a Sigstore trusted root; no service is asked.

What holds: the certificate was issued by an authority of the root for this identity, was in a certificate log (its SCT)
and was valid when the log of signatures took the entry; the entry is of this very signature, its time is signed by the
log, and it is in the tree whose head the log has signed (siglog.py).

Source: Sigstore's client specification (verification); RFC 6962 for timestamps of certificates. Certificate paths are
checked by `cryptography.x509.verification`.
"""

import hashlib
import re
import struct
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.certificate_transparency import LogEntryType, SignedCertificateTimestamp
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from stoker.protocol.bundle import BadBundle, Bundle
from stoker.protocol.siglog import Log, NotKnown, Span, is_made, known, log_key, logged
from stoker.types.errors import InvalidInput
from stoker.types.signing import IDENTITY_MAX, Keyless

_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # a DER string
_ISSUER_OLD: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # the same, as plain bytes
_UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType, x509.DuplicateExtension)
_USERNAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")  # a name that is neither a mail nor a URL


class Signer(NamedTuple):
    """Who a certificate says signed, and by whose word."""

    identities: tuple[str, ...]
    issuer: str
    certificate: x509.Certificate
    key: CertificatePublicKeyTypes

    def __str__(self) -> str:
        return f"{', '.join(self.identities)} ({self.issuer})"[:IDENTITY_MAX]


class _Certificate(msgspec.Struct, rename="camel"):
    raw_bytes: bytes


class _Chain(msgspec.Struct):
    certificates: list[_Certificate]


class _Authority(msgspec.Struct, rename="camel"):
    cert_chain: _Chain
    valid_for: Span = msgspec.field(default_factory=Span)


class _Root(msgspec.Struct, rename="camel"):
    media_type: str
    tlogs: list[Log]
    certificate_authorities: list[_Authority]
    ctlogs: list[Log]


def read_root(text: str) -> str:
    """Return a trusted root in the form that is kept. Raises InvalidInput.

    text: the JSON of a TrustedRoot, or of a ClientTrustConfig that has one.
    """
    try:
        found = msgspec.json.decode(text)
        inner = found.get("trustedRoot", found) if isinstance(found, dict) else {}
        root = msgspec.convert(inner, _Root)
        for log in (*root.tlogs, *root.ctlogs):
            log_key(log)
        for authority in root.certificate_authorities:
            _certificates(authority)
    except (msgspec.DecodeError, ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        raise InvalidInput(f"this is no trusted root of Sigstore (JSON): {wrong}") from wrong
    if not (root.tlogs and root.ctlogs and root.certificate_authorities):
        raise InvalidInput("the trusted root has no authority, no log of signatures or no log of certificates")
    return msgspec.json.encode(
        {name: inner[name] for name in ("mediaType", "tlogs", "certificateAuthorities", "ctlogs")}
    ).decode()


def signer(bundle: Bundle) -> Signer:
    """Return who a bundle's certificate says signed; nothing is believed yet. Raises BadBundle."""
    try:
        certificate = x509.load_der_x509_certificate(bundle.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [name for each in names if (name := _identity(each))]
        issuer, key = _issuer(certificate), certificate.public_key()
    except (*_UNREADABLE, x509.ExtensionNotFound) as wrong:
        raise BadBundle(f"its certificate cannot be read, or says not who signed: {wrong}") from wrong
    if not found or not issuer:
        raise BadBundle("its certificate says not who signed")
    return Signer(tuple(found), issuer, certificate, key)


def is_meant(trusted: Keyless, who: Signer) -> bool:
    """Return whether a certificate is of whom a project trusts: the same issuer, and an identity that fits."""
    pattern = ".*".join(re.escape(part) for part in trusted.identity.split("*"))
    is_fit = re.compile(pattern, re.DOTALL).fullmatch
    return who.issuer == trusted.issuer and any(is_fit(each) for each in who.identities)


def check(bundle: Bundle, who: Signer, trusted: Keyless) -> datetime:
    """Return when it was signed, as the log has it.

    The signature itself is held against the certificate's key by the caller.

    Raises BadBundle with what does not hold, or NotKnown.
    """
    root = msgspec.json.decode(trusted.trusted_root, type=_Root)
    try:
        at = logged(bundle, who.certificate, root.tlogs)
        issuer = _chained(root, who.certificate, at)
        _transparent(root, who.certificate, issuer)
        _may_sign(who.certificate)
    except (BadBundle, NotKnown):
        raise
    except _UNREADABLE as wrong:  # a certificate is parsed part by part, when the part is asked for
        raise BadBundle(f"its certificate or its log entry cannot be read: {wrong}") from wrong
    return at


def _chained(root: _Root, certificate: x509.Certificate, at: datetime) -> x509.Certificate:
    """Return who issued the certificate, an authority that was trusted then. Raises BadBundle."""
    why = "no authority of the trusted root was there then"
    for authority in root.certificate_authorities:
        if not authority.valid_for.covers(at):
            continue
        # What Fulcio issues is for code signing, which no policy of web servers has; that is checked by itself.
        ca = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        leaf = ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        policy = PolicyBuilder().store(Store(_certificates(authority))).time(at.replace(tzinfo=None))
        verifier = policy.extension_policies(ca_policy=ca, ee_policy=leaf).build_client_verifier()
        try:
            return verifier.verify(certificate, []).chain[1]
        except (VerificationError, x509.UnsupportedGeneralNameType, ValueError) as wrong:
            why = str(wrong).partition(" (encountered")[0]
    raise BadBundle(
        f"its certificate was not issued by a trusted authority, or not valid on {at:%Y-%m-%d %H:%M}: {why}"
    )


def _transparent(root: _Root, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raise BadBundle unless a trusted log of certificates has signed that it has this one."""
    kind = x509.PrecertificateSignedCertificateTimestamps
    try:
        stamps = list(certificate.extensions.get_extension_for_class(kind).value)
    except (x509.ExtensionNotFound, ValueError):
        stamps = []
    if len(stamps) != 1:
        raise BadBundle(f"its certificate has {len(stamps)} timestamps of a certificate log, and one is asked for")
    stamp = stamps[0]
    log = known(root.ctlogs, stamp.log_id, "log of certificates")
    at = stamp.timestamp.replace(tzinfo=UTC)
    is_held = log.public_key.valid_for.covers(at) and stamp.entry_type is LogEntryType.PRE_CERTIFICATE
    if not is_held or not is_made(log_key(log), stamp.signature, _stamped(stamp, certificate, issuer)):
        raise BadBundle("the timestamp of its certificate was not made by a trusted log, or was changed")


def _stamped(stamp: SignedCertificateTimestamp, certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """Return what a certificate log signs (RFC 6962, 3.2)."""
    spki = issuer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = certificate.tbs_precertificate_bytes
    millis = round(stamp.timestamp.replace(tzinfo=UTC).timestamp() * 1000)
    head = struct.pack("!BBQH", stamp.version.value, 0, millis, stamp.entry_type.value)
    entry = hashlib.sha256(spki).digest() + len(body).to_bytes(3, "big") + body
    return head + entry + len(stamp.extension_bytes).to_bytes(2, "big") + stamp.extension_bytes


def _may_sign(certificate: x509.Certificate) -> None:
    """Raise BadBundle unless the certificate is for signing."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as wrong:
        raise BadBundle("its certificate is not for signing") from wrong
    if not usage.digital_signature or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise BadBundle("its certificate is not for signing")


def _identity(name: x509.GeneralName) -> str:
    """Return who a name of a certificate is, "" for what is no identity. Raises ValueError."""
    if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
        return name.value
    return _der_text(name.value) if isinstance(name, x509.OtherName) and name.type_id == _USERNAME else ""


def _issuer(certificate: x509.Certificate) -> str:
    for oid in (_ISSUER, _ISSUER_OLD):
        try:
            value = certificate.extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            continue
        if isinstance(value, x509.UnrecognizedExtension):
            return _der_text(value.value) if oid == _ISSUER else value.value.decode()
    return ""


def _der_text(data: bytes) -> str:
    """Return a UTF8String. Raises ValueError."""
    if len(data) < 2 or data[0] != 0x0C:
        raise ValueError("no text where one should be")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) != start + length:
        raise ValueError("no text where one should be")
    return data[start:].decode()


def _certificates(authority: _Authority) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(each.raw_bytes) for each in authority.cert_chain.certificates]
