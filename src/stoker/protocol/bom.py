"""A model version as a CycloneDX 1.6 bill of materials for machine learning: what it is made of, from what, by whom.

Source: the CycloneDX 1.6 JSON schema (machine-learning-model components with a model card).
"""

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, Final

from stoker.types.models import Lineage, ModelVersion, TensorSpec
from stoker.types.signing import Finding

SPEC: Final = "1.6"
# Names of bills are made from the version's digest: the same version is the same bill.
_NAMESPACE: Final = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's for object identifiers
_TASKS: Final = {"predict": "prediction", "chat": "text-generation", "embed": "feature-extraction"}


def bill(version: ModelVersion, signatures: Sequence[Finding], made_with: str) -> dict[str, Any]:
    """Return the bill of a version as JSON values. `made_with` is stoker's own version."""
    at = datetime.datetime.fromtimestamp(version.created_at_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, version.digest)}",
        "version": 1,
        "metadata": {
            "timestamp": at,
            "tools": {"components": [{"type": "application", "name": "stoker", "version": made_with}]},
            "component": _model(version, signatures),
        },
        "components": [
            {
                "type": "file",
                "bom-ref": f"{version.ref}/{entry.path}",
                "name": entry.path,
                "hashes": [_hash(entry.digest)],
                "properties": [_property("size_bytes", entry.size_bytes)],
            }
            for entry in version.manifest.files
        ],
        "dependencies": [
            {"ref": version.ref, "dependsOn": [f"{version.ref}/{entry.path}" for entry in version.manifest.files]}
        ],
    }


def _model(version: ModelVersion, signatures: Sequence[Finding]) -> dict[str, Any]:
    manifest, lineage = version.manifest, version.manifest.lineage
    about = {"format": manifest.format, "entry": manifest.entry, "pushed_by": lineage.pushed_by}
    about |= {"pushed_from": lineage.pushed_from, "training_run": lineage.run, "code": lineage.code}
    about |= {"source": lineage.source}
    said = [_property(name, value) for name, value in about.items() if value]
    said += [_property(f"metadata:{name}", value) for name, value in manifest.metadata.items() if value is not None]
    said += [_property("signature", f"{one.state} {one.signer} {one.fingerprint}".strip()) for one in signatures]
    found = {
        "type": "machine-learning-model",
        "bom-ref": version.ref,
        "name": version.name,
        "version": str(version.number),
        "hashes": [_hash(version.digest)],
        "modelCard": {"modelParameters": _parameters(version)},
        "properties": said,
    }
    if references := _references(lineage):
        found["externalReferences"] = references
    if lineage.parent:
        name, _, number = lineage.parent.partition("@")
        ancestor = {"type": "machine-learning-model", "name": name, "version": number or "unknown"}
        found["pedigree"] = {"ancestors": [ancestor]}
    return found


def _parameters(version: ModelVersion) -> dict[str, Any]:
    manifest = version.manifest
    found: dict[str, Any] = {
        "inputs": [{"format": _tensor(spec)} for spec in manifest.signature.inputs],
        "outputs": [{"format": _tensor(spec)} for spec in manifest.signature.outputs],
        "datasets": [{"type": "dataset", "name": reference} for reference in manifest.lineage.data],
    }
    if manifest.tasks:
        found["task"] = _TASKS.get(manifest.tasks[0], manifest.tasks[0])
    if architecture := manifest.metadata.get("architecture"):
        found["modelArchitecture"] = str(architecture)
    return {name: value for name, value in found.items() if value}


def _references(lineage: Lineage) -> list[dict[str, str]]:
    found = []
    if lineage.source.startswith("https://"):
        found.append({"type": "distribution", "url": lineage.source.partition("#")[0]})
    repository = lineage.code.rpartition("@")[0]
    if repository.startswith("https://"):
        found.append({"type": "vcs", "url": repository, "comment": lineage.code.rpartition("@")[2]})
    return found


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype}{list(spec.shape)}"


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _property(name: str, value: object) -> dict[str, str]:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return {"name": f"stoker:{name}", "value": text}
