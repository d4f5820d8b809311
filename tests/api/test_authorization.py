"""The authorization walk: every operation, every role, the own project and another, against the table written here."""

import http.client
import itertools
import json
from collections.abc import Iterator
from typing import Any, cast, get_args

import pytest
from starlette.requests import Request

from stoker.api.app import OPERATIONS
from stoker.api.door import permit
from stoker.api.operations import Call, Operation
from stoker.core.access import ROLES, granted
from stoker.store.keys import KeyRow
from stoker.types.access import PERMISSIONS, KeyAccess, Permission
from stoker.types.errors import Forbidden, NotFound
from stoker.types.ids import KeyId, ProjectName
from tests import oidc
from tests.api.identities import believe
from tests.control.rig import Rig

# Which permission opens what, and where it must hold. A new operation fails the test until it has its row.
TABLE = """
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/why
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/boundary
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/drift
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/quality
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/scaling
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/releases
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/releases/{which}
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/golden
path     endpoints:read   GET /api/v1/projects/{project}/endpoints/{name}/rollout
path     endpoints:read   GET /api/v1/projects/{project}/rollouts
path     endpoints:read   GET /api/v1/projects/{project}/rollouts/{number}
each     endpoints:read   GET /api/v1/endpoints
each     endpoints:read   GET /api/v1/slos
each     endpoints:read   GET /api/v1/stats
each     endpoints:read   GET /api/v1/releases/key
path     endpoints:write  PUT /api/v1/projects/{project}/endpoints/{name}
path     endpoints:write  DELETE /api/v1/projects/{project}/endpoints/{name}
path     endpoints:write  POST /api/v1/projects/{project}/endpoints/{name}/drift/learn
path     endpoints:write  PUT /api/v1/projects/{project}/endpoints/{name}/golden
path     endpoints:write  DELETE /api/v1/projects/{project}/endpoints/{name}/golden
each     endpoints:write,projects:write,incidents:write,policies:write,platform:write  POST /api/v1/apply
each     endpoints:call   POST /api/v1/feedback
path     releases:decide  POST /api/v1/projects/{project}/endpoints/{name}/rollback
path     releases:decide  POST /api/v1/projects/{project}/endpoints/{name}/rollout
path     releases:decide  POST /api/v1/projects/{project}/endpoints/{name}/rollout/judged
each     models:read      GET /api/v1/models
each     models:read      GET /api/v1/models/{name}
each     models:read      GET /api/v1/models/{name}/versions/{which}
each     models:read      GET /api/v1/models/{name}/versions/{which}/signatures
each     models:read      POST /api/v1/models/{name}/versions/{which}/compare
each     models:push,endpoints:write  HEAD /api/v1/blobs/{digest}
each     models:push,endpoints:write  PUT /api/v1/blobs/{digest}
each     models:push      POST /api/v1/models/{name}/versions
each     models:push      DELETE /api/v1/models/{name}/versions/{which}
each     models:push      PUT /api/v1/models/{name}/aliases/{alias}
each     models:push      DELETE /api/v1/models/{name}/aliases/{alias}
each     models:push      PUT /api/v1/models/{name}/versions/{which}/signatures
each     models:push      POST /api/v1/models/{name}/versions/{which}/quantize
path     samples:read     GET /api/v1/projects/{project}/endpoints/{name}/samples
path     samples:write    POST /api/v1/projects/{project}/endpoints/{name}/samples/replay
path     samples:write    DELETE /api/v1/projects/{project}/endpoints/{name}/samples
path     samples:write    DELETE /api/v1/projects/{project}/samples
platform platform:write   POST /api/v1/samples/rotate
each     secrets:read     GET /api/v1/secrets
each     secrets:read     POST /api/v1/secrets/check
each     traces:read      GET /api/v1/traces
each     traces:read      GET /api/v1/traces/{id}
each     metrics:read     GET /api/v1/query
each     metrics:read     GET /api/v1/query_range
platform metrics:read     GET /metrics
each     usage:read       GET /api/v1/usage
each     usage:read       GET /api/v1/prices
each     usage:read       GET /api/v1/usage/records
each     usage:read       GET /api/v1/quotas
platform usage:read       GET /api/v1/platform/quota
platform platform:write   PATCH /api/v1/platform/quota
path     projects:write   PATCH /api/v1/projects/{project}/quota
path     projects:write   PUT /api/v1/projects/{project}/members/{subject}
path     projects:write   DELETE /api/v1/projects/{project}/members/{subject}
each     usage:read       GET /api/v1/budgets
path     projects:write   DELETE /api/v1/projects/{project}/budgets/{name}
platform platform:write   PUT /api/v1/prices
each     usage:read       GET /api/v1/costs
each     usage:read       GET /api/v1/costs/focus
platform platform:read    GET /api/v1/costs/prices
platform platform:write   PUT /api/v1/costs/prices
platform platform:read    GET /api/v1/settings
platform platform:write   POST /api/v1/settings
each     incidents:read   GET /api/v1/alerts
each     incidents:read   GET /api/v1/notifiers
each     incidents:read   GET /api/v1/incidents
each     incidents:read   GET /api/v1/incidents/{number}
each     incidents:read   GET /api/v1/incidents/{number}/markdown
each     incidents:write  POST /api/v1/incidents
each     incidents:write  POST /api/v1/incidents/{number}/close
each     incidents:write  POST /api/v1/alerts/{alert}/ack
each     incidents:write  POST /api/v1/silences
each     incidents:write  DELETE /api/v1/silences/{silence}
path     incidents:write  DELETE /api/v1/projects/{project}/notifiers/{name}
path     incidents:write  POST /api/v1/projects/{project}/notifiers/{name}/test
path     gamedays:run     POST /api/v1/projects/{project}/endpoints/{name}/gameday
path     gamedays:run     DELETE /api/v1/projects/{project}/endpoints/{name}/gameday
each     logs:read        GET /api/v1/replicas/{replica}/logs
each     audit:read       GET /api/v1/journal
path     audit:read       GET /api/v1/projects/{project}/audit
path     audit:read       GET /api/v1/projects/{project}/audit/{row}
platform audit:read       GET /api/v1/audit
platform audit:read       GET /api/v1/audit/rows/{sequence}
platform audit:read       GET /api/v1/audit/export
platform audit:read       GET /api/v1/audit/verdict
platform audit:read       GET /api/v1/audit/checkpoints
platform audit:read       GET /api/v1/audit/holds
platform platform:write   PUT /api/v1/audit/holds/{held}
platform platform:write   DELETE /api/v1/audit/holds/{held}
each     policies:read    GET /api/v1/policies
platform policies:read    POST /api/v1/policies/look
path     policies:write   DELETE /api/v1/projects/{project}/policies/{name}
each     keys:read        GET /api/v1/keys
each     keys:write       POST /api/v1/keys
each     keys:write       PUT /api/v1/keys/{id}/limits
each     keys:write       POST /api/v1/keys/{id}/rotate
each     keys:write       DELETE /api/v1/keys/{id}
each     projects:read    GET /api/v1/projects
each     projects:read    GET /api/v1/roles
path     projects:read    GET /api/v1/projects/{project}
path     projects:read    GET /api/v1/projects/{project}/trust
path     projects:write   DELETE /api/v1/projects/{project}
path     projects:write   DELETE /api/v1/projects/{project}/roles/{name}
path     projects:write   PUT /api/v1/projects/{project}/trust
path     projects:write   PUT /api/v1/projects/{project}/trust/{name}
path     projects:write   DELETE /api/v1/projects/{project}/trust/{name}
platform platform:read    GET /api/v1/nodes
platform platform:write   POST /api/v1/nodes/tokens
platform platform:write   DELETE /api/v1/nodes/{name}
platform platform:write   POST /api/v1/nodes/authority
platform platform:write   DELETE /api/v1/subjects/{subject}
platform platform:read    GET /api/v1/providers
platform platform:write   DELETE /api/v1/providers/{name}
path     -                GET /api/v1/sessions
path     -                DELETE /api/v1/sessions/{id}
path     -                GET /auth/session
path     -                POST /auth/logout
path     -                GET /auth/providers
path     -                GET /auth/login
path     -                GET /auth/callback
path     -                POST /auth/sessions
path     -                POST /internal/v1/unknown-keys
path     -                GET /healthz
path     -                GET /readyz
path     -                GET /internal/v1/routes
path     -                POST /internal/v1/shares
path     -                POST /internal/v1/wake
path     -                POST /internal/v1/usage
path     -                POST /internal/v1/budgets
path     -                POST /internal/v1/budgets/end
"""
KEYED = [each for each in OPERATIONS if each.permissions]
BODY = b"{}"


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def call(operation: Operation, access: KeyAccess, *, own: str, asked: str) -> Call:
    """Return the call of `operation` in project `asked` by a key of project `own`."""
    params = {"project": asked, "name": "e"}
    request = Request({"type": "http", "headers": [], "path": operation.path, "path_params": params})
    key = KeyRow(KeyId("k"), ProjectName(own), "", "", 0.0, access=access)
    return Call(request, cast(Any, None), key, granted(access, own))


