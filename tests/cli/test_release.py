"""A dossier as a person, a CI and a notary see it."""

from pathlib import Path
from xml.etree.ElementTree import fromstring

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ed25519

from stoker.cli import release_junit
from stoker.cli.main import cli
from stoker.cli.release import described, gates_line
from stoker.protocol import dossier as wire
from stoker.protocol import signing
from stoker.protocol.bundle import BadBundle
from stoker.types.errors import InvalidInput
from stoker.types.ids import Digest, EndpointName, ProjectName, RevisionId
from stoker.types.releases import Dossier, GateResult, Gates, ReleaseView

KEY = ed25519.Ed25519PrivateKey.generate()
DIGEST = Digest("sha256:" + "ab" * 32)
RESULTS = (
    GateResult("signature", "skipped", "the project demands no signatures"),
    GateResult("schema", "passed", "clients of m@1 can go on"),
    GateResult("golden", "failed", "accuracy 0.1 \x00 <0.9>", "version", {"accuracy": 0.1}, 1.5),
    GateResult("profile", "pending", "waits"),
)
DOSSIER = Dossier(
    project=ProjectName("default"),
    endpoint=EndpointName("a"),
    revision=RevisionId("default.a-2"),
    born_s=1.0,
    model="m@2",
    digest=DIGEST,
    config_digest=DIGEST,
    parent="default.a-1",
    parent_model="m@1",
    gates=Gates(),
    state="refused",
    because="golden: accuracy 0.1",
    results=RESULTS,
    decided_at_s=2.0,
)


def exported(tmp_path: Path, *statements: str) -> Path:
    path = tmp_path / "d.json"
    path.write_bytes(msgspec.json.encode({"statements": [msgspec.Raw(each.encode()) for each in statements]}))
    return path


def verify(tmp_path: Path, file: Path, key: ed25519.Ed25519PrivateKey = KEY) -> str:
    public = tmp_path / "key.pub"
    public.write_text(signing.public_pem(key.public_key()))
    result = CliRunner().invoke(cli, ["release", "verify", str(file), "--key", str(public)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_junit_has_a_case_for_each_gate_and_only_what_xml_has_a_form_for() -> None:
    suite = fromstring(release_junit.report(ReleaseView(1, DOSSIER)))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "2")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == ["signature", "schema", "golden (version)", "profile"]
    failure = cases["golden (version)"].find("failure")
    assert failure is not None
    assert failure.get("message") == "accuracy 0.1  <0.9>"
    assert failure.text == "accuracy = 0.1"


def test_a_dossier_is_shown_with_a_mark_and_the_numbers_of_each_gate() -> None:
    text = described(ReleaseView(1, DOSSIER))
    for words in ("refused", "default.a-1 (m@1)", "✓", "✗", "–", "accuracy 0.1"):
        assert words in text
    assert "profile" in gates_line(ReleaseView(1, DOSSIER))


def test_statements_hold_with_the_key_that_signed_them_and_no_other(tmp_path: Path) -> None:
    gates, verdict = wire.sign(DOSSIER, KEY), wire.sign_verdict(DOSSIER, {"verdict": "promoted"}, KEY)
    said = verify(tmp_path, exported(tmp_path, gates, verdict))
    assert "default.a-2 (m@2): its gates: refused" in said
    assert "its rollout: promoted" in said
    with pytest.raises(InvalidInput, match="did not sign it, or it was changed"):
        verify(tmp_path, exported(tmp_path, gates), ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"dsseEnvelope": {}}',
        (
            '{"dsseEnvelope": {"payload": "e30=", '
            '"payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "AAAA"}]}}'
        ),
        "null",
        '{"dsseEnvelope": 3}',
    ],
)
def test_what_is_no_statement_is_told_so(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadBundle):
        wire.verify(text, KEY.public_key())


def test_a_model_signature_is_no_statement_of_a_release() -> None:
    other = signing.sign_payload(b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x"}', KEY)
    with pytest.raises(BadBundle, match="which is not about a release"):
        wire.verify(other, KEY.public_key())


@pytest.mark.parametrize("data", ["", "[1]", '{"statements": []}', "{}", '{"statements": 3}'])
def test_a_file_that_is_no_export_is_told_so(data: str, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(data)
    with pytest.raises(InvalidInput):
        verify(tmp_path, path)
