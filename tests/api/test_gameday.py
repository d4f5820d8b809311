"""Game days over HTTP: only where they are allowed, never into an incident, and always on the journal."""

from typing import Any

import pytest

from tests.control.rig import Rig, endpoint, until


@pytest.fixture(scope="module")
def allowed(rig: Rig, model: str) -> str:
    status, body, _ = rig.request("POST", "/api/v1/apply", [endpoint("broken", model, gameday="allowed")])
    assert status == 200, body
    return "broken"


def begin(rig: Rig, name: str, **asked: Any) -> tuple[int, str]:
    path = f"/api/v1/projects/default/endpoints/{name}/gameday"
    status, body, _ = rig.request("POST", path, {"scenario": "noisy-tenant", **asked})
    return status, body["error"]["message"] if status >= 400 else ""


def journal(rig: Rig, name: str) -> list[str]:
    return [one.action for one in rig.client.journal(endpoint=name) if one.action.startswith("Gameday")]


def test_an_endpoint_is_left_alone_unless_its_manifest_says_otherwise(rig: Rig, model: str) -> None:
    rig.request("POST", "/api/v1/apply", [endpoint("plain", model)])
    status, why = begin(rig, "plain", force=True)
    assert status == 409
    assert "gameday: allowed" in why
    assert journal(rig, "plain") == []


def test_an_open_incident_is_not_made_worse_unless_somebody_insists(rig: Rig, allowed: str) -> None:
    incident = rig.client.raise_incident("default", allowed, "it felt slow")
    status, why = begin(rig, allowed)
    assert status == 409
    assert f"incident {incident.number} is open" in why
    assert journal(rig, allowed) == []
    assert begin(rig, allowed, force=True) == (204, "")
    rig.client.end_gameday("default", allowed, "it went well")
    notes = [one.text for one in rig.client.incident(incident.number).timeline if one.kind == "note"]
    assert [note.partition(":")[0] for note in notes] == ["game day began", "game day ended"]
    rig.client.close_incident(incident.number, "over")


def test_what_is_done_is_on_the_journal(rig: Rig, allowed: str) -> None:
    before = len(journal(rig, allowed))
    assert begin(rig, allowed, seconds=5) == (204, "")
    rig.client.end_gameday("default", allowed, "x" * 5000)
    assert journal(rig, allowed)[: len(journal(rig, allowed)) - before] == ["GamedayEnded", "GamedayBegan"]
    assert len(rig.client.journal(endpoint=allowed)[0].because) < 1000


def environment(rig: Rig, name: str) -> dict[str, str]:
    return dict(rig.client.endpoint("default", name).resource.spec.env)


def test_a_bad_revision_goes_out_and_the_one_before_serves_again(rig: Rig, model: str) -> None:
    rig.request("POST", "/api/v1/apply", [endpoint("rolling", model, gameday="allowed", env={"A": "b"})])
    until(lambda: rig.client.endpoint("default", "rolling").revisions, "the first revision is made")
    assert begin(rig, "rolling", scenario="bad-revision", bad_revision=True, seconds=600) == (204, "")
    assert environment(rig, "rolling").keys() == {"A", "STOKER_GAMEDAY"}
    revisions = until(lambda: len(rig.client.endpoint("default", "rolling").revisions) == 2, "a revision is made")
    assert revisions
    status, why = begin(rig, "rolling")
    assert (status, "has a game day already" in why) == (409, True)
    rig.client.end_gameday("default", "rolling", "it went well")
    assert environment(rig, "rolling") == {"A": "b"}
    until(
        lambda: rig.client.endpoint("default", "rolling").status.revision == "default.rolling-1",
        "the revision before is asked for again",
    )


def test_a_bad_revision_that_was_forgotten_is_taken_back(rig: Rig, model: str) -> None:
    rig.request("POST", "/api/v1/apply", [endpoint("forgotten", model, gameday="allowed")])
    assert begin(rig, "forgotten", scenario="bad-revision", bad_revision=True, seconds=0.5) == (204, "")
    until(lambda: environment(rig, "forgotten") == {}, "control takes it back")
    assert journal(rig, "forgotten") == ["GamedayEnded", "GamedayBegan"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"scenario": "melt"}, 400),
        ({"seconds": 0}, 400),
        ({"seconds": 601}, 400),
        ({"fault": {"kind": "hang", "seconds": 9000}}, 400),
        ({"fault": {"kind": "hang"}, "replicas": ["gateway-0"]}, 404),
        ({"fault": {"kind": "hang"}, "replicas": ["../../x"]}, 404),
        ({"fault": {"kind": "hang"}}, 400),
        ({"unknown": 1}, 400),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    rig: Rig, allowed: str, asked: dict[str, Any], status: int
) -> None:
    before = journal(rig, allowed)
    assert begin(rig, allowed, **asked)[0] == status
    assert journal(rig, allowed) == before


def test_an_unknown_endpoint_is_not_found(rig: Rig) -> None:
    assert begin(rig, "nothing")[0] == 404
