"""Files that a registry must not keep, made here. Whatever is loaded by mistake leaves the canary behind."""

import gzip
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.registry.rig import METADATA, gguf, npy, onnx_model, pair

BOMB_BYTES = 70 * 2**20
MODEL_PY = b"class Model:\n    def predict(self, inputs): return inputs\n"


def touching(canary: Path) -> bytes:
    return f"touch {canary}".encode()


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def short(value: bytes) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value


def zipped(members: dict[str, bytes], *, mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)
    return out.getvalue()


def tarred(name: str, data: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, how: str = "w", link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=how) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tensors(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@cache
def zip_bomb() -> bytes:
    return zipped({"zeros": bytes(BOMB_BYTES)})


@cache
def tar_bomb() -> bytes:
    return tarred("zeros", bytes(BOMB_BYTES), how="w:gz")


@cache
def gzip_bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES))


def renamed(archive: bytes, before: bytes, after: bytes) -> bytes:
    """Return a zip whose central list says another name than its members do themselves."""
    at = archive.rindex(before)
    return archive[:at] + after + archive[at + len(before) :]


def understated(archive: bytes, size_bytes: int) -> bytes:
    """Return a zip whose central list says that its one member unpacks to `size_bytes`."""
    at = archive.rindex(b"PK\x01\x02") + 24
    return archive[:at] + struct.pack("<I", size_bytes) + archive[at + 4 :]


def _pickles(canary: Path) -> dict[str, dict[str, bytes]]:
    shell = touching(canary)
    system = Call(os.system, shell.decode())
    return {
        "a pickle called a model": {"model.onnx": pickle.dumps(system)},
        "a pickle of the first protocol": {"model.pkl": pickle.dumps(system, 0)},
        "a pickle by hand": {"w.bin": b"cos\nsystem\n(S'" + shell + b"'\ntR."},
        "a pickle without an end": {"w.bin": b"cos\nsystem\n(S'" + shell + b"'\ntR"},
        "a pickle that is damaged after its call": {"w.bin": b"\x80\x02cos\nsystem\n" + text(shell) + b"\x85R\xff\xff"},
        "a pickle by INST": {"w.bin": b"(S'" + shell + b"'\nios\nsystem\n."},
        "a pickle by OBJ": {"w.bin": b"\x80\x02(cos\nsystem\n" + text(shell) + b"o."},
        "a pickle of another module's function": {"w.bin": pickle.dumps(Call(subprocess.getoutput, shell.decode()))},
        "a pickle of exec": {"w.bin": pickle.dumps(Call(exec, f"open({str(canary)!r}, 'w')"))},
        "a pickle of a module's import": {"w.bin": pickle.dumps(Call(__import__, "antigravity"))},
        "a pickle that puts its name together": {
            "model.py": MODEL_PY,
            "w.pkl": b"\x80\x04" + short(b"os") + short(b"system") + b"\x85\x93" + text(shell) + b"\x85R.",
        },
        "a compressed pickle": {"model.onnx": gzip.compress(pickle.dumps(system))},
        "a pickle of joblib": {"model.joblib": b"\x78\x9c" + zlib.compress(pickle.dumps(system))[2:]},
        "an array of objects": {"x.npy": npy(np.array([system], dtype=object))},
        "arrays with one of objects": {"x.npz": zipped({"o.npy": npy(np.array([system], object))})},
        "a torch file": {"model.pt": zipped({"archive/data.pkl": pickle.dumps(system), "archive/data/0": b"w"})},
        "weights with a call beside code": {"model.py": MODEL_PY, "w.pt": zipped({"a/data.pkl": pickle.dumps(system)})},
        "a call after plain data beside code": {
            "model.py": MODEL_PY,
            "w.pt": pickle.dumps({"w": [1.0]}, 2) + pickle.dumps(system, 2),
        },
        "a name by number beside code": {"model.py": MODEL_PY, "w.pkl": b"\x80\x02\x82\x01)R."},
        "an imported class changed beside code": {
            "model.py": MODEL_PY,
            "w.pkl": b"\x80\x02ccollections\nOrderedDict\n}" + text(b"update") + b"K\x01sb.",
        },
        "a pickle in a tar": {"model.tar": tarred("data.pkl", pickle.dumps(system))},
        "a Keras file with code": {
            "model.keras": zipped({"config.json": b'{"class_name": "Lambda"}', "metadata.json": b"{}", "w.h5": b"w"})
        },
    }