def verdict(operation: Operation, access: KeyAccess, *, own: str = "one", asked: str = "one") -> str:
    try:
        permit(operation, call(operation, access, own=own, asked=asked))
    except Forbidden:
        return "forbidden"
    except NotFound:
        return "hidden"
    return "allowed"


def test_every_operation_asks_for_what_the_table_says() -> None:
    rows = [line.split(maxsplit=2) for line in TABLE.strip().splitlines()]
    said = {rest: (where, () if wanted == "-" else tuple(wanted.split(","))) for where, wanted, rest in rows}
    assert said == {named(each): (each.where, each.permissions) for each in OPERATIONS}
    used = {permission for each in OPERATIONS for permission in each.permissions}
    assert used == set(PERMISSIONS), "a permission that nothing asks for"
    assert all("{project}" in each.path for each in KEYED if each.where == "path")
    assert all("{project}" not in each.path for each in KEYED if each.where != "path")
    assert set(PERMISSIONS) == set(get_args(Permission))


def test_each_role_may_do_exactly_what_the_table_says_and_nothing_in_another_project() -> None:
    walked = 0
    for operation, role in itertools.product(KEYED, ROLES):
        has = bool(ROLES[role] & set(operation.permissions))
        inside, everywhere = KeyAccess(role=role), KeyAccess(role=role, everywhere=True)
        own = has and operation.where != "platform"
        assert verdict(operation, inside) == ("allowed" if own else "forbidden"), (named(operation), role)
        other = "hidden" if operation.where == "path" else "allowed" if own else "forbidden"
        assert verdict(operation, inside, asked="two") == other, (named(operation), role)
        assert verdict(operation, everywhere, asked="two") == ("allowed" if has else "forbidden")
        walked += 3
    assert walked == len(KEYED) * len(ROLES) * 3


