"""Whose replicas go when there is no room for all: sheddable ones, for those of standard and critical endpoints.

It cannot go round: who makes others go never goes itself, and what was freed is kept for whom it was freed. Those that
go end as every replica does, out of the route table first, with the time of their endpoint to finish what they hold.
"""

from collections.abc import Iterable, Sequence

import msgspec

from stoker.core import leaving
from stoker.core.capacity import Capacity, Demand, Held, by_node, fits, gpus, room
from stoker.core.snapshot import Assignment, EndpointState
from stoker.core.world import World
from stoker.types.ids import NodeName
from stoker.types.keys import PRIORITIES


class MadeRoom(msgspec.Struct, frozen=True):
    """The node that has room once `go` are gone, and its GPUs that the demand gets then."""

    node: NodeName
    go: tuple[Held, ...]
    gpus: tuple[int, ...] = ()


def rank(endpoint: EndpointState) -> int:
    """Return when it is an endpoint's turn to be placed: 0 for critical ones, 2 for sheddable ones."""
    return PRIORITIES.index(endpoint.resource.spec.placement.priority)


def preempt(world: World, endpoint: EndpointState, demand: Demand) -> str:
    """Have sheddable replicas go for `demand`, keep their room for it, and say where; "" if they could not make any.

    What leaves already counts as gone: nobody goes for what will fit anyway.
    """
    priority = endpoint.resource.spec.placement.priority
    rest = world.snapshot.rests.get(endpoint.key)
    if priority == "sheddable" or (rest is not None and rest.is_waiting):
        return ""  # or others sleep for it already (core/pooling.py)
    stay: dict[str, Assignment] = {each.replica: each for each in world.snapshot.assignments if world.is_staying(each)}
    going = {each.replica: each for each in world.snapshot.assignments if each.replica not in stay}
    held = [each for each in world.held if each.replica not in going]
    made = make_room(demand, world.capacities, held, _candidates(world, stay.values(), held))
    if made is None:
        return ""
    if not made.go and not any(each.node == made.node and _is_sheddable(world, each) for each in going.values()):
        return ""
    for each in made.go:
        gone = stay[each.replica]
        world.preempted[gone.project, gone.endpoint] = f"{demand.endpoint} ({priority})"
        leaving.drain(world, gone, f"it is sheddable, and {demand.endpoint} ({priority}) needs its room")
    world.held.append(Held(made.node, demand, made.gpus))
    return f"sheddable replicas make room on node {made.node}"


def make_room(
    demand: Demand, nodes: Iterable[Capacity], held: Iterable[Held], candidates: Sequence[Held]
) -> MadeRoom | None:
    """Return which of `candidates` must go so that `demand` fits somewhere, none where it does; None if none can do.

    All on one node, the one where the fewest go; never one without which it would fit too.

    Args:
        held: all that nodes have, the candidates too.
        candidates: those that may go, by `replica`; the least valuable first.
    """
    worths = {each.replica: at for at, each in enumerate(candidates)}
    on = by_node(held)
    found: list[tuple[int, list[int], MadeRoom]] = []
    for node in nodes:
        mine = on.get(node.node, [])
        go = _go(demand, node, mine, worths) if node.pool == demand.pool else None
        if go is not None:
            given = gpus(demand, room(demand, node, [each for each in mine if each not in go])) or ()
            made = MadeRoom(node.node, tuple(go), given)
            found.append((len(go), sorted((worths[each.replica] for each in go), reverse=True), made))
    return min(found, key=lambda each: (each[0], each[1], each[2].node))[2] if found else None


def _go(demand: Demand, node: Capacity, held: list[Held], worths: dict[str, int]) -> list[Held] | None:
    """Return which of `held` leave the node: one, if one does; else the least valuable, without any in vain."""
    may = sorted((each for each in held if each.replica in worths), key=lambda each: worths[each.replica])

    def does(go: Sequence[Held]) -> bool:
        gone = {each.replica for each in go}
        left = [each for each in held if each.replica not in worths or each.replica not in gone]
        return fits(demand, room(demand, node, left))

    if not does(may):
        return None
    if does(()):
        return []
    alone = next((each for each in may if does((each,))), None)
    if alone is not None:
        return [alone]
    count = next(count for count in range(2, len(may) + 1) if does(may[:count]))
    go = may[:count]
    for each in reversed(go[:-1]):
        others = [one for one in go if one is not each]
        if does(others):
            go = others
    return go


def _candidates(world: World, stay: Iterable[Assignment], held: Iterable[Held]) -> list[Held]:
    """Return what may go: of sheddable endpoints those that are not ready first, then the youngest."""
    able: dict[str, Assignment] = {
        each.replica: each for each in stay if _is_sheddable(world, each) and world.is_seen(each)
    }
    return sorted(
        (each for each in held if each.replica in able),
        key=lambda each: (world.is_ready(able[each.replica]), -able[each.replica].created_at_s, each.replica),
    )


def _is_sheddable(world: World, each: Assignment) -> bool:
    return world.endpoints[each.project, each.endpoint].spec.placement.priority == "sheddable"
