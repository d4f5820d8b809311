"""Signed versions on a live platform: what a project demands decides what starts, and the endpoint says why not."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stoker.client.registration import Registration
from stoker.client.upload import LocalFile, digest_files, find_files, push
from stoker.protocol import signing
from stoker.types.errors import Conflict, InvalidInput, NotFound, SignatureRefused
from stoker.types.models import FileEntry
from stoker.types.signing import ROOTS_MAX, SIGNATURES_MAX, Keyless
from tests.cli.run import stoker_here
from tests.control.rig import Rig, conditions, endpoint, infer, is_served, python_model, until
from tests.protocol.sigstore import IDENTITY, ISSUER, Sigstore

PATIENCE_S = 90.0  # to give up, not to be quick: processes start and are refused on the way

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = signing.public_pem(KEY.public_key())


def ready(rig: Rig, name: str = "a") -> bool:
    return bool(conditions(rig, name).get("Ready") and conditions(rig, name)["Ready"].status)


def said(rig: Rig, words: str, name: str = "a") -> str:
    """Wait until a condition of the endpoint has `words`; return all of its conditions' words."""

    def found() -> str:
        texts = " | ".join(each.message for each in conditions(rig, name).values())
        return texts if words in texts else ""

    text: str = until(found, f"{words!r} is said of {name}", PATIENCE_S)
    return text


