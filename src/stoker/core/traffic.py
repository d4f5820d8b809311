"""Who takes an endpoint's traffic, and the route table that tells the gateways so. Pure.

The serving revision takes all of it, but for the share that a rollout gives to the next one. Before there is one, the
newest revision does: gateways then answer that it loads instead of that it is unknown, and send the first request the
moment a replica is ready.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

import msgspec

from stoker.core import chains, enforce, parts, sampling, slo
from stoker.core.revisions import TASKS
from stoker.core.rollout.course import course
from stoker.core.rollout.state import RolloutState
from stoker.core.scale.policy import can_sleep
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision
from stoker.types.ids import EndpointName, ReplicaId
from stoker.types.models import Signature
from stoker.types.resources import Cache, EndpointSpec, FallbackReason
from stoker.types.rollouts import RolloutRoute
from stoker.types.routes import (
    BackendRoute,
    BreakerRoute,
    CacheRoute,
    EndpointRoute,
    KeyRoute,
    ReplicaRoute,
    RevisionRoute,
    RouteTable,
    SamplesRoute,
)
from stoker.types.units import parse_bytes, parse_seconds

WEIGHT_FULL = 100


class _Chained(TypedDict):
    """What both kinds of endpoint have of their manifest."""

    fallback: tuple[EndpointName, ...]
    fallback_on: tuple[FallbackReason, ...]
    fallback_after_s: float
    breaker: BreakerRoute
    samples: SamplesRoute | None
    trace_ratio: float | None
    sheds: bool


def weights(serving: str, target: str, revisions: Iterable[str], rollout: RolloutState | None = None) -> dict[str, int]:
    """Return the weight of each of `revisions`: all to the serving one, or to the target while nothing serves."""
    taker = serving or target
    share = {revision: WEIGHT_FULL if revision == taker else 0 for revision in revisions}
    if rollout is not None and not rollout.is_ended and rollout.baseline == serving and rollout.canary in share:
        share |= {rollout.canary: rollout.weight, rollout.baseline: WEIGHT_FULL - rollout.weight}
    return share


def rollout_route(rollout: RolloutState | None) -> RolloutRoute | None:
    """Return what gateways watch while `rollout` runs; None where nothing is compared."""
    if rollout is None or rollout.phase not in ("scaling", "stepping", "paused"):
        return None
    way = course(rollout.spec, rollout.strategy)
    if not way.steps:
        return None
    return RolloutRoute(
        number=rollout.number,
        baseline=rollout.baseline,
        canary=rollout.canary,
        slow_s=rollout.slow_s,
        segments=rollout.spec.segments,
        sticky=rollout.spec.sticky if rollout.strategy == "a-b" else "",
        mirror=way.mirror if rollout.is_stepping else None,
        first_failed=rollout.spec.first_failed,
    )


def is_replaced(rollout: RolloutState | None) -> bool:
    """Return whether there may be no replica at all for a while, because the old ones go before the new ones come."""
    if rollout is None or not course(rollout.spec, rollout.strategy).clears:
        return False
    return rollout.phase in ("clearing", "scaling", "returning")


def holds(rollout: RolloutState | None, *, may_sleep: bool, has_replicas: bool) -> bool:
    """Return whether requests are waited with although nothing runs, unless the endpoint is closed."""
    return is_replaced(rollout) or (may_sleep and not has_replicas)


def route_table(
    endpoints: Iterable[EndpointState],
    revisions: Iterable[Revision],
    assignments: Iterable[Assignment],
    keys: Iterable[KeyRoute],
    signatures: Mapping[tuple[str, int], Signature],
    address: Callable[[ReplicaId], str],
    rollouts: Iterable[RolloutState] = (),
    judged: Mapping[str, tuple[str, ...]] | None = None,
) -> RouteTable:
    """Return the table for this moment, in a stable order, so that equal states give equal tables.

    `signatures` is by model and version number, `judged` whom objectives judge that judge each (core/parts.py).
    Replicas that drain, or that an incident keeps without traffic, are left out: gateways finish what they hold there
    and send nothing new. So is an endpoint that is being deleted, or has no revision yet. Whoever publishes the table
    numbers it.
    """
    by_endpoint: dict[tuple[str, str], list[Revision]] = {}
    for revision in sorted(revisions, key=lambda each: each.number):
        by_endpoint.setdefault((revision.project, revision.endpoint), []).append(revision)
    replicas: dict[str, list[ReplicaRoute]] = {}
    endpoints = list(endpoints)
    out = {replica for each in endpoints for replica in each.status.out}
    for each in sorted(assignments, key=lambda item: item.replica):
        if each.phase == "wanted" and each.replica not in out:
            replicas.setdefault(each.revision, []).append(ReplicaRoute(each.replica, address(each.replica)))
    living = [each for each in sorted(endpoints, key=lambda each: each.key) if not each.is_deleting]
    running = {(each.project, each.endpoint): each for each in rollouts if not each.is_ended}
    own = {
        each.key: _endpoint_route(each, by_endpoint.get(each.key, []), replicas, signatures, running.get(each.key))
        for each in living
    }
    routes = [
        (_tier_route(each, living, own) if _is_handed_over(each, own[each.key]) else own[each.key], each)
        for each in living
    ]
    return RouteTable(
        version=0,
        endpoints=tuple(_promising(route, each, judged or {}) for route, each in routes if route is not None),
        keys=tuple(sorted(keys, key=lambda key: key.key)),
    )


def _endpoint_route(
    endpoint: EndpointState,
    revisions: list[Revision],
    replicas: Mapping[str, list[ReplicaRoute]],
    signatures: Mapping[tuple[str, int], Signature],
    rollout: RolloutState | None,
) -> EndpointRoute | None:
    if not revisions:
        return None
    target = endpoint.status.revision or revisions[-1].revision
    share = weights(endpoint.serving, target, (each.revision for each in revisions), rollout)
    shown = [each for each in revisions if share[each.revision] or each.revision in replicas]
    taker = max(shown, key=lambda each: share[each.revision], default=revisions[-1])
    limits, retry = endpoint.resource.spec.limits, endpoint.resource.spec.retry
    names = [each.revision for each in shown]
    return EndpointRoute(
        project=endpoint.project,
        endpoint=endpoint.name,
        task=taker.config.task,
        created_at_s=endpoint.created_at_s,
        revisions=tuple(
            RevisionRoute(
                revision=each.revision,
                version=str(each.config.number),
                weight=share[each.revision],
                replicas=tuple(replicas.get(each.revision, ())),
                signature=each.config.seen(signatures.get((each.config.model, each.config.number), Signature())),
                platform=each.config.engine,
            )
            for each in shown
        ),
        max_body_bytes=parse_bytes(limits.max_body),
        timeout_s=parse_seconds(limits.timeout),
        queue_max=limits.queue_max,
        queue_max_bytes=parse_bytes(limits.queue_bytes),
        concurrency=limits.concurrency,
        affinity=endpoint.resource.spec.routing.affinity,
        hedge=retry.hedge,
        resume=retry.resume,
        cache=_cache_route(endpoint.resource.spec.cache),
        coalesce=endpoint.resource.spec.coalesce,
        rollout=rollout_route(rollout),
        holds=holds(rollout, may_sleep=can_sleep(endpoint.resource.spec), has_replicas=any(map(replicas.get, names))),
        **_chained(endpoint),
    )


def _is_handed_over(endpoint: EndpointState, own: EndpointRoute | None) -> bool:
    """Return whether backends serve for it. While it has replicas of an earlier model, those still do."""
    has_replicas = own is not None and any(revision.replicas for revision in own.revisions)
    return bool(endpoint.resource.spec.backends) and not has_replicas


def _tier_route(
    endpoint: EndpointState, living: list[EndpointState], own: Mapping[EndpointKey, EndpointRoute | None]
) -> EndpointRoute | None:
    """Return the route of an endpoint with backends; None while none of them says what it does."""
    specs: dict[str, EndpointSpec] = {
        each.name: each.resource.spec for each in living if each.project == endpoint.project
    }
    models: dict[str, str] = {
        route.endpoint: route.task for route in own.values() if route and route.project == endpoint.project
    }
    task = next((each for each in TASKS if each == chains.task(endpoint.name, specs, models)), None)
    if task is None:
        return None
    spec = endpoint.resource.spec
    return EndpointRoute(
        project=endpoint.project,
        endpoint=endpoint.name,
        task=task,
        created_at_s=endpoint.created_at_s,
        revisions=(),
        max_body_bytes=parse_bytes(spec.limits.max_body),
        timeout_s=parse_seconds(spec.limits.timeout),
        backends=tuple(BackendRoute(EndpointName(each.endpoint), each.weight, each.when) for each in spec.backends),
        **_chained(endpoint),
    )


def _promising(route: EndpointRoute, endpoint: EndpointState, judged: Mapping[str, tuple[str, ...]]) -> EndpointRoute:
    """Return the route with the tenants that have objectives of their own, which are counted by themselves."""
    own = [each for each in parts.judged(endpoint.key, endpoint.resource.spec.slos, judged) if each.tenant]
    return msgspec.structs.replace(
        route,
        promised_to=tuple(sorted({each.tenant for each in own if each.sli == "availability"})),
        timed_for={
            tenant: tuple(sorted({slo.counted(each) for each in own if each.tenant == tenant and each.under}))
            for tenant in sorted({each.tenant for each in own if each.under})
        },
    )


def _chained(endpoint: EndpointState) -> _Chained:
    spec = endpoint.resource.spec
    breaker = spec.breaker
    return _Chained(
        fallback=tuple(EndpointName(name) for name in spec.fallback),
        fallback_on=spec.fallback_on,
        fallback_after_s=parse_seconds(spec.fallback_after),
        breaker=BreakerRoute(
            failure_ratio=breaker.failure_ratio,
            requests_min=breaker.requests_min,
            window_s=parse_seconds(breaker.window),
            open_s=parse_seconds(breaker.open_for),
            refuse=breaker.refuse,
        ),
        samples=sampling.route(spec.samples) if spec.samples is not None else None,
        trace_ratio=spec.traces.rate if spec.traces is not None else None,
        sheds=enforce.is_in_force("shed-sheddable", endpoint.status.moves),
    )


def _cache_route(cache: Cache | None) -> CacheRoute | None:
    if cache is None:
        return None
    return CacheRoute(parse_seconds(cache.ttl), parse_bytes(cache.max_bytes), cache.shared)
