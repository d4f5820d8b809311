"""What the published document says of requests is what is held: parameters, names in paths, statuses, methods."""

import re
from typing import Any

import pytest

from stoker.api import openapi
from stoker.api.app import OPERATIONS
from tests.control.rig import Rig

DOCUMENT = openapi.document(OPERATIONS, "0")
QUERIED = [each for each in OPERATIONS if each.query and each.permissions]


def refused(answer: tuple[int, Any, Any]) -> tuple[int, str, str | None]:
    status, body, _ = answer
    return status, body["error"]["code"], body["error"].get("field")


def test_a_parameter_that_is_unknown_is_refused_where_a_key_is_needed_and_no_probe_is(rig: Rig) -> None:
    assert refused(rig.request("GET", "/api/v1/budgets?projet=default")) == (400, "invalid_input", "projet")
    assert refused(rig.request("GET", "/api/v1/nodes?x=1")) == (400, "invalid_input", "x")
    assert rig.request("GET", "/healthz?x=1", key=None)[0] == 200
    assert rig.request("GET", "/metrics?x=1", key=None)[0] == 200


def test_a_parameter_that_is_given_twice_is_refused(rig: Rig) -> None:
    assert refused(rig.request("GET", "/api/v1/journal?limit=1&limit=2")) == (400, "invalid_input", "limit")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("audit?limit=1.5", "limit"),
        ("audit?limit=1e2", "limit"),
        ("audit?limit=1_0", "limit"),
        ("audit?limit=%20", "limit"),
        ("audit?since=inf", "since"),
        ("audit?since=1e999", "since"),
        ("audit?before=99999999999999999999999", "before"),
        ("incidents?open=maybe", "open"),
        ("incidents?open=", "open"),
        ("endpoints?project=No", "project"),
        ("endpoints?project=default%0A", "project"),
        ("alerts/none/ack?x=%00", None),
        ("traces?endpoint=a/b/c", "endpoint"),
        ("query", "query"),
        ("query_range?query=up&step=soon", "step"),
        ("usage?from=yesterday", "from"),
        ("usage?from=", "from"),
        ("usage?by=", "by"),
        ("costs?by=project,,day", "by"),
        ("projects/default/endpoints/a/samples?reason=", "reason"),
        ("usage?by=" + "x" * 5000, "by"),
        ("usage?by=colour", "by"),
        ("usage/records?limit=0", "limit"),
        ("usage/records?after=" + "9" * 29 + ".1", "after"),  # more than a database keeps
        ("usage/records?from=yesterday", "from"),
        ("usage/records?project=No", "project"),
        ("quotas?project=No", "project"),
        ("secrets?projet=default", "projet"),
        ("sessions?all=1", "all"),
    ],
)
def test_a_parameter_that_is_not_as_published_is_refused_with_its_name(rig: Rig, query: str, field: str | None) -> None:
    answer = rig.request("GET", f"/api/v1/{query}")
    assert answer[0] == (400 if field else 405)
    assert field is None or refused(answer)[2] == field


@pytest.mark.parametrize("text", ["1", "true", "YES", "0", "false", "no"])
def test_a_flag_is_read_in_each_of_its_forms(rig: Rig, text: str) -> None:
    assert rig.request("GET", f"/api/v1/incidents?open={text}")[0] == 200


@pytest.mark.parametrize("name", ["%2e%2e", "UPPER", "a%0A", "a" * 64, "%00", "*"])
def test_what_is_no_name_in_a_path_is_refused_before_anything_looks_for_it(rig: Rig, name: str) -> None:
    path = f"/api/v1/projects/{name}/endpoints/a/samples"
    assert refused(rig.request("DELETE", path)) == (400, "invalid_input", "project")


