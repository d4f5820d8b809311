"""Who may act for the platform: one holder at a time, each with a token that only grows.

Every write of the loop is guarded by the lease in its own transaction, and every call to an agent carries the token:
a holder that was suspended and wakes up late changes nothing. Measured with 8 processes and stalls: no token had two
holders.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, select, text, update

from stoker.store import schema
from stoker.store.dialects import insert_missing
from stoker.types.errors import Conflict

# client-go's: a holder that cannot renew for so long is taken for dead; it renews at a third of it.
TTL_S: Final = 15.0
RENEW_S: Final = 5.0

_ACQUIRE: Final = text(
    "UPDATE lease SET holder=:holder, expires=:now+:ttl,"
    " token=token+(CASE WHEN holder<>:holder OR expires<:now THEN 1 ELSE 0 END)"
    " WHERE name=:name AND (holder=:holder OR expires<:now) RETURNING token"
)


class Lease(msgspec.Struct, frozen=True):
    """A held lease. `token` is what agents and transactions compare."""

    name: str
    holder: str
    token: int


class LeaseLost(Conflict):
    """Another holder acts now; this process must stop acting."""

    code = "lease_lost"


def acquire(connection: Connection, name: str, holder: str, now_s: float, ttl_s: float = TTL_S) -> Lease | None:
    """Take or renew the lease; None when another holds it. The token grows with every change of hands."""
    _ensure(connection, name)
    token = connection.execute(
        _ACQUIRE, {"name": name, "holder": holder, "now": now_s, "ttl": ttl_s}
    ).scalar_one_or_none()
    return None if token is None else Lease(name, holder, int(token))


def guard(connection: Connection, lease: Lease) -> None:
    """Raise LeaseLost unless `lease` is still the newest one. Call it first in the transaction it protects.

    The time is not looked at: as long as nobody took it over, the holder's writes are in order.
    """
    row = connection.execute(
        select(schema.lease.c.holder, schema.lease.c.token).where(schema.lease.c.name == lease.name)
    ).one_or_none()
    if row is None or (row.holder, row.token) != (lease.holder, lease.token):
        raise LeaseLost(f"the lease {lease.name!r} went from {lease.holder} to {row.holder if row else 'nobody'}")


def outrank(connection: Connection, lease: Lease, fence: int) -> Lease:
    """Return the lease with a token above `fence`, which a node has seen. Raises LeaseLost.

    A node that knows a higher token than the rightful holder's has outlived a database that was lost or restored.
    """
    guard(connection, lease)
    token = max(lease.token, fence + 1)
    connection.execute(update(schema.lease).where(schema.lease.c.name == lease.name).values(token=token))
    return Lease(lease.name, lease.holder, token)


def release(connection: Connection, lease: Lease) -> None:
    """Let the next holder take over at once. Does nothing when the lease was lost already."""
    table = schema.lease
    mine = (table.c.name == lease.name) & (table.c.holder == lease.holder) & (table.c.token == lease.token)
    connection.execute(update(table).where(mine).values(expires=0.0))


def break_lease(connection: Connection, name: str) -> None:
    """End whatever lease there is. For a caller that knows the holder is dead: it holds the machine's own lock."""
    connection.execute(update(schema.lease).where(schema.lease.c.name == name).values(expires=0.0))


def _ensure(connection: Connection, name: str) -> None:
    row = {"name": name, "holder": "", "expires": 0.0, "token": 0}
    connection.execute(insert_missing(connection, schema.lease, row))
