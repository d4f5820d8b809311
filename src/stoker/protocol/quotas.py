"""What is wrong with a quota beyond the types of its fields."""

from stoker.protocol.budgets import zone
from stoker.types.quotas import ProjectQuota
from stoker.types.units import parse_bytes


def quota_problems(quota: ProjectQuota) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them."""
    found = []
    for field, text in (("memory", quota.memory), ("storage", quota.storage)):
        try:
            if text is not None:
                parse_bytes(text)
        except ValueError as wrong:
            found.append((field, str(wrong)))
    try:
        zone(quota.timezone)
    except ValueError:
        found.append(("timezone", f"{quota.timezone!r} is no time zone; names are such as Europe/Berlin, or UTC"))
    if quota.burst and not quota.requests_per_s:
        found.append(("burst", "a burst is of requests_per_s, which is not limited"))
    return found
