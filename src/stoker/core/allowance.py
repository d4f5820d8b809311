"""What a project's endpoints ask for together, and what of it is over its quota, or near it. Pure.

A replica counts while its endpoint may have it, not while it runs: an endpoint that scales to where its `replicas.max`
says is never stopped by a quota half-way. The second replicas of a rollout do not count; they go again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from stoker.types.quotas import ProjectQuota, Use
from stoker.types.resources import EndpointSpec
from stoker.types.units import format_bytes, parse_bytes

# By thing: the field of an endpoint that asks for it.
FIELDS: Final[Mapping[str, str]] = {
    "endpoints": "metadata.name",
    "replicas": "spec.replicas.max",
    "cpu": "spec.resources.cpu",
    "memory": "spec.resources.memory",
    "gpu": "spec.resources.gpu",
}


class Taken(msgspec.Struct, frozen=True):
    """What endpoints ask for together."""

    endpoints: int = 0
    replicas: int = 0
    cpu: float = 0.0
    memory: int = 0
    gpu: float = 0.0


def taken(specs: Iterable[EndpointSpec]) -> Taken:
    """Return what endpoints of these specs ask for."""
    known = list(specs)
    each = [(spec.replicas.max, spec.resources) for spec in known if not spec.backends]  # others have no replicas
    return Taken(
        endpoints=len(known),
        replicas=sum(count for count, _ in each),
        cpu=round(sum(count * one.cpu for count, one in each), 6),
        memory=sum(count * parse_bytes(one.memory) for count, one in each),
        gpu=round(sum(count * one.gpu for count, one in each), 6),
    )


def uses(quota: ProjectQuota, now: Taken) -> tuple[Use, ...]:
    """Return how much is taken of each thing that the quota limits."""
    return tuple(Use(name, used, limit) for name, used, limit in _limited(quota, now))


def over(quota: ProjectQuota, before: Taken, after: Taken) -> Iterator[tuple[str, str]]:
    """Yield, for each thing, the field of an endpoint that asks for it, and why `after` may not be.

    What was over a quota already may shrink, and may stay.
    """
    for (name, used, limit), (_, had, _) in zip(_limited(quota, after), _limited(quota, before), strict=True):
        if used > limit and used > had:
            more = f"its endpoints would ask for {said(name, used)}, the quota is {said(name, limit)}"
            yield FIELDS[name], f"{more}; they ask for {said(name, had)} now"


def near(quota: ProjectQuota, before: Taken, after: Taken) -> Iterator[str]:
    """Yield what is nearly used up after a change that took more of it."""
    for (name, used, limit), (_, had, _) in zip(_limited(quota, after), _limited(quota, before), strict=True):
        if had < used <= limit and used >= limit * quota.warn_at:
            yield f"{said(name, used)} of the project's quota of {said(name, limit)} are asked for"


def said(name: str, amount: float) -> str:
    """Return an amount of one thing as people read it: `3 replicas`, `1.5 cores`, `2.0 GiB of memory`."""
    if name == "memory":
        return f"{format_bytes(int(amount))} of memory"
    nouns = {"cpu": "core", "gpu": "GPU", "replicas": "replica", "endpoints": "endpoint"}
    return f"{amount:g} {nouns[name]}" + ("" if amount == 1 else "s")


def _limited(quota: ProjectQuota, now: Taken) -> Iterator[tuple[str, float, float]]:
    memory = None if quota.memory is None else parse_bytes(quota.memory)
    for name, used, limit in (
        ("endpoints", now.endpoints, quota.endpoints),
        ("replicas", now.replicas, quota.replicas),
        ("cpu", now.cpu, quota.cpu),
        ("memory", now.memory, memory),
        ("gpu", now.gpu, quota.gpu),
    ):
        if limit is not None:
            yield name, float(used), float(limit)