def _archives(canary: Path) -> dict[str, dict[str, bytes]]:
    link = stat.S_IFLNK | 0o777
    return {
        "a zip that leads out": {"m.zip": zipped({"../../evil": b"x"})},
        "a zip with an absolute path": {"m.zip": zipped({str(canary): b"x"})},
        "a zip with backslashes": {"m.zip": zipped({"a\\..\\..\\evil": b"x"})},
        "a zip with a link": {"m.zip": zipped({"weights": b"/etc/passwd"}, mode=link)},
        "a zip with a device": {"m.zip": zipped({"weights": b""}, mode=stat.S_IFCHR | 0o600)},
        "a zip bomb": {"m.zip": zip_bomb()},
        "a zip in a zip": {"m.zip": zipped({"inner.zip": zipped({"x": b"x"})})},
        "a tar in a zip": {"m.zip": zipped({"inner": tarred("../evil")})},
        "a zip that says too little": {"m.zip": understated(zip_bomb(), 10)},
        "a zip with two names for a member": {"m.zip": renamed(zipped({"good": b"x"}), b"good", b"evil")},
        "a zip cut short": {"m.zip": zipped({"a": b"text"})[:-30]},
        "a tar that leads out": {"m.tar": tarred("../../evil")},
        "a tar with an absolute path": {"m.tar.gz": tarred(str(canary), how="w:gz")},
        "a tar with a symbolic link": {"m.tar": tarred("w", kind=tarfile.SYMTYPE, link="/etc/passwd")},
        "a tar with a hard link": {"m.tar.xz": tarred("w", kind=tarfile.LNKTYPE, link="../../evil", how="w:xz")},
        "a tar with a device": {"m.tar": tarred("w", kind=tarfile.BLKTYPE)},
        "a tar with a pipe": {"m.tar": tarred("w", kind=tarfile.FIFOTYPE)},
        "a tar bomb": {"m.tar.gz": tar_bomb()},
        "a bomb of one file": {"weights.gz": gzip_bomb()},
        "a zip behind gzip": {"m.gz": gzip.compress(zipped({"x": b"x"}))},
        "an archive nobody looks into": {"m.7z": b"7z\xbc\xaf\x27\x1c" + bytes(64)},
    }


def _headers(_canary: Path) -> dict[str, dict[str, bytes]]:
    f32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    moved = gguf().replace(struct.pack("<QIQ", 2, 0, 0), struct.pack("<QIQ", 2, 0, 2**40))
    return {
        "a GGUF cut in its header": {"m.gguf": gguf()[:60]},
        "a GGUF cut in its weights": {"m.gguf": gguf()[:-4]},
        "a GGUF with endless tensors": {"m.gguf": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0)},
        "a GGUF with an endless text": {"m.gguf": head + pair("a", "b")[:13] + struct.pack("<Q", 2**62)},
        "a GGUF with an endless array": {"m.gguf": head + pair("a", [1])[:17] + struct.pack("<Q", 2**61)},
        "a GGUF with weights elsewhere": {"m.gguf": moved},
        "a second GGUF that is damaged": {"m.gguf": gguf(), "model.gguf": gguf(METADATA | {"general.alignment": 3})},
        "an ONNX model with a secret": {"m.onnx": onnx_model(external="../../secret")},
        "an ONNX model with an absolute path": {"m.onnx": onnx_model(external="/etc/passwd")},
        "an ONNX model with a hidden secret": {"m.onnx": onnx_model(external="../secret", nested=True)},
        "an ONNX model without its weights": {"m.onnx": onnx_model(external="w.bin")},
        "an ONNX model with short weights": {"m.onnx": onnx_model(external="w.bin", offset=8), "w.bin": bytes(16)},
        "an ONNX model beside the one served": {"model.onnx": onnx_model(), "b.onnx": onnx_model(external="../s")},
        "an ONNX model cut short": {"m.onnx": onnx_model()[:-20]},
        "an ONNX model without an end": {"m.onnx": b"\x3a" + b"\xff" * 8 + b"\x7f" + onnx_model()},
        "an ONNX model inside itself": {"m.onnx": nested_graphs(200)},
        "tensors beyond the end": {"m.onnx": onnx_model(), "w.safetensors": tensors({"w": f32})},
        "tensors over each other": {
            "m.onnx": onnx_model(),
            "w.safetensors": tensors({"a": f32, "b": f32 | {"data_offsets": [4, 12]}}, bytes(12)),
        },
        "tensors with a gap": {"m.onnx": onnx_model(), "w.safetensors": tensors({"a": f32}, bytes(16))},
        "an endless safetensors header": {"m.onnx": onnx_model(), "w.safetensors": b"\xff" * 8 + b"{}"},
        "a tensor that is there twice": {
            "m.onnx": onnx_model(),
            "w.safetensors": tensors(b'{"a":' + json.dumps(f32).encode() + b',"a":' + json.dumps(f32).encode() + b"}"),
        },
    }


def nested_graphs(depth: int) -> bytes:
    """Return a model whose one node holds a graph, whose one node holds a graph, …"""
    graph = b""
    for _ in range(depth):
        attribute = _field(6, graph)
        graph = _field(1, _field(5, attribute))
    return b"\x08\x08" + _field(7, graph)


def _field(number: int, data: bytes) -> bytes:
    length = len(data)
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *varint, length]) + data


_KINDS: tuple[Callable[[Path], dict[str, dict[str, bytes]]], ...] = (_pickles, _archives, _headers)
NAMES: tuple[str, ...] = tuple(name for kind in _KINDS for name in kind(Path("/canary")))


def artifact(name: str, canary: Path) -> dict[str, bytes]:
    """Return the files of one; what it would run makes the file `canary`."""
    return {path: data for kind in _KINDS for path, data in kind(canary).get(name, {}).items()}
