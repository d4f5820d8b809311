"""Who has the room of an endpoint while a new revision has none. Pure.

Nobody asks, and it may sleep: what serves makes room at once where the new one fits then, and the rollout goes on as
`recreate` does, with its way back. Where it would not fit then either, what serves sleeps as it does without a
rollout. Somebody asks, and nothing runs: what serves wakes, for a revision that has no room takes nobody's traffic. Nor
is it promoted in its sleep, before there is room for it.
"""

from collections.abc import Iterable, Sequence

import msgspec

from stoker.core import place
from stoker.core.scale.policy import can_sleep
from stoker.core.shortage import NoRoom
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.core.world import World


class Room(msgspec.Struct, frozen=True):
    """What there is for the revision `target` beside, and without, what serves.

    asked: replicas that the load calls for, whatever a rollout holds. is_idle: none is, none needs to be, and nobody
    waits in line. beside: why `target` has no room now; alone: nor has it without what serves; both "" where it has.
    """

    asked: int = 1
    is_idle: bool = False
    beside: str = ""
    alone: str = ""

    @property
    def is_cleared(self) -> bool:
        """Whether `target` fits as soon as what serves is gone, and only then."""
        return bool(self.beside) and not self.alone

    def told(self, blocked: str | None, serving: str) -> str | None:
        """Return why the revision has no node, and what to do where it is what serves that has its room."""
        if blocked is None or not self.is_cleared:
            return blocked
        return f"{blocked}; {serving} has that room: `rollout.strategy: recreate` has it go first"


def look(world: World, endpoint: EndpointState, target: Revision, mine: Sequence[Assignment], asked: int) -> Room:
    """Return what room there is for the first replica of `target`; nobody is looked for where it serves, or has one."""
    is_idle = not asked and can_sleep(endpoint.resource.spec) and endpoint.key not in world.snapshot.rests
    serving = endpoint.serving
    if serving in ("", target.revision) or any(each.revision == target.revision for each in mine):
        return Room(asked, is_idle)
    olds = {each.replica for each in mine if each.revision == serving and each.phase == "wanted"}  # others leave anyway
    beside = unfit(world, target)
    return Room(asked, is_idle, beside, unfit(world, target, olds) if beside and olds else beside)


def unfit(world: World, target: Revision, gone: Iterable[str] = ()) -> str:
    """Return why a replica of `target` has no room were the replicas `gone` gone; "" where it has."""
    left = set(gone)
    held = [each for each in world.held if not each.replica or each.replica not in left]
    found = place.choose(world.demand(target), world.capacities, held)
    return found.message if isinstance(found, NoRoom) else ""