def test_what_nobody_signed_does_not_start_until_it_is_signed_by_a_trusted_key(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    version = rig.push("m", python_model(tmp_path / "m")).version
    rig.client.set_policy("default", "required")
    assert rig.request("POST", "/api/v1/apply", endpoint())[0] == 200
    said(rig, "m@1 is not signed by anyone this project trusts: it has no signature; sign it (stoker models sign m@1")
    assert not [name for name in rig.processes() if name.startswith("default.")]

    rig.client.sign("m", "1", signing.sign("m", version.manifest.files, KEY))
    rig.client.trust_key("default", "team", PUBLIC)
    until(lambda: ready(rig), "it serves once it is signed and trusted", PATIENCE_S)
    until(lambda: is_served(rig), "the gateway knows it", PATIENCE_S)
    assert infer(rig) == [1, 1, 1, 1]
    (view,) = rig.client.signatures("m", "1", "default")
    assert (view.state, view.signer) == ("verified", "team")

    # Stripped from the database: what runs goes on, and the next replica does not start.
    with closing(sqlite3.connect(rig.home.database, timeout=PATIENCE_S)) as database, database:
        assert database.execute("DELETE FROM signatures").rowcount == 1
    assert rig.request("POST", "/api/v1/apply", endpoint(replicas={"min": 2, "max": 2}))[0] == 200
    said(rig, "it has no signature")
    assert infer(rig) == [1, 1, 1, 1]
    assert len([name for name in rig.processes() if name.startswith("default.")]) == 1


def test_a_file_swapped_after_signing_keeps_a_replica_from_starting(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    version = rig.push("m", python_model(tmp_path / "m")).version
    rig.client.sign("m", "1", signing.sign("m", version.manifest.files, KEY))
    rig.client.trust_key("default", "team", PUBLIC)
    rig.client.set_policy("default", "required")
    assert rig.request("POST", "/api/v1/apply", endpoint())[0] == 200
    until(lambda: ready(rig), "it serves", PATIENCE_S)
    laid_out = rig.home.models / version.digest.removeprefix("sha256:") / "model.py"
    evil = laid_out.read_text().replace("* 1}", "* 6}")
    assert len(evil) == laid_out.stat().st_size
    laid_out.chmod(0o644)
    laid_out.write_text(evil)
    (replica,) = (name for name in rig.processes() if name.startswith("default."))
    pid = rig.processes()[replica]
    rig.request("DELETE", "/api/v1/projects/default/endpoints/a")
    until(lambda: replica not in rig.processes(), f"process {pid} ended", PATIENCE_S)
    assert rig.request("POST", "/api/v1/apply", endpoint("b"))[0] == 200
    assert "model.py has the digest" in said(rig, "was registered", "b")
    assert not ready(rig, "b")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    rig = Rig(tmp_path_factory.mktemp("signing") / "h")
    rig.start()
    yield rig
    rig.close()


def signed_folder(folder: Path, files: tuple[FileEntry, ...] | None = None, scale: int = 1) -> Path:
    """Return a model's folder with a `model.sig` of `files`, of its own by default."""
    python_model(folder, scale=scale)
    own = files if files is not None else entries(find_files(folder))
    (folder / "model.sig").write_text(signing.sign("m", own, KEY))
    return folder


def entries(files: tuple[LocalFile, ...]) -> tuple[FileEntry, ...]:
    return digest_files(files, lambda *_: None)


def test_a_signature_beside_the_files_is_kept_and_is_no_file_of_the_version(control: Rig, tmp_path: Path) -> None:
    plain = control.push("beside", python_model(tmp_path / "plain")).version
    assert control.client.signatures("beside", "1", "default") == ()
    pushed = control.push("beside", signed_folder(tmp_path / "signed"))
    assert (pushed.version.digest, pushed.is_new) == (plain.digest, False)
    assert [entry.path for entry in pushed.version.manifest.files] == ["model.py"]
    (view,) = control.client.signatures("beside", "1", "default")
    assert (view.state, view.fingerprint) == ("unknown", signing.fingerprint(KEY.public_key()))


def test_a_signature_of_other_files_is_refused_with_its_blobs_whatever_is_demanded(
    control: Rig, tmp_path: Path
) -> None:
    before = sorted(path.name for path in control.home.blobs.rglob("*") if path.is_file())
    other = entries(find_files(python_model(tmp_path / "other", scale=7)))
    with pytest.raises(SignatureRefused, match=r"does not hold: model\.py has other bytes than were signed"):
        control.push("swapped", signed_folder(tmp_path / "m", other, scale=5))
    with pytest.raises(NotFound):
        control.client.versions("swapped")
    assert sorted(path.name for path in control.home.blobs.rglob("*") if path.is_file()) == before
    with pytest.raises(SignatureRefused, match="no Sigstore bundle"):
        control.push("swapped", python_model(tmp_path / "n", scale=5), signatures=("{}",))


def test_a_new_signature_takes_the_place_of_an_older_file(control: Rig, tmp_path: Path) -> None:
    other = entries(find_files(python_model(tmp_path / "other", scale=7)))
    folder = signed_folder(tmp_path / "m", other, scale=6)

    def signer(files: tuple[FileEntry, ...]) -> str:
        return signing.sign("again", files, KEY)

    pushed = push(control.client, "again", folder, Registration(files=()), lambda *_: None, signer=signer)
    assert [entry.path for entry in pushed.version.manifest.files] == ["model.py"]
    assert len(control.client.signatures("again", "1", "default")) == 1


def test_a_project_that_demands_signatures_takes_no_push_without(control: Rig, tmp_path: Path) -> None:
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "strict"}}
    assert control.request("POST", "/api/v1/apply", project | {"spec": {"signatures": "required"}})[0] == 200
    folder = python_model(tmp_path / "m", scale=3)
    with pytest.raises(SignatureRefused, match="it has no signature"):
        control.push("strict", folder, project="strict")
    bundle = signing.sign("strict", entries(find_files(folder)), KEY)
    with pytest.raises(SignatureRefused, match="no key of the project's trust"):
        control.push("strict", folder, project="strict", signatures=(bundle,))
    control.client.trust_key("strict", "team", PUBLIC)
    assert control.push("strict", folder, project="strict", signatures=(bundle,)).version.number == 1
    assert control.push("strict", folder, project="strict").version.number == 1  # it is signed already
    (view,) = control.client.signatures("strict", "1", "strict")
    assert view.state == "verified"


