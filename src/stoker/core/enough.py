"""How many replicas an endpoint should have, before its rollout and its moves say more; and what GPU-hours allow. Pure.

A project whose GPU-hours are used up keeps what it has: replicas that die are replaced, a way back to a revision that
there is goes on, and so does a rollout that has begun. Nothing grows, wakes or begins anew on GPUs.
"""

from collections.abc import Collection, Iterable

from stoker.core.revisions import ServingConfig, Unservable, config_digest
from stoker.core.scale.policy import is_scaled
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.core.world import World


def spent(world: World, endpoint: EndpointState) -> str:
    """Return why an endpoint may not have more of GPUs than it has; "" where it may, or needs none."""
    found = world.snapshot.spent
    return found.get(endpoint.project, "") if found and endpoint.resource.spec.resources.gpu > 0 else ""


def usual(
    world: World, endpoint: EndpointState, mine: Iterable[Assignment], held: Collection[str], *, is_spent: bool
) -> int:
    """Return how many replicas there should be: as many as there are at most, where no GPU-hours are left."""
    found = _held(world, endpoint)
    if not is_spent:
        return found
    counts: dict[str, int] = {}
    for each in mine:
        if each.phase == "wanted" and each.replica not in held:
            counts[each.revision] = counts.get(each.revision, 0) + 1
    return min(found, max(counts.values(), default=0))


def held_back(
    config: ServingConfig | Unservable, revisions: Iterable[Revision], because: str
) -> ServingConfig | Unservable:
    """Return `config`, or why it may not become a revision now: a new one would start on GPUs."""
    if not because or isinstance(config, Unservable):
        return config
    digest = config_digest(config)
    if any(each.digest == digest for each in revisions):
        return config
    return Unservable(f"{because}: no new revision starts on GPUs until then", "spec.resources.gpu")


def called(world: World, endpoint: EndpointState) -> int:
    """Return how many replicas the load calls for; those of the manifest where it does not scale."""
    spec, scaled = endpoint.resource.spec, world.snapshot.scaled
    bounds = spec.replicas
    if not is_scaled(spec):
        return bounds.min
    if scaled is None and endpoint.serving:
        found = endpoint.status.replicas_wanted
    else:
        found = (scaled or {}).get(endpoint.key, 1)
    if not spec.scaling.schedules:
        found = min(max(found, bounds.min), bounds.max)
    return found


def _held(world: World, endpoint: EndpointState) -> int:
    """Return how many replicas there should be: none goes while a rollout runs, for a bad canary goes back to them."""
    found, running = called(world, endpoint), world.rollouts.get(endpoint.key)
    if running is None or running.is_ended or not is_scaled(endpoint.resource.spec):
        return found
    return max(found, min(running.baseline_count, endpoint.resource.spec.replicas.max))
