"""What people say to rollouts, and what judges and labels tell of them: a real control with real replicas."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stoker.client.connection import Connection
from stoker.client.rollouts import RolloutClient, RolloutDetail, RolloutView, Said, Told
from stoker.types.errors import Conflict, InvalidInput, NotFound
from tests.control.rig import Rig, conditions, endpoint, python_model, until

HELD: dict[str, Any] = {"strategy": "canary", "steps": [5, 25, 50], "dwell": "0s", "requests_min": 1_000_000}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("orders")
    rig = Rig(folder / "h")
    try:
        rig.start_agent()
        for name, scale in (("a", 1), ("b", 2)):
            rig.push("m", python_model(folder / name, scale=scale), tasks=("predict",))
        yield rig
    finally:
        rig.close()


class Canary:
    """An endpoint whose second revision has 5 % of the traffic, and stays there for want of requests."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name
        self.client = RolloutClient(rig.client.connection)
        self.apply("m@1")
        until(lambda: rig.client.endpoint("default", name).status.serving, "the first revision serves")
        self.apply("m@2")
        self.goes("stepping", "the canary has its share")

    def apply(self, model: str) -> None:
        status, body, _ = self.rig.request("POST", "/api/v1/apply", endpoint(self.name, model, rollout=HELD))
        assert status == 200, body

    def revision(self, number: int) -> str:
        return f"default.{self.name}-{number}"

    def say(self, said: Said) -> RolloutView:
        return self.client.say("default", self.name, said)

    def tell(self, counts: dict[str, Any]) -> Told:
        return self.client.judged("default", self.name, counts)

    @property
    def newest(self) -> RolloutDetail:
        try:
            return self.client.newest("default", self.name)
        except NotFound:
            return RolloutDetail(0, "default", self.name, "canary", "gating", "", "", "")

    def goes(self, phase: str, what: str) -> None:
        until(lambda: self.newest.phase == phase, what)

    @property
    def weights(self) -> list[int]:
        """Return what gateways are told of the first and the second revision."""
        connection = Connection(f"unix:{self.rig.home.run / 'control-api.sock'}", self.rig.key)
        table = json.loads(connection.exchange("GET", "/internal/v1/routes", query={"after": -1}).body)
        (mine,) = (each for each in table["endpoints"] if each["endpoint"] == self.name)
        found = {each["revision"]: each["weight"] for each in mine["revisions"]}
        return [found.get(self.revision(number), 0) for number in (1, 2)]

    def refused(self, said: Said) -> str:
        with pytest.raises(Conflict) as wrong:
            self.say(said)
        return wrong.value.message


@pytest.fixture
def canary(platform: Rig, request: pytest.FixtureRequest) -> Iterator[Canary]:
    made = Canary(platform, f"e{sum(request.node.name.encode())}")
    yield made
    platform.request("DELETE", f"/api/v1/projects/default/endpoints/{made.name}")


def test_somebody_steers_a_rollout_by_hand_and_what_means_nothing_is_refused_with_why(canary: Canary) -> None:
    until(lambda: canary.weights == [95, 5], lambda: f"gateways are told: {canary.weights}")
    assert "is in a step; it can be told to pause, promote or abort" in canary.refused("resume")
    assert canary.say("pause").phase == "paused"
    assert "is paused; it can be told to resume, promote or abort" in canary.refused("pause")
    assert canary.weights == [95, 5]
    canary.say("resume")
    canary.goes("stepping", "its step began anew")
    assert "only one that was rolled back or refused is tried again" in canary.refused("retry")
    canary.say("abort")
    canary.goes("rolled-back", "it was taken back")
    assert canary.newest.because == "asked to abort"
    reason = "the condition says so"
    until(lambda: conditions(canary.rig, canary.name)["Progressing"].reason == "RolledBack", reason)
    assert f"was rolled back; `stoker rollouts retry {canary.name}` tries it again" in canary.refused("promote")
    first = canary.newest.number
    canary.say("retry")
    until(lambda: canary.newest.number > first, "it is tried again")
    assert canary.client.numbered("default", first).phase == "superseded"
    until(lambda: canary.newest.phase in ("scaling", "stepping"), "it is under way")
    canary.say("promote")
    canary.goes("promoted", "it has all of the traffic")
    until(lambda: canary.weights[1] == 100, "gateways are told")
    found = [one.number for one in canary.client.everything("default", canary.name)]
    assert found == [canary.newest.number, first]
    said = [one.action.partition(" ")[0] for one in canary.rig.client.journal(endpoint=canary.name, limit=1000)]
    for action in ("PauseRollout", "ResumeRollout", "AbortRollout", "RetryRollout", "PromoteRollout"):
        assert said.count(action) == 1


