"""Signing from the command line: keys from files, what is shown, and how commands end."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from stoker.protocol import signing
from tests.cli.conftest import Run
from tests.control.rig import python_model
from tests.registry.rig import onnx_model

KEY = ec.generate_private_key(ec.SECP256R1())


def key_files(folder: Path, key: signing.PrivateKey = KEY) -> tuple[str, str]:
    private, public = folder / "team.pem", folder / "team.pub"
    hidden = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    public.write_text(signing.public_pem(key.public_key()))
    return str(private), str(public)


def test_a_version_is_pushed_signed_inspected_and_verified(run: Run, tmp_path: Path) -> None:
    private, public = key_files(tmp_path)
    folder = python_model(tmp_path / "m")
    lineage = ("--parent", "s@0", "--data", "s3://lake/a", "--data", "b", "--run", "run-7", "--code", "abc")
    done = run("push", "s", str(folder), "--task", "predict", "--sign-key", private, *lineage)
    assert done.returncode == 0, done.stderr

    done = run("models", "verify", "s@1")
    assert done.returncode == 4
    assert "unknown" in done.stdout
    assert "not signed by a trusted key" in done.stderr
    assert run("models", "verify", "s@1", "--key", public).returncode == 0

    assert "is trusted in default" in run("trust", "add", "team", public).stdout
    done = run("models", "verify", "s")
    assert (done.returncode, "verified" in done.stdout, "team" in done.stdout) == (0, True, True)
    shown = run("models", "inspect", "s@1").stdout
    for words in ("model.py", "verified", "s@0", "s3://lake/a, b", "run-7", "abc"):
        assert words in shown
    found = json.loads(run("models", "inspect", "s@1", "-o", "json").stdout)
    assert found["signatures"][0]["state"] == "verified"
    assert found["version"]["manifest"]["lineage"]["data"] == ["s3://lake/a", "b"]
    assert found["version"]["manifest"]["lineage"]["pushed_from"]
    bill = json.loads(run("models", "bom", "s@1").stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")

    assert "required" in run("trust", "policy", "required").stdout
    assert "required" in run("trust", "list").stdout
    done = run("push", "t", str(python_model(tmp_path / "t", scale=4)))
    assert done.returncode == 4
    assert "t is not signed by anyone this project trusts" in done.stderr
    assert "sign it (stoker push … --sign-key FILE)" in done.stderr  # there is no version that could be signed
    lost = run("trust", "add", "nobody", str(tmp_path / "nobody.pub"))
    assert (lost.returncode, f"there is no file {tmp_path / 'nobody.pub'}" in lost.stderr) == (3, True)
    assert "off" in run("trust", "policy", "off").stdout
    assert "no longer" in run("trust", "remove", "team").stdout


def test_a_version_that_is_there_is_signed_and_the_signature_written(run: Run, tmp_path: Path) -> None:
    private, public = key_files(tmp_path, ed25519.Ed25519PrivateKey.generate())
    folder = python_model(tmp_path / "m", scale=8)
    assert run("push", "u", str(folder)).returncode == 0
    done = run("models", "verify", "u")
    assert (done.returncode, "not signed" in done.stdout) == (4, True)
    assert "u@1 signed" in run("models", "sign", "u", "--key", private, "--out", str(tmp_path / "model.sig")).stdout
    assert run("models", "verify", "u@1", "--key", public).returncode == 0
    assert json.loads((tmp_path / "model.sig").read_text())["mediaType"].endswith("v0.3+json")


@pytest.mark.parametrize("words", [("models",), ("models", "list"), ("models", "-o", "json"), ("models", "v@1")])
def test_models_lists_without_a_word_more(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run("push", "v", str(python_model(tmp_path / "m", scale=2))).returncode == 0
    done = run(*words)
    assert (done.returncode, "v" in done.stdout) == (0, True), done.stderr


def test_a_hostile_file_is_refused_before_anything_is_sent(run: Run, home: Path, tmp_path: Path) -> None:
    folder = python_model(tmp_path / "m", scale=2)
    (folder / "w.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "canary").encode() + b"'\ntR.")
    done = run("push", "w", str(folder))
    assert done.returncode == 4
    assert "w.pkl is refused: it is a Python pickle" in done.stderr
    assert "imports os.system" in done.stderr
    assert "nothing was sent" in done.stderr
    assert not (tmp_path / "canary").exists()
    assert run("models", "w").returncode == 3


def test_a_model_of_mlflow_is_pushed_by_its_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text(f"flavors:\n  onnx: {{data: model.onnx}}\nrun_id: {'a' * 32}\n")
    (folder / "model.onnx").write_bytes(onnx_model())
    done = run("push", "x", f"mlflow:{folder}")
    assert done.returncode == 0, done.stderr
    assert "a" * 32 in run("models", "inspect", "x").stdout


def test_a_file_that_is_no_key_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello")
    for words in (("trust", "add", "x"), ("models", "verify", "v", "--key")):
        done = run(*words, str(tmp_path / "key"))
        assert done.returncode == 4
        assert "PEM" in done.stderr
    done = run("models", "sign", "v", "--key", str(tmp_path / "none"))
    assert done.returncode == 3
    assert "there is no file" in done.stderr