def test_a_key_for_some_endpoints_is_let_to_those_alone() -> None:
    for operation in KEYED:
        is_of_endpoint = operation.where == "path" and "/endpoints/{name}" in operation.path
        found = verdict(operation, KeyAccess(role="owner", endpoints=("e", "f-*")))
        if is_of_endpoint:
            assert found == "allowed", named(operation)
            assert verdict(operation, KeyAccess(role="owner", endpoints=("f-*",))) == "hidden"
        elif operation.where != "each":
            assert found == "forbidden", named(operation)


@pytest.fixture(scope="module")
def tenants(rig: Rig) -> dict[str, str]:
    """Two projects, with a key for each role in `one`, and something of everything in `tenant-two`.

    No id that is drawn at random has a dash in it.
    """
    made = [
        {
            "apiVersion": "stoker/v1",
            "kind": "Project",
            "metadata": {"name": name},
            "spec": {"description": f"of {name}"},
        }
        for name in ("one", "tenant-two")
    ]
    role = {
        "kind": "Role",
        "metadata": {"name": "mine", "project": "tenant-two"},
        "spec": {"permissions": ["logs:read"]},
    }
    notifier = {
        "kind": "Notifier",
        "metadata": {"name": "mine", "project": "tenant-two"},
        "spec": {"type": "webhook", "url": "https://hooks.example.com/two"},
    }
    rules = [{"name": "r", "expression": "true", "message": "of two"}]
    policy = {"kind": "Policy", "metadata": {"name": "mine", "project": "tenant-two"}, "spec": {"rules": rules}}
    resources = [*made, *({"apiVersion": "stoker/v1", **each} for each in (role, notifier, policy))]
    status, said, _ = rig.request("POST", "/api/v1/apply", resources)
    assert status == 200, said
    keys = {}
    for name in ROLES:
        body = {"project": "one", "name": name, "access": {"role": name}}
        status, key, _ = rig.request("POST", "/api/v1/keys", body)
        assert status == 201, key
        keys[name] = key["key"]
    status, key, _ = rig.request("POST", "/api/v1/keys", {"project": "tenant-two", "name": "of two"})
    keys["of two"] = key["id"]
    return keys


