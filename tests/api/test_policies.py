"""Admission policies through the API: every door a change may come by, who may open it, and what is written down."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stoker.client import policies
from stoker.client.connection import PolicyRefused
from stoker.types.errors import NotFound, PolicyDenied
from tests.control.rig import Rig, endpoint, python_model, until

APPLY = "/api/v1/apply"


def rule(expression: str, **more: Any) -> dict[str, Any]:
    return {"name": "r", "expression": expression, "message": "not so", **more}


def policy(name: str, *rules: dict[str, Any], project: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stoker/v1",
        "kind": "Policy",
        "metadata": {"name": name, "project": project},
        "spec": {"rules": list(rules), **spec},
    }


def project(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "stoker/v1", "kind": "Project", "metadata": metadata, "spec": spec}


def notifier(name: str, project: str) -> dict[str, Any]:
    spec = {"type": "webhook", "url": "https://hooks.example.com/a"}
    return {"apiVersion": "stoker/v1", "kind": "Notifier", "metadata": {"name": name, "project": project}, "spec": spec}


def apply(rig: Rig, *resources: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    status, body, _ = rig.request("POST", APPLY + query, list(resources))
    assert status == 200, body
    results: list[dict[str, Any]] = body["results"]
    return results


def refused(answer: tuple[int, Any, Any]) -> str:
    """Return what a policy said against it."""
    status, body, _ = answer
    assert (status, body["error"]["code"]) == (422, "policy_denied"), body
    return str(body["error"]["message"])


def journal(rig: Rig, action: str, name: str) -> list[str]:
    """Return why things of that action were done in a project, newest first."""
    ask = "SELECT because FROM journal WHERE project = ? AND action LIKE ? ORDER BY sequence DESC"
    with closing(sqlite3.connect(rig.home.database)) as database:
        return [because for (because,) in database.execute(ask, (name, f"{action}%"))]


def denials(told: pytest.ExceptionInfo[PolicyDenied]) -> str:
    """Return what the client was told a change breaks."""
    assert isinstance(told.value, PolicyRefused)
    return "; ".join(detail.message for detail in told.value.details)


def test_what_is_denied_is_told_with_policy_rule_message_field_and_line_and_nothing_is_stored(
    rig: Rig, model: str
) -> None:
    wants = rule("has(resource.metadata.labels.owner)", field="spec.replicas.min", message="who owns it?")
    apply(rig, project("told"), policy("owned", wants, project="told"))
    text = f"""apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: good, project: told, labels: {{owner: me}}}}
spec: {{model: {model}}}
---
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: bad, project: told}}
spec:
  model: {model}
  replicas:
    min: 0
