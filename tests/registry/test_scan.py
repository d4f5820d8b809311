import bz2
import gzip
import io
import lzma
import pickle
import stat
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.registry.scan import scan_file
from stoker.types.errors import RefusedArtifact
from tests.registry.rig import gguf, npy, onnx_model


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def scanned(tmp_path: Path, data: bytes, name: str = "file.bin") -> None:
    (tmp_path / name).write_bytes(data)
    scan_file(tmp_path / name, name)


def zipped(members: dict[str, bytes], *, mode: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return out.getvalue()


def tarred(name: str, data: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, how: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=how) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [Evil(), [Evil()] * 50, OrderedDict(a=1), {"w": np.zeros(3)}, [np.zeros(50_000)]])
def test_pickles_of_every_protocol_are_refused_by_content(tmp_path: Path, protocol: int, value: object) -> None:
    with pytest.raises(RefusedArtifact, match=r"model\.onnx is refused: it is a Python pickle.*skops"):
        scanned(tmp_path, pickle.dumps(value, protocol), "model.onnx")


def test_pickles_written_by_hand_are_refused(tmp_path: Path) -> None:
    for data in (
        b"cos\nsystem\n(S'id'\ntR.",
        b"(S'id'\nios\nsystem\n.",
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
    ):
        with pytest.raises(RefusedArtifact, match="pickle"):
            scanned(tmp_path, data)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_compressed_pickles_are_refused(tmp_path: Path, compress: Any) -> None:
    with pytest.raises(RefusedArtifact, match="compressed inside, it is a Python pickle"):
        scanned(tmp_path, compress(pickle.dumps({"w": np.arange(100_000)})))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_what_joblib_writes_is_refused(tmp_path: Path, compress: Any) -> None:
    joblib.dump({"w": np.arange(10_000), "o": OrderedDict()}, tmp_path / "model.bin", compress=compress)
    with pytest.raises(RefusedArtifact, match="pickle"):
        scan_file(tmp_path / "model.bin", "model.bin")


def test_numpy_arrays_are_fine_unless_they_hold_objects(tmp_path: Path) -> None:
    scanned(tmp_path, npy(np.zeros((3, 4))))
    scanned(tmp_path, zipped({"a.npy": npy(np.zeros(3))}), "a.npz")
    with pytest.raises(RefusedArtifact, match="Python objects"):
        scanned(tmp_path, npy(np.array([1, "a", None], dtype=object)))
    with pytest.raises(RefusedArtifact, match=r"a\.npz has 'o\.npy' in it.*Python objects"):
        scanned(tmp_path, zipped({"a.npy": npy(np.zeros(3)), "o.npy": npy(np.array([None]))}), "a.npz")


def test_a_torch_file_is_refused_for_the_pickle_in_it(tmp_path: Path) -> None:
    with pytest.raises(RefusedArtifact, match=r"model\.pt has 'archive/data\.pkl' in it, and it is a Python pickle"):
        scanned(
            tmp_path, zipped({"archive/data.pkl": pickle.dumps(OrderedDict(w=1)), "archive/data/0": b"w"}), "model.pt"
        )


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/passwd", "a//b", "C:\\windows", "a\\..\\b", "con\x07", "a/./b", "x" * 600]
)
def test_archives_that_lead_out_of_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedArtifact, match="member"):
        scanned(tmp_path, zipped({name: b"x"}))
    with pytest.raises(RefusedArtifact, match="member"):
        scanned(tmp_path, tarred(name))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("how", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_with_links_and_devices_are_refused(tmp_path: Path, kind: bytes, how: str) -> None:
    with pytest.raises(RefusedArtifact, match="link or a device"):
        scanned(tmp_path, tarred("weights", kind=kind, how=how))


def test_a_zip_with_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedArtifact, match="link or a device"):
        scanned(tmp_path, zipped({"weights": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777))


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    zeros = bytes(80 * 2**20)
    with pytest.raises(RefusedArtifact, match="archive bomb"):
        scanned(tmp_path, zipped({"zeros": zeros}))
    with pytest.raises(RefusedArtifact, match="archive bomb"):
        scanned(tmp_path, tarred("zeros", zeros, how="w:gz"))


def test_an_archive_that_lies_about_its_sizes_or_is_damaged_is_refused(tmp_path: Path) -> None:
    good = zipped({"a": b"some text that compresses, compresses, compresses"})
    with pytest.raises(RefusedArtifact, match="damaged"):
        scanned(tmp_path, good[:40] + b"\xff\xff\xff" + good[43:])
    with pytest.raises(RefusedArtifact, match="damaged zip"):
        scanned(tmp_path, good[:-30])


def test_archives_in_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedArtifact, match="another archive"):
        scanned(tmp_path, zipped({"inner.zip": zipped({"data.pkl": b""})}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N.",
        b"I1\n.",
        b'{"architectures": ["Llama"]}',
        b"class Model:\n    pass\n",
        b"import os\n",
        b"cat\ndog\nbird\n",
        b"truststore-0.10.5.dist-info/RECORD\n",
        gzip.compress(b"plain text"),
        bz2.compress(b"plain"),
        b"\x80\x04not opcodes at all",
        gguf(),
        onnx_model(),
        zipped({"a.txt": b"text", "b/c.json": b"{}"}),
        tarred("a.txt"),
        tarred("a.txt", how="w:gz"),
    ],
    ids=lambda data: f"{data[:2]!r} of {len(data)}",  # what is compressed has the time in it
)
def test_harmless_files_pass(tmp_path: Path, data: bytes) -> None:
    scanned(tmp_path, data)


def test_this_projects_own_sources_are_no_pickles() -> None:
    for path in Path(__file__).parents[2].joinpath("src").rglob("*.py"):
        assert pickle_reason(path.read_bytes()[:HEAD_BYTES]) == "", path


@settings(max_examples=150)
@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"\x80\x04", b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY\x01", b"BZh9", b"c"]),
)
def test_any_bytes_are_judged_without_an_error(data: bytes, head: bytes) -> None:
    assert isinstance(pickle_reason(head + data), str)
