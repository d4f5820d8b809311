"""Which versions are made ready before they are wanted."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import ahead
from stoker.core.ahead import Candidate
from stoker.core.gate.law import DossierState
from stoker.core.rollout.state import RolloutState
from stoker.types.ahead import AHEAD_MAX
from stoker.types.rollouts import Rollout
from stoker.types.starts import Start
from tests.core.worlds import PROJECT, World

NOW_S = 1_000_000.0


def candidates(world: World, coming: dict[str, str] | None = None, **starts: list[Start]) -> list[Candidate]:
    seen = world.snapshot()
    told = {(PROJECT, name): found for name, found in starts.items()}
    return ahead.candidates(seen.endpoints, seen.revisions, seen.assignments, coming or {}, told, now_s=NOW_S)


def starts(count: int, seconds: float) -> list[Start]:
    return [Start("r", "v", "onnx", NOW_S - 60.0 * at, {}, seconds) for at in range(count)]


def asleep(*names: str) -> World:
    world = World()
    for name in names:
        world.apply(name, cpu=0.1)
    world.settle()
    world.assignments.clear()
    return world


def test_what_runs_is_not_made_ready_and_what_sleeps_is_in_the_order_of_the_waiting_it_saves() -> None:
    world = World()
    world.apply("a")
    world.settle()
    assert candidates(world) == []
    world = asleep("a", "b", "c")
    found = candidates(world, a=starts(3, 0.5), b=starts(2, 10.0))
    assert [each.revision.endpoint for each in found] == ["b", "a", "c"]
    assert found[0].because == "it sleeps; 0.083 starts an hour, 10 s each"
    assert candidates(asleep("d"), d=starts(0, 1.0))[0].worth > 0
    old = [msgspec.structs.replace(each, at_s=each.at_s - 2 * ahead.OVER_S) for each in starts(9, 60.0)]
    assert candidates(world, c=old)[-1].revision.endpoint == "a" or candidates(world, c=old)[0].worth < 1.0


def test_a_revision_whose_gates_run_comes_before_all_that_sleeps_until_it_is_refused_or_old() -> None:
    world = asleep("a", "b")
    world.apply("a", model=2)
    world.turn()
    world.assignments.clear()
    last = max(world.revisions.values(), key=lambda each: each.number)
    for state, age_s, is_coming in (("pending", 5.0, True), ("refused", 5.0, False), ("pending", 7200.0, False)):
        young = msgspec.structs.replace(last, created_at_s=NOW_S - age_s)
        dossiers = {str(last.revision): DossierState(state)}
        coming = ahead.about([young], [], dossiers, asked={last.revision}, now_s=NOW_S)
        assert ahead.about([young], [], dossiers, asked={"default.a-1"}, now_s=NOW_S) == {}, (
            "nobody asks for it any more"
        )
        assert coming == ({str(last.revision): "its gates run"} if is_coming else {}), (state, age_s)
        found = [str(each.revision.revision) for each in candidates(world, coming, b=starts(50, 100.0))]
        assert (found[0] == last.revision) is is_coming
        assert "default.a-1" in found, "it serves, and sleeps"


def test_a_rollout_that_waits_for_the_gates_of_its_revision_says_so_and_one_that_goes_on_does_too() -> None:
    world = asleep("a")
    world.apply("a", model=2)
    world.turn()
    last = max(world.revisions.values(), key=lambda each: each.number)
    begun = RolloutState(
        last.project, last.endpoint, "default.a-1", last.revision, Rollout(), "canary", "gating", "", NOW_S, NOW_S
    )
    for state, because in (("pending", "its gates run"), ("complete", "its rollout has begun")):
        dossiers = {str(last.revision): DossierState(state)}
        found = ahead.about([last], [begun], dossiers, asked={last.revision}, now_s=last.created_at_s)
        assert found == {str(last.revision): because}


@given(st.lists(st.integers(0, 1 << 33), max_size=100), st.integers(0, 1 << 35))
def test_what_is_chosen_fits_and_nothing_small_is_left_out_for_something_larger_behind_it(
    sizes: list[int], free_bytes: int
) -> None:
    chosen = ahead.fits(sizes, free_bytes)
    assert chosen == sorted(set(chosen))
    assert sum(sizes[at] for at in chosen) <= free_bytes * ahead.BUDGET_RATIO
    assert len(chosen) <= AHEAD_MAX
    for at in set(range(len(sizes))) - set(chosen):
        before = [each for each in chosen if each < at]
        is_full = len(before) == AHEAD_MAX
        assert is_full or sum(sizes[each] for each in before) + sizes[at] > free_bytes * ahead.BUDGET_RATIO
