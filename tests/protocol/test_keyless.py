"""Keyless signatures: what holds, every part that may be wrong, and OpenSSF's tool on both sides."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from stoker.client.upload import digest_files, find_files
from stoker.protocol import bundle, keyless, siglog, signing
from stoker.types.errors import InvalidInput
from stoker.types.signing import Finding, Keyless, TrustRoot
from tests.protocol import sigstore
from tests.protocol.sigstore import IDENTITY, ISSUER, NOW, Sigstore
from tests.protocol.test_signing import FILES, TOOL, key, root, tool

Bundle = dict[str, Any]
WORKFLOW = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v7"


@cache
def ours() -> Sigstore:
    return Sigstore()


@cache
def signed() -> str:
    return json.dumps(ours().sign(FILES))


def trusting(identity: str = IDENTITY, issuer: str = ISSUER, trusted_root: str = "") -> TrustRoot:
    kept = keyless.read_root(trusted_root or ours().trusted_root())
    return TrustRoot("ann", "", keyless=Keyless(identity, issuer, kept))


def examine(made: Bundle | str, *roots: TrustRoot) -> Finding:
    text = made if isinstance(made, str) else json.dumps(made)
    return signing.examine(text, FILES, roots or (trusting(),))


def entry(made: Bundle) -> Any:
    return made["verificationMaterial"]["tlogEntries"][0]


def flipped(text: str, at: int = 20) -> str:
    data = bytearray(b64decode(text))
    data[at % len(data)] ^= 1
    return b64encode(data).decode()


def test_who_signed_and_when_is_said_of_a_signature_that_holds() -> None:
    found = examine(signed())
    assert (found.state, found.signer) == ("verified", "ann")
    assert found.why == f"{IDENTITY} ({ISSUER}) on 2026-03-01 12:00:00 UTC"
    assert found.fingerprint == signing.mark(bundle.read(signed()))  # the same for each signature of this identity
    assert found.fingerprint == signing.mark(bundle.read(json.dumps(ours().sign(FILES[:1]))))
    other = json.dumps(ours().sign(FILES, identity="bob@acme.example"))
    assert found.fingerprint != signing.mark(bundle.read(other))


def test_certificates_of_workflows_and_of_older_authorities_are_read() -> None:
    made = ours().sign(FILES, identity=WORKFLOW, old_issuer=True)
    assert examine(made, trusting(WORKFLOW)).state == "verified"
    assert examine(made, trusting("https://github.com/acme/models/*")).state == "verified"
    assert examine(made, trusting("https://github.com/acme/models/*@refs/tags/v7")).state == "verified"
    assert examine(made, trusting("https://github.com/acme/*.git")).state == "unknown"


@pytest.mark.parametrize(
    "other",
    [
        trusting(identity="bob@acme.example"),
        trusting(identity="ann@acme.exampl"),
        trusting(identity="ann@acme?example"),
        trusting(identity="*@other.example"),
        trusting(issuer="https://accounts.other.example"),
        root(key("P-256")),
    ],
)
def test_nobody_knows_a_signature_of_somebody_else_or_by_another_issuer(other: TrustRoot) -> None:
    found = examine(signed(), other)
    assert (found.state, found.signer) == ("unknown", "")
    assert f"nobody trusts {IDENTITY} ({ISSUER})" in found.why


def test_one_root_among_several_that_trusts_it_is_enough() -> None:
    stranger = trusting(trusted_root=Sigstore("other.example").trusted_root())
    assert examine(signed(), stranger).state == "bad"
    assert examine(signed(), stranger, root(key("P-256")), trusting("*@acme.example")).state == "verified"


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        ({"issued": NOW - timedelta(hours=1)}, "not valid on 2026-03-01 12:00"),
        ({"issued": NOW + timedelta(hours=1)}, "not valid on 2026-03-01 12:00"),
        ({"ca_key": ec.generate_private_key(ec.SECP384R1())}, "not issued by a trusted authority"),
        ({"has_sct": False}, "has 0 timestamps of a certificate log"),
        ({"ct_key": ec.generate_private_key(ec.SECP256R1())}, "the timestamp of its certificate"),
        ({"purpose": ExtendedKeyUsageOID.SERVER_AUTH}, "not for signing"),
    ],
)
def test_a_certificate_that_is_not_right_makes_no_signature(certificate: dict[str, Any], why: str) -> None:
    found = examine(ours().sign(FILES, **certificate))
    assert found.state == "bad"
    assert why in found.why


def _body(made: Bundle, change: Callable[[Any], None]) -> None:
    body = json.loads(b64decode(entry(made)["canonicalizedBody"]))
    change(body["spec"])
    entry(made)["canonicalizedBody"] = b64encode(json.dumps(body).encode()).decode()


def _other_entry(made: Bundle) -> None:
    made["verificationMaterial"]["tlogEntries"] = [entry(ours().sign(FILES))]


def _forged_head(made: Bundle) -> None:
    proof = entry(made)["inclusionProof"]
    lines = proof["checkpoint"]["envelope"].split("\n")
    lines[2] = proof["rootHash"] = flipped(proof["rootHash"])
    proof["checkpoint"]["envelope"] = "\n".join(lines)


CHANGES: list[tuple[Callable[[Bundle], object], str]] = [
    (lambda made: entry(made).update(integratedTime=str(int(NOW.timestamp()) + 1)), "changed since the log signed it"),
    (lambda made: entry(made).update(logIndex="7"), "changed since the log signed it"),
    (lambda made: _body(made, lambda spec: spec.update(envelopeHash={"algorithm": "sha256", "value": "0"})), "changed"),
    (lambda made: _body(made, lambda spec: spec["payloadHash"].update(value="0" * 64)), "of another signature"),
    (lambda made: _body(made, lambda spec: spec["signatures"].append(spec["signatures"][0])), "of another signature"),
    (lambda made: _body(made, lambda spec: spec.pop("signatures")), "cannot be read"),
    (_other_entry, "of another signature"),
    (lambda made: entry(made).pop("inclusionPromise"), "has not signed when"),
    (lambda made: entry(made).update(inclusionPromise={"signedEntryTimestamp": "AAAA"}), "changed since"),
    (lambda made: entry(made).pop("inclusionProof"), "does not prove"),
    (lambda made: entry(made)["inclusionProof"]["hashes"].pop(), "not in the log"),
    (lambda made: entry(made)["inclusionProof"]["hashes"].append("AAAA"), "not in the log"),
    (lambda made: entry(made)["inclusionProof"].update(logIndex="5"), "not in the log"),
    (lambda made: entry(made)["inclusionProof"].update(logIndex="-1"), "not in the log"),
    (lambda made: entry(made)["inclusionProof"].update(treeSize="8"), "head of its log"),
    (lambda made: entry(made)["inclusionProof"].update(treeSize="many"), "cannot be read"),
    (_forged_head, "head of its log is not signed"),
    (lambda made: entry(made)["inclusionProof"].update(checkpoint={"envelope": "hello"}), "head of its log"),
    (lambda made: entry(made)["logId"].update(keyId="AAAA"), "does not know its log of signatures"),
    (lambda made: made["verificationMaterial"].update(tlogEntries=[]), "0 log entries"),
    (lambda made: made["verificationMaterial"]["tlogEntries"].append(entry(made)), "2 log entries"),
    (lambda made: made["verificationMaterial"].update(tlogEntries=[7]), "cannot be read"),
    (lambda made: made["verificationMaterial"].update(tlogEntries=[{}] * 9), "more than 8"),
    (lambda made: made["verificationMaterial"].update(certificate={}), "cannot be read"),
    (lambda made: made["verificationMaterial"].update(certificate={"rawBytes": "AAAA"}), "cannot be read"),
    (lambda made: made["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), "not made with the key of its certificate"),
]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_nothing_of_a_bundle_can_be_another(change: Callable[[Bundle], object], why: str) -> None:
    made = json.loads(signed())
    change(made)
    found = examine(made)
    assert found.state == "bad"
    assert why in found.why


def test_the_certificate_of_one_signature_makes_no_other() -> None:
    made, other = json.loads(signed()), ours().sign(FILES[:1])
    made["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]
    assert examine(made).why == "it was not made with the key of its certificate"
    assert signing.examine(json.dumps(other), FILES, (trusting(),)).why.startswith("b/c.json is not in the signature")


def test_a_log_that_is_not_known_is_said_and_convicts_nobody() -> None:
    made = json.loads(signed())
    entry(made)["kindVersion"] = {"kind": "hashedrekord", "version": "0.0.2"}
    found = examine(made)
    assert found.state == "unknown"
    assert "a hashedrekord 0.0.2, and only those of Rekor v1" in found.why


@pytest.mark.parametrize("which", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_what_was_trusted_at_another_time_is_not_trusted_for_this(which: str) -> None:
    trusted = json.loads(ours().trusted_root())
    held = trusted[which][0].get("publicKey", trusted[which][0])
    held["validFor"] = {"start": "2024-01-01T00:00:00Z", "end": "2026-02-28T00:00:00Z"}
    assert examine(signed(), trusting(trusted_root=json.dumps(trusted))).state == "bad"
    held["validFor"]["end"] = "2026-03-02T00:00:00Z"
    assert examine(signed(), trusting(trusted_root=json.dumps(trusted))).state == "verified"


@given(data=st.data())
def test_any_bytes_in_any_place_are_judged(data: st.DataObject) -> None:
    made = json.loads(signed())
    places = [(made["verificationMaterial"]["certificate"], "rawBytes"), (entry(made), "canonicalizedBody")]
    places += [(entry(made)["inclusionProof"], "rootHash"), (entry(made)["inclusionPromise"], "signedEntryTimestamp")]
    holder, name = data.draw(st.sampled_from(places))
    raw = bytearray(b64decode(holder[name]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    holder[name] = b64encode(raw).decode()
    assert examine(made).state in ("bad", "unknown")  # a bit of its name makes it somebody else's


@given(count=st.integers(1, 70), data=st.data())
def test_a_path_leads_to_the_root_from_its_own_leaf_and_place_only(count: int, data: st.DataObject) -> None:
    leaves = [bytes([at]) for at in range(count)]
    hashed = [sigstore.hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    index = data.draw(st.integers(0, count - 1))
    path, top = sigstore.path(hashed, index), sigstore.tree(hashed)
    assert siglog.is_in_tree(leaves[index], index, count, path, top)
    other = data.draw(st.integers(-2, count + 2))
    if other != index:
        assert not siglog.is_in_tree(leaves[index], other, count, path, top)
    assert not siglog.is_in_tree(b"other", index, count, path, top)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mediaType": "x", "tlogs": [], "ctlogs": [], "certificateAuthorities": []}']
)
def test_what_is_no_trusted_root_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="trusted root"):
        keyless.read_root(text)


def test_a_trusted_root_is_kept_without_what_nothing_is_held_to() -> None:
    kept = json.loads(keyless.read_root(json.dumps({"trustedRoot": json.loads(ours().trusted_root())})))
    assert set(kept) == {"mediaType", "tlogs", "ctlogs", "certificateAuthorities"}


# ── OpenSSF's tool ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_tool_of_openssf_signs_keyless_we_verify_and_it_verifies_what_we_make(tmp_path: Path) -> None:
    if not TOOL.exists():
        pytest.skip("`make test` installs it")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.onnx").write_bytes(b"weights" * 1000)
    files = digest_files(find_files(model), lambda *_: None)
    its, made = tmp_path / "its.sig", tmp_path / "made.sig"
    who = ("--identity", WORKFLOW, "--identity_provider", ISSUER)
    now = sigstore.datetime.now(sigstore.UTC)
    with sigstore.serve(ours(), WORKFLOW, ISSUER, tmp_path) as config:
        spoken = sigstore.token(WORKFLOW, ISSUER, now)
        done = tool("sign", "sigstore", model, "--signature", its, "--identity_token", spoken, "--trust_config", config)
        assert done.returncode == 0, done.stdout + done.stderr
    trusted = trusting("https://github.com/acme/models/*", trusted_root=config.read_text())
    found = signing.examine(its.read_bytes(), files, (trusted,))
    assert (found.state, found.signer) == ("verified", "ann"), found.why

    made.write_text(json.dumps(ours().sign(files, at=now, identity=WORKFLOW)))
    assert signing.examine(made.read_bytes(), files, (trusted,)).state == "verified"
    done = tool("verify", "sigstore", model, "--signature", made, "--trust_config", config, *who)
    assert done.returncode == 0, done.stdout + done.stderr
    # Both refuse the same: a signature by another identity, and files that were swapped since.
    done = tool(
        "verify", "sigstore", model, "--signature", made, "--trust_config", config, "--identity", IDENTITY, *who[2:]
    )
    assert done.returncode != 0
    (model / "model.onnx").write_bytes(b"weightS" * 1000)
    swapped = digest_files(find_files(model), lambda *_: None)
    assert signing.examine(its.read_bytes(), swapped, (trusted,)).state == "bad"
