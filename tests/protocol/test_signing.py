"""Signatures of models: what holds, what does not, and what OpenSSF's own tool says of ours and we of its."""

import hashlib
import json
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from stoker.client.upload import digest_files, find_files
from stoker.core.trust import standing
from stoker.protocol import signing
from stoker.types.errors import InvalidInput, SignatureRefused
from stoker.types.ids import Digest
from stoker.types.models import FileEntry
from stoker.types.signing import Finding, ProjectTrust, SignaturePolicy, SignedVersion, TrustRoot

TOOL = Path(sys.prefix) / "sdks" / "model-signing"  # `make test` puts it here, with what it depends on
KINDS = ("P-256", "P-384", "P-521", "Ed25519")
FILES = tuple(
    FileEntry(path, Digest("sha256:" + digit * 64), 1) for path, digit in (("a.onnx", "a"), ("b/c.json", "c"))
)


@cache
def key(kind: str, which: int = 0) -> signing.PrivateKey:
    """Return a key of a kind; `which` tells several apart."""
    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ed25519.Ed25519PrivateKey.generate() if kind == "Ed25519" else ec.generate_private_key(curves[kind])


def pem(private: signing.PrivateKey, password: bytes = b"") -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def root(private: signing.PrivateKey, name: str = "team") -> TrustRoot:
    return TrustRoot(name, signing.public_pem(private.public_key()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_holds_for_the_files_and_the_key_it_was_made_with(kind: str) -> None:
    bundle = signing.sign("m", FILES, key(kind))
    fingerprint = signing.fingerprint(key(kind).public_key())
    assert signing.examine(bundle, FILES, (root(key(kind)),)) == Finding("verified", "team", fingerprint)
    assert signing.examine(bundle, FILES[::-1], (root(key(kind)),)).state == "verified"
    assert signing.examine(bundle, FILES, (root(key("P-256", 1)),)).state == "unknown"
    assert signing.examine(bundle, FILES, ()).state == "unknown"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (FILES[:1], "b/c.json was signed and is not there"),
        ((*FILES, FileEntry("d", Digest("sha256:" + "d" * 64), 1)), "d is not in the signature"),
        ((FILES[0], FileEntry("b/c.json", FILES[0].digest, 1)), "b/c.json has other bytes than were signed"),
        ((FILES[0], FileEntry("b/C.json", FILES[1].digest, 1)), "b/C.json is not in the signature"),
    ],
)
def test_files_that_are_not_those_that_were_signed_are_named(files: tuple[FileEntry, ...], why: str) -> None:
    finding = signing.examine(signing.sign("m", FILES, key("P-256")), files, (root(key("P-256")),))
    assert finding.state == "bad"
    assert why in finding.why


