"""What people say to rollouts, and what judges and labels tell of them: a real control with real replicas."""

import json
from pathlib import Path
from typing import Any

import pytest

from stoker.client.connection import Connection
from stoker.client.rollouts import RolloutClient, RolloutDetail, Said
from stoker.types.errors import Conflict, InvalidInput, NotFound
from tests.control.rig import Rig, conditions, endpoint, python_model, until

HELD: dict[str, Any] = {"strategy": "canary", "steps": [5, 25, 50], "dwell": "0s", "requests_min": 1_000_000}


@pytest.fixture
def canary(rig: Rig, tmp_path: Path) -> Rig:
    """An endpoint whose second revision has 5 % of the traffic, and stays there for want of requests."""
    rig.start_agent()
    rig.push("m", python_model(tmp_path / "a"), tasks=("predict",))
    rig.push("m", python_model(tmp_path / "b", scale=2), tasks=("predict",))
    apply(rig, "m@1")
    until(lambda: rig.client.endpoint("default", "a").status.serving, "the first revision serves")
    apply(rig, "m@2")
    until(lambda: newest(rig).phase == "stepping", "the canary has its share")
    return rig


def apply(rig: Rig, model: str, **rollout: Any) -> None:
    status, body, _ = rig.request("POST", "/api/v1/apply", endpoint(model=model, rollout={**HELD, **rollout}))
    assert status == 200, body


def client(rig: Rig) -> RolloutClient:
    return RolloutClient(rig.client.connection)


def newest(rig: Rig) -> RolloutDetail:
    try:
        return client(rig).newest("default", "a")
    except NotFound:
        return RolloutDetail(0, "default", "a", "canary", "gating", "", "", "")


def weights(rig: Rig) -> dict[str, int]:
    connection = Connection(f"unix:{rig.home.run / 'control-api.sock'}", rig.key)
    table = json.loads(connection.exchange("GET", "/internal/v1/routes", query={"after": -1}).body)
    return {each["revision"]: each["weight"] for each in table["endpoints"][0]["revisions"]}


def refused(rig: Rig, said: Said) -> str:
    with pytest.raises(Conflict) as wrong:
        client(rig).say("default", "a", said)
    return wrong.value.message


def events(rig: Rig) -> list[str]:
    return [each.event for each in newest(rig).timeline if each.event != "look"]


def test_somebody_steers_a_rollout_by_hand_and_what_means_nothing_is_refused_with_why(canary: Rig) -> None:
    rig, say = canary, client(canary).say
    until(lambda: weights(rig) == {"default.a-1": 95, "default.a-2": 5}, lambda: f"gateways are told: {weights(rig)}")
    assert "is in a step; it can be told to pause, promote or abort" in refused(rig, "resume")
    assert say("default", "a", "pause").phase == "paused"
    assert "is paused; it can be told to resume, promote or abort" in refused(rig, "pause")
    assert weights(rig) == {"default.a-1": 95, "default.a-2": 5}
    say("default", "a", "resume")
    until(lambda: newest(rig).phase == "stepping", "its step began anew")
    assert "only one that was rolled back or refused is tried again" in refused(rig, "retry")
    say("default", "a", "abort")
    until(lambda: newest(rig).phase == "rolled-back", "it was taken back")
    assert newest(rig).because == "asked to"
    until(lambda: conditions(rig)["Progressing"].reason == "RolledBack", "the condition says so")
    assert "was rolled back; `stoker rollouts retry a` tries it again" in refused(rig, "promote")
    first = newest(rig).number
    say("default", "a", "retry")
    until(lambda: newest(rig).number > first, "it is tried again")
    assert client(rig).numbered("default", first).phase == "superseded"
    until(lambda: newest(rig).phase in ("scaling", "stepping"), "it is under way")
    say("default", "a", "promote")
    until(lambda: newest(rig).phase == "promoted", "it has all of the traffic")
    until(lambda: weights(rig).get("default.a-2") == 100, "gateways are told")
    assert [one.number for one in client(rig).everything("default", "a")] == [first + 1, first]
    said = [one.action.partition(" ")[0] for one in rig.client.journal(endpoint="a")]
    for action in ("PauseRollout", "ResumeRollout", "AbortRollout", "RetryRollout", "PromoteRollout"):
        assert said.count(action) == 1


