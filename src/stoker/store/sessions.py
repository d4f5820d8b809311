"""Sessions of people as rows: the sha256 of what opens one, never that itself."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from stoker.store import schema_identity as schema
from stoker.types.errors import Conflict, NotFound
from stoker.types.identity import SESSIONS_EACH_MAX, SESSIONS_MAX, SessionKind

_TABLE: Final = schema.sessions


class SessionRow(msgspec.Struct, frozen=True):
    """A session as stored. `idle_s` 0: it ends at `expires_at_s` alone. claims: of the token that began it, as JSON."""

    id: str
    sha256: str
    subject: str
    provider: str
    kind: SessionKind
    email: str
    name: str
    claims: str
    origin: str
    agent: str
    created_at_s: float
    used_at_s: float
    idle_s: float
    expires_at_s: float

    def ends_s(self) -> float:
        """Return when it ends if nobody uses it any more."""
        return min(self.expires_at_s, self.used_at_s + self.idle_s) if self.idle_s else self.expires_at_s

    def said(self) -> dict[str, Any]:
        """Return the claims."""
        found: dict[str, Any] = msgspec.json.decode(self.claims)
        return found


def add(connection: Connection, session: SessionRow, now_s: float) -> None:
    """Store a session; the oldest of the same person go over SESSIONS_EACH_MAX. Raises Conflict over SESSIONS_MAX."""
    drop_ended(connection, now_s)
    mine = select(_TABLE.c.id).where(_TABLE.c.subject == session.subject).order_by(_TABLE.c.created_at_s.desc())
    for row in connection.execute(mine).all()[SESSIONS_EACH_MAX - 1 :]:
        connection.execute(delete(_TABLE).where(_TABLE.c.id == row.id))
    if connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() >= SESSIONS_MAX:
        raise Conflict(f"{SESSIONS_MAX} people are signed in; `stoker sessions revoke` ends a session")
    connection.execute(insert(_TABLE).values(**msgspec.structs.asdict(session)))


def find(connection: Connection, session_id: str) -> SessionRow | None:
    """Return the session of that id, ended or not."""
    row = connection.execute(select(_TABLE).where(_TABLE.c.id == session_id)).one_or_none()
    return None if row is None else SessionRow(**row._mapping)


def everything(connection: Connection) -> list[SessionRow]:
    """Return all sessions, newest first."""
    rows = connection.execute(select(_TABLE).order_by(_TABLE.c.created_at_s.desc(), _TABLE.c.id))
    return [SessionRow(**row._mapping) for row in rows]


def remove(connection: Connection, session_id: str) -> SessionRow:
    """End a session and return it. Raises NotFound."""
    found = find(connection, session_id)
    if found is None:
        raise NotFound(f"no session {session_id!r}")
    connection.execute(delete(_TABLE).where(_TABLE.c.id == session_id))
    return found


def remove_of(connection: Connection, *, subject: str = "", provider: str = "") -> int:
    """End every session of a subject, or of a provider; return how many."""
    whose = _TABLE.c.subject == subject if subject else _TABLE.c.provider == provider
    return connection.execute(delete(_TABLE).where(whose)).rowcount


def used(connection: Connection, session_id: str, now_s: float) -> None:
    """Keep when a session was used last; one that is gone stays gone."""
    connection.execute(update(_TABLE).where(_TABLE.c.id == session_id).values(used_at_s=now_s))


def drop_ended(connection: Connection, now_s: float) -> int:
    """Delete sessions that have ended; return how many."""
    idle = and_(_TABLE.c.idle_s > 0, _TABLE.c.used_at_s + _TABLE.c.idle_s < now_s)
    return connection.execute(delete(_TABLE).where(or_(_TABLE.c.expires_at_s < now_s, idle))).rowcount


def forget(connection: Connection, sha256: str) -> None:
    """End the session that a text of that digest opens, if there is one."""
    connection.execute(delete(_TABLE).where(_TABLE.c.sha256 == sha256))