@pytest.mark.parametrize("subject", ["alice", "user:", "user:a%0A", "user:%00"])
def test_who_is_nobody_in_a_path_is_refused(rig: Rig, subject: str) -> None:
    path = f"/api/v1/projects/default/members/{subject}"
    for method, body in (("PUT", {"role": "viewer"}), ("DELETE", None)):
        assert refused(rig.request(method, path, body)) == (400, "invalid_input", "subject")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "settings", {"otlp_endpoint": "http://collector:4318\n"}, "otlp_endpoint"),
        ("POST", "settings", {"colour": 1}, "colour"),
        ("POST", "settings", [], None),
        ("PATCH", "platform/quota", {"endpoints": -1}, "endpoints"),
        ("PATCH", "platform/quota", {"endpoint": 1}, "endpoint"),
        ("PATCH", "projects/default/quota", "none", None),
        ("PUT", "projects/default/members/user:a", {"role": "No"}, "role"),
    ],
)
def test_a_change_that_is_not_as_published_is_refused_with_its_field(
    rig: Rig, method: str, path: str, body: Any, field: str | None
) -> None:
    assert refused(rig.request(method, f"/api/v1/{path}", body)) == (400, "invalid_input", field)


def test_of_a_change_each_field_may_be_left_out_or_null_and_a_whole_number_have_a_point(rig: Rig) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in ("QuotaChanges", "TuningChanges"):
        assert not schemas[name].get("required")
        assert all({"type": "null"} in each["anyOf"] for each in schemas[name]["properties"].values())
    assert rig.request("PATCH", "/api/v1/platform/quota", {"timezone": None, "burst": None, "keys": 90.0})[0] == 200
    assert rig.request("POST", "/api/v1/settings", {"cache_max_bytes": 1e6, "log_level": None})[0] == 200
    assert rig.request("PATCH", "/api/v1/platform/quota", {"keys": None})[1].get("keys") is None
    assert rig.request("POST", "/api/v1/settings", {"cache_max_bytes": None})[0] == 200


def test_what_is_about_the_caller_needs_a_key_too() -> None:
    for path, method in (("/auth/session", "get"), ("/auth/logout", "post"), ("/api/v1/sessions", "get")):
        assert DOCUMENT["paths"][path][method]["security"] == [{"key": []}]
    assert "security" not in DOCUMENT["paths"]["/auth/providers"]["get"]


def test_a_whole_number_may_be_written_with_a_point(rig: Rig) -> None:
    made = rig.request("POST", "/api/v1/keys", {"name": "whole", "limits": {"requests_per_s": 2.5, "burst": 3.0}})
    assert made[0] == 201, made
    broken = rig.request("POST", "/api/v1/keys", {"name": "whole", "limits": {"burst": 3.5}})
    assert refused(broken) == (400, "invalid_input", "limits.burst")


def test_a_map_with_too_many_entries_is_refused_as_that(rig: Rig) -> None:
    spec = {"model": "m@1", "samples": {"patterns": {f"p{at}": "x" for at in range(17)}}}
    body = {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": "many"}, "spec": spec}
    status, said, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/many", body)
    assert status == 400
    assert "samples.patterns" in said["error"]["details"][0]["field"]


def test_a_wrong_method_is_told_the_right_ones(rig: Rig) -> None:
    status, _, headers = rig.request("PATCH", "/api/v1/keys")
    assert status == 405
    assert {each.strip() for each in headers["allow"].split(",")} >= {"GET", "POST"}


def test_what_is_there_already_is_another_published_status(rig: Rig) -> None:
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    statuses = [rig.request("PUT", f"/api/v1/blobs/{digest}", b"hello")[0] for _ in range(2)]
    assert statuses == [201, 200]
    published = DOCUMENT["paths"]["/api/v1/blobs/{digest}"]["put"]["responses"]
    assert {"200", "201", "default"} <= set(published)


@pytest.mark.parametrize("operation", QUERIED, ids=lambda each: each.handler.__name__)
def test_bounds_are_published_as_json_schema(operation: Any) -> None:
    shown = DOCUMENT["paths"][operation.path][operation.method.lower()]["parameters"]
    for each in (one for one in shown if one["in"] == "query"):
        schema = each["schema"]
        assert schema["type"] in ("string", "integer", "number")
        if "pattern" in schema:
            re.compile(schema["pattern"])
        if schema["type"] == "integer":
            assert {"minimum", "maximum"} <= set(schema), each["name"]


def test_no_whole_number_of_a_body_is_larger_than_what_a_database_keeps() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, one in schema.get("properties", {}).items():
            if one.get("type") == "integer" and name.endswith("Body"):
                assert one["maximum"] < 2**63, f"{name}.{field}"
