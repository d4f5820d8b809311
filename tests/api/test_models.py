"""Blobs, versions, aliases: whole or not there."""

import hashlib
import pickle
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.control.rig import Rig, endpoint, until


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blobs(rig: Rig) -> list[str]:
    return [path.name for path in rig.home.blobs.rglob("*") if path.is_file()]


def leftovers(rig: Rig) -> list[str]:
    return [path.name for path in rig.home.tmp.iterdir()]


def test_a_blob_is_uploaded_once(rig: Rig) -> None:
    data = b"some bytes" * 1000
    path = f"/api/v1/blobs/{digest(data)}"
    assert rig.request("HEAD", path)[0] == 404
    assert rig.request("PUT", path, data)[0] == 201
    assert rig.request("PUT", path, data)[0] == 200
    assert rig.request("HEAD", path)[0] == 200


def test_bytes_that_do_not_have_the_digest_are_refused_and_leave_nothing(rig: Rig) -> None:
    before = blobs(rig)
    status, body, _ = rig.request("PUT", f"/api/v1/blobs/{digest(b'right')}", b"wrong")
    assert (status, body["error"]["code"], body["error"]["field"]) == (422, "refused_artifact", "digest")
    assert (blobs(rig), leftovers(rig)) == (before, [])
    assert rig.request("PUT", "/api/v1/blobs/sha256:12", b"x")[0] == 400


def test_an_upload_that_breaks_off_leaves_nothing(rig: Rig) -> None:
    before = blobs(rig)
    with socket.create_connection(("127.0.0.1", rig.port + 1), timeout=60) as connection:
        head = f"PUT /api/v1/blobs/{digest(b'whole')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rig.key}\r\n"
        connection.sendall((head + "Content-Length: 9000000\r\n\r\n").encode() + b"x" * 2_000_000)
        until(lambda: leftovers(rig), "the upload began")
    until(lambda: not leftovers(rig), "the half-written file is gone")
    assert blobs(rig) == before


def test_a_full_disk_is_told_and_leaves_nothing(rig: Rig) -> None:
    assert rig.process is not None
    before = blobs(rig)
    data = b"y" * 40_000_000
    limits = resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (16_000_000, limits[1]))
    try:
        status, body, _ = rig.request("PUT", f"/api/v1/blobs/{digest(data)}", data)
    finally:
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, limits)
    assert (status, body["error"]["code"]) == (503, "unavailable")
    assert "no room on the disk" in body["error"]["message"]
    assert (blobs(rig), leftovers(rig)) == (before, [])
    assert rig.request("PUT", f"/api/v1/blobs/{digest(data)}", data)[0] == 201


def test_the_same_content_is_the_same_version_even_when_pushed_at_once(rig: Rig, onnx_files: list[Path]) -> None:
    with ThreadPoolExecutor(4) as pool:
        pushed = list(pool.map(lambda _: rig.push("once", onnx_files[0]), range(4)))
    assert {each.version.number for each in pushed} == {1}
    assert [each.is_new for each in pushed].count(True) == 1
    version = rig.client.version("once", "1")
    assert version.manifest.signature.inputs[0].shape == (-1, 4)
    assert rig.client.version("once", version.digest) == version


def test_a_pickle_is_refused_and_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    before = blobs(rig)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    data = (tmp_path / "model.pkl").read_bytes()
    rig.client.put_blob(digest(data), len(data), [data])
    files = [{"path": "model.pkl", "digest": digest(data), "size_bytes": len(data)}]
    status, body, _ = rig.request("POST", "/api/v1/models/bad/versions", {"files": files})
    assert (status, body["error"]["code"]) == (422, "refused_artifact")
    assert "pickle" in body["error"]["message"]
    assert (blobs(rig), leftovers(rig)) == (before, [])
    assert rig.request("GET", "/api/v1/models/bad")[0] == 404


