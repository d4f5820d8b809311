"""The kinds of resource that `get`, `describe` and `delete` speak of, and the words people use for them."""

from typing import Final, Literal

import click

Kind = Literal[
    "endpoint", "model", "project", "node", "key", "notifier", "policy", "budget", "quota", "role", "provider"
]

_WORDS: Final[dict[str, Kind]] = {
    "endpoint": "endpoint",
    "endpoints": "endpoint",
    "ep": "endpoint",
    "model": "model",
    "models": "model",
    "project": "project",
    "projects": "project",
    "node": "node",
    "nodes": "node",
    "key": "key",
    "keys": "key",
    "notifier": "notifier",
    "notifiers": "notifier",
    "policy": "policy",
    "policies": "policy",
    "budget": "budget",
    "budgets": "budget",
    "quota": "quota",
    "quotas": "quota",
    "role": "role",
    "roles": "role",
    "provider": "provider",
    "providers": "provider",
}


def to_kind(ctx: click.Context | None, parameter: click.Parameter | None, value: str) -> Kind:
    """Return the kind that a word means, in the singular or the plural."""
    found = _WORDS.get(value.lower())
    if found is None:
        *most, last = [word for word in _WORDS if word.endswith("s")]
        words = f"there are {', '.join(most)} and {last}"
        raise click.BadParameter(f"{value!r} is not a kind; {words}", ctx=ctx, param=parameter)
    return found


def split_reference(text: str) -> tuple[str, str | None]:
    """Return name and version of `digits@2` (None without one)."""
    name, at, reference = text.partition("@")
    return name, reference if at else None
