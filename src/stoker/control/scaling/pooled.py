"""What pooling (core/pooling.py) looks at, from what control knows: the endpoints, their replicas, the nodes."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import median

from stoker.control.observe import State
from stoker.core import pooling
from stoker.core.capacity import Demand, Held
from stoker.core.pooling import Member, Scene, Standing, Turn
from stoker.core.scale.decide import Decision
from stoker.core.scale.policy import is_scaled
from stoker.core.scale.sight import COLD_START_S, Sight
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Node, Revision
from stoker.core.statuses import no_room
from stoker.core.world import capacity, demand
from stoker.types.resources import Endpoint

Looked = Mapping[EndpointKey, tuple[Decision, Sight]]


def standing(decision: Decision, sight: Sight, now_s: float) -> Standing:
    """Return what pooling remembers of an endpoint after this look. One that saw too little takes nobody's place."""
    before = decision.memory.pooled
    waiting = _waiting(sight)
    if before.waits_s and not _is_known(sight) and not waiting:
        return before
    is_absent = not sight.ready + sight.pending
    return pooling.noted(
        before,
        arrived=sight.arrived,
        waiting=waiting,
        is_asked=bool(decision.desired and is_absent and (waiting or not decision.sleeps)),
        cold_start_s=sight.cold_start_s,
        loaded_s=sight.loaded_s,
        now_s=now_s,
    )


def turns(state: State, nodes: Iterable[Node], looked: Looked, now_s: float) -> dict[EndpointKey, Turn]:
    """Return how many replicas each endpoint of `looked` has room for, and who sleeps for it."""
    revisions = {str(each.revision): each for each in state.revisions}
    resources = {each.key: each.resource for each in state.endpoints}

    def needs(revision: Revision) -> Demand:
        return demand(revision.config, resources[revision.project, revision.endpoint], revision.revision)

    held = [(each, Held(each.node, needs(revisions[each.revision]), each.gpus)) for each in state.assignments]
    serving = {each.key: each.serving for each in state.endpoints if no_room(each.status)}
    rolling = {(each.state.project, each.state.endpoint) for each in state.rollouts if not each.state.is_ended}
    # What was told to sleep at the last look leaves, also where the loop has yet to act on it.
    told = {key for key, (_, sight) in looked.items() if not sight.ready + sight.pending}
    newest_of = _newest_of(state.revisions)
    for key in rolling & serving.keys():  # what would wake there, for the newest has no room (core/rollout/room.py)
        newest_of |= {key: revisions[serving[key]]} if serving[key] in revisions else {}
    starts_s = _starts_s(newest_of, looked)
    members: dict[EndpointKey, Member] = {}
    for each in state.endpoints:
        newest = newest_of.get(each.key)
        if newest is None or each.is_deleting:
            continue
        if each.key in looked:
            start_s = starts_s.get(newest.config.engine, COLD_START_S)
            members[each.key] = _member(
                needs(newest),
                *looked[each.key],
                may_sleep=each.key not in rolling,
                start_s=start_s,
                is_sheddable=_is_sheddable(each.resource),
            )
        elif not is_scaled(each.resource.spec) and no_room(each.status) and not _runs(each, state.assignments):
            members[each.key] = Member(
                needs(newest),
                1,
                0,
                can_sleep=False,
                standing=Standing(),
                cold_start_s=starts_s.get(newest.config.engine, COLD_START_S) if _is_sheddable(each.resource) else 0.0,
                is_sheddable=_is_sheddable(each.resource),
            )
    scene = Scene(
        members=tuple(members.values()),
        capacities=tuple(capacity(each) for each in nodes),
        held=tuple(one for _, one in held),
        sheddable=frozenset(
            f"{each.project}.{each.name}"
            for each in state.endpoints
            if _is_sheddable(each.resource) and not (each.key in looked and looked[each.key][0].sleeps)
        ),
        leaving=tuple(one for each, one in held if each.phase != "wanted" or (each.project, each.endpoint) in told),
    )
    found = pooling.pool(scene, now_s)
    return {key: found[each.name] for key, each in members.items() if key in looked}


def _starts_s(newest_of: Mapping[EndpointKey, Revision], looked: Looked) -> dict[str, float]:
    """Return how long a start takes, by engine: the median of the endpoints where it was measured."""
    measured: dict[str, list[float]] = {}
    for key, (decision, _) in looked.items():
        newest, start_s = newest_of.get(key), decision.memory.pooled.cold_start_s
        if newest is not None and start_s:
            measured.setdefault(newest.config.engine, []).append(start_s)
    return {engine: median(each) for engine, each in measured.items()}


def _member(
    demand: Demand, decision: Decision, sight: Sight, *, may_sleep: bool, start_s: float, is_sheddable: bool
) -> Member:
    """Return the endpoint as pooling sees it. start_s: what a start takes that was never measured."""
    memory = decision.memory
    return Member(
        demand=demand,
        wanted=decision.desired,
        running=sight.ready + sight.pending,
        can_sleep=decision.sleeps and may_sleep,
        standing=memory.pooled,
        waiting=_waiting(sight),
        in_flight=sight.in_flight,
        cold_start_s=memory.pooled.cold_start_s or start_s,
        loaded_s=sight.loaded_s if sight.ready and not sight.pending else inf,
        used_s=memory.arrived_s,
        is_failing=sight.is_failing,
        is_known=_is_known(sight),
        is_sheddable=is_sheddable,
    )


def _is_sheddable(endpoint: Endpoint) -> bool:
    return endpoint.spec.placement.priority == "sheddable"


def _waiting(sight: Sight) -> int:
    """Return how many wait for its room: who was told to come back does, though it is not in a queue."""
    return max(sight.waiting, int(sight.is_expected))


def _is_known(sight: Sight) -> bool:
    """Return whether all gateways said what they hold."""
    return not sight.failures and sight.span_s > 0.0


def _newest_of(revisions: Iterable[Revision]) -> dict[EndpointKey, Revision]:
    """Return the newest revision of each endpoint."""
    return {(each.project, each.endpoint): each for each in sorted(revisions, key=lambda each: each.number)}


def _runs(endpoint: EndpointState, assignments: Sequence[Assignment]) -> bool:
    return any((each.project, each.endpoint) == endpoint.key and each.phase == "wanted" for each in assignments)
