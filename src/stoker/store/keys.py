"""Keys as rows: the sha256 of their text, never the text."""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, case, delete, func, insert, select, update

from stoker.store import schema
from stoker.types.access import USUAL, KeyAccess
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import KeyId, ProjectName
from stoker.types.keys import UNLIMITED, KeyLimits

KEYS_MAX: Final = 10_000  # each is a row of the route table too

_limits = msgspec.json.Decoder(KeyLimits).decode
_access = msgspec.json.Decoder(KeyAccess).decode


class KeyRow(msgspec.Struct, frozen=True):
    """A key as stored. `sha256` is hex, of the whole text; `expires_at_s` 0 means never.

    old_sha256: of the text before the last rotation, which works until `old_until_s`.
    """

    id: KeyId
    project: ProjectName
    name: str
    sha256: str
    created_at_s: float
    expires_at_s: float = 0.0
    limits: KeyLimits = UNLIMITED
    access: KeyAccess = USUAL
    subject: str = ""
    old_sha256: str = ""
    old_until_s: float = 0.0
    last_used_at_s: float = 0.0


def add(connection: Connection, key: KeyRow) -> None:
    """Store a new key. Raises Conflict over KEYS_MAX; NotFound when its project is not there."""
    if connection.execute(select(func.count()).select_from(schema.keys)).scalar_one() >= KEYS_MAX:
        raise Conflict(f"there are {KEYS_MAX} keys already; revoke one first")
    known = connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == key.project)).first()
    if known is None:
        raise NotFound(f"no project {key.project!r}; apply it first", field="project")
    texts = {"limits": msgspec.json.encode(key.limits).decode(), "access": msgspec.json.encode(key.access).decode()}
    values = {**msgspec.structs.asdict(key), **texts}
    connection.execute(insert(schema.keys).values(**values))


def find(connection: Connection, key_id: str) -> KeyRow | None:
    """Return the key of that id, expired or not."""
    row = connection.execute(select(schema.keys).where(schema.keys.c.id == key_id)).one_or_none()
    return None if row is None else _key(row)


def everything(connection: Connection) -> list[KeyRow]:
    """Return all keys, oldest first."""
    rows = connection.execute(select(schema.keys).order_by(schema.keys.c.created_at_s, schema.keys.c.id))
    return [_key(row) for row in rows]


def count(connection: Connection, project: str, now_s: float) -> int:
    """Return how many keys of a project, "" for all, are not expired."""
    table = schema.keys
    ask = select(func.count()).select_from(table).where((table.c.expires_at_s == 0) | (table.c.expires_at_s > now_s))
    return int(connection.execute(ask if not project else ask.where(table.c.project == project)).scalar_one())


def remove(connection: Connection, key_id: str) -> KeyRow:
    """Delete a key and return it. Raises NotFound."""
    found = find(connection, key_id)
    if found is None:
        raise NotFound(f"no key {key_id!r}")
    connection.execute(delete(schema.keys).where(schema.keys.c.id == key_id))
    return found


def limit(connection: Connection, key_id: str, limits: KeyLimits) -> KeyRow:
    """Hold a key to other limits and return it. Raises NotFound."""
    found = find(connection, key_id)
    if found is None:
        raise NotFound(f"no key {key_id!r}")
    text = msgspec.json.encode(limits).decode()
    connection.execute(update(schema.keys).where(schema.keys.c.id == key_id).values(limits=text))
    return msgspec.structs.replace(found, limits=limits)


def rotate(connection: Connection, key_id: str, sha256: str, old_until_s: float) -> KeyRow:
    """Give a key another secret and return it; the one it had works until `old_until_s`. Raises NotFound."""
    found = find(connection, key_id)
    if found is None:
        raise NotFound(f"no key {key_id!r}")
    made = msgspec.structs.replace(found, sha256=sha256, old_sha256=found.sha256, old_until_s=old_until_s)
    values = {"sha256": sha256, "old_sha256": found.sha256, "old_until_s": old_until_s}
    connection.execute(update(schema.keys).where(schema.keys.c.id == key_id).values(**values))
    return made


def remove_of(connection: Connection, subject: str, project: str | None = None) -> list[KeyRow]:
    """Delete every key of a subject, in one project or in all, and return them."""
    table = schema.keys
    whose = table.c.subject == subject
    if project is not None:
        whose &= table.c.project == project
    found = [_key(row) for row in connection.execute(select(table).where(whose).order_by(table.c.id))]
    connection.execute(delete(table).where(whose))
    return found


def used(connection: Connection, moments: Mapping[str, float]) -> None:
    """Keep when keys were used last; an older moment changes nothing, nor does a key that is gone."""
    if not moments:
        return
    table = schema.keys
    for key_id, at_s in moments.items():
        newer = case((table.c.last_used_at_s < at_s, at_s), else_=table.c.last_used_at_s)
        connection.execute(update(table).where(table.c.id == key_id).values(last_used_at_s=newer))


def drop_expired(connection: Connection, before_s: float) -> int:
    """Delete keys that expired before that moment; return how many."""
    table = schema.keys
    gone = delete(table).where((table.c.expires_at_s > 0) & (table.c.expires_at_s < before_s))
    return connection.execute(gone).rowcount


def _key(row: Row[tuple[object, ...]]) -> KeyRow:
    found = row._mapping
    return KeyRow(**{**found, "limits": _limits(found["limits"]), "access": _access(found["access"])})