"""
    status, body, _ = rig.request("POST", APPLY, text.encode())
    assert (status, body["error"]["code"]) == (422, "policy_denied")
    (detail,) = body["error"]["details"]
    assert (detail["line"], detail["field"]) == (12, "spec.replicas.min")
    assert detail["message"] == "endpoint told/bad: policy owned, rule r: who owns it?"
    assert rig.request("GET", "/api/v1/projects/told/endpoints/good")[0] == 404, "all or none"
    assert journal(rig, "PolicyDeny", "told") == ["create of endpoint told/bad: who owns it?"]
    put = rig.request("PUT", "/api/v1/projects/told/endpoints/bad", endpoint("bad", model, project="told"))
    assert "who owns it?" in refused(put)


def test_a_warning_comes_with_the_result_and_an_audit_only_into_the_journal(rig: Rig, model: str) -> None:
    rules = (rule("false", enforcement="warn"), rule("1 == 2", name="quiet", enforcement="audit", message="I saw it"))
    apply(rig, project("soft"), policy("p", *rules, project="soft"))
    (dry,) = apply(rig, endpoint("e", model, project="soft"), query="?dry_run=1")
    assert dry["warnings"] == ["policy p, rule r: not so"]
    assert journal(rig, "Policy", "soft") == [], "nothing was done, so nothing is written down"
    (result,) = apply(rig, endpoint("e", model, project="soft"))
    assert (result["action"], result["warnings"]) == ("created", ["policy p, rule r: not so"])
    assert journal(rig, "PolicyWarn", "soft") == ["create of endpoint soft/e: not so"]
    assert journal(rig, "PolicyAudit", "soft") == ["create of endpoint soft/e: I saw it"]
    (same,) = apply(rig, endpoint("e", model, project="soft"))
    assert (same["action"], same["warnings"]) == ("unchanged", []), "what changes nothing is held to nothing"
    status, text, _ = rig.request("GET", "/metrics")
    assert status == 200
    assert 'stoker_policy_verdicts_total{policy="soft/p",rule="quiet",enforcement="audit"} 1' in text.decode()


def test_a_policy_holds_in_its_project_or_in_all_and_already_for_what_comes_with_it(rig: Rig, model: str) -> None:
    only = policy("only", rule("false"), project="one")
    apply(rig, project("one"), project("two"), only)
    apply(rig, endpoint("e", model, project="two"))
    everywhere = policy(
        "every", rule("false"), project="one", all_projects=True, match={"projects": ["tw*"], "labels": {"a": "b"}}
    )
    marked = endpoint("f", model, project="two")
    marked["metadata"]["labels"] = {"a": "b"}
    assert "policy every" in refused(rig.request("POST", APPLY, [marked, everywhere]))
    apply(rig, endpoint("f", model, project="two"))
    apply(rig, everywhere)
    assert "policy every" in refused(rig.request("POST", APPLY, [marked]))
    policies.delete(rig.client, "one", "every")
    apply(rig, marked)


def test_turning_a_policy_off_and_deleting_it_are_written_down_with_the_key_that_did_it(rig: Rig) -> None:
    on, off = (policy("p", rule("false"), project="off", enabled=enabled) for enabled in (True, False))
    for each in ([project("off"), on], [off], [on]):
        apply(rig, *each)
    policies.delete(rig.client, "off", "p")
    (key,) = rig.key_ids(admin_only=True)
    assert journal(rig, "DisablePolicy", "off") == [f"asked to by key {key}, changed: spec.enabled"]
    assert len(journal(rig, "EnablePolicy", "off")) == 2
    assert journal(rig, "DeletePolicy", "off") == [f"asked to by key {key}"]
    with pytest.raises(NotFound):
        policies.delete(rig.client, "off", "p")


def test_a_key_that_is_no_admin_changes_no_policy(rig: Rig) -> None:
    caller = rig.client.create_key("default", "caller", admin=False, expires_in_s=None).key
    assert rig.request("POST", APPLY, policy("p", rule("true"), project="default"), key=caller)[0] == 403
    assert rig.request("DELETE", "/api/v1/projects/default/policies/p", key=caller)[0] == 403
    assert rig.request("GET", "/api/v1/policies", key=caller)[0] == 403


def test_an_expression_that_cannot_hold_is_refused_with_its_line_and_nothing_is_stored(rig: Rig) -> None:
    text = b"""apiVersion: stoker/v1
kind: Policy
metadata: {name: broken}
spec:
  rules:
    - name: a
      expression: "true"
    - name: b
      expression: resource.spec.modell == 'm'
