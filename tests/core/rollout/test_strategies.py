"""What an operator who ships a version asks of each strategy, played on a small platform without processes."""

import msgspec
import pytest

from stoker.core import traffic
from stoker.core.actions import SetServing
from stoker.core.conditions import READY, RELEASED, find, newer, under_way
from stoker.core.gate.law import DossierState
from stoker.core.rollout.course import canary_s, resolve
from stoker.types.faults import BAD_REVISION
from stoker.types.releases import Gates
from stoker.types.rollouts import ArmCounts, Arms, Hook, Mirror, Rollout, RolloutCounts
from stoker.types.routes import RouteTable
from stoker.types.slos import Objective
from tests.core.worlds import NO_GATES, World

GOES_FIRST = "default.a-1 has that room: `rollout.strategy: recreate` has it go first"
STEP = Rollout(strategy="canary", steps=(10, 50), dwell="60s", requests_min=50)
GOOD, BASE = (60, 1), (540, 9)


def shipping(rollout: Rollout, replicas: int = 2, cores: tuple[float, ...] = (6.0,), **spec: object) -> World:
    """A platform on which version 1 serves, and version 2 was just asked for."""
    world = World(cores)
    world.apply("a", model=1, replicas=replicas, rollout=rollout, **spec)
    world.settle()
    world.apply("a", model=2, replicas=replicas, rollout=rollout, **spec)
    return world


def load(world: World, turns: int = 4) -> None:
    for _ in range(turns):
        world.turn()
        world.work()
        world.now_s += 0.6
    world.turn()


def table(world: World) -> RouteTable:
    snapshot = world.snapshot()
    return traffic.route_table(
        snapshot.endpoints, snapshot.revisions, snapshot.assignments, (), {}, str, snapshot.rollouts
    )


def shares(world: World) -> dict[str, int]:
    return {str(each.revision): each.weight for each in table(world).endpoints[0].revisions}


def step(world: World, canary: tuple[int, int] = GOOD, baseline: tuple[int, int] = BASE) -> None:
    """A minute of a step with so many requests (all, failed)."""
    world.count(canary, baseline)
    world.now_s += 61.0
    load(world)


def condition(world: World) -> tuple[str, str]:
    found = next(each for each in world.status("a").conditions if each.type == "Progressing")
    return found.reason, found.message


def test_a_good_canary_goes_through_its_steps_and_takes_over_when_all_its_replicas_are_ready() -> None:
    world = shipping(STEP)
    load(world)
    assert (world.rollout.phase, shares(world)) == ("stepping", {"default.a-1": 90, "default.a-2": 10})
    assert len(world.replicas("default.a-2")) == 1
    assert condition(world) == ("RollingOut", "canary: default.a-2 has 10 % of the traffic (step 1 of 2)")
    step(world)
    assert shares(world) == {"default.a-1": 50, "default.a-2": 50}
    step(world, (300, 5), (300, 5))
    world.settle()
    assert world.rollout.phase == "promoted"
    assert shares(world) == {"default.a-2": 100}
    assert len(world.replicas("default.a-2")) == 2
    assert world.endpoints["a"].serving == "default.a-2"
    assert [each.event for each in world.timeline if each.event != "look"] == [
        "began", "released", "ready", "passed", "ready", "passed", "arrived", "kept",
    ]  # fmt: skip


def test_replicas_of_the_next_step_are_ready_before_it_gets_its_traffic() -> None:
    world = shipping(STEP, replicas=4)
    load(world)
    world.count(GOOD, BASE)
    world.now_s += 61.0
    world.turn()
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("scaling", 10)
    load(world)
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("stepping", 50)
    assert len(world.replicas("default.a-2")) == 2


def test_a_worse_canary_loses_its_traffic_in_the_turn_that_sees_it_and_is_not_begun_again() -> None:
    world = shipping(STEP)
    load(world)
    world.count((60, 30), BASE)
    world.turn()
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("rolled-back", 0)
    world.settle()
    assert world.endpoints["a"].serving == "default.a-1"
    assert world.replicas("default.a-2") == []
    assert len(world.replicas("default.a-1")) == 2
    reason, message = condition(world)
    assert reason == "RolledBack"
    assert message.startswith("default.a-2 was rolled back: error: 30 of 60 (50.00%) in the canary, 9 of 540")
    world.apply("a", model=2, replicas=2, rollout=STEP, coalesce=True)  # something else of the spec changes
    world.settle()
    assert len(world.rollouts) == 1
    world.apply("a", model=3, replicas=2, rollout=STEP)
    load(world)
    assert (world.rollout.canary, world.rollout.baseline) == ("default.a-3", "default.a-1")


