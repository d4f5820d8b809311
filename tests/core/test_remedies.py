"""What an incident may do by itself: rarely, one thing at a time, only what fits and is allowed; what the loop makes of
it.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import actions, remedies
from stoker.core.diagnose.causes import KINDS, Cause
from stoker.core.reconcile import Plan
from stoker.core.remedies import COOL_S, FITS, HOLD_S, HOUR_MAX, HOUR_S, INCIDENT_MAX, KIND_MAX, Pool, outcome, wish
from stoker.core.snapshot import Snapshot
from stoker.types.remedies import ACTS, Act, ActKind, Load, Remedy
from tests.core.test_reconcile_safety import ready
from tests.core.test_traffic import only
from tests.core.worlds import PROJECT, World

NOW_S = 10_000.0
ALL = tuple(Remedy(kind) for kind in ACTS)
POOL = Pool(
    allowed=ALL,
    replicas=frozenset(("a-1-x", "a-1-y")),
    ready=frozenset(("a-1-x", "a-1-y")),
    least=2,
    most=3,
    serving="a-2",
    target="a-2",
    serving_since_s=NOW_S - 70.0,
    earlier="a-1",
)


def cause(kind: str, confidence: float = 0.9, where: str = "", since_s: float = NOW_S - 60.0) -> Cause:
    return Cause(kind, confidence, ("a line",), since_s, where)  # type: ignore[arg-type]


def but(**changes: Any) -> Pool:
    return msgspec.structs.replace(POOL, **changes)


BAD = cause("bad_replica", where="replica a-1-x")


@pytest.mark.parametrize(
    ("found", "kind", "subject"),
    [
        (BAD, "restart", "a-1-x"),
        (cause("change"), "roll-back", "a-1"),
        (cause("change", where="revision a-2"), "roll-back", "a-1"),
        (cause("overload"), "scale-up", ""),
        (cause("noisy_tenant", where="tenant t"), "shed-sheddable", ""),
        (cause("retry_storm"), "shed-sheddable", ""),
    ],
)
def test_what_fits_the_cause_is_done_with_its_reason(found: Cause, kind: ActKind, subject: str) -> None:
    done = wish([found], (), POOL, NOW_S)
    assert (done.kind, done.subject) == (kind, subject)
    assert "90 % sure" in done.because
    assert "a line" in done.because


@pytest.mark.parametrize(
    ("causes", "pool", "why"),
    [
        ([BAD], but(allowed=()), "allows none"),
        ([], POOL, "no cause"),
        ([BAD], but(is_well=True), "well again"),
        ([cause("saturation")], POOL, "none that is allowed cures"),
        ([cause("bad_replica", 0.69, "replica a-1-x")], POOL, "only 69 % sure"),
        ([cause("bad_replica", where="node n0")], POOL, "is no replica"),
        ([cause("bad_replica", where="replica a-1-z")], POOL, "gone already"),
        ([BAD, cause("network", 0.6)], POOL, "network is close"),
        ([BAD], but(target="a-3"), "a rollout is under way"),
        ([BAD], but(allowed=(Remedy("eject"),), ready=frozenset(("a-1-x",))), "no other replica is ready"),
        ([cause("change")], but(earlier=""), "no revision that served before"),
        ([cause("change")], but(is_gameday=True), "a game day goes on"),
        ([cause("change")], but(serving_since_s=NOW_S - 3000.0), "did not begin to serve shortly before"),
        ([cause("change")], but(serving_since_s=0.0), "did not begin to serve shortly before"),
        ([cause("change", where="revision a-9")], POOL, "does not serve"),
        ([cause("overload")], but(allowed=(Remedy("scale-up"),), most=2), "replicas.max is 2"),
        ([cause("overload")], but(allowed=(Remedy("scale-up"),), least=0), "replicas.max"),
        ([cause("overload")], but(allowed=(Remedy("scale-up", when_sure=0.95),)), "95 % are asked"),
    ],
)
def test_nothing_is_done_and_the_reason_is_said(causes: list[Cause], pool: Pool, why: str) -> None:
    done = wish(causes, (), pool, NOW_S)
    assert done.kind is None
    assert why in done.because


def test_another_cause_that_is_close_but_asks_for_the_same_makes_nothing_ambiguous() -> None:
    assert wish([cause("overload"), cause("length", 0.8)], (), POOL, NOW_S).kind == "scale-up"


def test_the_first_that_is_allowed_and_possible_is_done() -> None:
    pool = but(allowed=(Remedy("eject"), Remedy("restart")))
    assert wish([BAD], (), pool, NOW_S).kind == "eject"
    paroled = Act(1, "eject", "a-1-x", "", NOW_S - 900.0, NOW_S - 300.0, "its time is over")
    assert wish([BAD], (paroled,), pool, NOW_S).kind == "restart"


@pytest.mark.parametrize("kind", ACTS)
def test_an_act_ends_by_itself_however_long_the_incident_lasts(kind: ActKind) -> None:
    act = Act(1, kind, "a-1-x", "", NOW_S)
    assert outcome(act, POOL, NOW_S + HOLD_S[kind] - 1, is_open=True) == ""
    assert outcome(act, POOL, NOW_S + HOLD_S[kind], is_open=True)
    assert outcome(act, POOL, NOW_S - 1, is_open=True), "a clock that was set back"


def test_an_act_ends_with_its_incident_with_its_permission_and_with_what_it_is_for() -> None:
    shed, restart = Act(1, "shed-sheddable", "", "", NOW_S), Act(1, "restart", "a-1-x", "", NOW_S)
    assert outcome(shed, POOL, NOW_S, is_open=False) == "the incident is over"
    assert "not allow" in outcome(shed, but(allowed=(Remedy("restart"),)), NOW_S, is_open=True)
    assert outcome(restart, but(replicas=frozenset(("a-1-y",))), NOW_S, is_open=True) == "it was replaced"
    assert outcome(Act(1, "roll-back", "a-1", "", NOW_S), but(serving="a-1"), NOW_S, is_open=True) == "it serves"


FOUND = st.lists(
    st.builds(
        Cause,
        st.sampled_from(KINDS),
        st.floats(0.0, 0.99),
        st.just(("a line",)),
        st.floats(NOW_S - 2000, NOW_S + 2e5),
        st.sampled_from(("", "replica a-1-x", "replica a-1-z", "node n0", "tenant t", "revision a-2")),
    ),
    max_size=4,
)
HOURS = st.lists(st.tuples(FOUND, st.floats(0.0, 700.0), st.booleans(), st.booleans()), max_size=60)


@given(HOURS)
def test_whatever_is_diagnosed_for_hours_acts_stay_within_their_bounds(hours: list) -> None:
    """One at a time, with pauses, at most so many an incident and an hour; and only what fits, surely enough."""
    now_s, done, others = NOW_S, list[Act](), list[Act]()
    for causes, after_s, has_ended, is_new in hours:
        now_s += after_s
        for at, act in enumerate(done):
            if act.is_in_force and (has_ended or outcome(act, POOL, now_s, is_open=True)):
                done[at] = msgspec.structs.replace(act, ended_at_s=now_s)
        if is_new and not any(act.is_in_force for act in done):
            others, done = [*others, *done], []
        every = [*others, *done]
        decided = wish(causes, done, POOL, now_s, others)
        if decided.kind is None:
            assert decided.because
            continue
        assert not any(act.is_in_force for act in every)
        assert all(now_s - act.ended_at_s >= COOL_S for act in every)
        assert sum(now_s - act.at_s < HOUR_S for act in every) < HOUR_MAX
        assert len(done) < INCIDENT_MAX
        assert sum(act.kind == decided.kind for act in done) < KIND_MAX[decided.kind]
        assert decided.kind in FITS[causes[0].kind]
        assert causes[0].confidence >= remedies.SURE[decided.kind]
        done.append(Act(len(done) + 1, decided.kind, decided.subject, decided.because, now_s, before=Load()))


# What the loop makes of it.


def settled(replicas: int = 2, cores: tuple[float, ...] = (4.0,)) -> World:
    world = World(cores)
    world.apply("a", replicas=replicas)
    world.settle()
    return world


def never_without_traffic(snapshot: Snapshot, decided: Plan, _world: World) -> None:
    """Some ready replica is in the routes, if one was ready; ejections and restarts take none but their own."""
    statuses = dict(decided.statuses)
    drained = {each.replica for each in decided.actions if isinstance(each, actions.DrainReplica)}
    for endpoint in snapshot.endpoints:
        out = statuses.get(endpoint.key, endpoint.status).out
        able = [each for each in snapshot.assignments if each.phase == "wanted" and ready(snapshot, each)]
        if len(able) > 1:
            assert [each for each in able if each.replica not in out and each.replica not in drained], (out, drained)


def test_a_restart_starts_the_replacement_first_and_takes_no_other() -> None:
    world = settled()
    bad, good = world.replicas("default.a-1")
    world.act("a", ("restart", bad))
    first = world.turn(checks=(never_without_traffic,))
    assert [type(each) for each in first.actions] == [actions.StartReplica]
    assert world.status("a").out == (bad,), "it gets no traffic from the decision on"
    assert bad not in [each.replica for each in only(world).revisions[0].replicas]
    for _ in range(20):
        world.turn(checks=(never_without_traffic,))
        world.work()
        world.now_s += 1.0
    left = world.replicas("default.a-1")
    assert len(left) == 2
    assert good in left
    assert bad not in left
    before = world.assignments.copy()
    world.settle()
    assert world.assignments == before, "the same act again replaces nobody"


def test_a_restart_without_room_for_both_goes_one_after_the_other() -> None:
    world = settled(cores=(2.0,))
    bad, good = world.replicas("default.a-1")
    world.act("a", ("restart", bad))
    plan = world.turn(checks=(never_without_traffic,))
    assert [each.replica for each in plan.actions if isinstance(each, actions.DrainReplica)] == [bad]
    world.settle()
    assert len(world.replicas("default.a-1")) == 2
    assert bad not in world.replicas("default.a-1")
    assert good in world.replicas("default.a-1")


def test_a_restart_without_room_waits_while_its_peer_does_not_serve() -> None:
    world = settled(cores=(2.0,))
    bad, good = world.replicas("default.a-1")
    world.crash([name for table in world.processes.values() for name in table].index(good))
    world.act("a", ("restart", bad))
    assert not [each for each in world.turn().actions if isinstance(each, actions.DrainReplica)]
    assert world.status("a").out == ()
    world.work()
    world.work()
    plan = world.turn(checks=(never_without_traffic,))
    assert [each.replica for each in plan.actions if isinstance(each, actions.DrainReplica)] == [bad]


def test_a_replica_without_peers_keeps_its_traffic_until_its_replacement_is_ready() -> None:
    world = settled(replicas=1)
    (bad,) = world.replicas("default.a-1")
    world.act("a", ("restart", bad))
    world.turn()
    assert world.status("a").out == ()
    world.settle()
    assert len(world.replicas("default.a-1")) == 1
    assert bad not in world.replicas("default.a-1")


def test_an_ejected_replica_is_replaced_while_it_is_out_and_is_back_on_parole_after() -> None:
    world = settled()
    bad, good = world.replicas("default.a-1")
    world.act("a", ("eject", bad))
    world.settle()
    assert world.status("a").out == (bad,)
    assert len(world.replicas("default.a-1")) == 3
    assert world.status("a").replicas_ready == 2
    assert bad not in [each.replica for each in only(world).revisions[0].replicas]
    world.act("a")
    world.settle()
    assert world.status("a").out == ()
    assert world.replicas("default.a-1") == sorted((bad, good))


def test_an_ejected_replica_serves_again_where_no_other_can() -> None:
    world = settled(cores=(2.0,))
    bad, good = world.replicas("default.a-1")
    world.act("a", ("eject", bad))
    world.settle()
    assert world.status("a").out == (bad,)
    world.crash([name for table in world.processes.values() for name in table].index(good))
    world.turn()
    assert world.status("a").out == ()


def test_scaling_and_shedding_of_an_incident_are_moves_like_those_of_a_budget() -> None:
    world = settled()
    world.act("a", ("scale-up", ""))
    world.settle()
    assert [each.move for each in world.status("a").moves] == ["scale-up"]
    assert len(world.replicas("default.a-1")) == 3
    world.act("a", ("shed-sheddable", ""))
    world.now_s += 400.0
    world.settle()
    assert [each.move for each in world.status("a").moves] == ["shed-sheddable"]
    assert len(world.replicas("default.a-1")) == 2
    world.act("a")
    world.settle()
    assert world.status("a").moves == ()


def test_while_nobody_knows_what_incidents_do_everything_stays() -> None:
    world = settled()
    bad, _ = world.replicas("default.a-1")
    world.act("a", ("eject", bad))
    world.settle()
    before = (world.status("a"), dict(world.assignments))
    world.acts = None
    world.settle()
    assert (world.status("a"), dict(world.assignments)) == before


SCENES = st.lists(
    st.one_of(
        st.tuples(st.just("act"), st.sampled_from(("restart", "eject")), st.integers(0, 5)),
        st.tuples(st.just("over")),
        st.tuples(st.just("round"), st.integers(1, 5)),
        st.tuples(st.just("crash"), st.integers(0, 5)),
        st.tuples(st.just("unknown")),
    ),
    max_size=25,
)


@given(SCENES, st.integers(1, 3), st.sampled_from(((2.0,), (3.0,), (6.0,))))
def test_whatever_is_restarted_and_ejected_nobody_who_is_ready_is_left_without_traffic(
    scenes: list, replicas: int, cores: tuple[float, ...]
) -> None:
    world = World(cores)
    world.apply("a", replicas=min(replicas, int(cores[0])))
    world.settle()
    for scene, *arguments in scenes:
        match scene:
            case "act":
                names = world.replicas("default.a-1")
                world.act("a", (arguments[0], names[arguments[1] % len(names)]))
            case "over":
                world.act("a")
            case "crash":
                world.crash(arguments[0])
            case "unknown":
                world.acts = None
            case "round":
                for _ in range(arguments[0]):
                    world.turn(checks=(never_without_traffic,))
                    world.work()
                    world.now_s += 0.6
    world.acts = {}
    world.settle()
    assert len(world.replicas("default.a-1")) == min(replicas, int(cores[0]))
    assert world.status("a").out == ()
    assert world.endpoints["a"].key[0] == PROJECT
