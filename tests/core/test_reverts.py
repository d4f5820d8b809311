"""When a gateway goes back without control, to whom, and until when."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stoker.core import reverts
from stoker.types.ids import EndpointName, ProjectName, ReplicaId, RevisionId
from stoker.types.rollouts import Reverted, RolloutRoute
from stoker.types.routes import EndpointRoute, ReplicaRoute, RevisionRoute

weights = st.integers(0, 100)


def revision(number: int, weight: int, replicas: int = 1) -> RevisionRoute:
    places = tuple(ReplicaRoute(ReplicaId(f"r{number}-{n}"), "unix:x") for n in range(replicas))
    return RevisionRoute(RevisionId(f"p.e-{number}"), str(number), weight, places)


def route(*revisions: RevisionRoute, number: int = 0) -> EndpointRoute:
    rollout = RolloutRoute(number, "p.e-1", "p.e-2") if number else None
    return EndpointRoute(ProjectName("p"), EndpointName("e"), "predict", 1.0, revisions, rollout=rollout)


def made(told: EndpointRoute, to: str = "p.e-1") -> Reverted:
    number = told.rollout.number if told.rollout is not None else 0
    return Reverted("p", "e", to, "told so", number, reverts.weights(told))


@given(weights, weights, st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_it_stands_while_replicas_come_and_go_and_ends_when_control_moves_the_traffic(
    baseline: int, canary: int, number: int, before: int, after: int
) -> None:
    told = route(revision(1, baseline, before), revision(2, canary), number=number)
    found = made(told)
    assert reverts.stands(found, told)
    assert reverts.stands(found, route(revision(1, baseline, after), revision(2, canary), number=number))
    assert not reverts.stands(found, route(revision(1, baseline), revision(2, canary + 1), number=number))
    assert not reverts.stands(found, replace(told, rollout=RolloutRoute(number + 1, "p.e-1", "p.e-2")))
    assert not reverts.stands(found, route(revision(1, baseline, 0), revision(2, canary), number=number))
    assert not reverts.stands(found, route(revision(2, canary), number=number))


@given(st.lists(weights, min_size=1, max_size=5), st.integers(0, 4))
def test_all_traffic_goes_to_where_it_went_back_to(several: list[int], at: int) -> None:
    told = route(*(revision(n, weight) for n, weight in enumerate(several)))
    target = f"p.e-{at % len(several)}"
    seen = {each.revision: each.weight for each in reverts.applied(made(told, target), told).revisions}
    assert seen.pop(RevisionId(target)) == 100
    assert set(seen.values()) <= {0}


def test_the_way_back_leads_to_the_baseline_or_else_to_the_newest_before_that_could_serve() -> None:
    running = route(revision(1, 0), revision(2, 100), revision(3, 0), number=4)
    assert reverts.target(running, {"p.e-1", "p.e-2", "p.e-3"}) == "p.e-1"
    assert reverts.target(running, {"p.e-2"}) == ""
    done = route(revision(1, 0), revision(9, 0), revision(10, 100), revision(11, 0))
    assert reverts.target(done, {"p.e-1", "p.e-9", "p.e-10", "p.e-11"}) == "p.e-9"
    assert reverts.target(done, {"p.e-1", "p.e-10"}) == "p.e-1"
    assert reverts.target(done, {"p.e-10", "p.e-11"}) == "", "a newer one is no way back"
    assert reverts.target(done, {"p.e-10", "p.e-11"}, "p.e-11") == "p.e-11", "but who names it gets it"
    assert reverts.target(done, {"p.e-10"}, "p.e-11") == ""
    assert reverts.target(route(), {"p.e-1"}) == ""