def test_a_cohort_that_is_broken_is_found() -> None:
    world = shipping(msgspec.structs.replace(STEP, segments=("tenant",)))
    load(world)
    bad = Arms(ArmCounts(6, {"error": 6}), ArmCounts(54, {"error": 1}))
    world.count((100, 7), (900, 9), cohorts={"tenant=acme": bad})
    world.turn()
    assert world.rollout.phase == "rolled-back"
    assert world.rollout.because.startswith("error of tenant=acme: 6 of 6 (100.00%)")


def test_with_too_little_traffic_it_holds_and_says_what_it_waits_for() -> None:
    world = shipping(STEP)
    load(world)
    for _ in range(10):
        step(world, (2, 0), (18, 0))
        world.now_s += 3_600.0
    assert (world.rollout.phase, world.rollout.weight) == ("stepping", 10)
    looks = [each.because for each in world.timeline if each.event == "look"]
    assert looks[-1] == "20 of 50 requests of this step have come to the canary"


@pytest.mark.parametrize(
    ("said", "strategy", "phase", "weight", "event"),
    [
        ("abort", "canary", "rolled-back", 0, "inconclusive"),
        ("promote", "canary", "stepping", 50, "passed"),
        ("hold", "canary", "stepping", 10, "look"),
        ("abort", "a-b", "reported", 0, "reported"),
    ],
)
def test_a_step_that_cannot_be_judged_in_its_time_ends_as_the_manifest_says_and_the_timeline_tells_why(
    said: str, strategy: str, phase: str, weight: int, event: str
) -> None:
    spec = msgspec.structs.replace(STEP, strategy=strategy, inconclusive=said, analysis="2h")
    world = shipping(spec)
    load(world)
    step(world, (20, 0), (180, 0))
    world.now_s += 7_100.0
    load(world)
    assert world.rollout.phase == "stepping"
    world.now_s += 100.0
    load(world)
    assert (world.rollout.phase, world.rollout.weight) == (phase, weight)
    found = next(each for each in reversed(world.timeline) if each.because.startswith("inconclusive"))
    assert found.event == event
    assert found.because == (
        "inconclusive: 2h after its dwell this step cannot be judged; "
        "20 of 50 requests of this step have come to the canary"
    )


def test_a_canary_that_refuses_what_the_baseline_answers_is_inconclusive_when_its_dwell_is_over() -> None:
    world = shipping(STEP)
    load(world)
    world.count((0, 0), (540, 0), unjudged=(60, 3))
    load(world)
    assert world.rollout.phase == "stepping"
    step(world, (0, 0), (0, 0))
    assert world.rollout.phase == "rolled-back"
    assert world.rollout.because == (
        "inconclusive: it refused, or found at fault, 60 of 60 requests of this step, the baseline 3 of 543"
    )


def test_callers_who_are_at_fault_in_both_arms_say_nothing_of_the_canary() -> None:
    world = shipping(STEP)
    load(world)
    world.count((0, 0), (0, 0), unjudged=(60, 540))
    step(world, (10, 0), (90, 0))
    assert world.rollout.phase == "stepping"


def test_all_of_the_first_requests_failing_is_enough() -> None:
    world = shipping(STEP)
    load(world)
    world.count((10, 10), (90, 0))
    world.turn()
    assert world.rollout.because == "all of the first 10 requests of the canary failed"


def test_a_gateway_that_went_back_by_itself_ends_it() -> None:
    world = shipping(STEP)
    load(world)
    world.count((0, 0), (9, 0), reverted="its first 10 requests failed")
    world.turn()
    assert world.rollout.because == "a gateway went back to default.a-1 by itself: its first 10 requests failed"


@pytest.mark.parametrize("killed_for", ["", "memory"])
def test_a_canary_that_crashes_or_takes_too_much_memory_is_taken_back(killed_for: str) -> None:
    world = shipping(STEP)
    load(world)
    (replica,) = world.replicas("default.a-2")
    process = world.processes["n0"][replica]
    crashes = 1 if killed_for else 3
    world.processes["n0"][replica] = msgspec.structs.replace(
        process, phase="backoff", crashes_in_row=crashes, killed_for=killed_for, last_error="it is over its memory"
    )
    world.turn()
    assert world.rollout.phase == "rolled-back"
    assert "it is over its memory" in world.rollout.because