def test_a_refused_push_leaves_the_blobs_of_other_versions(rig: Rig, model: str, onnx_files: list[Path]) -> None:
    data = onnx_files[0].read_bytes()
    evil = pickle.dumps([1])
    rig.client.put_blob(digest(evil), len(evil), [evil])
    files = [
        {"path": "model.onnx", "digest": digest(data), "size_bytes": len(data)},
        {"path": "evil.pkl", "digest": digest(evil), "size_bytes": len(evil)},
    ]
    assert rig.request("POST", "/api/v1/models/mixed/versions", {"files": files})[0] == 422
    assert rig.request("HEAD", f"/api/v1/blobs/{digest(data)}")[0] == 200
    assert rig.request("HEAD", f"/api/v1/blobs/{digest(evil)}")[0] == 404


def test_a_version_of_blobs_that_are_not_there_is_refused_by_name(rig: Rig) -> None:
    files = [{"path": "model.onnx", "digest": digest(b"nowhere"), "size_bytes": 7}]
    status, body, _ = rig.request("POST", "/api/v1/models/x/versions", {"files": files})
    assert (status, body["error"]["field"]) == (404, "files")
    assert "model.onnx" in body["error"]["message"]


def test_a_wrong_file_list_names_the_field(rig: Rig) -> None:
    for files, field in (
        ([{"path": "a", "digest": "x", "size_bytes": 1}], "files[0].digest"),
        ([{"path": "a", "digest": digest(b"a"), "size_bytes": -1}], "files[0].size_bytes"),
        ("all", "files"),
    ):
        status, body, _ = rig.request("POST", "/api/v1/models/x/versions", {"files": files})
        assert (status, body["error"]["field"]) == (400, field)
    assert rig.request("POST", "/api/v1/models/Bad_Name/versions", {"files": []})[1]["error"]["field"] == "name"


def test_paths_that_lead_out_of_the_version_are_refused(rig: Rig) -> None:
    data = b"data"
    rig.request("PUT", f"/api/v1/blobs/{digest(data)}", data)
    for path in ("../x", "/etc/passwd", "a/../../b", "a\\..\\b", ""):
        files = [{"path": path, "digest": digest(data), "size_bytes": 4}]
        status, body, _ = rig.request("POST", "/api/v1/models/x/versions", {"files": files})
        assert status in (400, 422), body
    assert rig.request("GET", "/api/v1/models/x")[0] == 404


def test_aliases_come_move_and_go(rig: Rig, onnx_files: list[Path]) -> None:
    rig.push("al", onnx_files[0])
    rig.push("al", onnx_files[1])
    for number in (1, 2):
        rig.client.set_alias("al", "prod", number)
        assert rig.client.version("al", "prod").number == number
    assert rig.client.version("al", "2").aliases == ("prod",)
    assert rig.request("PUT", "/api/v1/models/al/aliases/12", {"number": 1})[0] == 400
    assert rig.request("PUT", "/api/v1/models/al/aliases/next", {"number": 9})[0] == 404
    rig.client.delete_alias("al", "prod")
    assert rig.request("GET", "/api/v1/models/al/versions/prod")[0] == 404


def test_a_version_in_use_stays_and_one_that_is_not_goes(rig: Rig, onnx_files: list[Path]) -> None:
    rig.push("used", onnx_files[0])
    rig.push("used", onnx_files[1])
    rig.request("POST", "/api/v1/apply", endpoint("used", "used@1"))
    until(lambda: rig.client.endpoint("default", "used").revisions, "a revision")
    status, body, _ = rig.request("DELETE", "/api/v1/models/used/versions/1")
    assert (status, body["error"]["code"]) == (409, "conflict")
    rig.client.delete_version("used", 2)
    assert [each.number for each in rig.client.versions("used")] == [1]
    assert rig.push("used", onnx_files[2]).version.number == 3


def test_a_reference_that_cannot_be_is_refused(rig: Rig, model: str) -> None:
    status, body, _ = rig.request("GET", f"/api/v1/models/{model}/versions/No_Such")
    assert (status, body["error"]["field"]) == (404, "version")


@pytest.mark.alone
def test_a_big_upload_does_not_hold_up_other_calls(rig: Rig) -> None:
    data = b"z" * 64_000_000
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        upload: Any = pool.submit(rig.request, "PUT", f"/api/v1/blobs/{digest(data)}", data)
        while not upload.done():
            began_s = time.monotonic()
            assert rig.request("GET", "/healthz", key=None)[0] == 200
            slowest = max(slowest, time.monotonic() - began_s)
        assert upload.result()[0] == 201
    assert slowest < 1.0
