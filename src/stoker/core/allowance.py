"""What a project, or the platform, has and asks for, and what of it is over its quota, or near it. Pure.

A replica counts while its endpoint may have it, not while it runs: an endpoint that scales to where its `replicas.max`
says is never stopped by a quota half-way. The second replicas of a rollout do not count; they go again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from stoker.types.quotas import ProjectQuota, Use
from stoker.types.resources import EndpointSpec
from stoker.types.units import format_bytes, parse_bytes

# By thing that is applied: the field of an endpoint that asks for it.
FIELDS: Final[Mapping[str, str]] = {
    "endpoints": "metadata.name",
    "replicas": "spec.replicas.max",
    "cpu": "spec.resources.cpu",
    "memory": "spec.resources.memory",
    "gpu": "spec.resources.gpu",
}
NOUNS: Final[Mapping[str, str]] = {
    "cpu": "core",
    "gpu": "GPU",
    "replicas": "replica",
    "endpoints": "endpoint",
    "keys": "key",
    "gpu_hours": "GPU-hour",
    "requests_per_s": "request a second",
    "tokens_per_min": "token a minute",
    "requests_at_once": "request at once",
}


class Taken(msgspec.Struct, frozen=True):
    """What endpoints ask for together, and what there is besides: keys, bytes, GPU-hours of this period."""

    endpoints: int = 0
    replicas: int = 0
    cpu: float = 0.0
    memory: int = 0
    gpu: float = 0.0
    keys: int = 0
    storage: int = 0
    gpu_hours: float = 0.0


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


def uses(quota: ProjectQuota, now: Taken, resets_at_s: float = 0.0) -> tuple[Use, ...]:
    """Return how much is taken of each thing that the quota limits. resets_at_s: when GPU-hours begin anew."""
    is_hard = quota.on_limit == "refuse"
    return tuple(
        Use(name, used, limit, is_hard, quota.warn_at, resets_at_s if name == "gpu_hours" else 0.0)
        for name, used, limit in _limited(quota, now)
    )


def rates(quota: ProjectQuota) -> Iterator[Use]:
    """Yield what the quota limits in the data plane; how much of it is used only gateways know."""
    for name in ("requests_per_s", "tokens_per_min", "requests_at_once"):
        limit = float(getattr(quota, name))
        if limit > 0:
            yield Use(name, None, limit, warn_at=quota.warn_at)


def state(use: Use) -> Literal["within", "near", "used up", "unknown"]:
    """Return how a quota stands."""
    if use.used is None:
        return "unknown"
    if use.used >= use.limit:
        return "used up"
    return "near" if use.used >= use.limit * use.warn_at else "within"


def over(quota: ProjectQuota, before: Taken, after: Taken, whose: str = "its") -> Iterator[tuple[str, str]]:
    """Yield, for each thing, the field of an endpoint that asks for it, and why `after` may not be.

    What was over a quota already may shrink, and may stay.
    """
    for (name, used, limit), (_, had, _) in zip(_limited(quota, after), _limited(quota, before), strict=True):
        if name in FIELDS and used > limit and used > had:
            more = f"{whose} endpoints would ask for {said(name, used)}, the quota is {said(name, limit)}"
            yield FIELDS[name], f"{more}; they ask for {said(name, had)} now"


def near(quota: ProjectQuota, before: Taken, after: Taken, whose: str = "the project's") -> Iterator[str]:
    """Yield what is nearly used up after a change that took more of it."""
    for (name, used, limit), (_, had, _) in zip(_limited(quota, after), _limited(quota, before), strict=True):
        if name in FIELDS and had < used <= limit and used >= limit * quota.warn_at:
            yield f"{said(name, used)} of {whose} quota of {said(name, limit)} are asked for"


def is_over(limit: float | None, used: float, more: float) -> bool:
    """Return whether `more` of something does not fit into what is left of it. Nothing more always does."""
    return limit is not None and more > 0 and used + more > limit


def said(name: str, amount: float) -> str:
    """Return an amount of one thing as people read it: `3 replicas`, `1.5 cores`, `2.0 GiB of memory`."""
    if name in ("memory", "storage"):
        return f"{format_bytes(int(amount))} of {name}"
    noun, _, rest = NOUNS[name].partition(" ")
    return f"{amount:g} {noun}" + ("" if amount == 1 else "s") + (f" {rest}" if rest else "")


def _limited(quota: ProjectQuota, now: Taken) -> Iterator[tuple[str, float, float]]:
    for name, used, limit in (
        ("endpoints", now.endpoints, quota.endpoints),
        ("replicas", now.replicas, quota.replicas),
        ("cpu", now.cpu, quota.cpu),
        ("memory", now.memory, None if quota.memory is None else parse_bytes(quota.memory)),
        ("gpu", now.gpu, quota.gpu),
        ("keys", now.keys, quota.keys),
        ("storage", now.storage, None if quota.storage is None else parse_bytes(quota.storage)),
        ("gpu_hours", now.gpu_hours, quota.gpu_hours),
    ):
        if limit is not None:
            yield name, float(used), float(limit)