def test_a_canary_without_room_is_taken_back_when_its_time_is_over_and_the_arithmetic_is_the_reason() -> None:
    world = shipping(msgspec.structs.replace(STEP, progress="10m"), cores=(2.5,))
    load(world)
    assert condition(world)[0] == "NoCapacity"
    world.now_s += 601.0
    world.turn()
    assert world.rollout.phase == "rolled-back"
    assert world.rollout.because == f"needs 1.0 core, largest free is 0.5 on node n0; {GOES_FIRST}"


def test_a_pause_stops_going_on_but_not_going_back() -> None:
    world = shipping(STEP)
    load(world)
    world.order("pause")
    step(world)
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("paused", 10)
    world.order("resume")
    load(world)
    assert (world.rollout.phase, world.rollout.arrivals.total) == ("stepping", 0)
    world.order("pause")
    world.turn()
    world.count((60, 30), BASE)
    world.turn()
    assert world.rollout.phase == "rolled-back"


def test_who_lists_endpoints_sees_how_far_a_rollout_is_and_whom_it_waits_for() -> None:
    world = shipping(msgspec.structs.replace(STEP, pause_at=(10,)))
    load(world)
    assert under_way(world.status("a")) == "#2 is paused, with 10 % of the traffic (step 1 of 2)"
    world.order("resume")
    load(world)
    assert under_way(world.status("a")) == "#2 has 10 % of the traffic (step 1 of 2)"
    split = shipping(Rollout(strategy="a-b", requests_min=50))
    load(split)
    step(split, (300, 3), (300, 3))
    assert under_way(split.status("a")) == "#2 waits to be promoted or aborted"
    split.order("promote")
    load(split)
    split.settle()
    assert under_way(split.status("a")) == ""


def test_it_waits_where_the_manifest_says_so_and_goes_on_when_somebody_says_so() -> None:
    world = shipping(msgspec.structs.replace(STEP, pause_at=(10,)))
    load(world)
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("paused", 10)
    world.order("resume")
    load(world)
    assert world.rollout.phase == "stepping"
    step(world)
    assert shares(world).get("default.a-2", 0) == 50


def test_somebody_promotes_before_there_is_evidence() -> None:
    world = shipping(STEP)
    load(world)
    world.order("promote")
    load(world)
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-2")


def test_somebody_aborts() -> None:
    world = shipping(STEP)
    load(world)
    world.order("abort")
    world.turn()
    assert (world.rollout.phase, world.rollout.because) == ("rolled-back", "asked to abort")
    assert shares(world)["default.a-1"] == 100


def test_blue_green_switches_once_everything_is_ready_and_keeps_blue_for_an_instant_return() -> None:
    world = shipping(Rollout(strategy="blue-green"))
    world.turn()
    world.work()
    assert shares(world).get("default.a-2", 0) == 0
    load(world)
    assert (world.rollout.phase, shares(world)) == ("keeping", {"default.a-1": 0, "default.a-2": 100})
    assert len(world.replicas("default.a-1")) == 2
    world.order("abort")
    world.turn()
    assert (world.rollout.phase, shares(world)["default.a-1"]) == ("rolled-back", 100)
    assert world.endpoints["a"].serving == "default.a-1"


def test_green_serves_on_until_a_replica_of_blue_is_back() -> None:
    world = shipping(Rollout(strategy="blue-green"))
    load(world)
    for replica in world.replicas("default.a-1"):
        process = world.processes["n0"][replica]
        world.processes["n0"][replica] = msgspec.structs.replace(process, phase="loading")
    world.order("abort")
    world.turn()
    assert (world.rollout.phase, world.rollout.weight) == ("returning", 0)
    assert shares(world)["default.a-2"] == 100
    assert len(world.replicas("default.a-2")) == 2
    world.settle()
    assert (world.rollout.phase, shares(world)) == ("rolled-back", {"default.a-1": 100})


def test_blue_goes_when_its_time_is_over() -> None:
    world = shipping(Rollout(strategy="blue-green", keep="5m"))
    load(world)
    world.now_s += 301.0
    world.settle()
    assert (world.rollout.phase, world.replicas("default.a-1")) == ("promoted", [])