@pytest.fixture(scope="module")
def people(rig: Rig, tenants: dict[str, str]) -> Iterator[dict[str, dict[str, str]]]:
    """What opens the door for each role in `one`: a key, a token of an identity provider, and a session."""
    with oidc.serving() as provider:
        grants = [{"claim": "groups", "value": role, "project": "one", "role": role} for role in ROLES]
        believe(rig, provider, grants=grants)
        held = {"key": tenants, "token": {}, "session": {}}
        for role in ROLES:
            provider.claims = {"sub": role, "groups": [role]}
            held["token"][role] = provider.token()
            status, made, _ = rig.request("POST", "/auth/sessions", {"id_token": provider.id_token()}, key=None)
            assert status == 201, made
            held["session"][role] = made["token"]
        yield held


class Line:
    """One connection for many requests; another where the other side has closed it."""

    def __init__(self, rig: Rig) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", rig.port + 1, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
        """Return the status and, of an error, its message."""
        try:
            self._http.request(method, path, body, headers)
            answer = self._http.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            self._http.close()
            self._http.request(method, path, body, headers)
            answer = self._http.getresponse()
        raw = answer.read()
        said = (
            json.loads(raw) if raw and (answer.getheader("content-type") or "").startswith("application/json") else {}
        )
        return answer.status, said["error"]["message"] if isinstance(said, dict) and "error" in said else ""

    def close(self) -> None:
        self._http.close()


@pytest.mark.parametrize("kind", ["key", "token", "session"])
def test_every_operation_answers_as_it_was_decided(rig: Rig, people: dict[str, dict[str, str]], kind: str) -> None:
    """Over HTTP, in both projects: what is refused is refused by the door, in one form, and nothing else is."""
    tenants, holes, line = people[kind], [], Line(rig)
    roles = ROLES if kind == "key" else ("viewer", "operator")  # others are decided by the same table
    for operation, role, project in itertools.product(KEYED, roles, ("one", "tenant-two", "none-such")):
        if operation.where != "path" and project != "one":
            continue
        path = operation.path.replace("{project}", project).replace("{name}", "nothing")
        path = path.replace("{number}", "999999").replace("{", "").replace("}", "")
        body = None if operation.method in ("GET", "HEAD", "DELETE") else BODY
        headers = {"Forwarded": "for=10.0.0.1"} if operation.is_local else {}
        status, message = line.ask(
            operation.method, path, body, {"Authorization": f"Bearer {tenants[role]}", **headers}
        )
        has = bool(ROLES[role] & set(operation.permissions)) and operation.where != "platform"
        if project != "one":
            is_right = status == 404 and "that this key may see" in message.replace(project, "")
        elif has:
            is_right = status not in (401, 403, 500) or "of two" in message
            is_right = is_right or (status == 403 and "everywhere" in message)  # of models that are everybody's
        else:
            is_right = status == 403
        if not is_right:
            holes.append((named(operation), role, project, status, message))
    line.close()
    assert holes == []