def test_what_the_endpoint_does_not_ask_for_any_more_is_not_tried_again(canary: Rig) -> None:
    client(canary).say("default", "a", "abort")
    until(lambda: newest(canary).phase == "rolled-back", "it was taken back")
    apply(canary, "m@1")
    assert "asks for something else than default.a-2 now" in refused(canary, "retry")


def test_an_order_outlives_a_control_that_is_killed_before_it_is_done(canary: Rig) -> None:
    rig = canary
    control = rig.processes()["control"]
    client(rig).say("default", "a", "pause")
    rig.kill_control()
    until(lambda: rig.processes().get("control") not in (None, control) and rig.is_ready(), "control is back")
    assert newest(rig).phase == "paused"
    client(rig).say("default", "a", "resume")
    until(lambda: newest(rig).phase == "stepping", "it goes on")


def judged(id_: str, bad: int = 0, metric: str = "judge_fail", **more: Any) -> dict[str, Any]:
    """Return what a judge tells of 100 answers of each arm."""
    counts = {"canary": {"total": 100, "bad": bad}, "baseline": {"total": 100, "bad": 0}}
    return {"id": id_, "metric": metric, **counts, **more}


def test_a_judge_of_ones_own_takes_the_traffic_away_and_a_second_delivery_counts_nothing(canary: Rig) -> None:
    tell = client(canary).judged
    first = tell("default", "a", judged("1", bad=2))
    again = tell("default", "a", judged("1", bad=2))
    assert (first.counted, again.counted) == (True, False)
    assert again.canary == first.canary
    assert (first.canary.bad, first.canary.total) == (2, 100)
    line = until(
        lambda: next((each for each in newest(canary).lines if each.metric == "judge_fail"), None), "it is judged"
    )
    assert line.part < 1
    tell("default", "a", judged("2", bad=40))
    until(lambda: newest(canary).phase in ("returning", "rolled-back"), "the judge's word counts")
    assert "judge_fail: 42 of 200" in newest(canary).because
    until(lambda: newest(canary).phase == "rolled-back", "the baseline serves")
    with pytest.raises(Conflict, match="nothing is judged now"):
        tell("default", "a", judged("3"))


@pytest.mark.parametrize(
    ("counts", "field"),
    [
        (judged("1", metric="error"), "metric"),
        (judged("1", metric="wrong"), "metric"),
        (judged("1", metric="A b"), "metric"),
        (judged("", bad=1), "id"),
        (judged("1", bad=101), "canary.bad"),
        (judged("1", canary={"total": -1, "bad": 0}), "canary.total"),
        (judged("1", canary={"total": 10**12, "bad": 0}), "canary.total"),
        (judged("1", other=1), "other"),
    ],
)
def test_what_a_judge_cannot_say_is_refused_with_its_field(
    rig_with_nothing: Rig, counts: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as wrong:
        client(rig_with_nothing).judged("default", "a", counts)
    assert wrong.value.field == field


@pytest.fixture(scope="module")
def rig_with_nothing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rig = Rig(tmp_path_factory.mktemp("orders") / "h")
    rig.start()
    yield rig
    rig.close()


def test_who_never_rolled_out_has_no_rollout(rig_with_nothing: Rig, tmp_path: Path) -> None:
    rig = rig_with_nothing
    rig.push("m", python_model(tmp_path / "m"), tasks=("predict",))
    rig.request("POST", "/api/v1/apply", endpoint("quiet"))
    assert client(rig).everything("default") == ()
    for ask in ("projects/default/endpoints/quiet/rollout", "projects/default/rollouts/1", "projects/x/rollouts/x"):
        assert rig.request("GET", f"/api/v1/{ask}")[0] == 404
    status, body, _ = rig.request("POST", "/api/v1/projects/default/endpoints/quiet/rollout", {"order": "pause"})
    assert (status, "had no rollout yet" in body["error"]["message"]) == (404, True)
    assert rig.request("POST", "/api/v1/projects/default/endpoints/quiet/rollout", {"order": "melt"})[0] == 400
    key = rig.client.create_key("default", "caller", admin=False, expires_in_s=60).key
    assert rig.request("GET", "/api/v1/projects/default/rollouts", key=key)[0] == 403