def test_recreate_needs_no_room_for_both() -> None:
    world = shipping(Rollout(strategy="recreate"), cores=(2.0,))
    world.turn()
    assert world.rollout.phase == "clearing"
    assert condition(world)[0] == "Clearing"
    assert table(world).endpoints[0].holds
    for _ in range(12):
        world.turn()
        world.work()
        world.now_s += 0.6
        alive = {*world.replicas("default.a-1"), *world.replicas("default.a-2")}
        assert len(alive) <= 2
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-2")
    assert not table(world).endpoints[0].holds


def test_recreate_brings_the_old_one_back_when_the_new_one_cannot_start() -> None:
    world = shipping(Rollout(strategy="recreate"), cores=(2.0,))
    world.broken.add(2)
    for _ in range(25):
        world.turn()
        world.work()
        world.now_s += 0.6
    world.settle()
    assert world.rollout.phase == "rolled-back"
    assert len(world.replicas("default.a-1")) == 2
    assert condition(world)[0] == "RolledBack"


WAITS = DossierState("pending", "golden: waits until default.a-1 has made room", swaps=True)


def test_gates_of_recreate_are_asked_in_the_place_of_the_old_one_and_before_any_traffic() -> None:
    world = shipping(Rollout(strategy="recreate"), cores=(2.0,))
    world.dossiers["default.a-2"] = DossierState("pending", "golden: default.a-1 is asked before it goes")
    load(world)
    assert (world.rollout.phase, len(world.replicas("default.a-1"))) == ("gating", 2)
    world.dossiers["default.a-2"] = WAITS
    load(world, 16)
    assert (world.rollout.phase, world.rollout.weight) == ("scaling", 0)
    assert (len(world.replicas("default.a-2")), world.replicas("default.a-1")) == (2, [])
    assert table(world).endpoints[0].holds
    assert shares(world).get("default.a-2", 0) == 0
    assert condition(world)[0] == "Gating"
    ready = find(world.status("a").conditions, READY)
    assert ready is not None
    assert ready.message.startswith("default.a-2 waits for its gates: golden")
    assert ready.message.endswith("; requests wait")
    world.dossiers["default.a-2"] = DossierState("complete", "3 gates passed")
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-2")
    assert [each.event for each in world.timeline] == ["began", "measured", "cleared", "arrived", "kept"]


@pytest.mark.parametrize("turns", [1, 16])
def test_what_recreate_does_not_let_through_gives_the_place_back_by_itself(turns: int) -> None:
    world = shipping(Rollout(strategy="recreate"), cores=(2.0,))
    world.dossiers["default.a-2"] = WAITS
    load(world, turns)
    world.dossiers["default.a-2"] = DossierState("refused", "golden: 0.31 of 0.95")
    for _ in range(25):
        world.turn()
        world.work()
        world.now_s += 0.6
    world.settle()
    assert (world.rollout.phase, world.rollout.because) == ("rolled-back", "golden: 0.31 of 0.95")
    assert (len(world.replicas("default.a-1")), world.replicas("default.a-2")) == (2, [])
    assert shares(world) == {"default.a-1": 100}
    assert not table(world).endpoints[0].holds


def test_gates_of_recreate_that_never_end_give_the_place_back_too() -> None:
    world = shipping(Rollout(strategy="recreate", progress="10m"), cores=(2.0,))
    world.dossiers["default.a-2"] = WAITS
    load(world, 16)
    world.now_s += 601.0
    world.turn()
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("rolled-back", "default.a-1")


def held(unanswered: str = "refuse", strategy: str = "canary") -> World:
    hook = Hook(
        "https://user:pass@ci.example:8443/approve?token=secret", holds=True, within="10m", unanswered=unanswered
    )
    world = shipping(msgspec.structs.replace(STEP, strategy=strategy, hooks=(hook,)))
    load(world)
    return world


def test_a_hook_that_holds_is_asked_once_the_gates_are_passed() -> None:
    world = held()
    assert (world.rollout.phase, shares(world)) == ("awaiting", {"default.a-1": 100, "default.a-2": 0})
    assert world.rollout.because == "it has no gates; ci.example:8443 has 10m to approve it"
    assert condition(world)[0] == "Awaiting"
    assert len(world.replicas("default.a-2")) == 1  # warm for when it is approved
    world.order("approve")
    load(world)
    assert (world.rollout.phase, shares(world)["default.a-2"]) == ("stepping", 10)
    assert world.rollout.approved == "approve by a test"
    assert [each.event for each in world.timeline[:5]] == ["began", "asked", "approve", "released", "ready"]