def test_what_the_endpoint_does_not_ask_for_any_more_is_not_tried_again(canary: Canary) -> None:
    canary.say("abort")
    canary.goes("rolled-back", "it was taken back")
    canary.apply("m@1")
    assert f"asks for something else than {canary.revision(2)} now" in canary.refused("retry")


def test_an_order_outlives_a_control_that_is_killed_before_it_is_done(canary: Canary) -> None:
    rig = canary.rig
    control = rig.processes()["control"]
    canary.say("pause")
    rig.kill_control()
    until(lambda: rig.processes().get("control") not in (None, control) and rig.is_ready(), "control is back")
    assert canary.newest.phase == "paused"
    canary.say("resume")
    canary.goes("stepping", "it goes on")


def judged(id_: str, bad: int = 0, metric: str = "judge_fail", **more: Any) -> dict[str, Any]:
    """Return what a judge tells of 100 answers of each arm."""
    counts = {"canary": {"total": 100, "bad": bad}, "baseline": {"total": 100, "bad": 0}}
    return {"id": id_, "metric": metric, **counts, **more}


def test_a_judge_of_ones_own_takes_the_traffic_away_and_a_second_delivery_counts_nothing(canary: Canary) -> None:
    first = canary.tell(judged("1", bad=2))
    again = canary.tell(judged("1", bad=2))
    assert (first.counted, again.counted) == (True, False)
    assert again.canary == first.canary
    assert (first.canary.bad, first.canary.total) == (2, 100)
    line = until(
        lambda: next((each for each in canary.newest.lines if each.metric == "judge_fail"), None), "it is judged"
    )
    assert line.part < 1
    canary.tell(judged("2", bad=40))
    until(lambda: canary.newest.phase in ("returning", "rolled-back"), "the judge's word counts")
    assert "judge_fail: 42 of 200" in canary.newest.because
    canary.goes("rolled-back", "the baseline serves")
    with pytest.raises(Conflict, match="nothing is judged now"):
        canary.tell(judged("3"))


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
def test_what_a_judge_cannot_say_is_refused_with_its_field(platform: Rig, counts: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        RolloutClient(platform.client.connection).judged("default", "a", counts)
    assert wrong.value.field == field


def test_who_never_rolled_out_has_no_rollout(platform: Rig) -> None:
    rig = platform
    rig.request("POST", "/api/v1/apply", endpoint("quiet", "m@1", replicas={"min": 0, "max": 0}))
    assert RolloutClient(rig.client.connection).everything("default", "quiet") == ()
    for ask in (
        "projects/default/endpoints/quiet/rollout",
        "projects/default/rollouts/999999",
        "projects/x/rollouts/x",
    ):
        assert rig.request("GET", f"/api/v1/{ask}")[0] == 404
    status, body, _ = rig.request("POST", "/api/v1/projects/default/endpoints/quiet/rollout", {"order": "pause"})
    assert (status, "had no rollout yet" in body["error"]["message"]) == (404, True)
    assert rig.request("POST", "/api/v1/projects/default/endpoints/quiet/rollout", {"order": "melt"})[0] == 400
    key = rig.client.create_key("default", "caller", admin=False, expires_in_s=60).key
    assert rig.request("GET", "/api/v1/projects/default/rollouts", key=key)[0] == 403