def test_what_another_project_has_looks_like_what_is_not_there(rig: Rig, tenants: dict[str, str]) -> None:
    key = tenants["owner"]
    for path in ("endpoints/{}", "endpoints/{}/why", "endpoints/{}/samples", "endpoints/{}/releases/latest"):
        answers = [
            rig.request("GET", f"/api/v1/projects/tenant-two/{path.format(name)}", key=key)[:2]
            for name in ("mine", "none")
        ]
        texts = [str(body).replace(name, "") for (_, body), name in zip(answers, ("mine", "none"), strict=True)]
        assert answers[0][0] == answers[1][0] == 404
        assert texts[0] == texts[1]
    there = rig.request("DELETE", "/api/v1/projects/tenant-two/notifiers/mine", key=key)[:2]
    nowhere = rig.request("DELETE", "/api/v1/projects/three/notifiers/mine", key=key)[:2]
    assert there[0] == nowhere[0] == 404
    assert str(there[1]) == str(nowhere[1]).replace("three", "tenant-two")
    revoked = [rig.request("DELETE", f"/api/v1/keys/{name}", key=key)[:2] for name in (tenants["of two"], "zzzzzzzz")]
    assert str(revoked[0]).replace(tenants["of two"], "") == str(revoked[1]).replace("zzzzzzzz", "")
    made = [rig.request("POST", "/api/v1/keys", {"project": name}, key=key)[:2] for name in ("tenant-two", "six")]
    assert str(made[0]).replace("tenant-two", "") == str(made[1]).replace("six", "")
    assert made[0][0] == 404
    for path in ("usage?project={}", "costs?project={}", "projects/{}/audit"):  # that there is none is not told, too
        one, other = (rig.request("GET", f"/api/v1/{path.format(name)}", key=key)[:2] for name in ("tenant-two", "six"))
        assert (one[0], str(one[1]).replace("tenant-two", "six")) == (404, str(other[1]))


@pytest.mark.parametrize(
    "path",
    ["endpoints", "projects", "policies", "notifiers", "keys", "roles", "incidents", "slos", "alerts", "journal",
     "traces", "stats", "models"],
)  # fmt: skip
def test_no_list_shows_what_is_another_projects(rig: Rig, tenants: dict[str, str], path: str) -> None:
    status, body, _ = rig.request("GET", f"/api/v1/{path}", key=tenants["owner"])
    assert status == 200
    assert "tenant-two" not in str(body)
    assert "of two" not in str(body)
    assert "hooks.example.com" not in str(body)


def manifest(kind: str, project: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "stoker/v1", "kind": kind, "metadata": {"name": "mine", "project": project}, "spec": spec}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "apply", manifest("Endpoint", "{}", model="m")),
        ("POST", "apply", manifest("Role", "{}", permissions=["logs:read"])),
        ("POST", "apply", manifest("Notifier", "{}", type="webhook", url="https://hooks.example.com/a")),
        ("POST", "apply", manifest("Policy", "{}", rules=[{"name": "r", "expression": "true", "message": "m"}])),
        ("POST", "apply", {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "{}"}}),
        ("POST", "incidents", {"project": "{}", "endpoint": "mine"}),
        ("POST", "feedback?project={}", {"items": []}),
        ("GET", "traces?endpoint={}/mine", None),
        ("GET", "journal?endpoint={}/mine", None),
        ("POST", "models/new/versions", {"project": "{}", "files": []}),
        ("GET", "models/new/versions/1/signatures?project={}", None),
        ("POST", "models/new/versions/1/quantize", {"project": "{}", "to": "int8"}),
    ],
)
def test_what_is_decided_by_each_thing_is_hidden_in_another_project(
    rig: Rig, tenants: dict[str, str], method: str, path: str, body: Any
) -> None:
    answers = []
    for project in ("tenant-two", "six"):
        sent = None if body is None else json.loads(json.dumps(body).replace("{}", project))
        status, answer, _ = rig.request(method, f"/api/v1/{path.format(project)}", sent, key=tenants["owner"])
        answers.append((status, str(answer).replace(project, "")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_a_silence_for_every_project_is_for_who_holds_everywhere(rig: Rig, tenants: dict[str, str]) -> None:
    for match in ({"endpoint": "a"}, {"project": "t*"}):
        assert rig.request("POST", "/api/v1/silences", {"match": match}, key=tenants["owner"])[0] == 403
    assert rig.request("POST", "/api/v1/silences", {"match": {"project": "tenant-two"}}, key=tenants["owner"])[0] == 404