def test_a_denial_refuses_and_what_serves_serves_on() -> None:
    world = held()
    world.order("deny")
    world.turn()
    world.settle()
    assert (world.rollout.phase, world.rollout.because) == ("refused", "deny by a test")
    assert (shares(world), world.replicas("default.a-2")) == ({"default.a-1": 100}, [])


@pytest.mark.parametrize(("unanswered", "phase"), [("refuse", "refused"), ("release", "stepping")])
def test_nobody_is_waited_for_longer_than_the_spec_says(unanswered: str, phase: str) -> None:
    world = held(unanswered)
    world.now_s += 590.0
    world.turn()
    assert world.rollout.phase == "awaiting"
    world.now_s += 11.0
    load(world)
    assert world.rollout.phase == phase
    said = [each.because for each in world.timeline if each.event in ("unanswered", "lapsed")]
    assert said[0].startswith("ci.example:8443 did not approve it within 10m")


def test_gates_that_changed_while_somebody_thought_are_asked_again() -> None:
    world = held()
    world.dossiers["default.a-2"] = DossierState("pending", "by new gates")
    world.order("approve")
    load(world)
    assert (world.rollout.phase, world.rollout.weight) == ("gating", 0)
    world.dossiers["default.a-2"] = DossierState("complete", "2 gates passed")
    load(world)
    assert world.rollout.phase == "stepping"


def test_an_approval_comes_before_the_old_replicas_go() -> None:
    world = held(strategy="recreate")
    assert (world.rollout.phase, len(world.replicas("default.a-1"))) == ("awaiting", 2)
    world.order("approve")
    world.turn()
    assert world.rollout.phase == "clearing"


def test_a_way_back_asks_nobody() -> None:
    world = held()
    world.order("approve")
    load(world)
    world.order("promote")
    load(world)
    world.settle()
    world.dossiers["default.a-1"] = DossierState("complete", has_served=True)
    world.apply("a", model=1, replicas=2, rollout=world.rollout.spec)
    load(world)
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-1")


def test_a_shadow_gets_copies_and_no_traffic_and_is_promoted_when_it_agrees() -> None:
    world = shipping(Rollout(strategy="shadow", requests_min=50))
    load(world)
    assert shares(world) == {"default.a-1": 100, "default.a-2": 0}
    route = table(world).endpoints[0].rollout
    assert route is not None
    assert route.mirror == Mirror()
    world.count((60, 0), (60, 0), copies=60, disagreements=0)
    world.now_s += 61.0
    load(world)
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-2")


def test_a_shadow_whose_copies_wait_is_not_taken_for_slow() -> None:
    world = shipping(Rollout(strategy="shadow", requests_min=50))
    load(world)
    for at in range(1, 20):
        arms = Arms(ArmCounts(60 * at, {}, {8: 60 * at}), ArmCounts(60 * at, {}, {-40: 60 * at}))
        world.readings[1] = {"g0": RolloutCounts(1, arms, copies=60 * at)}
        world.turn()
    assert world.rollout.phase == "stepping"


def test_a_shadow_that_answers_differently_is_taken_back() -> None:
    world = shipping(Rollout(strategy="shadow"))
    load(world)
    world.count((60, 0), (60, 0), copies=60, disagreements=18)
    world.turn()
    assert world.rollout.phase == "rolled-back"
    assert world.rollout.because == ("18 of 60 (30.00%) of the copied requests were answered differently; 2.0% may be")


def test_an_a_b_ends_with_a_report_and_promotes_only_when_somebody_says_so() -> None:
    world = shipping(Rollout(strategy="a-b", requests_min=50))
    load(world)
    assert shares(world) == {"default.a-1": 50, "default.a-2": 50}
    step(world, (300, 3), (300, 3))
    assert (world.rollout.phase, shares(world)) == ("reported", {"default.a-1": 100})
    assert condition(world)[0] == "Reported"
    world.order("promote")
    load(world)
    world.settle()
    assert world.endpoints["a"].serving == "default.a-2"


def test_a_judges_own_metric_counts() -> None:
    world = shipping(STEP)
    load(world)
    world.posted[1] = {"judge": Arms(ArmCounts(60, {"judge": 30}), ArmCounts(60, {"judge": 1}))}
    world.turn()
    assert world.rollout.because == "judge: 30 of 60 (50.00%) in the canary, 1 of 60 (1.67%) before"


