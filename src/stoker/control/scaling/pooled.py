"""What pooling (core/pooling.py) looks at, from what control knows: the endpoints, their replicas, the nodes."""

from collections.abc import Mapping, Sequence
from math import inf

from stoker.control.observe import Observer, State
from stoker.core import pooling
from stoker.core.place import Capacity, Held
from stoker.core.pooling import Member, Scene, Standing, Turn
from stoker.core.scale.decide import Decision
from stoker.core.scale.policy import is_scaled
from stoker.core.scale.sight import COLD_START_S, Sight
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision
from stoker.core.statuses import no_room
from stoker.core.world import demand

Looked = Mapping[EndpointKey, tuple[Decision, Sight]]


def standing(decision: Decision, sight: Sight, now_s: float) -> Standing:
    """Return what pooling remembers of an endpoint after this look."""
    return pooling.noted(
        decision.memory.pooled,
        arrived=sight.arrived,
        is_waiting=bool(
            decision.desired and not sight.ready + sight.pending and (sight.waiting or not decision.sleeps)
        ),
        cold_start_s=sight.cold_start_s,
        now_s=now_s,
    )


def turns(state: State, observer: Observer, looked: Looked, now_s: float) -> dict[EndpointKey, Turn]:
    """Return how many replicas each endpoint of `looked` has room for, and who sleeps for it."""
    revisions = {str(each.revision): each for each in state.revisions}
    held = [(each, Held(each.node, demand(revisions[each.revision]))) for each in state.assignments]
    rolling = {(each.state.project, each.state.endpoint) for each in state.rollouts if not each.state.is_ended}
    # What was told to sleep at the last look leaves, also where the loop has yet to act on it.
    told = {key for key, (_, sight) in looked.items() if not sight.ready + sight.pending}
    members: dict[EndpointKey, Member] = {}
    for each in state.endpoints:
        newest = _newest(each, state.revisions)
        if newest is None or each.is_deleting:
            continue
        if each.key in looked:
            members[each.key] = _member(newest, *looked[each.key], may_sleep=each.key not in rolling)
        elif not is_scaled(each.resource.spec) and no_room(each.status) and not _runs(each, state.assignments):
            members[each.key] = Member(demand(newest), 1, 0, can_sleep=False, standing=Standing())
    scene = Scene(
        members=tuple(members.values()),
        capacities=tuple(Capacity(each.name, each.cores, each.memory_bytes) for each in observer.nodes()),
        held=tuple(one for _, one in held),
        leaving=tuple(one for each, one in held if each.phase != "wanted" or (each.project, each.endpoint) in told),
    )
    found = pooling.pool(scene, now_s)
    return {key: found[each.name] for key, each in members.items() if key in looked}


def _member(newest: Revision, decision: Decision, sight: Sight, *, may_sleep: bool) -> Member:
    memory = decision.memory
    return Member(
        demand=demand(newest),
        wanted=decision.desired,
        running=sight.ready + sight.pending,
        can_sleep=decision.sleeps and may_sleep,
        standing=memory.pooled,
        waiting=sight.waiting,
        in_flight=sight.in_flight,
        cold_start_s=memory.pooled.cold_start_s or COLD_START_S,
        loaded_s=sight.loaded_s if sight.ready and not sight.pending else inf,
        used_s=memory.arrived_s,
        is_failing=sight.is_failing,
        is_known=not sight.failures and sight.span_s > 0.0,
    )


def _newest(endpoint: EndpointState, revisions: Sequence[Revision]) -> Revision | None:
    mine = [each for each in revisions if (each.project, each.endpoint) == endpoint.key]
    return max(mine, key=lambda each: each.number, default=None)


def _runs(endpoint: EndpointState, assignments: Sequence[Assignment]) -> bool:
    return any((each.project, each.endpoint) == endpoint.key and each.phase == "wanted" for each in assignments)
