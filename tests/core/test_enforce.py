"""What objectives ask for begins and ends, each with its reason; what it changes stays within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import actions, enforce
from stoker.core.enforce import SCALE_HOLD_S
from stoker.core.reconcile import Plan
from stoker.core.snapshot import Snapshot
from stoker.types.resources import Replicas
from stoker.types.slos import Move, MoveInForce
from tests.core.test_traffic import only
from tests.core.worlds import SCRIPTS, World, play

MOVES: tuple[Move, ...] = ("freeze-rollouts", "scale-up", "shed-sheddable")
ASKS = st.lists(st.tuples(st.sets(st.sampled_from(MOVES)), st.floats(0.0, 400.0)), max_size=30)


@given(ASKS)
def test_what_is_asked_for_is_in_force_and_ends_with_the_asking_but_an_added_replica_stays_a_while(asks: list) -> None:
    now_s, moves = 1000.0, tuple[MoveInForce, ...]()
    for asked, after_s in asks:
        now_s += after_s
        before, moves = moves, enforce.decide(moves, dict.fromkeys(asked, "asked"), now_s)
        names = [each.move for each in moves]
        assert names == sorted(set(names))
        assert asked <= set(names)
        for each in moves:
            known = [old for old in before if old.move == each.move]
            assert known == [each] if known else each.since_s == now_s
            is_held = each.move == "scale-up" and now_s - each.since_s < SCALE_HOLD_S
            assert each.move in asked or is_held
        gone = [old for old in before if old.move == "scale-up" and old not in moves]
        assert all(now_s - old.since_s >= SCALE_HOLD_S for old in gone)


@given(st.integers(0, 1000), st.integers(1, 1000), st.booleans())
def test_scaling_up_adds_one_within_the_maximum_and_starts_nothing_that_is_at_zero(
    usual: int, most: int, is_asked: bool
) -> None:
    moves = (MoveInForce("scale-up", "asked", 1.0),) if is_asked else ()
    count = enforce.replicas(usual, Replicas(min=0, max=most), moves)
    assert usual <= count <= max(usual, min(most, usual + 1))
    assert count == usual or (is_asked and usual > 0)


@given(SCRIPTS)
def test_every_beginning_and_end_is_one_action_and_nothing_changes_while_nobody_looks(script: list) -> None:
    def check(snapshot: Snapshot, decided: Plan, _world: World) -> None:
        statuses = dict(decided.statuses)
        for endpoint in snapshot.endpoints:
            before = {each.move for each in endpoint.status.moves}
            after = {each.move for each in statuses.get(endpoint.key, endpoint.status).moves}
            mine = [each for each in decided.actions if getattr(each, "endpoint", "") == endpoint.name]
            assert [each.move for each in mine if isinstance(each, actions.BeginMove)] == sorted(after - before)
            assert [each.move for each in mine if isinstance(each, actions.EndMove)] == sorted(before - after)
            assert before == after or (snapshot.asked is not None and not endpoint.is_deleting)

    play(script, check)


def test_an_endpoint_whose_budget_is_gone_gets_one_replica_more_and_loses_it_after_it_recovered() -> None:
    world = World()
    world.apply("a")
    world.settle()
    world.ask("a", "scale-up", "shed-sheddable")
    world.settle()
    assert world.status("a").replicas_ready == 2
    assert only(world).sheds
    world.ask("a")
    world.settle()
    assert not only(world).sheds
    assert world.status("a").replicas_ready == 2, "it was added a moment ago"
    world.now_s += SCALE_HOLD_S
    world.settle()
    assert world.status("a").replicas_ready == 1
    assert world.status("a").moves == ()


def test_the_fix_of_a_burning_endpoint_does_not_wait_for_room_for_one_more() -> None:
    for is_scaled_first in (False, True):
        world = World(cores=(2.0,))
        world.apply("a", model=1)
        world.settle()
        world.ask("a", "scale-up")
        if is_scaled_first:
            world.settle()
            assert world.status("a").replicas_ready == 2
        world.apply("a", model=2)
        world.settle()
        assert world.endpoints["a"].serving == "default.a-2"
        assert world.status("a").replicas_ready == 2, "it is scaled up again once there is room"
