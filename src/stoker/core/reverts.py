"""When a gateway takes the traffic away from a revision without control, whom it gives it to, and for how long.

It is the last means: control may be dead. So it holds until control says something new of this endpoint, and not
longer: a newer table that is the same in what matters (a replica came, another endpoint changed) leaves it standing.
"""

from collections.abc import Collection

import msgspec

from stoker.types.rollouts import Reverted
from stoker.types.routes import EndpointRoute

BECAUSE_MAX = 300
ALL = 100  # percent


def weights(route: EndpointRoute) -> dict[str, int]:
    """Return what must not change: the canary's weight during a rollout; else all weights."""
    told = {str(each.revision): each.weight for each in route.revisions if each.weight}
    if route.rollout is None:
        return told
    return {route.rollout.canary: told.get(route.rollout.canary, 0)}


def stands(reverted: Reverted, route: EndpointRoute) -> bool:
    """Return whether `route` still says what it said when the gateway went back, and has the revision it went to."""
    number = route.rollout.number if route.rollout is not None else 0
    has_target = any(each.revision == reverted.to and each.replicas for each in route.revisions)
    return has_target and reverted.number == number and reverted.weights == weights(route)


def applied(reverted: Reverted, route: EndpointRoute) -> EndpointRoute:
    """Return `route` with all traffic given to where the gateway went back to."""
    revisions = tuple(
        msgspec.structs.replace(each, weight=ALL if each.revision == reverted.to else 0) for each in route.revisions
    )
    return msgspec.structs.replace(route, revisions=revisions)


def target(route: EndpointRoute, able: Collection[str], wanted: str = "") -> str:
    """Return the revision to go back to; "" when there is none that could serve.

    Args:
        able: revisions with a replica that takes requests.
        wanted: the revision that somebody asks for.
    """
    serving = max(route.revisions, key=lambda each: (each.weight, _number(each.revision)), default=None)
    if serving is None:
        return ""
    if wanted:
        return wanted if wanted in able else ""
    if route.rollout is not None:
        return route.rollout.baseline if route.rollout.baseline in able else ""
    earlier = [each.revision for each in route.revisions if each.revision in able]
    earlier = [each for each in earlier if _number(each) < _number(serving.revision)]
    return str(max(earlier, key=_number, default=""))


def _number(revision: str) -> int:
    number = revision.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
