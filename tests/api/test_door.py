"""Who may enter, and how refusals look."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stoker.api.app import OPERATIONS
from stoker.types.keys import KeyLimits
from tests.control.rig import Rig, until


def error(answer: tuple[int, Any, Any]) -> tuple[int, str]:
    status, body, _ = answer
    return status, body["error"]["code"]


def test_every_operation_but_health_metrics_and_its_description_needs_a_key(rig: Rig) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{", "").replace("}", "")
        status, _, headers = rig.request(operation.method, path, key=None)
        if operation.permissions and not operation.is_local:
            assert status == 401, operation.path
            assert headers["www-authenticate"] == "Bearer"
        elif operation.access == "socket":
            assert status == 404
        elif operation.access == "known":
            assert status == 401, operation.path
        elif operation.path.startswith("/auth/"):
            assert status in (200, 400, 404), operation.path  # tests/api/test_sign_in.py
        else:
            assert status == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "Bearer stk_aaaaaaaa_x", "Bearer stk_aaaaaaaa_" + "x" * 43, "Bearer \xff"],
)
def test_what_is_no_key_is_unauthenticated_and_never_says_which_part_was_wrong(rig: Rig, header: str) -> None:
    answer = rig.request("GET", "/api/v1/keys", key=None, headers={"Authorization": header})
    assert error(answer) == (401, "unauthenticated")
    assert "secret" not in answer[1]["error"]["message"]


def test_a_wrong_method_is_told_those_of_the_very_path(rig: Rig) -> None:
    for path, allowed in (("nodes/authority", "POST"), ("nodes/here", "DELETE"), ("platform/quota", "GET, PATCH")):
        status, _, headers = rig.request("PUT", f"/api/v1/{path}")
        told = {each.strip() for each in headers["allow"].split(",")} - {"HEAD"}
        assert (status, told) == (405, {each.strip() for each in allowed.split(",")}), path


def test_a_right_id_with_a_wrong_secret_is_refused(rig: Rig) -> None:
    wrong = rig.key[:-1] + ("a" if rig.key[-1] != "a" else "b")
    assert error(rig.request("GET", "/api/v1/keys", key=wrong)) == (401, "unauthenticated")


def test_a_project_key_may_not_change_the_platform(rig: Rig) -> None:
    made = rig.client.create_key("default", "caller", admin=False, expires_in_s=None)
    assert error(rig.request("GET", "/api/v1/endpoints", key=made.key)) == (403, "forbidden")


def test_a_project_key_sees_the_traces_of_its_own_project_only(rig: Rig) -> None:
    made = rig.client.create_key("default", "looks", admin=False, expires_in_s=None)
    assert rig.request("GET", "/api/v1/traces?slow=1", key=made.key)[:2] == (200, {"items": []})
    assert error(rig.request("GET", "/api/v1/traces?endpoint=team/a", key=made.key)) == (404, "not_found")
    assert error(rig.request("GET", "/api/v1/traces/none", key=made.key)) == (404, "not_found")
    assert error(rig.request("GET", "/api/v1/traces?limit=0")) == (400, "invalid_input")
    assert error(rig.request("GET", "/api/v1/traces", key=None)) == (401, "unauthenticated")


def test_a_key_is_shown_once_stored_as_a_digest_and_dead_when_revoked(rig: Rig) -> None:
    made = rig.client.create_key("default", "ops", admin=True, expires_in_s=None)
    assert rig.request("GET", "/api/v1/keys", key=made.key)[0] == 200
    listed = rig.request("GET", "/api/v1/keys")[1]
    assert made.key not in json.dumps(listed)
    assert made.key.encode() not in b"".join(
        path.read_bytes() for path in rig.home.root.glob("state.db*") if path.is_file()
    )
    rig.client.revoke_key(made.id)
    assert error(rig.request("GET", "/api/v1/keys", key=made.key)) == (401, "unauthenticated")
    assert error(rig.request("DELETE", f"/api/v1/keys/{made.id}")) == (404, "not_found")


def test_an_expired_key_is_refused_and_leaves_the_route_table(rig: Rig) -> None:
    made = rig.client.create_key("default", "short", admin=True, expires_in_s=0.05)
    answer = until(
        lambda: (answer := rig.request("GET", "/api/v1/keys", key=made.key))[0] == 401 and answer, "the key expires"
    )
    assert "expired" in answer[1]["error"]["message"]
    until(lambda: made.id not in [key["key"] for key in routes(rig)["keys"]], "the key leaves the table")


def test_a_new_key_is_in_the_route_table_when_its_maker_hears_of_it(rig: Rig) -> None:
    made = rig.client.create_key("default", "now", admin=False, expires_in_s=None)
    assert made.id in [key["key"] for key in routes(rig)["keys"]]
    rig.client.revoke_key(made.id)
    assert made.id not in [key["key"] for key in routes(rig)["keys"]]


def test_unknown_paths_and_methods_have_the_same_error_shape(rig: Rig) -> None:
    assert error(rig.request("GET", "/api/v1/nothing")) == (404, "not_found")
    assert error(rig.request("PATCH", "/api/v1/apply")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"project": "default", "colour": 1}, "colour", "unknown field"),
        ({"project": "Default"}, "project", "lower-case letters, digits and dashes"),
        ({"admin": "yes"}, "admin", "bool"),
        ({"expires_in_s": -1}, "expires_in_s", ">"),
        ({"project": "nobody"}, "project", "no project 'nobody'"),
    ],
)
def test_a_wrong_body_names_its_field(rig: Rig, body: dict[str, Any], field: str, words: str) -> None:
    status, answer, _ = rig.request("POST", "/api/v1/keys", body)
    assert status in (400, 404)
    assert answer["error"]["field"] == field
    assert words in answer["error"]["message"].lower() or words in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1,2]", b'{"project": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(rig: Rig, body: bytes) -> None:
    assert error(rig.request("POST", "/api/v1/keys", body)) == (400, "invalid_input")


def test_a_body_over_its_limit_is_refused_before_it_is_sent(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.port + 1), timeout=60) as connection:
        head = f"POST /api/v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rig.key}\r\n"
        connection.sendall((head + "Content-Length: 99999999\r\n\r\n").encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_body_over_its_limit_that_hides_its_length_is_refused_too(rig: Rig) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", rig.port + 1, timeout=60)
    headers = {"Authorization": f"Bearer {rig.key}", "Transfer-Encoding": "chunked"}
    pieces = (b"x" * 65536 for _ in range(200))
    try:
        connection.request("POST", "/api/v1/keys", pieces, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):  # it had heard enough, and its answer is there
        assert connection.getresponse().status == 413
    finally:
        connection.close()


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1001", "limit=nan"])
def test_a_query_out_of_bounds_is_refused(rig: Rig, query: str) -> None:
    status, body, _ = rig.request("GET", f"/api/v1/journal?{query}")
    assert (status, body["error"]["field"]) == (400, "limit")


def test_the_description_has_every_operation_and_every_reference_resolves(rig: Rig) -> None:
    _, document, _ = rig.request("GET", "/api/v1/openapi.json", key=None)
    for operation in OPERATIONS:
        shown = document["paths"].get(operation.path, {}).get(operation.method.lower())
        assert (shown is None) == (operation.access == "socket"), operation.path
    schemas = document["components"]["schemas"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    names = [shown["operationId"] for path in document["paths"].values() for shown in path.values()]
    assert len(set(names)) == len(names)


def test_metrics_are_prometheus_text(rig: Rig) -> None:
    status, body, headers = rig.request("GET", "/metrics", key=None)
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"stoker_api_requests_total{" in body
    assert b"stoker_loop_seconds_count" in body


def test_gateways_wait_for_the_next_table_and_get_nothing_while_it_is_the_same(rig: Rig) -> None:
    version = routes(rig)["version"]
    assert routes(rig, after=version, wait_s=0.05) is None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(routes, rig, after=version, wait_s=30)
        made = rig.client.create_key("default", "wake", admin=False, expires_in_s=None)
        began_s = time.monotonic()
        table = waiting.result(60)
    assert time.monotonic() - began_s < 5
    assert table["version"] > version
    assert made.id in [key["key"] for key in table["keys"]]


def test_no_key_of_a_tenant_that_its_project_says_is_never_sampled_allows_samples(rig: Rig) -> None:
    project = {
        "apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "hospital"},
        "spec": {"unsampled_tenants": ["clinic"]},
    }  # fmt: skip
    assert rig.request("POST", "/api/v1/apply", project)[0] == 200
    keys = {
        rig.client.create_key(where, "k", admin=False, expires_in_s=None, limits=KeyLimits(tenant=tenant)).id: expected
        for where, tenant, expected in (
            ("hospital", "clinic", False), ("hospital", "lab", True), ("default", "clinic", True),
        )
    }  # fmt: skip
    table = routes(rig)
    found = {key["key"]: key["limits"].get("samples", True) for key in table["keys"] if key["key"] in keys}
    assert found == keys


def test_a_new_key_says_which_gateways_do_not_know_it_yet(rig: Rig) -> None:
    def behind() -> tuple[str, ...]:
        return rig.client.create_key("default", "k", admin=False, expires_in_s=None).behind

    def takes_and_never_asks_again() -> bool:
        return routes(rig, gateway="gateway-7") is not None and behind() == ("gateway-7",)

    until(takes_and_never_asks_again, "the gateway is named")
    is_over = threading.Event()

    def follow() -> None:
        known = -1
        while not is_over.is_set():
            found = routes(rig, known, 0.2, "gateway-7")
            known = found["version"] if found is not None else known

    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(follow)
        try:
            until(lambda: behind() == (), "it follows before the answer")
        finally:
            is_over.set()
        following.result()


def routes(rig: Rig, after: int = -1, wait_s: float = 0, gateway: str = "") -> Any:
    """Ask for the route table on the Unix socket, without a key, as gateways do."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(rig.home.run / "control-api.sock"))
    try:
        connection.request(
            "GET", f"/internal/v1/routes?after={after}&wait_s={wait_s}{f'&gateway={gateway}' if gateway else ''}"
        )
        answer = connection.getresponse()
        raw = answer.read()
        return json.loads(raw) if answer.status == 200 else None
    finally:
        connection.close()
