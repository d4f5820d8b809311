"""An objective that judges each tenant or segment by itself, and one that judges means, over a real history."""

import msgspec
import pytest

from stoker.core.slo import label
from stoker.core.snapshot import EndpointState
from stoker.observe.objectives.judge import Judge, Standing
from stoker.observe.objectives.parts import EVERY_S, Parts
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint, EndpointSpec, Metadata
from stoker.types.slos import Objective, Slices
from tests.observe.rig import Counting, Rig

WHOSE = {"project": "default", "endpoint": "a"}
RIGHT = Objective(name="right", sli="quality", at_least=0.5, target=0.9, window="1d", each="segment", each_max=2)
TENANTS = Objective(name="answers", target=0.9, window="1d", each="tenant")
WORTH = Objective(
    name="worth", sli="business", metric="revenue", at_least=10.0, target=0.5, window="1d", slices=Slices(mean=True)
)


class Desk:
    """A gateway that counts, control that judges and counts slices, and a history of both."""

    def __init__(self, rig: Rig, *slos: Objective) -> None:
        self.rig, self.gateway, self.control = rig, Counting(), Counting("control")
        resource = Endpoint(Metadata("a"), EndpointSpec(model="m", slos=slos))
        self.state = EndpointState(ProjectName("default"), EndpointName("a"), 1, resource, 0.0)
        self.judge = Judge(rig.history, self.control.registry)
        self.parts = Parts(rig.history)
        self.followed: dict[str, tuple[str, ...]] = {}

    def score(self, segment: str, *scores: float) -> None:
        histogram = self.gateway.registry.histogram("stoker_prediction_score_ratio", segment=segment, **WHOSE)
        for score in scores:
            histogram.observe(score)

    def earn(self, *amounts: float) -> None:
        labels = {**WHOSE, "segment": "", "metric": "revenue"}
        for amount in amounts:
            self.gateway.registry.histogram("stoker_feedback_amount", **labels).observe(amount)

    def look(self) -> dict[str, Standing]:
        self.rig.tick(self.gateway, self.control)
        now_s = self.rig.clock.now_s
        self.followed = self.rig.run(self.parts.look([self.state], self.followed, now_s))
        looked = self.rig.run(self.judge.look([self.state], {}, self.followed, lambda _state: {}, now_s))
        return {label(each.objective): each for each in looked}


def test_each_of_the_busiest_segments_has_a_budget_of_its_own(rig: Rig) -> None:
    desk = Desk(rig, RIGHT)
    desk.look()  # a series counts from when it was first seen
    for segment, scores in {"eu": [1.0] * 40, "us": [0.0] * 30, "small": [1.0], "": [0.0] * 99}.items():
        desk.score(segment, *scores)
    standings = desk.look()
    assert standings == {}  # asked a moment ago
    rig.clock.now_s += EVERY_S
    standings = desk.look()
    assert {name: each.decision.attained for name, each in standings.items()} == {"right/eu": 1.0, "right/us": 0.0}
    assert {each.key for each in standings.values()} == {"default/a/right/eu", "default/a/right/us"}


def test_tenants_are_those_that_asked_most_and_the_rest_together_is_nobody(rig: Rig) -> None:
    desk = Desk(rig, msgspec.structs.replace(TENANTS, each_max=1))
    desk.look()
    for tenant, count in {"ada": 9, "bob": 5, "_other": 99}.items():
        labels = {**WHOSE, "tenant": tenant}
        desk.gateway.registry.counter("stoker_tenant_requests_total", code="200", **labels).add(count)
        desk.gateway.registry.counter("stoker_tenant_first_attempts_total", outcome="bad", **labels).add(count)
    rig.clock.now_s += EVERY_S
    assert desk.look()["answers/ada"].objective.tenant == "ada"
    assert desk.followed == {"default/a/answers": ("ada",)}


def test_a_slice_is_as_good_as_its_mean_however_single_values_were(rig: Rig) -> None:
    desk = Desk(rig, WORTH)

    def minute(*amounts: float) -> dict[str, Standing]:
        for at in range(12):
            desk.earn(*(amounts if at == 6 else ()))
            standings = desk.look()
        return standings

    minute(10.0)  # the first look is in it: it is not judged
    minute(1.0, 1.0, 40.0)  # 14
    minute(12.0, 12.0, 2.0)  # 8.7
    minute()  # nobody was failed
    found = minute(100.0)
    assert found["worth"].decision.attained == pytest.approx(2 / 3)
