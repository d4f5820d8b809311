"""Keys as rows: the sha256 of their text, never the text."""

from typing import Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.store import schema
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import KeyId, ProjectName
from stoker.types.keys import UNLIMITED, KeyLimits

KEYS_MAX: Final = 10_000  # each is a row of the route table too

_limits = msgspec.json.Decoder(KeyLimits).decode


class KeyRow(msgspec.Struct, frozen=True):
    """A key as stored. `sha256` is hex, of the whole text; `expires_at_s` 0 means never."""

    id: KeyId
    project: ProjectName
    name: str
    sha256: str
    is_admin: bool
    created_at_s: float
    expires_at_s: float = 0.0
    limits: KeyLimits = UNLIMITED


def add(connection: Connection, key: KeyRow) -> None:
    """Store a new key. Raises Conflict over KEYS_MAX; NotFound when its project is not there."""
    if connection.execute(select(func.count()).select_from(schema.keys)).scalar_one() >= KEYS_MAX:
        raise Conflict(f"there are {KEYS_MAX} keys already; revoke one first")
    known = connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == key.project)).first()
    if known is None:
        raise NotFound(f"no project {key.project!r}; apply it first", field="project")
    values = {**msgspec.structs.asdict(key), "limits": msgspec.json.encode(key.limits).decode()}
    connection.execute(insert(schema.keys).values(**values))


def find(connection: Connection, key_id: str) -> KeyRow | None:
    """Return the key of that id, expired or not."""
    row = connection.execute(select(schema.keys).where(schema.keys.c.id == key_id)).one_or_none()
    return None if row is None else _key(row)


def everything(connection: Connection) -> list[KeyRow]:
    """Return all keys, oldest first."""
    rows = connection.execute(select(schema.keys).order_by(schema.keys.c.created_at_s, schema.keys.c.id))
    return [_key(row) for row in rows]


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


def drop_expired(connection: Connection, before_s: float) -> int:
    """Delete keys that expired before that moment; return how many."""
    table = schema.keys
    gone = delete(table).where((table.c.expires_at_s > 0) & (table.c.expires_at_s < before_s))
    return connection.execute(gone).rowcount


def _key(row: Row[tuple[object, ...]]) -> KeyRow:
    return KeyRow(**{**row._mapping, "limits": _limits(row._mapping["limits"])})
