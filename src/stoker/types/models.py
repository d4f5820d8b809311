"""A model version as the registry keeps it: files by digest, format, signature, where it came from."""

from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stoker.types.ids import DIGEST_PATTERN, NAME_PATTERN, Digest, ModelName
from stoker.types.units import BYTES_MAX

Format = Literal["onnx", "skops", "python", "gguf", "remote"]
# Which engine serves a format unless the manifest says otherwise.
DEFAULT_ENGINE: dict[str, str] = {
    "onnx": "onnx",
    "skops": "sklearn",
    "python": "python",
    "gguf": "llamacpp",
    "remote": "openai",
}

# All that can load one; ANY_FORMAT besides, which starts any server by its option `command`.
ENGINES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx",),
    "skops": ("sklearn",),
    "python": ("python",),
    "gguf": ("llamacpp", "openvino"),
    "remote": ("openai",),
}
ANY_FORMAT = "openai"

LINEAGE_CHARACTERS_MAX = 1_024
# The Open Inference Protocol's datatypes.
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output. `shape` has -1 where any size goes; the first dimension is the batch when it is -1."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes into a model and what comes out, read from the model itself where that is possible."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a version. `path` is relative, with forward slashes, without `..`."""

    path: str
    digest: Annotated[Digest, Meta(pattern=DIGEST_PATTERN)]
    size_bytes: Annotated[int, Meta(ge=0, le=BYTES_MAX)]


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a version came from, as far as the pusher said.

    `data` are references to what it was trained on; `code` is a commit, with its repository where that is known.
    """

    source: str = ""
    pushed_by: str = ""
    parent: Annotated[str, Meta(max_length=LINEAGE_CHARACTERS_MAX)] = ""  # name@number
    run: Annotated[str, Meta(max_length=LINEAGE_CHARACTERS_MAX)] = ""  # the training run, as its tracker names it
    data: Annotated[tuple[Annotated[str, Meta(max_length=LINEAGE_CHARACTERS_MAX)], ...], Meta(max_length=64)] = ()
    code: Annotated[str, Meta(max_length=LINEAGE_CHARACTERS_MAX)] = ""
    pushed_from: Annotated[str, Meta(max_length=LINEAGE_CHARACTERS_MAX)] = ""  # the machine, or the CI job
    trained_at_s: Annotated[float, Meta(ge=0, description="unix time; 0: not said")] = 0.0


class VersionManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is inside a version. Its canonical JSON is what the version digest is taken of.

    `metadata` holds what was read from the model (architecture, context length, labels); values are JSON.
    `options` are default engine options (pooling for an embedder, chat template); the endpoint may override them.
    """

    format: Format
    files: tuple[FileEntry, ...]
    entry: str  # path of the file (or "." for the folder) that the engine opens
    signature: Signature = Signature()
    tasks: tuple[str, ...] = ()  # what it can be used for; the first is the default task of an endpoint
    metadata: dict[str, str | int | float | bool | list[str] | None] = {}
    options: dict[str, str | int | float | bool] = {}
    lineage: Lineage = Lineage()


class ModelVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One immutable version: `name@number`, also reachable as `name@<digest>` and by its aliases."""

    name: Annotated[ModelName, Meta(pattern=NAME_PATTERN)]
    number: Annotated[int, Meta(ge=1)]
    digest: Digest
    manifest: VersionManifest
    created_at_s: float
    size_bytes: int
    aliases: tuple[str, ...] = ()

    @property
    def made_at_s(self) -> float:
        """When it was trained, as far as the pusher said; else when it was pushed."""
        return self.manifest.lineage.trained_at_s or self.created_at_s

    @property
    def ref(self) -> str:
        """`digits@3`, the shortest name that always means this version."""
        return f"{self.name}@{self.number}"


def manifest_digest(manifest: VersionManifest) -> Digest:
    """Return the digest of a version: sha256 over its canonical JSON (sorted keys, no spaces) without the lineage.

    The same files said to come from elsewhere are the same version.
    """
    whole = {**msgspec.structs.asdict(manifest), "lineage": dict.fromkeys(("parent", "pushed_by", "source"), "")}
    return sha256_digest(msgspec.json.encode(whole, order="sorted"))


def sha256_digest(data: bytes) -> Digest:
    """Return the digest of `data` in the written form."""
    return Digest("sha256:" + sha256(data).hexdigest())
