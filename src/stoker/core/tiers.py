"""An endpoint whose backends are other endpoints: who takes a request, and what is said of it."""

from collections.abc import Mapping, Sequence

from stoker.core import conditions, fallback, route
from stoker.core.conditions import PROGRESSING, READY
from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.types.ids import EndpointName
from stoker.types.routes import BackendRoute
from stoker.types.statuses import Condition, EndpointStatus


def choose(backends: Sequence[BackendRoute], holds: Sequence[bool], is_up: Sequence[bool], draw: float) -> int:
    """Return the index of the backend that takes a request; -1 when none may.

    The first whose rule holds takes it, up or not: a rule says what a request needs, and its backend's fallbacks say
    what else will do. What no rule takes is drawn by weight from those without a rule, the ones that are up first.

    Args:
        holds: whether each backend's rule is true; anything where there is no rule.
        draw: in [0, 1).
    """
    for index, backend in enumerate(backends):
        if backend.when and holds[index]:
            return index
    weights = [0 if backend.when else backend.weight for backend in backends]
    return route.weighted(fallback.draw(weights, is_up), draw)


def is_ready(endpoint: EndpointState, statuses: Mapping[EndpointKey, EndpointStatus]) -> bool:
    """Return whether a backend of `endpoint` is ready."""
    return bool(_ready(endpoint, statuses))


def status(
    endpoint: EndpointState, statuses: Mapping[EndpointKey, EndpointStatus], leaving: int, now_s: float
) -> EndpointStatus:
    """Return the status of an endpoint with backends, of which `leaving` replicas of an earlier model are left."""
    names = [backend.endpoint for backend in endpoint.resource.spec.backends]
    count = len(dict.fromkeys(names))
    ready = _ready(endpoint, statuses)
    if ready:
        message = f"{len(ready)} of {count} backends ready: {', '.join(ready)}"
        first = Condition(READY, True, "BackendsReady", message, now_s)
    else:
        first = Condition(READY, False, "NoBackendReady", f"none of its backends is ready: {', '.join(names)}", now_s)
    if not ready:
        second = Condition(PROGRESSING, True, "WaitingForBackends", first.message, now_s)
    elif leaving:
        message = f"{leaving} replicas of its own model finish admitted requests"
        second = Condition(PROGRESSING, True, "Draining", message, now_s)
    else:
        second = Condition(PROGRESSING, False, "Complete", first.message, now_s)
    return EndpointStatus(
        observed_generation=endpoint.generation,
        conditions=conditions.merge(endpoint.status.conditions, (first, second)),
    )


def _ready(endpoint: EndpointState, statuses: Mapping[EndpointKey, EndpointStatus]) -> list[str]:
    names = dict.fromkeys(EndpointName(backend.endpoint) for backend in endpoint.resource.spec.backends)
    return [name for name in names if _is_ready(statuses.get((endpoint.project, name)))]


def _is_ready(status: EndpointStatus | None) -> bool:
    found = conditions.find(status.conditions, READY) if status is not None else None
    return found is not None and found.status
