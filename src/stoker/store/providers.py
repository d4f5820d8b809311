"""Identity providers as rows, and what each published when it was asked last."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from stoker.store import schema_identity as schema
from stoker.store.dialects import upsert
from stoker.types.errors import Conflict, NotFound
from stoker.types.identity import PROVIDERS_MAX, Jwk
from stoker.types.resources import IdentityProvider

_decode: Final = msgspec.json.Decoder(IdentityProvider).decode
_keys: Final = msgspec.json.Decoder(tuple[Jwk, ...]).decode


class Published(msgspec.Struct, frozen=True):
    """What a provider published. `discovery`: its document, as JSON; `issuer`: who it was asked as."""

    name: str
    issuer: str
    discovery: str
    keys: tuple[Jwk, ...]
    fetched_at_s: float


def find(connection: Connection, name: str) -> IdentityProvider | None:
    """Return the provider, or None."""
    table = schema.identity_providers
    found = connection.execute(select(table.c.resource).where(table.c.name == name)).scalar_one_or_none()
    return None if found is None else _decode(found)


def everything(connection: Connection) -> list[IdentityProvider]:
    """Return all providers by name."""
    table = schema.identity_providers
    return [_decode(row.resource) for row in connection.execute(select(table.c.resource).order_by(table.c.name))]


def put(connection: Connection, provider: IdentityProvider, now_s: float) -> None:
    """Create or replace. Raises Conflict over PROVIDERS_MAX."""
    table, name = schema.identity_providers, provider.metadata.name
    text = msgspec.json.encode(provider).decode()
    if connection.execute(update(table).where(table.c.name == name).values(resource=text)).rowcount:
        return
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= PROVIDERS_MAX:
        raise Conflict(f"there are {PROVIDERS_MAX} identity providers already; delete one first")
    connection.execute(insert(table).values(name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, name: str) -> IdentityProvider:
    """Delete a provider with what it published, and return it. Raises NotFound."""
    found = find(connection, name)
    if found is None:
        raise NotFound(f"no identity provider {name!r}")
    connection.execute(delete(schema.identity_providers).where(schema.identity_providers.c.name == name))
    connection.execute(delete(schema.identity_documents).where(schema.identity_documents.c.name == name))
    return found


def publish(connection: Connection, published: Published) -> None:
    """Keep what a provider published."""
    values = msgspec.structs.asdict(published)
    del values["name"]
    values["keys"] = msgspec.json.encode(published.keys).decode()
    connection.execute(upsert(connection, schema.identity_documents, {"name": published.name}, values))


def published(connection: Connection) -> dict[str, Published]:
    """Return what providers published, by name."""
    rows = connection.execute(select(schema.identity_documents)).mappings()
    return {row["name"]: Published(**{**row, "keys": _keys(row["keys"])}) for row in rows}
