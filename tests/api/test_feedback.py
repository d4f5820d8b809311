"""Feedback through the API: who may send it, and what is refused."""

from typing import Any

import pytest

from tests.control.rig import Rig, endpoint

WHERE = "/api/v1/feedback"


def test_any_key_sends_labels_of_its_own_project_alone(rig: Rig) -> None:
    key = rig.client.create_key("default", "labels", admin=False, expires_in_s=None).key
    body = {"items": [{"id": "r", "label": "a"}]}
    status, answer, _ = rig.request("POST", WHERE, body, key=key)
    assert (status, answer) == (200, {"items": [{"id": "r", "outcome": "unknown"}]})
    assert rig.request("POST", f"{WHERE}?project=other", body, key=key)[0] == 404
    assert rig.request("POST", WHERE, body, key=None)[0] == 401
    assert rig.request("GET", "/api/v1/projects/default/endpoints/a/quality", key=key)[0] == 403


@pytest.mark.parametrize(
    "item",
    [
        {"id": "r"},
        {"id": "r", "label": "a", "value": 1},
        {"id": "", "label": "a"},
        {"id": "r" * 161, "label": "a"},
        {"id": "r", "label": "a" * 129},
        {"id": "r", "label": ["a"]},
        {"id": "r", "score": 1.5},
        {"id": "r", "label": 1, "at": -1},
        {"id": "r", "label": 1, "more": 1},
        {"id": 7, "label": 1},
        {"id": "r", "metrics": {}},
        {"id": "r", "metrics": {"revenue": -1}},
        {"id": "r", "metrics": {"Revenue; DROP": 1}},
        {"id": "r", "metrics": {"revenue": "much"}},
        {"id": "r", "metrics": {f"m{at}": 1 for at in range(9)}},
    ],
)
def test_what_is_no_label_is_refused_with_its_field(rig: Rig, item: dict[str, Any]) -> None:
    status, body, _ = rig.request("POST", WHERE, {"items": [{"id": "good", "label": 1}, item]})
    assert status == 400, body
    assert body["error"]["field"].startswith("items[1]")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"items": [{"id": "r", "value": 1e999}]}',
        b'{"items": [{"id": "r", "value": 1' + b"0" * 400 + b"}]}",
        b'{"items": [{"id": "r\\ud800", "label": "a"}]}',
        b'{"items": [{"id": "r", "label": "\\udfff"}]}',
        b'{"items": [' + b",".join([b'{"id":"r","label":1}'] * 1_001) + b"]}",
        b"[" * 10_000,
        b"",
    ],
)
def test_hostile_bodies_are_refused(rig: Rig, raw: bytes) -> None:
    assert rig.request("POST", WHERE, raw)[0] == 400


def test_items_with_metrics_alone_or_beside_a_label_are_answered_in_their_order(rig: Rig) -> None:
    items = [{"id": "a", "metrics": {"revenue": 1, "returned": 0}}, {"id": "b", "label": 1, "metrics": {"revenue": 2}}]
    status, body, _ = rig.request("POST", WHERE, {"items": [*items, {"id": "c", "score": 1}]})
    assert status == 200, body
    assert [(one["id"], one["outcome"]) for one in body["items"]] == [(each, "unknown") for each in "abc"]


def test_odd_but_good_labels_are_taken(rig: Rig) -> None:
    raw = b'{"items": [{"id": "r\\u0000", "label": "\\u0000\'; DROP TABLE predictions"}, {"id": "s", "label": 1%b}]}'
    status, body, _ = rig.request("POST", WHERE, raw % (b"0" * 30))
    assert (status, [one["outcome"] for one in body["items"]]) == (200, ["unknown"] * 2)


def test_an_endpoint_without_feedback_says_what_to_set(rig: Rig, model: str) -> None:
    assert rig.request("GET", "/api/v1/projects/default/endpoints/none/quality")[0] == 404
    assert rig.request("POST", "/api/v1/apply", endpoint("plain", model, replicas={"min": 0}))[0] == 200
    status, body, _ = rig.request("GET", "/api/v1/projects/default/endpoints/plain/quality")
    assert (status, "spec.feedback" in body["error"]["message"]) == (409, True)