def test_nothing_takes_traffic_before_its_dossier_is_complete() -> None:
    world = shipping(STEP)
    world.dossiers["default.a-2"] = DossierState("pending")
    for _ in range(3):
        load(world)
    assert (world.rollout.phase, shares(world).get("default.a-2", 0)) == ("gating", 0)
    assert len(world.replicas("default.a-2")) == 1  # for the gates to measure
    world.dossiers["default.a-2"] = DossierState("refused", "golden set: 0.31 of 0.95")
    world.turn()
    world.settle()
    assert world.rollout.phase == "refused"
    reason, message = condition(world)
    assert (reason, message.split(";")[0]) == ("Refused", "default.a-2 was refused: golden set: 0.31 of 0.95")
    world.dossiers["default.a-2"] = DossierState("pending")  # other gates hold now, and nobody asks them
    world.turn()
    released = find(world.status("a").conditions, RELEASED)
    assert released is not None
    assert (released.status, released.reason) == (False, "Refused")
    assert "0.31 of 0.95; `stoker rollouts retry a` has it judged" in released.message
    assert newer(world.status("a")) == "#2 was refused"


def test_a_revision_that_is_just_being_made_has_not_passed_its_gates() -> None:
    world = World()
    world.apply("a", model=1, gates=NO_GATES)
    world.settle()
    world.apply("a", model=2, gates=Gates())
    world.turn()
    assert (world.rollout.canary, world.rollout.phase) == ("default.a-2", "gating")
    world.dossiers["default.a-2"] = DossierState("pending")
    load(world)
    assert world.rollout.phase == "gating"


def test_gates_that_no_replica_can_be_measured_for_do_not_wait_for_ever() -> None:
    world = shipping(msgspec.structs.replace(STEP, progress="10m"), cores=(2.5,))
    world.dossiers["default.a-2"] = DossierState("pending")
    load(world)
    assert world.rollout.phase == "gating"
    world.now_s += 601.0
    world.turn()
    assert (world.rollout.phase, world.rollout.because[:15]) == ("rolled-back", "needs 1.0 core,")


def test_the_first_revision_waits_for_its_dossier_too() -> None:
    world = World()
    world.apply("a", model=1)
    world.dossiers["default.a-1"] = DossierState("pending")
    load(world, 8)
    assert world.endpoints["a"].serving == ""
    world.dossiers["default.a-1"] = DossierState("complete")
    world.turn()
    assert world.endpoints["a"].serving == "default.a-1"


def test_another_version_takes_the_place_of_a_rollout_and_begins_from_what_serves() -> None:
    world = shipping(STEP)
    load(world)
    world.apply("a", model=3, replicas=2, rollout=STEP)
    load(world)
    assert [each.phase for each in world.rollouts] == ["superseded", "stepping"]
    assert shares(world) == {"default.a-1": 90, "default.a-3": 10}


@pytest.mark.parametrize(("has_served", "strategy"), [(True, "direct"), (False, "canary")])
def test_applying_the_manifest_of_yesterday_is_a_way_back_if_it_served(has_served: bool, strategy: str) -> None:
    world = shipping(STEP)
    world.apply("a", model=2, replicas=2, rollout=msgspec.structs.replace(STEP, strategy="direct"))
    load(world)
    world.order("promote")
    load(world)
    world.settle()
    assert world.endpoints["a"].serving == "default.a-2"
    world.dossiers["default.a-1"] = DossierState("complete", has_served=has_served)
    world.apply("a", model=1, replicas=2, rollout=STEP)
    load(world)
    assert (world.rollout.canary, world.rollout.strategy) == ("default.a-1", strategy)
    assert world.rollout.is_return is has_served


def test_asking_again_for_what_serves_ends_a_rollout() -> None:
    world = shipping(STEP)
    load(world)
    world.apply("a", model=1, replicas=2, rollout=STEP)
    world.turn()
    world.settle()
    assert (world.rollout.phase, shares(world)) == ("superseded", {"default.a-1": 100})


def test_an_endpoint_that_lives_again_serves_what_it_asks_for_and_not_the_canary_that_ran_beside() -> None:
    world = shipping(STEP)
    load(world)
    assert world.rollout.phase == "stepping"
    world.delete("a")
    world.apply("a", model=1, replicas=2)
    decided = world.turn()
    assert [each.revision for each in decided.actions if isinstance(each, SetServing)] == ["default.a-1"]


