"""ETag, If-Match and If-None-Match of endpoints: who changes what they did not see is told so, and changes nothing."""

import json
from typing import Any

import pytest

from stoker.api import openapi
from stoker.api.app import OPERATIONS
from stoker.client import endpoints
from stoker.types.errors import PreconditionFailed
from tests.control.rig import Rig, endpoint, until

_E = "/api/v1/projects/default/endpoints"


def put(rig: Rig, name: str, model: str, headers: dict[str, str], **spec: Any) -> tuple[int, Any, str]:
    status, body, said = rig.request("PUT", f"{_E}/{name}", endpoint(name, model, **spec), headers=headers)
    return status, body["error"]["code"] if status >= 400 else body, said.get("etag") or ""


def seen(rig: Rig, name: str) -> str:
    status, _, said = rig.request("GET", f"{_E}/{name}")
    assert status == 200
    return said["etag"] or ""


def test_a_change_of_what_was_read_is_made_and_a_second_one_of_the_same_is_not(rig: Rig, model: str) -> None:
    assert put(rig, "tagged", model, {"If-None-Match": "*"})[0] == 201
    tag = seen(rig, "tagged")
    status, body, newer = put(rig, "tagged", model, {"If-Match": tag}, limits={"queue_max": 7})
    assert (status, body["applied"]["action"], body["generation"]) == (200, "updated", 2)
    assert [each["path"] for each in body["applied"]["diff"]] == ["spec.limits.queue_max"]
    assert newer == seen(rig, "tagged") != tag
    assert put(rig, "tagged", model, {"If-Match": tag}, limits={"queue_max": 8})[:2] == (412, "precondition_failed")
    found = rig.client.endpoint("default", "tagged")
    assert (found.generation, found.resource.spec.limits.queue_max) == (2, 7)
    until(lambda: rig.client.endpoint("default", "tagged").status.observed_generation == 2, "it was looked at")
    assert seen(rig, "tagged") == newer  # the status changed, what was asked for did not


def test_what_preconditions_mean_is_what_http_says(rig: Rig, model: str) -> None:
    assert put(rig, "plain", model, {"If-Match": "*"})[:2] == (412, "precondition_failed")  # it is not there
    assert put(rig, "plain", model, {})[0] == 201
    tag = seen(rig, "plain")
    assert put(rig, "plain", model, {"If-None-Match": "*"})[:2] == (412, "precondition_failed")  # it is
    for matching in ("*", tag, f'"other", {tag}'):
        assert put(rig, "plain", model, {"If-Match": matching})[0] == 200
    for other in ('"other"', f"W/{tag}"):  # a weak tag is equal to none
        assert put(rig, "plain", model, {"If-Match": other})[0] == 412
    for header in ({"If-Match": "3"}, {"If-Match": '"'}, {"If-None-Match": tag}, {"If-Match": '"x",' * 900 + '"x"'}):
        status, body, _ = rig.request("PUT", f"{_E}/plain", endpoint("plain", model), headers=header)
        assert (status, body["error"]["field"]) == (400, next(iter(header)))


def test_a_tag_does_not_outlive_the_endpoint_that_it_is_of(rig: Rig, model: str) -> None:
    put(rig, "short", model, {})
    tag = seen(rig, "short")
    rig.client.delete_endpoint("default", "short")
    assert put(rig, "short", model, {"If-Match": tag})[0] == 412  # whatever of it is left
    until(lambda: rig.request("GET", f"{_E}/short")[0] == 404, "it is gone")
    assert put(rig, "short", model, {})[0] == 201  # of the same generation, and the same in every field
    assert put(rig, "short", model, {"If-Match": tag})[0] == 412


def test_the_client_sends_what_it_read(rig: Rig, model: str) -> None:
    put(rig, "typed", model, {})
    detail, tag = endpoints.read(rig.client, "default", "typed")
    body = rig.request("GET", f"{_E}/typed")[1]["resource"]
    manifest = json.dumps({**body, "metadata": {**body["metadata"], "labels": {"a": "b"}}}).encode()
    written = endpoints.put(rig.client, "default", "typed", manifest, tag=tag)
    assert (written.generation, written.applied.action) == (detail.generation + 1, "updated")
    for stale in (tag, endpoints.NEW):
        with pytest.raises(PreconditionFailed):
            endpoints.put(rig.client, "default", "typed", manifest, tag=stale)


def test_the_document_says_which_operations_have_tags_and_take_preconditions() -> None:
    published = openapi.document(OPERATIONS, "0")["paths"]["/api/v1/projects/{project}/endpoints/{name}"]
    assert published["get"]["responses"]["200"]["headers"].keys() == {"ETag"}
    assert published["put"]["responses"]["201"]["headers"].keys() == {"ETag"}
    headers = [each["name"] for each in published["put"]["parameters"] if each["in"] == "header"]
    assert headers == ["If-Match", "If-None-Match"]
    assert "headers" not in published["delete"]["responses"]["202"]
