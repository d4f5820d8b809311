"""An objective that budgets by slices: what requests did in each minute, over the history, to the budget."""

import msgspec
import pytest

from stoker.core.snapshot import EndpointState
from stoker.observe.objectives.judge import Judge, Standing
from stoker.observe.objectives.slis import SLICES
from stoker.observe.port import select
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint, EndpointSpec, Metadata
from stoker.types.slos import Objective, Slices
from tests.observe.rig import Counting, Rig

WHOLE = Objective(name="minutes", target=0.9, window="1d", slices=Slices(target=0.95))
SHARES = msgspec.structs.replace(WHOLE, name="shares", slices=Slices())
EVENTS = Objective(name="events", target=0.9, window="1d")


class Desk:
    """A gateway that answers, control that judges, and a history of both."""

    def __init__(self, rig: Rig, *slos: Objective) -> None:
        self.rig, self.gateway = rig, Counting()
        self.restart(*slos)

    def restart(self, *slos: Objective) -> None:
        """Have another control process judge from now on."""
        self.control = Counting("control")
        self.control.starts = int(self.rig.clock.now_s)
        self.judge = Judge(self.rig.history, self.control.registry)
        self.promise(*slos)

    def promise(self, *slos: Objective) -> None:
        resource = Endpoint(Metadata("a"), EndpointSpec(model="m", slos=slos))
        self.state = EndpointState(ProjectName("default"), EndpointName("a"), 1, resource, 0.0)

    def minute(self, good: int = 0, bad: int = 0) -> dict[str, Standing]:
        """Let a minute pass in which so much was answered, evenly; return how the objectives stand at its end."""
        for _ in range(12):
            for outcome, count in (("good", good), ("bad", bad)):
                labels = {"project": "default", "endpoint": "a", "revision": "default.a-1", "outcome": outcome}
                self.gateway.registry.counter("stoker_first_attempts_total", **labels).add(count)
            standings = self.look()
        return standings

    def look(self) -> dict[str, Standing]:
        self.rig.tick(self.gateway, self.control)
        looked = self.judge.look([self.state], {}, {}, lambda _state: {}, self.rig.clock.now_s)
        return {each.objective.name: each for each in self.rig.run(looked)}


def attained(standings: dict[str, Standing]) -> dict[str, float | None]:
    return {name: each.decision.attained for name, each in standings.items()}


def test_each_minute_counts_alike_and_a_quiet_one_is_good(rig: Rig) -> None:
    desk = Desk(rig, WHOLE, SHARES, EVENTS)
    desk.minute()  # the first look is in it: it is not judged
    desk.minute(good=1000)
    desk.minute(bad=1)
    desk.minute(good=24, bad=1)  # 96 %
    desk.minute()
    desk.minute(good=9, bad=1)
    found = attained(desk.minute())  # what was judged at its beginning is in the history by its end
    assert found["minutes"] == pytest.approx(3 / 5)
    assert found["shares"] == pytest.approx((1 + 0 + 0.96 + 1 + 0.9) / 5)
    assert found["events"] == pytest.approx(1033 / 1036)


def test_control_that_restarts_counts_no_slice_twice_and_none_that_it_saw_in_part(rig: Rig) -> None:
    desk = Desk(rig, WHOLE)
    desk.minute()
    desk.minute(bad=1)
    desk.look()  # and the judged minute is taken at the next one
    desk.look()
    desk.restart(WHOLE)
    for _ in range(10):
        desk.look()  # the rest of the minute that it began in
    for _ in range(3):
        desk.minute(good=1)
    total = rig.run(rig.history.sums_by(select(SLICES, endpoint="a"), ("outcome",), [3600.0]))
    assert total == {("bad",): (1.0,), ("good",): (2.0,)}


def test_an_objective_that_is_gone_or_budgets_by_events_again_leaves_no_series(rig: Rig) -> None:
    desk = Desk(rig, WHOLE, SHARES)
    for _ in range(3):
        desk.minute(good=1)
    assert len(desk.control.registry.snapshot().matching(SLICES)) == 4
    desk.promise(WHOLE, msgspec.structs.replace(SHARES, slices=None))
    standings = desk.minute(good=1)
    assert {one.labels[2] for one in desk.control.registry.snapshot().matching(SLICES)} == {"minutes"}
    assert standings["shares"].decision.attained == 1.0