def test_a_fix_for_a_revision_that_is_down_is_not_held_up_by_steps() -> None:
    world = World((6.0,))
    world.apply("a", model=1, replicas=2, rollout=STEP)
    world.settle()
    world.broken.add(1)
    for _ in range(2):
        world.crash(0)
        world.crash(1)
    world.apply("a", model=2, replicas=2, rollout=STEP)
    load(world)
    world.settle()
    assert (world.rollout.strategy, world.endpoints["a"].serving) == ("direct", "default.a-2")


def test_auto_takes_a_canary_only_where_enough_comes_to_judge_one() -> None:
    spec = Rollout()
    assert canary_s(spec, 10.0) == 200.0 + 60.0
    assert resolve(spec, 10.0, serves=True)[0] == "canary"
    assert resolve(spec, 0.5, serves=True)[0] == "direct"
    assert resolve(spec, 0.0, serves=True) == (
        "direct", "auto: 0 requests/s are too few to judge a canary in 30 min",
    )  # fmt: skip
    assert resolve(spec, 10.0, serves=False)[0] == "direct"


def test_a_game_days_bad_revision_gets_all_of_the_traffic() -> None:
    world = World((6.0,))
    world.apply("a", model=1, replicas=2, rollout=STEP)
    world.settle()
    world.apply("a", model=1, replicas=2, rollout=STEP, env={BAD_REVISION: "{}"})
    load(world)
    world.settle()
    assert (world.rollout.strategy, world.rollout.phase) == ("direct", "promoted")


def test_slower_than_an_objective_allows_is_a_bad_event() -> None:
    world = shipping(STEP, slos=(Objective("fast", 0.99, "latency", under="200ms"), Objective("up", 0.999)))
    load(world)
    assert world.rollout.slow_s == 0.2


def test_a_deleted_endpoint_ends_its_rollout() -> None:
    world = shipping(STEP)
    load(world)
    world.delete("a")
    for _ in range(12):
        world.turn()
        world.work()
        world.now_s += 0.6
    assert (world.rollout.phase, world.assignments) == ("superseded", {})


@pytest.mark.parametrize("strategy", ["direct", "canary", "blue-green"])
def test_without_room_for_one_more_old_replicas_go_first_as_many_as_may_be_missing(strategy: str) -> None:
    way = msgspec.structs.replace(STEP, strategy=strategy, unavailable_max=1)
    world = shipping(way, cores=(2.0,))
    fewest = 2
    for _ in range(60):
        world.turn()
        world.work()
        if world.rollouts and world.rollout.phase == "stepping":
            world.count((60, 1), (60, 1))
        ready = [name for name, each in world.processes["n0"].items() if each.phase == "ready"]
        able = [each for each in world.assignments.values() if each.replica in ready and each.phase == "wanted"]
        fewest = min(fewest, sum(each.revision == world.endpoints["a"].serving for each in able))
        world.now_s += 30.0
    world.settle()
    assert fewest == 1, "one of two may be missing, never both"
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", "default.a-2")
    assert len(world.replicas("default.a-2")) == 2


@pytest.mark.parametrize("strategy", ["direct", "canary", "blue-green", "shadow", "a-b"])
def test_without_room_it_says_so_at_once_and_the_last_replica_never_goes_first(strategy: str) -> None:
    world = shipping(Rollout(strategy=strategy, unavailable_max=1), replicas=1, cores=(1.5,))
    load(world)
    assert condition(world) == ("NoCapacity", f"needs 1.0 core, largest free is 0.5 on node n0; {GOES_FIRST}")
    (old,) = world.replicas("default.a-1")
    assert world.assignments[old].phase == "wanted"
    assert shares(world)["default.a-1"] == 100


def test_what_went_first_comes_back_when_the_next_revision_is_no_good() -> None:
    world = shipping(Rollout(strategy="blue-green", unavailable_max=1), cores=(2.0,))
    world.broken.add(2)
    for _ in range(30):
        world.turn()
        world.work()
        world.now_s += 0.6
        assert sum(world.assignments[each].phase == "wanted" for each in world.replicas("default.a-1")) >= 1
    world.settle()
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("rolled-back", "default.a-1")
    assert len(world.replicas("default.a-1")) == 2
