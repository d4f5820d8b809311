"""Samples through the API: who may read them, what is asked for, what is noted."""

import time
from pathlib import Path
from typing import Any

import msgspec

from stoker.telemetry.sealing import KeyRing
from stoker.telemetry.segments import Writer
from stoker.types.samples import SampleRecord
from tests.control.rig import Rig

WHERE = "/api/v1/projects/{}/endpoints/digits/samples"


def keep(folder: Path, project: str, request_id: str, *reasons: str) -> None:
    """Write a sample as a gateway would."""
    now_s = time.time()
    record = SampleRecord(request_id, now_s, project, "digits", "infer", 200, reasons, 0.1, request={"a": 1})
    writer = Writer(folder / project / "digits", f"g0-{request_id}")
    writer.append(KeyRing(folder).project(project).data, msgspec.json.encode(record), 3600, now_s)
    writer.close()


def ids(rig: Rig, project: str, query: str = "") -> list[str]:
    status, body, _ = rig.request("GET", WHERE.format(project) + query)
    assert status == 200, body
    return [each["id"] for each in body["items"]]


def test_samples_are_read_by_project_and_reason_deleted_and_both_is_noted(rig: Rig) -> None:
    folder = rig.home.samples
    keep(folder, "one", "r1", "drawn")
    keep(folder, "one", "r2", "error")
    keep(folder, "two", "other", "drawn")
    assert ids(rig, "one") == ["r2", "r1"]
    assert ids(rig, "two") == ["other"]
    assert ids(rig, "three") == []
    assert ids(rig, "one", "?reason=error,slow") == ["r2"]
    assert ids(rig, "one", "?id=r1") == ["r1"]
    assert ids(rig, "one", "?limit=1") == ["r2"]
    assert ids(rig, "one", f"?since={time.time() + 60}") == []
    assert rig.request("DELETE", WHERE.format("one"))[0] == 204
    assert (ids(rig, "one"), ids(rig, "two")) == ([], ["other"])
    _, journal, _ = rig.request("GET", "/api/v1/journal?endpoint=one/digits")
    noted: list[dict[str, Any]] = journal["items"]
    assert {entry["action"] for entry in noted} == {"ReadSamples", "DeleteSamples"}
    assert any("2 samples" in entry["because"] for entry in noted)


def test_a_key_that_may_only_call_may_not_read_samples(rig: Rig) -> None:
    made = rig.client.create_key("default", "caller", admin=False, expires_in_s=None)
    assert rig.request("GET", WHERE.format("default"), key=made.key)[0] == 403
    assert rig.request("DELETE", WHERE.format("default"), key=made.key)[0] == 403


def test_what_is_asked_for_wrongly_is_told(rig: Rig) -> None:
    for query in ("?reason=luck", "?limit=0", "?limit=1001", "?since=yesterday"):
        status, body, _ = rig.request("GET", WHERE.format("default") + query)
        assert status == 400, query
        assert body["error"]["field"] == query[1:].partition("=")[0]


def test_names_that_would_leave_the_folder_find_nothing(rig: Rig) -> None:
    keep(rig.home.samples, "safe", "r1", "drawn")
    for path in (
        "/api/v1/projects/..%2Fsafe/endpoints/digits/samples",
        "/api/v1/projects/safe/endpoints/..%2Fdigits/samples",
    ):
        for method in ("GET", "DELETE"):
            assert rig.request(method, path)[0] in (400, 404), path
    assert ids(rig, "safe") == ["r1"]
