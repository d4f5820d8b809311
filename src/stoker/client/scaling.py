"""Scaling over the control API: what was decided about an endpoint, and from which numbers."""

from typing import Final

import msgspec

from stoker.client.connection import Connection, decode
from stoker.core.scale.memory import Memory
from stoker.core.scale.record import Record
from stoker.types.resources import Replicas

LIMIT: Final = 20


class ScalingView(msgspec.Struct, frozen=True):
    """How an endpoint scales. records: the newest first, of those that were written down.

    now: the last decision, whether or not it changed anything, and memory: what it left to the next; None where it does
    not scale, or of a past moment.
    """

    project: str
    endpoint: str
    replicas: Replicas
    is_scaled: bool
    records: tuple[Record, ...]
    now: Record | None = None
    memory: Memory | None = None


def scaling(
    connection: Connection, project: str, name: str, at_s: float | None = None, limit: int = LIMIT
) -> ScalingView:
    """Return what was decided until `at_s` (unix seconds; None: until now)."""
    where = f"/api/v1/projects/{project}/endpoints/{name}/scaling"
    query: dict[str, str | int | float | None] = {"at_s": at_s, "limit": limit}
    return decode(connection.exchange("GET", where, query=query).body, ScalingView)
