"""Why, and incidents, over HTTP: what is answered before anything was counted, and what is refused."""

import pytest

from stoker.types.errors import NotFound
from tests.control.rig import Rig, endpoint


@pytest.fixture(scope="module")
def name(rig: Rig, model: str) -> str:
    status, body, _ = rig.request("POST", "/api/v1/apply", [endpoint("asked", model)])
    assert status == 200, body
    return "asked"


def test_an_endpoint_that_nobody_called_is_as_it_was(rig: Rig, name: str) -> None:
    found = rig.client.why("default", name, 1800.0)
    assert not found.diagnosis.is_wrong


def test_an_incident_is_opened_once_listed_and_closed_once(rig: Rig, name: str) -> None:
    first = rig.client.raise_incident("default", name, "it felt slow")
    assert rig.client.raise_incident("default", name, "it still does").number == first.number
    assert [one.number for one in rig.client.incidents(only_open=True)] == [first.number]
    assert "it felt slow" in rig.client.postmortem(first.number)
    closed = rig.client.close_incident(first.number, "it was the network")
    again = rig.client.close_incident(first.number, "no, the disk")
    assert again.resolution == closed.resolution == "it was the network"
    assert rig.client.incidents(only_open=True) == ()
    assert rig.client.incident(first.number).timeline[-1].kind == "closed"


def test_what_is_not_there_is_not_found(rig: Rig) -> None:
    for ask in (
        lambda: rig.client.why("default", "nothing"),
        lambda: rig.client.raise_incident("default", "nothing", "x"),
        lambda: rig.client.incident(999),
        lambda: rig.client.close_incident(999, "x"),
    ):
        with pytest.raises(NotFound):
            ask()


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 30, "٣"])
def test_what_is_no_number_of_an_incident_is_refused(rig: Rig, number: str) -> None:
    status, body, _ = rig.request(
        "GET", f"/api/v1/incidents/{number}" if number.isascii() else "/api/v1/incidents/%D9%A3"
    )
    assert status in (400, 404)
    assert body["error"]["code"] in ("invalid_input", "not_found")