def test_keys_are_trusted_by_name_and_each_once(control: Rig) -> None:
    client = control.client
    root = client.trust_key("default", "one", PUBLIC.replace("\n", "\r\n"))
    assert root.fingerprint == signing.fingerprint(KEY.public_key())
    assert [one.name for one in client.trust("default").roots] == ["one"]
    with pytest.raises(InvalidInput, match="under another name"):
        client.trust_key("default", "two", PUBLIC)
    private = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with pytest.raises(InvalidInput, match="this is a private key"):
        client.trust_key("default", "two", private)
    client.trust_key("default", "one", signing.public_pem(OTHER.public_key()))
    assert len(client.trust("default").roots) == 1
    client.distrust("default", "one")
    with pytest.raises(NotFound, match="trusts no key"):
        client.distrust("default", "one")
    with pytest.raises(NotFound, match="no project"):
        client.trust("nowhere")


def test_keys_and_signatures_have_their_maximum(control: Rig, tmp_path: Path) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(SIGNATURES_MAX + 1)]
    version = control.push("many", python_model(tmp_path / "m", scale=9)).version
    for key in keys[:-1]:
        control.client.sign("many", "1", signing.sign("many", version.manifest.files, key))
    control.client.sign("many", "1", signing.sign("many", version.manifest.files, keys[0]))  # the same key again
    with pytest.raises(Conflict, match=f"{SIGNATURES_MAX} signatures already"):
        control.client.sign("many", "1", signing.sign("many", version.manifest.files, keys[-1]))
    control.client.delete_version("many", 1)

    assert control.request("POST", "/api/v1/apply", {**_project("full")})[0] == 200
    for number in range(ROOTS_MAX):
        public = signing.public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
        control.client.trust_key("full", f"k{number}", public)
    with pytest.raises(Conflict, match=f"trusts {ROOTS_MAX} keys already"):
        control.client.trust_key("full", "more", PUBLIC)
    control.client.delete_project("full")


def _project(name: str) -> dict[str, object]:
    return {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": name}}


def test_a_keyless_signature_is_trusted_by_name_and_held_to_at_the_push(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    ours, control = Sigstore(), rig.client
    (tmp_path / "root.json").write_text(ours.trusted_root())
    named = ("--identity", IDENTITY, "--issuer", ISSUER)
    refused = stoker_here("trust", "add", "ann", str(tmp_path / "root.json"), *named[:2], home=rig.home.root)
    assert "--issuer go together" in refused.stderr
    done = stoker_here("trust", "add", "ann", str(tmp_path / "root.json"), *named, home=rig.home.root)
    assert done.stdout.strip() == f"ann is trusted in default: {IDENTITY} ({ISSUER})", done.stderr
    assert f"{IDENTITY} ({ISSUER})" in stoker_here("trust", "list", home=rig.home.root).stdout
    with pytest.raises(InvalidInput, match="no trusted root"):
        control.trust_key("default", "bob", "", Keyless("bob", ISSUER, "{}"))
    with pytest.raises(InvalidInput, match="anybody"):
        control.trust_key("default", "bob", "", Keyless("**", ISSUER, ours.trusted_root()))
    control.set_policy("default", "required")
    source = python_model(tmp_path / "m")
    files = digest_files(find_files(source), lambda *_: None)
    for identity, said in (("bob@acme.example", "not signed by anyone"), ("", "timestamps of a certificate log")):
        made = ours.sign(files, identity=identity or IDENTITY, has_sct=bool(identity))
        with pytest.raises(SignatureRefused, match=said):
            rig.push("m", source, tasks=("predict",), signatures=(json.dumps(made),))
    pushed = rig.push("m", source, tasks=("predict",), signatures=(json.dumps(ours.sign(files)),))
    (view,) = control.signatures("m", str(pushed.version.number), "default")
    assert (view.state, view.signer) == ("verified", "ann")
    assert stoker_here("models", "verify", "m@1", home=rig.home.root).returncode == 0
    control.distrust("default", "ann")
    assert stoker_here("models", "verify", "m@1", home=rig.home.root).returncode != 0
