"""Who takes an endpoint's traffic, and the route table that tells the gateways so. Pure.

The serving revision takes all of it. Before there is one, the newest revision does: gateways then answer that it
loads instead of that it is unknown, and send the first request the moment a replica is ready.
"""

from collections.abc import Callable, Iterable, Mapping

from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.types.ids import ReplicaId
from stoker.types.models import Signature
from stoker.types.resources import Cache
from stoker.types.routes import CacheRoute, EndpointRoute, KeyRoute, ReplicaRoute, RevisionRoute, RouteTable
from stoker.types.units import parse_bytes, parse_seconds

WEIGHT_FULL = 100


def weights(serving: str, target: str, revisions: Iterable[str]) -> dict[str, int]:
    """Return the weight of each of `revisions`: all to the serving one, or to the target while nothing serves."""
    taker = serving or target
    return {revision: WEIGHT_FULL if revision == taker else 0 for revision in revisions}


def route_table(
    version: int,
    endpoints: Iterable[EndpointState],
    revisions: Iterable[Revision],
    assignments: Iterable[Assignment],
    keys: Iterable[KeyRoute],
    signatures: Mapping[tuple[str, int], Signature],
    address: Callable[[ReplicaId], str],
) -> RouteTable:
    """Return the table for this moment, in a stable order, so that equal states give equal tables.

    `signatures` is by model and version number. Replicas that drain are left out: gateways finish what they hold
    there and send nothing new. An endpoint that is being deleted, or has no revision yet, is left out.
    """
    by_endpoint: dict[tuple[str, str], list[Revision]] = {}
    for revision in sorted(revisions, key=lambda each: each.number):
        by_endpoint.setdefault((revision.project, revision.endpoint), []).append(revision)
    replicas: dict[str, list[ReplicaRoute]] = {}
    for each in sorted(assignments, key=lambda item: item.replica):
        if each.phase == "wanted":
            replicas.setdefault(each.revision, []).append(ReplicaRoute(each.replica, address(each.replica)))
    routes = (
        _endpoint_route(endpoint, by_endpoint.get(endpoint.key, []), replicas, signatures)
        for endpoint in sorted(endpoints, key=lambda each: each.key)
        if not endpoint.is_deleting
    )
    return RouteTable(
        version=version,
        endpoints=tuple(route for route in routes if route is not None),
        keys=tuple(sorted(keys, key=lambda key: key.key)),
    )


def _endpoint_route(
    endpoint: EndpointState,
    revisions: list[Revision],
    replicas: Mapping[str, list[ReplicaRoute]],
    signatures: Mapping[tuple[str, int], Signature],
) -> EndpointRoute | None:
    if not revisions:
        return None
    target = endpoint.status.revision or revisions[-1].revision
    share = weights(endpoint.serving, target, (each.revision for each in revisions))
    shown = [each for each in revisions if share[each.revision] or each.revision in replicas]
    taker = next((each for each in shown if share[each.revision]), revisions[-1])
    limits = endpoint.resource.spec.limits
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
                signature=signatures.get((each.config.model, each.config.number), Signature()),
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
        cache=_cache_route(endpoint.resource.spec.cache),
        coalesce=endpoint.resource.spec.coalesce,
    )


def _cache_route(cache: Cache | None) -> CacheRoute | None:
    if cache is None:
        return None
    return CacheRoute(parse_seconds(cache.ttl), parse_bytes(cache.max_bytes), cache.shared)
