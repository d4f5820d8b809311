"""The signature of a model as OpenSSF's model signing v1 writes it: a Sigstore bundle around a DSSE envelope around an
in-toto statement that lists every file with its SHA-256. Wire form only; keys are in `protocol/signing.py`.

Source: the OpenSSF model signing specification v1.0, DSSE v1.0 (protocol.md), in-toto Statement v1.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stoker.types.models import FileEntry
from stoker.types.signing import SIGNATURE_BYTES_MAX, SIGNATURE_FILE

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
ENTRIES_MAX: Final = 8
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_ALONE: Final = "."  # how a model of one file is called where the file itself was signed


class BadBundle(ValueError):
    """What was pushed as a signature is none, or not of this kind."""


class Bundle(NamedTuple):
    """A signature as read: what was signed, with which bytes, and the key that it names ("" when it names none)."""

    payload: bytes
    signature: bytes
    fingerprint: str
    files: dict[str, str]  # path: SHA-256 in hex
    certificate: bytes = b""  # of a keyless signature, with the entries of its log as they are
    entries: tuple[Any, ...] = ()


class _Raw(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: dict[str, Any]
    dsse_envelope: "_Envelope"


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[dict[str, Any]]


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct):
    serialization: dict[str, Any]
    resources: list[_Resource]


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, rename={"kind": "_type", "predicate_type": "predicateType"}):
    kind: str
    subject: list[_Subject]
    predicate_type: str
    predicate: _Predicate


def statement(name: str, files: Sequence[FileEntry]) -> bytes:
    """Return what is signed for a model called `name` of `files`: the in-toto statement as JSON."""
    ordered = sorted(files, key=lambda entry: entry.path)
    resources = [
        {"name": entry.path, "algorithm": "sha256", "digest": entry.digest.removeprefix("sha256:")} for entry in ordered
    ]
    return msgspec.json.encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": _root([str(one["digest"]) for one in resources])}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [SIGNATURE_FILE, ".git", ".gitattributes", ".github", ".gitignore"],
                },
                "resources": resources,
            },
        }
    )


def signed_bytes(payload: bytes) -> bytes:
    """Return what the key signs of a payload (DSSE's pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def write(payload: bytes, signature: bytes, fingerprint: str) -> str:
    """Return the bundle as JSON text. `fingerprint` names the public key."""
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return msgspec.json.encode(bundle).decode()


def read(text: str | bytes) -> Bundle:
    """Return a bundle as it says of itself; nothing is believed yet. Raises BadBundle."""
    if len(text) > SIGNATURE_BYTES_MAX:
        raise BadBundle(f"it is larger than {SIGNATURE_BYTES_MAX} bytes")
    try:
        raw = msgspec.json.decode(text, type=_Raw)
        payload = base64.b64decode(raw.dsse_envelope.payload, validate=True)
        said = msgspec.json.decode(payload, type=_Statement)
        signatures = [base64.b64decode(str(one["sig"]), validate=True) for one in raw.dsse_envelope.signatures]
    except (msgspec.DecodeError, binascii.Error, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise BadBundle(f"it is no Sigstore bundle with a model's statement in it: {error}") from error
    if raw.media_type != BUNDLE_TYPE or raw.dsse_envelope.payload_type != PAYLOAD_TYPE:
        raise BadBundle(f"it is a {raw.media_type} with a {raw.dsse_envelope.payload_type}, not a {BUNDLE_TYPE}")
    if said.kind != STATEMENT_TYPE or said.predicate_type != PREDICATE_TYPE:
        raise BadBundle(f"it states {said.predicate_type}, not {PREDICATE_TYPE}; sign the model again")
    if len(signatures) != 1 or len(said.subject) != 1:
        raise BadBundle("it has not exactly one signature of one model")
    key = raw.verification_material.get("publicKey")
    hint = key.get("hint") if isinstance(key, dict) else None
    # What other tools write there names no key as this format does: then every trusted key is tried.
    fingerprint = hint if isinstance(hint, str) and _FINGERPRINT.fullmatch(hint) else ""
    certificate, entries = _keyless(raw.verification_material)
    return Bundle(payload, signatures[0], fingerprint, _files(said), certificate, entries)


def _keyless(material: dict[str, Any]) -> tuple[bytes, tuple[Any, ...]]:
    """Return the certificate of a keyless signature and its log entries; nothing of one by a key. Raises BadBundle."""
    held = material.get("certificate")
    if held is None:
        return b"", ()
    try:
        certificate = base64.b64decode(held["rawBytes"], validate=True)
        entries = tuple(material.get("tlogEntries") or ())
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise BadBundle(f"its certificate cannot be read: {error}") from error
    if len(entries) > ENTRIES_MAX:
        raise BadBundle(f"it has more than {ENTRIES_MAX} log entries")
    return certificate, entries


def difference(bundle: Bundle, files: Sequence[FileEntry]) -> str:
    """Return how `files` differ from those that were signed, "" when they are the same."""
    signed = bundle.files
    if set(signed) == {_ALONE} and len(files) == 1:
        signed = {files[0].path: signed[_ALONE]}
    have = {entry.path: entry.digest.removeprefix("sha256:") for entry in files}
    for path, digest in have.items():
        if path not in signed:
            return f"{path} is not in the signature; sign the model as it is pushed, or leave the file out"
        if signed[path] != digest:
            return f"{path} has other bytes than were signed"
    for path in signed:
        if path not in have:
            return f"{path} was signed and is not there; push the whole folder"
    return ""


def _files(said: _Statement) -> dict[str, str]:
    method = said.predicate.serialization.get("method")
    if method != "files":
        raise BadBundle(f"it was made by {method!r}, not file by file; sign the model again")
    files: dict[str, str] = {}
    for one in said.predicate.resources:
        if one.algorithm != "sha256" or len(one.digest) != 64 or one.name in files:
            raise BadBundle(f"it lists {one.name[:200]!r} twice, or not by its SHA-256; sign the model again")
        files[one.name] = one.digest
    root = said.subject[0].digest.get("sha256", "")
    try:
        if root != _root([one.digest for one in said.predicate.resources]):
            raise BadBundle("its list of files does not add up to the digest that it states")
    except ValueError as error:
        raise BadBundle(str(error)) from error
    return files


def _root(digests: Sequence[str]) -> str:
    """Return the digest over all digests, in the order of the list."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()
