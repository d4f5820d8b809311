"""A version's bill of materials: valid CycloneDX, and what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.protocol.bom import bill
from stoker.types.ids import Digest, ModelName
from stoker.types.models import (
    FileEntry,
    Lineage,
    ModelVersion,
    Signature,
    TensorSpec,
    VersionManifest,
    manifest_digest,
)
from stoker.types.signing import Finding

LIBRARY = Path(sys.prefix) / "sdks" / "cyclonedx"  # `make test` puts it here
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(str(wrong) if wrong else 0)
"""
NOWHERE = Lineage()
WHOLE = Lineage(
    source="https://example.com/models/digits.onnx#sha256=00",
    pushed_by="ana",
    parent="digits@2",
    run="run-7",
    data=("s3://lake/digits/2026-11", "mnist"),
    code="https://example.com/team/digits@" + "c" * 40,
    pushed_from="ci-3",
)


def version(lineage: Lineage = NOWHERE, **more: Any) -> ModelVersion:
    files = tuple(FileEntry(path, Digest("sha256:" + "a" * 64), 7) for path in ("model.onnx", "sub/config.json"))
    spec = TensorSpec("x", "FP32", (-1, 64))
    manifest = VersionManifest("onnx", files, "model.onnx", Signature((spec,), (spec,)), lineage=lineage, **more)
    return ModelVersion(ModelName("digits"), 3, manifest_digest(manifest), manifest, 1.7e9, 14)


def validated(made: dict[str, Any]) -> dict[str, Any]:
    """Return the bill after the library of CycloneDX has held it to the schema."""
    if not LIBRARY.exists():
        pytest.skip("`make test` installs it")
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE],
        env={"PYTHONPATH": str(LIBRARY)},
        input=json.dumps(made),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize(
    "made",
    [
        version(),
        version(WHOLE, tasks=("predict",), metadata={"architecture": "mlp", "labels": ["a", "b"], "none": None}),
        ModelVersion(ModelName("gpt"), 1, Digest("sha256:" + "b" * 64), VersionManifest("remote", (), "."), 0.0, 0),
    ],
    ids=["little", "everything", "no files"],
)
def test_a_bill_is_valid_cyclonedx(made: ModelVersion) -> None:
    validated(bill(made, [Finding("verified", "team", "f" * 64)], "1.0"))


def test_what_is_no_bill_is_not_valid() -> None:
    made = bill(version(), [], "1.0")
    made["metadata"]["component"]["type"] = "model"
    with pytest.raises(AssertionError, match="model"):
        validated(made)


def test_a_bill_says_files_card_lineage_and_signature() -> None:
    made = bill(version(WHOLE, tasks=("chat",)), [Finding("verified", "team", "f" * 64)], "1.0")
    model = made["metadata"]["component"]
    assert [one["name"] for one in made["components"]] == ["model.onnx", "sub/config.json"]
    assert made["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert model["modelCard"]["modelParameters"]["task"] == "text-generation"
    assert [one["name"] for one in model["modelCard"]["modelParameters"]["datasets"]] == list(WHOLE.data)
    assert model["pedigree"]["ancestors"][0]["version"] == "2"
    assert {one["type"]: one["url"] for one in model["externalReferences"]} == {
        "distribution": "https://example.com/models/digits.onnx",
        "vcs": "https://example.com/team/digits",
    }
    said = {one["name"]: one["value"] for one in model["properties"]}
    assert said["stoker:signature"] == f"verified team {'f' * 64}"
    assert (said["stoker:training_run"], said["stoker:pushed_by"], said["stoker:pushed_from"]) == (
        "run-7",
        "ana",
        "ci-3",
    )


def test_the_same_version_is_the_same_bill() -> None:
    assert bill(version(WHOLE), [], "1.0") == bill(version(WHOLE), [], "1.0")
