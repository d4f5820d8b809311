"""Apply, endpoints, projects: what is stored, what is refused, what is said."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.control.rig import Rig, endpoint, until


def apply(rig: Rig, *resources: dict[str, Any], dry_run: bool = False) -> list[str]:
    status, body, _ = rig.request("POST", f"/api/v1/apply?dry_run={int(dry_run)}", list(resources))
    assert status == 200, body
    return [result["action"] for result in body["results"]]


def test_a_malformed_manifest_gets_every_error_at_once_with_line_and_field(rig: Rig) -> None:
    text = b"""apiVersion: stoker/v1
kind: Endpoint
metadata: {name: Bad_Name}
spec:
  model: m
  replicas: {min: 3, max: many}
  colour: red
---
kind: Nothing
"""
    status, body, _ = rig.request("POST", "/api/v1/apply", text)
    assert status == 400
    found = {(each["line"], each["field"]) for each in body["error"]["details"]}
    assert {line for line, _ in found} == {3, 6, 7, 9}
    assert {field for _, field in found} >= {"metadata.name", "spec.colour", "kind"}
    assert "line 3" in body["error"]["message"]


def test_everything_that_cannot_hold_is_told_at_once_and_nothing_is_stored(rig: Rig, model: str) -> None:
    status, body, _ = rig.request(
        "POST",
        "/api/v1/apply",
        [
            endpoint("good", model),
            endpoint("unknown", "nothing"),
            endpoint("alias", f"{model}@nothing"),
            endpoint("task", model, task="chat"),
            endpoint("homeless", model, project="nobody"),
        ],
    )
    assert (status, body["error"]["code"]) == (400, "invalid_input")
    told = {(each["field"], each["message"]) for each in body["error"]["details"]}
    assert told == {
        ("spec.model", "unknown: no model 'nothing'; push it first"),
        ("spec.model", "alias: model 'm' has no alias 'nothing'; its newest is m@2"),
        ("spec.task", "task: model m@2 cannot do 'chat'; it can do predict"),
        ("metadata.project", "homeless: no project 'nobody'; apply a Project of that name first"),
    }
    assert rig.request("GET", "/api/v1/projects/default/endpoints/good")[0] == 404


def test_applying_says_created_then_unchanged_then_updated_with_the_fields(rig: Rig, model: str) -> None:
    assert apply(rig, endpoint("say", model)) == ["created"]
    assert apply(rig, endpoint("say", model)) == ["unchanged"]
    status, body, _ = rig.request("POST", "/api/v1/apply", endpoint("say", model, replicas={"min": 2, "max": 2}))
    assert status == 200
    (result,) = body["results"]
    assert result["action"] == "updated"
    assert {(each["path"], each["old"], each["new"]) for each in result["diff"]} == {
        ("spec.replicas.min", 1, 2),
        ("spec.replicas.max", 1, 2),
    }
    assert rig.client.endpoint("default", "say").generation == 2


def test_a_dry_run_says_what_would_change_and_changes_nothing(rig: Rig, model: str) -> None:
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "dry"}}
    assert apply(rig, endpoint("dry", model, project="dry"), project, dry_run=True) == ["created", "created"]
    assert rig.request("GET", "/api/v1/projects/dry/endpoints/dry")[0] == 404
    assert "dry" not in [each.name for each in rig.client.projects()]


def test_a_bare_model_name_means_the_newest_version_when_it_is_applied(rig: Rig, onnx_files: list[Any]) -> None:
    rig.push("grows", onnx_files[0])
    assert apply(rig, endpoint("grows", "grows")) == ["created"]
    rig.push("grows", onnx_files[1])
    until(lambda: rig.client.endpoint("default", "grows").revisions, "a revision")
    assert [each.model for each in rig.client.endpoint("default", "grows").revisions] == ["grows@1"]
    status, body, _ = rig.request("POST", "/api/v1/apply", endpoint("grows", "grows"))
    assert (status, body["results"][0]["diff"]) == (
        200,
        [{"path": "spec.model", "old": "grows@1", "new": "grows@2"}],
    )
    until(lambda: len(rig.client.endpoint("default", "grows").revisions) == 2, "a second revision")


def test_an_alias_is_followed_when_it_moves(rig: Rig, onnx_files: list[Any]) -> None:
    rig.push("moves", onnx_files[0])
    rig.push("moves", onnx_files[1])
    rig.client.set_alias("moves", "prod", 1)
    apply(rig, endpoint("moves", "moves@prod"))
    until(lambda: rig.client.endpoint("default", "moves").revisions, "a revision")
    rig.client.set_alias("moves", "prod", 2)
    until(
        lambda: [each.model for each in rig.client.endpoint("default", "moves").revisions] == ["moves@2", "moves@1"],
        "a revision of the new version",
    )


def test_one_endpoint_can_be_put_and_its_answer_shows_the_revision(rig: Rig, model: str) -> None:
    status, body, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/one", endpoint("one", model))
    assert (status, body["status"]["revision"]) == (201, "default.one-1")
    status, _, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/one", endpoint("one", model))
    assert status == 200
    status, body, _ = rig.request("PUT", "/api/v1/projects/default/endpoints/two", endpoint("one", model))
    assert (status, body["error"]["field"]) == (400, "metadata.name")


def test_rolling_back_asks_again_for_what_an_earlier_revision_was(rig: Rig, model: str) -> None:
    for version in (1, 2):
        apply(rig, endpoint("back", f"{model}@{version}"))
        until(lambda: len(rig.client.endpoint("default", "back").revisions) == version, "its revision")  # noqa: B023
    view = rig.client.rollback("default", "back")
    assert view.resource.spec.model == f"{model}@1"
    assert view.status.revision == "default.back-1"
    assert rig.client.rollback("default", "back", 2).status.revision == "default.back-2"
    status, body, _ = rig.request("POST", "/api/v1/projects/default/endpoints/back/rollback", {"to": 9})
    assert (status, body["error"]["field"]) == (404, "to")
    assert "kept are: 1, 2" in body["error"]["message"]
    rig.client.rollback("default", "back", 1)
    status, body, _ = rig.request("POST", "/api/v1/projects/default/endpoints/back/rollback", {})
    assert (status, body["error"]["code"]) == (409, "conflict")


def test_deleting_is_accepted_and_then_the_endpoint_is_gone(rig: Rig, model: str) -> None:
    apply(rig, endpoint("gone", model))
    rig.client.delete_endpoint("default", "gone")
    until(lambda: rig.request("GET", "/api/v1/projects/default/endpoints/gone")[0] == 404, "it is gone")
    assert rig.request("DELETE", "/api/v1/projects/default/endpoints/gone")[0] == 404


def test_a_project_is_removed_only_when_it_is_empty(rig: Rig, model: str) -> None:
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "team"}}
    assert apply(rig, endpoint("a", model, project="team"), project) == ["created", "created"]
    assert [each.name for each in rig.client.endpoints("team")] == ["a"]
    status, body, _ = rig.request("DELETE", "/api/v1/projects/team")
    assert (status, body["error"]["code"]) == (409, "conflict")
    rig.client.delete_endpoint("team", "a")
    until(lambda: not rig.client.endpoints("team"), "the endpoint is gone")
    rig.client.delete_project("team")
    assert rig.request("DELETE", "/api/v1/projects/team")[0] == 404


def test_applies_at_the_same_moment_are_all_stored_one_after_the_other(rig: Rig, model: str) -> None:
    apply(rig, endpoint("race", model))

    def change(number: int) -> None:
        apply(rig, endpoint("race", model, limits={"queue_max": number}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(1, 25)))
    detail = rig.client.endpoint("default", "race")
    assert detail.generation == 25
    until(lambda: rig.client.endpoint("default", "race").status.observed_generation == 25, "all are seen")
    assert len(rig.client.endpoint("default", "race").revisions) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"kind: Project\n", b"a: &x [*x]", b"\xff\xff", b"x" * (5 << 20)])
def test_what_is_no_manifest_is_refused(rig: Rig, body: bytes) -> None:
    status, answer, _ = rig.request("POST", "/api/v1/apply", body)
    assert status in (400, 413)
    assert answer["error"]["message"]


def test_decisions_are_in_the_journal_with_their_reason(rig: Rig, model: str) -> None:
    apply(rig, endpoint("why", model))
    until(lambda: rig.client.endpoint("default", "why").revisions, "a revision")
    entries = until(lambda: rig.client.journal(endpoint="why")[-2:], "what was done first")
    assert [entry.action for entry in entries] == ["CreateRevision default.why-1", "ApplyEndpoint"]
    assert entries[0].because == "the spec (generation 1) and model m@2 make a new configuration"
    assert rig.client.journal(endpoint="default/why")[-2:] == entries


def test_without_a_node_the_condition_says_so(rig: Rig, model: str) -> None:
    apply(rig, endpoint("nowhere", model))

    def reason() -> list[str]:
        return [each.reason for each in rig.client.endpoint("default", "nowhere").status.conditions]

    until(lambda: reason() == ["NoCapacity", "NoCapacity"], "its conditions")
    assert rig.client.nodes() == ()
    status, body, _ = rig.request("GET", "/api/v1/replicas/x/logs")
    assert (status, body["error"]["code"]) == (503, "unavailable")
