"""Keys, requests and certificates of nodes, made and read: EC P-256, X.509 with the identity as a URI (as SPIFFE's).

The serial number of a certificate begins with its node's incarnation, so that one entry of a short list revokes all
that a node ever had.
"""

import secrets
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stoker.core.certificates import SERIAL_TAIL, SKEW_S, identity, life_of, named
from stoker.types.errors import InvalidInput
from stoker.types.peers import Peer

AUTHORITY_S: Final = 10 * 365 * 86_400.0
LIFE_HEX: Final = 15  # digits of an incarnation; the serial stays under 20 bytes and positive


class Made(NamedTuple):
    """A certificate and when it holds, unix seconds."""

    pem: str
    begins_s: float
    until_s: float


def new_life() -> str:
    """Return a fresh incarnation of a node; its first digit is not zero."""
    return f"{secrets.choice('123456')}{secrets.token_hex(LIFE_HEX // 2)}"


def new_key() -> str:
    """Return a private key, PKCS #8 PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def request(key_pem: str) -> str:
    """Return a certificate request for a key. It names nobody: who asks is known by how they ask."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def authority(name: str, key_pem: str, now_s: float) -> str:
    """Return the certificate (PEM) of an authority, signed by itself."""
    key, subject = _key(key_pem), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_date(now_s - SKEW_S))
        .not_valid_after(_date(now_s + AUTHORITY_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def issue(who: Peer, request_pem: str, authority_pem: str, authority_key: str, begins_s: float) -> Made:
    """Return a certificate for the key in a request, until `who.until_s`.

    Only the key is taken from the request. Raises InvalidInput for what is no request, or not signed by its own key.
    """
    signer = x509.load_pem_x509_certificate(authority_pem.encode())
    public = _requested(request_pem)
    uri = x509.UniformResourceIdentifier(identity(who.platform, who.node, who.role))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    signer_key = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{who.node} {who.role}"[:64])]))
        .issuer_name(signer.subject)
        .public_key(public)
        .serial_number(int(who.life + secrets.token_hex(SERIAL_TAIL // 2), 16))
        .not_valid_before(_date(begins_s - SKEW_S))
        .not_valid_after(_date(who.until_s))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer_key), critical=False)
        .sign(_key(authority_key), hashes.SHA256())
    )
    return Made(made.public_bytes(serialization.Encoding.PEM).decode(), begins_s, who.until_s)


def fingerprint(pem: str) -> str:
    """Return what people compare of a certificate: `sha256:<hex>`. Raises InvalidInput."""
    return "sha256:" + _certificate(pem).fingerprint(hashes.SHA256()).hex()


def times(pem: str) -> tuple[float, float]:
    """Return when the first certificate in `pem` was made and when it ends. Raises InvalidInput."""
    found = _certificate(pem)
    return found.not_valid_before_utc.timestamp() + SKEW_S, found.not_valid_after_utc.timestamp()


def peer(pem: str) -> Peer:
    """Return whom a certificate is of. Raises InvalidInput."""
    found = _certificate(pem)
    uris = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    who = named(uris[0]) if len(uris) == 1 else None
    if who is None:
        raise InvalidInput("a certificate of no node")
    platform, node, role = who
    signer = str(found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    life = life_of(f"{found.serial_number:x}")
    return Peer(platform, node, role, life, signer, found.not_valid_after_utc.timestamp())


def _requested(pem: str) -> ec.EllipticCurvePublicKey:
    try:
        found = x509.load_pem_x509_csr(pem.encode())
        is_signed, public = found.is_signature_valid, found.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as wrong:
        raise InvalidInput(f"no certificate request: {wrong}", field="requests") from wrong
    if not is_signed or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise InvalidInput("a certificate request must be for an EC P-256 key and signed by it", field="requests")
    return public


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as wrong:
        raise InvalidInput(f"no certificate: {wrong}") from wrong


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    found = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise InvalidInput("not an EC key")
    return found


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _date(unix_s: float) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)