def changed(bundle: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Return a bundle whose statement was changed after it was signed, and the list made to add up again."""
    outer = json.loads(bundle)
    inner = json.loads(b64decode(outer["dsseEnvelope"]["payload"]))
    change(inner)
    outer["dsseEnvelope"]["payload"] = b64encode(json.dumps(inner).encode()).decode()
    return json.dumps(outer)


def test_a_statement_changed_after_it_was_signed_does_not_hold() -> None:
    evil = (FileEntry("a.onnx", Digest("sha256:" + "e" * 64), 1), FILES[1])

    def swap(inner: dict[str, Any]) -> None:
        resources = inner["predicate"]["resources"]
        resources[0]["digest"] = "e" * 64
        whole = b"".join(bytes.fromhex(one["digest"]) for one in resources)
        inner["subject"][0]["digest"]["sha256"] = hashlib.sha256(whole).hexdigest()

    bundle = changed(signing.sign("m", FILES, key("P-256")), swap)
    finding = signing.examine(bundle, evil, (root(key("P-256")),))
    assert finding.state == "bad"
    assert "changed since" in finding.why
    # Nor does it help to name no key, or somebody else's.
    for hint in ("", "0" * 64):
        outer = json.loads(bundle)
        outer["verificationMaterial"]["publicKey"]["hint"] = hint
        assert signing.examine(json.dumps(outer), evil, (root(key("P-256")),)).state == "unknown"


@given(
    at=st.integers(0, 10_000),
    bit=st.integers(0, 7),
    part=st.sampled_from(["payload", "sig"]),
    kind=st.sampled_from(KINDS),
)
def test_no_bit_of_what_was_signed_or_of_the_signature_can_be_another(at: int, bit: int, part: str, kind: str) -> None:
    outer = json.loads(signing.sign("m", FILES, key(kind)))
    holder = outer["dsseEnvelope"] if part == "payload" else outer["dsseEnvelope"]["signatures"][0]
    data = bytearray(b64decode(holder[part]))
    data[at % len(data)] ^= 1 << bit
    holder[part] = b64encode(data).decode()
    assert signing.examine(json.dumps(outer), FILES, (root(key(kind)),)).state == "bad"


@pytest.mark.parametrize("hint", [None, "", "the key of last year", "x" * 10_000, 7])
def test_a_signature_that_names_no_key_is_tried_with_all(hint: object) -> None:
    outer = json.loads(signing.sign("m", FILES, key("P-256")))
    outer["verificationMaterial"]["publicKey"]["hint"] = hint
    roots = (root(key("Ed25519"), "other"), root(key("P-256")))
    finding = signing.examine(json.dumps(outer), FILES, roots)
    assert (finding.state, finding.signer) == ("verified", "team")
    assert signing.examine(json.dumps(outer), FILES, roots[:1]).state == "unknown"


@given(data=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_judged(data: bytes) -> None:
    assert signing.examine(data, FILES, (root(key("P-256")),)).state == "bad"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda inner: inner.update(predicateType="https://model_signing/Digests/v0.1"), "it states"),
        (lambda inner: inner.update(_type="https://in-toto.io/Statement/v0.1"), "it states"),
        (lambda inner: inner["subject"].append(inner["subject"][0]), "exactly one"),
        (lambda inner: inner["subject"][0]["digest"].update(sha256="0" * 64), "does not add up"),
        (lambda inner: inner["predicate"]["serialization"].update(method="shards"), "not file by file"),
        (lambda inner: inner["predicate"]["resources"][0].update(algorithm="blake3"), "not by its SHA-256"),
        (lambda inner: inner["predicate"]["resources"][0].update(digest="x" * 64), "non-hexadecimal"),
        (lambda inner: inner["predicate"]["resources"].append(inner["predicate"]["resources"][0]), "twice"),
        (lambda inner: inner.pop("predicate"), "no Sigstore bundle"),
    ],
)
def test_what_is_no_signature_of_a_model_is_told(change: Callable[[dict[str, Any]], None], why: str) -> None:
    finding = signing.examine(changed(signing.sign("m", FILES, key("P-256")), change), FILES, (root(key("P-256")),))
    assert finding.state == "bad"
    assert why in finding.why


@pytest.mark.parametrize(
    ("policy", "trusted", "refused", "said"),
    [
        ("off", False, False, False),
        ("warn", False, False, True),
        ("warn", True, False, False),
        ("required", False, True, False),
        ("required", True, False, False),
    ],
)
def test_a_project_gets_what_it_demands(policy: SignaturePolicy, trusted: bool, refused: bool, said: bool) -> None:
    roots = (root(key("P-256")),) if trusted else ()
    signed = SignedVersion(ProjectTrust(policy, roots), (signing.sign("m", FILES, key("P-256")),))
    if refused:
        with pytest.raises(SignatureRefused, match=r"m@1 is not signed by anyone this project trusts.*trust add"):
            signing.demand("m@1", FILES, signed)
    else:
        assert bool(signing.demand("m@1", FILES, signed)) is said
    stripped = SignedVersion(signed.trust)
    if policy == "required":
        with pytest.raises(SignatureRefused, match="it has no signature"):
            signing.demand("m@1", FILES, stripped)


def test_what_has_no_files_cannot_be_signed_and_need_not_be() -> None:
    with pytest.raises(InvalidInput, match="no files that could be signed"):
        signing.sign("gpt", (), key("P-256"))
    assert signing.demand("gpt@1", (), SignedVersion(ProjectTrust("required"))) == ""


def test_one_signature_that_holds_is_enough() -> None:
    good, bad, unknown = Finding("verified", "team"), Finding("bad"), Finding("unknown")
    assert standing([bad, unknown, good]) == good
    assert standing([unknown, bad]) == bad
    assert standing([]).state == "unsigned"


def test_keys_that_cannot_sign_or_be_opened_are_told() -> None:
    assert isinstance(signing.private_key(pem(key("P-256"), b"secret"), b"secret"), ec.EllipticCurvePrivateKey)
    for password in (None, b"wrong"):
        with pytest.raises(signing.NeedsPassword):
            signing.private_key(pem(key("P-256"), b"secret"), password)
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(InvalidInput, match="cannot sign models"):
        signing.private_key(pem(other))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="cannot be checked"):
        signing.public_key(signing.public_pem(other.public_key()))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="this is a private key"):
        signing.public_key(pem(key("P-256")).decode())
    with pytest.raises(InvalidInput, match="not the public part"):
        signing.public_key("hello")


# ── OpenSSF's tool ───────────────────────────────────────────────────────────────────────────────────────────────────


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        env={"PYTHONPATH": str(TOOL), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder; the test that wants the tool is skipped where it is not installed."""
    if not TOOL.exists():
        pytest.skip("`make test` installs it")
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights" * 1000)
    (folder / "sub" / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_the_tool_of_openssf_verifies_ours_and_we_its(model: Path, tmp_path: Path, kind: str) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(pem(key(kind)))
    public.write_text(signing.public_pem(key(kind).public_key()))
    files = digest_files(find_files(model), lambda *_: None)
    ours, its = tmp_path / "ours.sig", tmp_path / "its.sig"
    ours.write_text(signing.sign("model", files, signing.private_key(private.read_bytes())))

    done = tool("verify", "key", model, "--signature", ours, "--public_key", public)
    assert done.returncode == 0, done.stdout + done.stderr
    done = tool("sign", "key", model, "--signature", its, "--private_key", private)
    assert done.returncode == 0, done.stdout + done.stderr
    assert signing.examine(its.read_bytes(), files, (root(key(kind)),)).state == "verified"

    (model / "model.onnx").write_bytes(b"weightS" * 1000)
    assert tool("verify", "key", model, "--signature", ours, "--public_key", public).returncode != 0
    swapped = digest_files(find_files(model), lambda *_: None)
    assert signing.examine(its.read_bytes(), swapped, (root(key(kind)),)).state == "bad"


def test_a_model_of_one_file_that_the_tool_signed_alone_holds(model: Path, tmp_path: Path) -> None:
    private, its = tmp_path / "key.pem", tmp_path / "its.sig"
    private.write_bytes(pem(key("P-256")))
    done = tool("sign", "key", model / "model.onnx", "--signature", its, "--private_key", private)
    assert done.returncode == 0, done.stdout + done.stderr
    files = digest_files(find_files(model / "model.onnx"), lambda *_: None)
    assert signing.examine(its.read_bytes(), files, (root(key("P-256")),)).state == "verified"
