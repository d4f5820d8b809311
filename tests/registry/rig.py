"""A registry in a folder, and small files of every kind that is pushed."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from stoker.blob.folder import FolderBlobs
from stoker.registry import versions
from stoker.registry.versions import Given
from stoker.types.models import FileEntry, VersionManifest


class Registry:
    """Blobs, laid-out models and scratch in one folder, as control has them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.tmp = root / "tmp"
        for folder in (root / "blobs", self.models, self.tmp):
            folder.mkdir(parents=True)
        self.blobs = FolderBlobs(root / "blobs", self.tmp)

    def upload(self, files: dict[str, bytes]) -> list[FileEntry]:
        return [FileEntry(path, *self.blobs.put([data])) for path, data in files.items()]

    def push(self, files: dict[str, bytes], **given: Any) -> VersionManifest:
        return versions.build_manifest(self.upload(files), self.blobs, Given(**given), scratch=self.tmp)

    def leftovers(self) -> list[Path]:
        return [*self.tmp.iterdir(), *self.models.iterdir()]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, value: str | int | bool | list[str] | list[int]) -> bytes:
    match value:
        case bool():
            return text(key) + struct.pack("<I?", 7, value)
        case str():
            return text(key) + struct.pack("<I", 8) + text(value)
        case int():
            return text(key) + struct.pack("<II", 4, value)
        case [str(), *_]:
            return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(str(item)) for item in value)
        case _:
            return text(key) + struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *map(int, value))


METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "llama.context_length": 128,
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a"],
    "tokenizer.ggml.token_type": [3, 3, 1],
    "tokenizer.chat_template": "{{ messages }}",
}


def gguf(metadata: dict[str, Any] | None = None, *, tensors: bool = True, version: int = 3) -> bytes:
    """Return a small GGUF with one F32 tensor [4, 2]; it is read, never run."""
    pairs = METADATA if metadata is None else metadata
    head = b"GGUF" + struct.pack("<IQQ", version, int(tensors), len(pairs))
    head += b"".join(pair(key, value) for key, value in pairs.items())
    if tensors:
        head += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head += bytes(-len(head) % 32)
    return head + (np.arange(8, dtype="<f4").tobytes() if tensors else b"")


def onnx_model(*, external: str = "", offset: int = 0, nested: bool = False) -> bytes:
    """Return `y = x + b` as ONNX; with `external`, b's bytes lie in that file."""
    bias = helper.make_tensor("b", TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    if external:
        bias.ClearField("raw_data")
        bias.data_location = TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", str(offset)), ("length", "16")):
            bias.external_data.add(key=key, value=value)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    if nested:
        constant = helper.make_node("Constant", [], ["b"], value=bias)
        inner_out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])
        inner = helper.make_graph([constant, helper.make_node("Identity", ["b"], ["z"])], "inner", [], [inner_out])
        condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
        branch = helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch, helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [condition])
    else:
        graph = helper.make_graph([helper.make_node("Add", ["x", "b"], ["y"])], "g", [x], [y], [bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def encoder(output: str = "last_hidden_state", rank: int = 3) -> bytes:
    """Return a text encoder: token ids in, one vector of 4 a token (or a text) out."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [10, 4], np.zeros(40, np.float32).tobytes(), raw=True)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["v" if rank == 2 else output])]
    if rank == 2:
        nodes.append(helper.make_node("ReduceMean", ["v"], [output], axes=[1], keepdims=0))
    shape = ["batch", "sequence", 4] if rank == 3 else ["batch", 4]
    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [ids], [out], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()
