"""That every operation which changes something leaves its row, and nothing else does."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from stoker.api.app import OPERATIONS
from stoker.api.audited import REFUSED_AT_ONCE, Refusals
from stoker.api.operations import Operation
from stoker.app import join
from stoker.app.home import Home
from stoker.client import audit, nodes
from stoker.protocol import signing
from stoker.types.nodes import TokenWish
from tests import oidc
from tests.api.identities import believe
from tests.control.rig import Rig, endpoint, until
from tests.ports import free_ports

KEY = ed25519.Ed25519PrivateKey.generate()
SECRET = "hunter2-Swordfish9"
_E = "/api/v1/projects/default/endpoints"

# What changes nothing that anybody would ask after, with the reason.
NOTHING = {
    "PUT /api/v1/blobs/{digest}": "bytes by their digest, which nothing names yet; the push that does is recorded",
    "POST /api/v1/policies/look": "asks",
    "POST /api/v1/models/{name}/versions/{which}/compare": "asks",
    "POST /api/v1/feedback": "labels are data, as requests are",
    "POST /internal/v1/shares": "a gateway's own",
    "POST /internal/v1/wake": "a gateway's own",
    "POST /internal/v1/unknown-keys": "a gateway's own",
    "POST /internal/v1/usage": "a gateway's own",
    "POST /internal/v1/budgets": "a gateway's own",
    "POST /internal/v1/budgets/end": "a gateway's own",
}
# What is tried without a scene around it in tests/control/test_audit.py, and in tests/api/test_sign_in.py.
THERE = {
    "POST /auth/sessions",
    "POST /auth/logout",
    "POST /api/v1/projects/{project}/endpoints/{name}/rollout",
    "POST /api/v1/projects/{project}/endpoints/{name}/rollout/judged",
    "POST /api/v1/alerts/{alert}/ack",
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("audit") / "h")
    rig.environ["STOKER_NODES"] = f"127.0.0.1:{free_ports(1)[0]}"
    rig.start()
    yield rig
    rig.close()


def rows(rig: Rig, after: int = 0) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{rig.home.database}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT event FROM audit WHERE sequence > ? ORDER BY sequence", (after,))
        return [json.loads(event) for (event,) in found]


def last(rig: Rig) -> int:
    return rows(rig)[-1]["sequence"]


def applied(rig: Rig, *resources: dict[str, Any]) -> tuple[int, Any, Any]:
    answer = rig.request("POST", "/api/v1/apply", list(resources))
    assert answer[0] == 200, answer[1]
    return answer


def project(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": name}, "spec": spec}


def policy(name: str) -> dict[str, Any]:
    rule = {"name": "r", "expression": "true", "message": "m"}
    spec = {"match": {"kinds": ["Endpoint"]}, "rules": [rule]}
    return {"apiVersion": "stoker/v1", "kind": "Policy", "metadata": {"name": name}, "spec": spec}


def notifier(name: str) -> dict[str, Any]:
    spec = {"type": "webhook", "url": "http://127.0.0.1:9/T0/secretpath"}
    return {"apiVersion": "stoker/v1", "kind": "Notifier", "metadata": {"name": name}, "spec": spec}


def uploaded(rig: Rig, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert rig.request("PUT", f"/api/v1/blobs/{digest}", data)[0] in (200, 201)
    return digest


class Scene:
    """What must be there before an operation can succeed."""

    def __init__(self, rig: Rig, files: list[Path]) -> None:
        self.rig = rig
        self.files = files
        self.made = 0
        rig.push("shared", files[0])
        rig.push("shared", files[1])

    def name(self) -> str:
        self.made += 1
        return f"n{self.made}"

    def model(self) -> str:
        name = self.name()
        self.rig.push(name, self.files[0])
        return name

    def endpoint(self) -> str:
        name = self.name()
        applied(self.rig, endpoint(name, "shared@1"))
        return name

    def key(self) -> str:
        return self.rig.client.create_key("default", self.name(), admin=False, expires_in_s=None).id

    def ask(self, method: str, path: str, body: Any = None) -> Callable[[], tuple[int, Any, Any]]:
        return lambda: self.rig.request(method, path, body)

    def of(self, operation: Operation) -> Callable[[], tuple[int, Any, Any]]:
        """Return the call of an operation that will succeed, with everything before it done."""
        made: Callable[[], tuple[int, Any, Any]] = getattr(self, _case(operation))(operation.method)
        return made

    def watched(self) -> None:
        """Return when control has looked at alerts: before that it takes no silence."""
        until(lambda: self.rig.request("POST", "/api/v1/silences", {"match": {"endpoint": "z"}})[0] < 300, "it looked")

    # One an operation, by its handler's name.

    def apply(self, method: str) -> Any:
        wanted = endpoint(self.name(), "shared@1", env={"GREETING": SECRET})
        return lambda: applied(self.rig, wanted)

    def put_endpoint(self, method: str) -> Any:
        name = self.endpoint()
        body = endpoint(name, "shared@1", replicas={"min": 0, "max": 3})
        return self.ask(method, f"{_E}/{name}", body)

    def delete_endpoint(self, method: str) -> Any:
        return self.ask(method, f"{_E}/{self.endpoint()}")

    def rollback(self, method: str) -> Any:
        name = self.endpoint()
        until(lambda: self.rig.client.endpoint("default", name).revisions, "it has a revision")
        applied(self.rig, endpoint(name, "shared@2"))
        until(lambda: len(self.rig.client.endpoint("default", name).revisions) == 2, "it has two revisions")
        return self.ask(method, f"{_E}/{name}/rollback", {"to": 1})

    def delete_project(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, project(name))
        return self.ask(method, f"/api/v1/projects/{name}")

    def push(self, method: str) -> Any:
        data = self.files[2].read_bytes()
        file = {"path": "model.onnx", "digest": uploaded(self.rig, data), "size_bytes": len(data)}
        return self.ask(method, f"/api/v1/models/{self.name()}/versions", {"files": [file]})

    def delete_version(self, method: str) -> Any:
        return self.ask(method, f"/api/v1/models/{self.model()}/versions/1")

    def put_alias(self, method: str) -> Any:
        return self.ask(method, f"/api/v1/models/{self.model()}/aliases/prod", {"number": 1})

    def delete_alias(self, method: str) -> Any:
        model = self.model()
        self.rig.client.set_alias(model, "prod", 1)
        return self.ask(method, f"/api/v1/models/{model}/aliases/prod")

    def sign(self, method: str) -> Any:
        model = "shared"
        version = self.rig.client.version(model, "1")
        bundle = signing.sign(model, version.manifest.files, KEY)
        return self.ask(method, f"/api/v1/models/{model}/versions/1/signatures", {"bundle": bundle})

    def set_policy(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, project(name))
        return self.ask(method, f"/api/v1/projects/{name}/trust", {"policy": "warn"})

    def add_root(self, method: str) -> Any:
        body = {"public_key": signing.public_pem(ed25519.Ed25519PrivateKey.generate().public_key())}
        return self.ask(method, f"/api/v1/projects/default/trust/{self.name()}", body)

    def remove_root(self, method: str) -> Any:
        name = self.name()
        body = {"public_key": signing.public_pem(ed25519.Ed25519PrivateKey.generate().public_key())}
        assert self.rig.request("PUT", f"/api/v1/projects/default/trust/{name}", body)[0] == 200
        return self.ask(method, f"/api/v1/projects/default/trust/{name}")

    def delete_policy(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, policy(name))
        return self.ask(method, f"/api/v1/projects/default/policies/{name}")

    def delete_notifier(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, notifier(name))
        return self.ask(method, f"/api/v1/projects/default/notifiers/{name}")

    def make_token(self, method: str) -> Any:
        return self.ask(method, "/api/v1/nodes/tokens", {"name": self.name()})

    def remove_node(self, method: str) -> Any:
        name = self.name()
        made = nodes.token(self.rig.client, TokenWish(name))
        join.join(
            Home(self.rig.home.root.parent / name), made.url, made.token, made.fingerprint, ("127.0.0.1", 7442, 17000)
        )
        return self.ask(method, f"/api/v1/nodes/{name}")

    def create(self, method: str) -> Any:
        return self.ask(method, "/api/v1/keys", {"name": "made"})

    def limit(self, method: str) -> Any:
        return self.ask(method, f"/api/v1/keys/{self.key()}/limits", {"tokens_per_min": 7})

    def revoke(self, method: str) -> Any:
        return self.ask(method, f"/api/v1/keys/{self.key()}")

    def silence(self, method: str) -> Any:
        self.watched()
        return self.ask(method, "/api/v1/silences", {"match": {"endpoint": "x"}})

    def unsilence(self, method: str) -> Any:
        self.watched()
        made = self.rig.request("POST", "/api/v1/silences", {"match": {"endpoint": "y"}})[1]["id"]
        return self.ask(method, f"/api/v1/silences/{made}")

    def raise_incident(self, method: str) -> Any:
        return self.ask(method, "/api/v1/incidents", {"endpoint": self.endpoint()})

    def close_incident(self, method: str) -> Any:
        made = self.rig.request("POST", "/api/v1/incidents", {"endpoint": self.endpoint()})[1]["number"]
        return self.ask(method, f"/api/v1/incidents/{made}/close", {})

    def set_golden(self, method: str) -> Any:
        name = self.endpoint()
        example = {"input": [1.0] * 4, "expected": [1.0] * 3}
        digest = uploaded(self.rig, json.dumps(example).encode() + b"\n")
        return self.ask(method, f"{_E}/{name}/golden", {"digest": digest})

    def remove_golden(self, method: str) -> Any:
        done = self.set_golden("PUT")()
        assert done[0] == 200, done[1]
        return self.ask(method, f"{_E}/n{self.made}/golden")

    def rotate(self, method: str) -> Any:
        return self.ask(method, f"/api/v1/keys/{self.key()}/rotate", {})

    def delete_role(self, method: str) -> Any:
        name = self.name()
        spec = {"permissions": ["endpoints:read"]}
        applied(self.rig, {"apiVersion": "stoker/v1", "kind": "Role", "metadata": {"name": name}, "spec": spec})
        return self.ask(method, f"/api/v1/projects/default/roles/{name}")

    def remove_subject(self, method: str) -> Any:
        spec = {"members": [{"subject": "user:ann", "role": "viewer"}]}
        applied(self.rig, project(self.name(), **spec))
        return self.ask(method, "/api/v1/subjects/user:ann")

    def delete_provider(self, method: str) -> Any:
        name = self.name()
        spec = {"issuer": f"https://{name}.invalid", "audiences": ["api"]}
        applied(
            self.rig,
            {"apiVersion": "stoker/v1", "kind": "IdentityProvider", "metadata": {"name": name}, "spec": spec},
        )
        return self.ask(method, f"/api/v1/providers/{name}")

    def end_session(self, method: str) -> Any:
        with oidc.serving() as provider:
            grants = [{"claim": "sub", "value": "alice", "project": "default", "role": "viewer"}]
            believe(self.rig, provider, self.name(), grants=grants)
            body = {"id_token": provider.id_token()}
            made = self.rig.request("POST", "/auth/sessions", body, key=None)[1]["id"]
        return self.ask(method, f"/api/v1/sessions/{made}")

    def set_prices(self, method: str) -> Any:
        return self.ask(method, "/api/v1/prices", {"prices": [{"price": {"input": "0.15"}}]})

    def change_platform(self, method: str) -> Any:
        return self.ask(method, "/api/v1/platform/quota", {"keys": 9000})

    def change_project(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, project(name))
        return self.ask(method, f"/api/v1/projects/{name}/quota", {"endpoints": 3})

    def set_member(self, method: str) -> Any:
        name = self.name()
        applied(self.rig, project(name))
        return self.ask(method, f"/api/v1/projects/{name}/members/user:bob", {"role": "viewer"})

    def remove_member(self, method: str) -> Any:
        name, spec = self.name(), {"members": [{"subject": "user:bob", "role": "viewer"}]}
        applied(self.rig, project(name, **spec))
        return self.ask(method, f"/api/v1/projects/{name}/members/user:bob")

    def change_settings(self, method: str) -> Any:
        return self.ask(method, "/api/v1/settings", {"trace_ratio": 0.5})

    def delete_budget(self, method: str) -> Any:
        name, spec = self.name(), {"amount": "250.00"}
        applied(self.rig, {"apiVersion": "stoker/v1", "kind": "Budget", "metadata": {"name": name}, "spec": spec})
        return self.ask(method, f"/api/v1/projects/default/budgets/{name}")

    def set_pool_prices(self, method: str) -> Any:
        return self.ask(method, "/api/v1/costs/prices", {"pools": [{"prices": [{"node_hour": "0.384"}]}]})

    def hold(self, method: str) -> Any:
        return self.ask(method, "/api/v1/audit/holds/default", {"because": "a court asks"})

    def release_hold(self, method: str) -> Any:
        assert self.rig.request("PUT", "/api/v1/audit/holds/*", {"because": "all"})[0] == 200
        return self.ask(method, "/api/v1/audit/holds/*")


def _case(operation: Operation) -> str:
    return operation.handler.__name__.lstrip("_")


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


CHANGES = [each for each in OPERATIONS if each.audited == "changes" and named(each) not in THERE]


def test_what_is_no_question_is_written_down_or_has_a_reason_not_to_be() -> None:
    silent = {named(each) for each in OPERATIONS if each.method not in ("GET", "HEAD") and each.audited == "nothing"}
    assert silent == set(NOTHING)
    assert {named(each) for each in OPERATIONS if each.audited == "changes"} >= THERE


@pytest.fixture(scope="module")
def scene(rig: Rig, onnx_files: list[Path]) -> Scene:
    return Scene(rig, onnx_files)


@pytest.mark.parametrize("operation", CHANGES, ids=named)
def test_an_operation_that_changes_something_leaves_one_row_with_before_and_after(
    scene: Scene, operation: Operation
) -> None:
    call = scene.of(operation)
    before = last(scene.rig)
    status, body, headers = call()
    assert 200 <= status < 300, body
    mine = [row for row in rows(scene.rig, before) if row["request"] == headers["x-request-id"]]
    assert len(mine) == 1, mine
    (row,) = mine
    assert (row["outcome"], row["action"]) == ("done", f"{operation.method} {operation.path.removeprefix('/api/v1')}")
    assert row["actor"] in scene.rig.key_ids(admin_only=True)
    assert row["origin"] == "127.0.0.1"
    assert row["changes"], row
    assert all(change["did"] in ("create", "update", "delete") and change["fields"] for change in row["changes"])
    for change in row["changes"]:
        assert (
            any("after" in each for each in change["fields"]) == (change["did"] != "delete")
            or change["did"] == "update"
        )
        assert (
            any("before" in each for each in change["fields"]) == (change["did"] != "create")
            or change["did"] == "update"
        )


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.audited == "begins"], ids=named)
def test_what_acts_outside_of_the_database_is_written_down_before_it_does(rig: Rig, operation: Operation) -> None:
    path = operation.path.format(project="default", name="nobody", which="1")
    _, _, headers = rig.request(operation.method, path, {})
    mine = [row for row in rows(rig) if row["request"] == headers["x-request-id"]]
    assert [row["outcome"] for row in mine] in (["began"], ["began", "failed"])
    about = ["model nobody" if "/models/" in path else "endpoint default/nobody"]
    others = {
        "/api/v1/projects/default/samples": ["projects/default/samples"],
        "/api/v1/samples/rotate": [],
        "/api/v1/secrets/check": [],
    }
    if "/nodes/" in path:  # of the platform
        others[path] = []
    about = others.get(path, [about[0].replace("endpoint", "notifier")] if "/notifiers/" in path else about)
    assert mine[0].get("resources", []) == about


def test_reads_of_what_clients_sent_are_written_down_and_other_reads_are_not(scene: Scene) -> None:
    name = scene.endpoint()
    before = last(scene.rig)
    assert scene.rig.request("GET", f"{_E}/{name}/samples?limit=5")[0] == 200
    assert scene.rig.request("GET", f"{_E}/{name}")[0] == 200
    assert scene.rig.request("GET", "/api/v1/audit/export")[0] == 200
    found = [row for row in rows(scene.rig, before) if row["actor"] != "platform"]
    assert [(row["outcome"], row["action"]) for row in found] == [
        ("read", "GET /projects/{project}/endpoints/{name}/samples"),
        ("read", "GET /audit/export"),
    ]
    assert found[0]["resources"] == [f"endpoint default/{name}"]


def test_what_changed_nothing_leaves_no_row(scene: Scene) -> None:
    wanted = endpoint(scene.name(), "shared@1")
    before = last(scene.rig)
    assert scene.rig.request("POST", "/api/v1/apply?dry_run=1", [wanted])[0] == 200
    assert scene.rig.request("DELETE", "/api/v1/keys/nokey")[0] == 404
    assert scene.rig.request("PUT", f"{_E}/wrong", wanted)[0] == 400
    assert [row for row in rows(scene.rig, before) if row["actor"] != "platform"] == []


def test_who_may_not_is_written_down_by_key_or_address_with_why(rig: Rig) -> None:
    made = rig.client.create_key("default", "caller", admin=False, expires_in_s=None)
    before = last(rig)
    _, _, first = rig.request("DELETE", "/api/v1/keys/x", key=made.key, headers={"X-Request-Id": "mine-1"})
    assert first["x-request-id"] == "mine-1"
    rig.request("GET", "/api/v1/keys", key="stk_aaaaaaaa_" + "x" * 43, headers={"X-Request-Id": "not mine: \t"})
    forbidden, unknown = (row for row in rows(rig, before) if row["actor"] != "platform")
    assert (forbidden["actor"], forbidden["request"], forbidden["outcome"]) == (made.id, "mine-1", "refused")
    assert forbidden["because"].startswith("forbidden: ")
    assert (unknown["actor"], unknown["origin"]) == ("unknown", "127.0.0.1")
    assert unknown["request"] != "not mine: \t"


def test_of_many_refusals_some_are_written_down_and_the_rest_counted() -> None:
    now_s = 0.0
    refusals = Refusals(lambda: now_s)
    assert [refusals.take() for _ in range(REFUSED_AT_ONCE + 3)] == [0] * REFUSED_AT_ONCE + [None] * 3
    now_s = 60.0
    assert [refusals.take(), refusals.take()] == [3, None]


def test_no_row_has_a_secret_in_it(scene: Scene) -> None:
    rig = scene.rig
    name = scene.name()
    applied(rig, endpoint(name, "shared@1", env={"GREETING": SECRET}))
    applied(rig, endpoint(name, "shared@1", env={"GREETING": SECRET + "2", "MORE": SECRET}))
    applied(rig, notifier(scene.name()))
    made = rig.client.create_key("default", "x", admin=False, expires_in_s=None)
    with closing(sqlite3.connect(rig.home.database)) as database:
        everything = "\n".join(event for (event,) in database.execute("SELECT event FROM audit"))
        digests = [digest for (digest,) in database.execute("SELECT sha256 FROM keys")]
    for secret in (SECRET, made.key, made.key[-20:], rig.key, "secretpath", *digests):
        assert secret not in everything
    fields = [each for row in rows(rig) for change in row["changes"] for each in change["fields"]]
    told = [each for each in fields if each["field"] == "resource.spec.env.GREETING"]
    assert {"field": "resource.spec.env.GREETING", "before": "(hidden)", "after": "(hidden)"} in told


def test_it_is_closed_at_once_and_verified_while_it_runs(rig: Rig) -> None:
    found = audit.verdict(rig.client)
    assert (found.problems, found.sealed) == ((), found.last)
    rig.client.create_key("default", "late", admin=False, expires_in_s=None)
    wanted = last(rig)
    began_s = time.monotonic()
    until(lambda: json.loads(rig.home.checkpoints.read_text().splitlines()[-1])["sequence"] >= wanted, "it is closed")
    assert time.monotonic() - began_s < 5.0  # 0.25 s and a disk; the machine may be busy
    rows_ = [audit.row_of(line) for line in b"".join(audit.export(rig.client, {})).splitlines(keepends=False)]
    assert [row.sequence for row in rows_] == list(range(1, len(rows_) + 1))


def test_filters_find_rows_by_who_what_and_when(rig: Rig) -> None:
    made = rig.client.create_key("default", "wanted", admin=False, expires_in_s=None)
    (entry,) = audit.find(rig.client, {"resource": f"key default/{made.id}"})
    assert entry.event.changes[0].what == f"key default/{made.id}"
    assert audit.get(rig.client, entry.event.sequence) == entry
    assert audit.find(rig.client, {"actor": entry.event.actor, "action": "POST /keys", "limit": 1})[0] == entry
    assert audit.find(rig.client, {"resource": made.id, "until": entry.event.at_us / 1e6 - 1}) == ()
