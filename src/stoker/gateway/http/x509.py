"""When a certificate ends. The standard library tells it of a peer's certificate, not of one's own.

Just enough DER (X.690) to walk to the field: Certificate ▸ tbsCertificate ▸ validity ▸ notAfter (RFC 5280, 4.1).
"""

import ssl
from datetime import UTC, datetime
from typing import Final

from stoker.types.errors import InvalidInput

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0  # explicit [0]; absent in version 1
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_BEFORE_VALIDITY: Final = 3  # serial number, signature algorithm, issuer
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


def leaf(pem: bytes) -> bytes:
    """Return the first certificate of a file (PEM): the server's own, before those that signed it."""
    start = pem.find(_BEGIN)
    end = pem.find(_END, start)
    if start < 0 or end < 0:
        raise InvalidInput("no certificate (PEM) in it", field="STOKER_TLS_CERT")
    return pem[start : end + len(_END)] + b"\n"


def expiry_s(pem: bytes) -> float:
    """Return the end of the first certificate in `pem`, in unix seconds. Raises InvalidInput."""
    try:
        der = ssl.PEM_cert_to_DER_cert(leaf(pem).decode("ascii"))
        return _not_after(der).timestamp()
    except (ValueError, IndexError) as wrong:
        raise InvalidInput("the certificate cannot be read", field="STOKER_TLS_CERT") from wrong


def _not_after(der: bytes) -> datetime:
    _, at, _ = _value(der, 0)  # into the certificate
    _, at, _ = _value(der, at)  # into what is signed of it
    tag, _, end = _value(der, at)
    if tag == _VERSION:
        at = end
    for _ in range(_BEFORE_VALIDITY):
        _, _, at = _value(der, at)
    tag, at, _ = _value(der, at)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    _, _, at = _value(der, at)  # over notBefore
    tag, at, end = _value(der, at)
    text = der[at:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where it should be")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _value(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag at `at`, where its content begins and where it ends."""
    tag, length = der[at], der[at + 1]
    at += 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[at : at + count], "big")
        at += count
    if at + length > len(der):
        raise ValueError("cut off")
    return tag, at, at + length