"""
    status, body, _ = rig.request("POST", APPLY, text)
    assert (status, body["error"]["code"]) == (400, "invalid_input")
    (detail,) = body["error"]["details"]
    assert (detail["line"], detail["field"]) == (9, "spec.rules[1].expression")
    assert "did you mean model?" in detail["message"]
    assert policies.find(rig.client, "default", "broken") is None


def test_deleting_is_held_to_policies_that_say_so(rig: Rig, model: str) -> None:
    kept = policy(
        "kept",
        rule("!has(old.metadata.labels.keep)", message="it is to be kept"),
        project="del",
        match={"kinds": ["Endpoint", "Notifier", "Project"], "operations": ["delete"]},
    )
    labelled = endpoint("e", model, project="del")
    labelled["metadata"]["labels"] = {"keep": "yes"}
    told = notifier("n", "del")
    told["metadata"]["labels"] = {"keep": "yes"}
    apply(rig, project("del"), labelled, told, notifier("free", "del"), kept)
    assert "it is to be kept" in refused(rig.request("DELETE", "/api/v1/projects/del/endpoints/e"))
    assert "it is to be kept" in refused(rig.request("DELETE", "/api/v1/projects/del/notifiers/n"))
    assert rig.request("DELETE", "/api/v1/projects/del/notifiers/free")[0] == 204
    apply(rig, endpoint("e", model, project="del"))
    assert rig.request("DELETE", "/api/v1/projects/del/endpoints/e")[0] == 202
    away = policy("away", rule("false"), project="default", all_projects=True,
                  match={"kinds": ["Project"], "operations": ["delete"], "projects": ["gone"]})  # fmt: skip
    apply(rig, project("gone"), away)
    assert "project gone: policy away" in refused(rig.request("DELETE", "/api/v1/projects/gone"))
    policies.delete(rig.client, "default", "away")
    assert rig.request("DELETE", "/api/v1/projects/gone")[0] == 204


def test_a_project_with_a_policy_is_not_empty(rig: Rig) -> None:
    apply(rig, project("full"), policy("p", rule("true"), project="full"))
    status, body, _ = rig.request("DELETE", "/api/v1/projects/full")
    assert (status, body["error"]["message"]) == (409, "project 'full' is not empty: delete its policy 'p' first")


def test_demanding_signatures_no_longer_is_a_change_of_the_project(rig: Rig) -> None:
    demand = policy(
        "demand", rule("resource.spec.signatures == 'required'"), project="sig", match={"kinds": ["Project"]}
    )
    apply(rig, project("sig", signatures="required"), demand)
    assert "project sig" in refused(rig.request("PUT", "/api/v1/projects/sig/trust", {"policy": "off"}))
    assert rig.client.trust("sig").policy == "required"


def test_a_push_that_is_denied_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    small = policy(
        "small",
        rule("version.files.all(f, f.path != 'extra.bin')"),
        project="default",
        match={"kinds": ["Model"], "operations": ["push"]},
    )
    apply(rig, small)
    try:
        folder = python_model(tmp_path / "m", scale=77)
        (folder / "extra.bin").write_bytes(b"only here")
        with pytest.raises(PolicyDenied) as told:
            rig.push("pushed", folder)
        assert denials(told) == "model default/pushed: policy small, rule r: not so"
        assert not [each for each in rig.client.models() if each.name == "pushed"]
        assert not [path for path in rig.home.blobs.rglob("*") if path.is_file() and path.read_bytes() == b"only here"]
        (folder / "extra.bin").unlink()
        assert rig.push("pushed", folder).version.number == 1
    finally:
        policies.delete(rig.client, "default", "small")


def test_an_alias_moves_no_endpoint_to_what_its_policies_deny_but_always_back(rig: Rig, onnx_files: list[Path]) -> None:
    for file in onnx_files:
        rig.push("follow", file)
    rig.client.set_alias("follow", "prod", 1)
    apply(rig, project("al"), endpoint("e", "follow@prod", project="al"))
    until(lambda: len(rig.client.endpoint("al", "e").revisions) == 1, "a revision")
    rig.client.set_alias("follow", "prod", 2)
    until(lambda: len(rig.client.endpoint("al", "e").revisions) == 2, "a second revision")
    apply(rig, policy("nothing", rule("false"), project="al"))
    with pytest.raises(PolicyDenied) as told:
        rig.client.set_alias("follow", "prod", 3)
    assert denials(told) == "endpoint al/e: policy nothing, rule r: not so"
    assert rig.client.version("follow", "prod").number == 2
    rig.client.set_alias("follow", "prod", 1)
    assert rig.client.version("follow", "prod").number == 1
    rig.client.rollback("al", "e", 2)


def test_what_policies_would_find_in_what_is_there_is_said_and_nothing_changes(rig: Rig, model: str) -> None:
    apply(rig, project("look"), endpoint("e", model, project="look"))
    text = b"""apiVersion: stoker/v1
kind: Policy
metadata: {name: candidate, project: look}
spec:
  rules:
    - {name: owned, expression: has(resource.metadata.labels.owner), message: nobody owns it}
    - {name: fine, expression: version.format == 'onnx'}
"""
    (found,) = policies.look(rig.client, text)
    assert (found.kind, found.project, found.name) == ("Endpoint", "look", "e")
    assert (found.verdict.rule, found.verdict.outcome) == ("owned", "violated")
    assert policies.find(rig.client, "look", "candidate") is None
    assert journal(rig, "Policy", "look") == []


def test_many_changes_at_once_are_each_judged_or_told_that_it_is_busy(rig: Rig, model: str) -> None:
    apply(rig, project("many"), policy("p", rule("resource.metadata.name != 'e-3'"), project="many"))

    def one(number: int) -> int:
        return rig.request("POST", APPLY, endpoint(f"e-{number}", model, project="many", replicas={"min": 0}))[0]

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(one, range(24)))
    assert set(statuses) <= {200, 422, 429}
    assert statuses[3] in (422, 429)
    stored = {each.name for each in rig.client.endpoints("many")}
    assert stored == {f"e-{number}" for number, status in enumerate(statuses) if status == 200}
