"""A Sigstore of one's own: an authority, a log of certificates and a log of signatures, with keys made on the spot.

It makes what the real ones make, byte for byte of the same form, and can be asked to make it wrong. `serve` lets other
people's tools sign with it over HTTP.
"""

import hashlib
import http.server
import json
import struct
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stoker.protocol import bundle
from stoker.types.models import FileEntry

IDENTITY, ISSUER = "ann@acme.example", "https://accounts.acme.example"
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OTHERS = [hashlib.sha256(b"\0" + str(at).encode()).digest() for at in range(6)]  # leaves of the log that are there


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def der(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))


def key_id(key: Any) -> bytes:
    return hashlib.sha256(der(key)).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def tree(leaves: list[bytes]) -> bytes:
    """Return the root (RFC 6962, 2.1)."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree(leaves[:half]), tree(leaves[half:]))


def path(leaves: list[bytes], index: int) -> list[bytes]:
    """Return the audit path of a leaf (RFC 6962, 2.1.1)."""
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*path(leaves[:half], index), tree(leaves[half:])]
    return [*path(leaves[half:], index - half), tree(leaves[:half])]


class Sigstore:
    """Keys and certificates of all three. `curve`: of the authority."""

    def __init__(self, name: str = "sigstore.example") -> None:
        self.name = name
        self.root_key = ec.generate_private_key(ec.SECP384R1())
        self.ca_key = ec.generate_private_key(ec.SECP384R1())
        self.log_key = ec.generate_private_key(ec.SECP256R1())
        self.ct_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._authority("root", self.root_key, "root", self.root_key, 1)
        self.ca = self._authority("ca", self.ca_key, "root", self.root_key, 0)

    def _authority(self, name: str, key: Any, by: str, by_key: Any, length: int) -> x509.Certificate:
        made = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{by}.{self.name}")]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.{self.name}")]),
            key.public_key(),
            x509.random_serial_number(),
            BEGAN.replace(tzinfo=None),
            datetime(2034, 1, 1),
        )
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(x509.BasicConstraints(True, length), True).add_extension(usage, True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), False)
        if name == "ca":
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
        return made.sign(by_key, hashes.SHA384())

    def trusted_root(self, **other: Any) -> str:
        """Return the TrustedRoot that who trusts this one is given."""

        def log(key: Any) -> dict[str, Any]:
            public = {
                "rawBytes": b64(der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2024-01-01T00:00:00Z"},
            }
            return {
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": public,
                "logId": {"keyId": b64(key_id(key))},
            }

        chain = [{"rawBytes": b64(each.public_bytes(serialization.Encoding.DER))} for each in (self.ca, self.root)]
        authority = {
            "subject": {"organization": "acme", "commonName": self.name},
            "uri": "https://ca.example",
            "certChain": {"certificates": chain},
            "validFor": {"start": "2024-01-01T00:00:00Z"},
        }
        found = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log_key)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.ct_key)],
            "timestampAuthorities": [],
        }
        return json.dumps(found | other)

    def certificate(
        self,
        public: Any,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        at: datetime = NOW,
        *,
        has_sct: bool = True,
        ct_key: Any = None,
        ca_key: Any = None,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        old_issuer: bool = False,
    ) -> x509.Certificate:
        """Issue a certificate of ten minutes."""
        who: x509.GeneralName = x509.UniformResourceIdentifier(identity)
        if "@" in identity and "://" not in identity:
            who = x509.RFC822Name(identity)
        text = issuer.encode()
        made = x509.CertificateBuilder(
            self.ca.subject,
            x509.Name([]),
            public,
            x509.random_serial_number(),
            (at - timedelta(seconds=5)).replace(tzinfo=None),
            (at + timedelta(minutes=10)).replace(tzinfo=None),
        )
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        made = made.add_extension(usage, True).add_extension(x509.ExtendedKeyUsage([purpose]), False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), False)
        made = made.add_extension(x509.SubjectAlternativeName([who]), True)
        issuers = {1: text} if old_issuer else {1: text, 8: bytes([0x0C, len(text)]) + text}
        for number, value in issuers.items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            made = made.add_extension(x509.UnrecognizedExtension(oid, value), False)
        by = ca_key or self.ca_key
        if has_sct:
            stamp = self._stamp(made.sign(by, hashes.SHA384()), at, ct_key or self.ct_key)
            made = made.add_extension(x509.UnrecognizedExtension(SCT_LIST, stamp), False)
        return made.sign(by, hashes.SHA384())

    def _stamp(self, before: x509.Certificate, at: datetime, key: Any) -> bytes:
        """Return the extension of a signed certificate timestamp for a certificate without it (RFC 6962, 3.2)."""
        body, millis = before.tbs_certificate_bytes, int(at.timestamp() * 1000)
        entry = key_id(self.ca_key) + len(body).to_bytes(3, "big") + body
        signed = key.sign(struct.pack("!BBQH", 0, 0, millis, 1) + entry + b"\0\0", ec.ECDSA(hashes.SHA256()))
        stamp = b"\0" + key_id(self.ct_key) + struct.pack("!QH", millis, 0) + b"\4\3"
        stamp += struct.pack("!H", len(signed)) + signed
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        head = bytes([0x04, len(listed)]) if len(listed) < 128 else bytes([0x04, 0x81, len(listed)])
        return head + listed

    def logged(self, body: bytes, at: datetime = NOW, **other: Any) -> dict[str, Any]:
        """Take an entry, as the API of the log answers."""
        leaves = [*OTHERS, hashlib.sha256(b"\0" + body).digest()]
        index, root = len(OTHERS), tree(leaves)
        note = f"log.example - 4711\n{len(leaves)}\n{b64(root)}\n"
        head = key_id(self.log_key)[:4] + self.log_key.sign(note.encode(), ec.ECDSA(hashes.SHA256()))
        entry = {
            "body": b64(body),
            "integratedTime": int(at.timestamp()),
            "logID": key_id(self.log_key).hex(),
            "logIndex": 1_000_000 + index,
        }
        promise = self.log_key.sign(json.dumps(entry, separators=(",", ":")).encode(), ec.ECDSA(hashes.SHA256()))
        proof = {
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": len(leaves),
            "hashes": [each.hex() for each in path(leaves, index)],
            "checkpoint": f"{note}\n— log.example {b64(head)}\n",
        }
        verification = {"inclusionProof": proof, "signedEntryTimestamp": b64(promise)}
        return entry | {"verification": verification} | other

    def sign(self, files: tuple[FileEntry, ...], at: datetime = NOW, **certificate: Any) -> dict[str, Any]:
        """Return the bundle of a keyless signature, as JSON values."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self.certificate(key.public_key(), at=certificate.pop("issued", at), **certificate)
        payload = bundle.statement("m", files)
        signature = key.sign(bundle.signed_bytes(payload), ec.ECDSA(hashes.SHA256()))
        outer = json.loads(bundle.write(payload, signature, ""))
        body = dsse_entry(payload, signature, made.public_bytes(serialization.Encoding.PEM))
        outer["verificationMaterial"] = {
            "certificate": {"rawBytes": b64(made.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [as_bundle(self.logged(body, at))],
        }
        return outer  # type: ignore[no-any-return]


def dsse_entry(payload: bytes, signature: bytes, pem: bytes, envelope: bytes = b"") -> bytes:
    """Return the body of a log entry of kind dsse 0.0.1, canonical."""
    return msgspec.json.encode(
        {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(envelope).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
            },
        }
    )


def as_bundle(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of the log as bundles have it."""
    proof = entry["verification"]["inclusionProof"]
    return {
        "logIndex": str(entry["logIndex"]),
        "logId": {"keyId": b64(bytes.fromhex(entry["logID"]))},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": str(entry["integratedTime"]),
        "inclusionPromise": {"signedEntryTimestamp": entry["verification"]["signedEntryTimestamp"]},
        "inclusionProof": {
            "logIndex": str(proof["logIndex"]),
            "rootHash": b64(bytes.fromhex(proof["rootHash"])),
            "treeSize": str(proof["treeSize"]),
            "hashes": [b64(bytes.fromhex(each)) for each in proof["hashes"]],
            "checkpoint": {"envelope": proof["checkpoint"]},
        },
        "canonicalizedBody": entry["body"],
    }


# ── for other people's tools ─────────────────────────────────────────────────────────────────────────────────────────


def token(identity: str, issuer: str, now: datetime) -> str:
    """Return an identity token. Nobody holds its signature against anything: that is the authority's part."""
    claims = {"aud": "sigstore", "sub": identity, "iss": issuer}
    times = {"iat": int(now.timestamp()) - 1, "exp": int(now.timestamp()) + 600}
    parts = ({"alg": "HS256", "typ": "JWT"}, claims | times)
    encoded = [b64encode(json.dumps(part).encode()).decode().rstrip("=").translate(_URL) for part in parts]
    return ".".join((*encoded, "c2ln"))


_URL = str.maketrans("+/", "-_")


@contextmanager
def serve(sigstore: Sigstore, identity: str, issuer: str, folder: Path) -> Iterator[Path]:
    """Let a tool sign as `identity`; yields the ClientTrustConfig that tells it of this one."""
    answers = partial(_Answers, sigstore, identity, issuer)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    service = {"url": url, "majorApiVersion": 1, "validFor": {"start": "2024-01-01T00:00:00Z"}, "operator": "acme"}
    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service],
        "oidcUrls": [service],
        "rekorTlogUrls": [service],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [],
        "tsaConfig": {"selector": "ANY"},
    }
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads(sigstore.trusted_root()),
        "signingConfig": signing,
    }
    path = folder / "trust_config.json"
    path.write_text(json.dumps(config))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answers(http.server.BaseHTTPRequestHandler):
    """What the authority, the log and the issuer answer."""

    def __init__(self, sigstore: Sigstore, identity: str, issuer: str, *args: Any) -> None:
        self.sigstore, self.identity, self.issuer = sigstore, identity, issuer
        super().__init__(*args)

    def do_GET(self) -> None:
        url = f"http://{self.headers['Host']}"
        self._say({"issuer": url, "authorization_endpoint": f"{url}/auth", "token_endpoint": f"{url}/token"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        now = datetime.now(UTC)
        if self.path == "/api/v2/signingCert":
            request = x509.load_pem_x509_csr(b64decode(asked["certificateSigningRequest"]))
            made = self.sigstore.certificate(request.public_key(), self.identity, self.issuer, now)
            chain = [made, self.sigstore.ca, self.sigstore.root]
            pems = [each.public_bytes(serialization.Encoding.PEM).decode() for each in chain]
            self._say({"signedCertificateEmbeddedSct": {"chain": {"certificates": pems}}})
            return
        content = asked["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload, signature = b64decode(envelope["payload"]), b64decode(envelope["signatures"][0]["sig"])
        body = dsse_entry(payload, signature, b64decode(content["verifiers"][0]), content["envelope"].encode())
        self._say({"4711": self.sigstore.logged(body, now)})

    def _say(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
