"""Model versions and aliases as rows. A version never changes; its number is never given to another."""

from typing import Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.core.refs import ModelRef
from stoker.store import schema
from stoker.store.dialects import insert_missing, upsert
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import Digest, ModelName
from stoker.types.models import ModelVersion, VersionManifest, manifest_digest

VERSIONS_MAX: Final = 10_000  # of one model
ALIASES_MAX: Final = 100  # of one model
MODELS_MAX: Final = 10_000
SHARED: Final = ""  # the owner of what every project may serve


def add(
    connection: Connection, name: ModelName, manifest: VersionManifest, now_s: float, owner: str = SHARED
) -> tuple[ModelVersion, bool]:
    """Return the version with this content, and whether it is new. The same content keeps its number.

    owner: whose a model of a new name is.

    Raises Conflict over MODELS_MAX or VERSIONS_MAX.
    """
    digest = manifest_digest(manifest)
    found = resolve(connection, ModelRef(name=name, digest=digest))
    if found is not None:
        return found, False
    connection.execute(insert_missing(connection, schema.models, {"name": name, "last_number": 0, "project": owner}))
    if connection.execute(select(func.count()).select_from(schema.models)).scalar_one() > MODELS_MAX:
        raise Conflict(f"there are {MODELS_MAX} models already")
    number = connection.execute(
        update(schema.models)
        .where(schema.models.c.name == name)
        .values(last_number=schema.models.c.last_number + 1)
        .returning(schema.models.c.last_number)
    ).scalar_one()
    table = schema.versions
    have = connection.execute(select(func.count()).select_from(table).where(table.c.name == name)).scalar_one()
    if have >= VERSIONS_MAX:
        raise Conflict(f"model {name!r} has {VERSIONS_MAX} versions already; delete old ones first")
    size_bytes = sum(file.size_bytes for file in manifest.files)
    connection.execute(
        insert(table).values(
            name=name,
            number=number,
            digest=digest,
            manifest=msgspec.json.encode(manifest).decode(),
            size_bytes=size_bytes,
            created_at_s=now_s,
        )
    )
    return ModelVersion(name, number, digest, manifest, now_s, size_bytes), True


def resolve(connection: Connection, ref: ModelRef) -> ModelVersion | None:
    """Return the version that `ref` means now: the newest when it names none."""
    table = schema.versions
    ask = select(table).where(table.c.name == ref.name)
    if ref.number:
        ask = ask.where(table.c.number == ref.number)
    elif ref.digest is not None:
        ask = ask.where(table.c.digest == ref.digest)
    elif ref.alias:
        alias = schema.aliases
        pointed = select(alias.c.number).where((alias.c.name == ref.name) & (alias.c.alias == ref.alias))
        ask = ask.where(table.c.number == pointed.scalar_subquery())
    row = connection.execute(ask.order_by(table.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else aliased(version(row), _aliases(connection, ref.name).get(row.number, ()))


def get(connection: Connection, ref: ModelRef) -> ModelVersion:
    """Return what `ref` means now. Raises NotFound that says which part of it is unknown."""
    found = resolve(connection, ref)
    if found is not None:
        return found
    newest = resolve(connection, ModelRef(ref.name))
    if newest is None:
        raise NotFound(unknown(ref.name))
    which = f"alias {ref.alias!r}" if ref.alias else f"version {ref.number or ref.digest}"
    raise NotFound(f"model {ref.name!r} has no {which}; its newest is {newest.ref}")


def unknown(name: str) -> str:
    """Return what is said of a model that is not there."""
    return f"no model {name!r}; push it first"


def owner(connection: Connection, name: str) -> str | None:
    """Return the project that a model belongs to, SHARED for everybody's; None: the name is free."""
    return connection.execute(select(schema.models.c.project).where(schema.models.c.name == name)).scalar_one_or_none()


def owners(connection: Connection) -> dict[str, str]:
    """Return the owner of every model by its name."""
    return {row.name: row.project for row in connection.execute(select(schema.models.c.name, schema.models.c.project))}


class _File(msgspec.Struct, frozen=True):
    digest: str
    size_bytes: int


class _Files(msgspec.Struct, frozen=True):
    files: tuple[_File, ...]


_files: Final = msgspec.json.Decoder(_Files).decode


def files(connection: Connection, owner: str | None = None) -> dict[str, int]:
    """Return the size of each file of the versions of all models, or of those of one owner, by its digest."""
    versions, of = schema.versions, schema.models
    ask = select(versions.c.manifest)
    if owner is not None:
        ask = ask.join(of, of.c.name == versions.c.name).where(of.c.project == owner)
    return {each.digest: each.size_bytes for row in connection.execute(ask) for each in _files(row.manifest).files}


def everything(connection: Connection, name: str | None = None) -> list[ModelVersion]:
    """Return all versions, of one model or of all, newest last."""
    table = schema.versions
    ask = select(table).order_by(table.c.name, table.c.number)
    if name is not None:
        ask = ask.where(table.c.name == name)
    pointed: dict[str, dict[int, tuple[str, ...]]] = {}
    versions = []
    for row in connection.execute(ask):
        if row.name not in pointed:
            pointed[row.name] = _aliases(connection, row.name)
        versions.append(aliased(version(row), pointed[row.name].get(row.number, ())))
    return versions


def version(row: Row[tuple[object, ...]]) -> ModelVersion:
    """Return what a row of `versions` says: all of a version but its aliases."""
    return ModelVersion(
        name=row.name,
        number=row.number,
        digest=row.digest,
        manifest=msgspec.json.decode(row.manifest, type=VersionManifest),
        created_at_s=row.created_at_s,
        size_bytes=row.size_bytes,
    )


def aliased(one: ModelVersion, aliases: tuple[str, ...]) -> ModelVersion:
    """Return `one` with the aliases that point at it now."""
    return msgspec.structs.replace(one, aliases=aliases) if aliases else one


def users(connection: Connection, name: str, number: int) -> list[str]:
    """Return the revisions that use a version, by name."""
    table = schema.revisions
    ask = select(table.c.revision).where((table.c.model == name) & (table.c.model_number == number))
    return list(connection.execute(ask.order_by(table.c.revision)).scalars())


def remove(connection: Connection, version: ModelVersion) -> None:
    """Delete a version, its aliases and signatures. Raises Conflict while a revision or an endpoint uses it."""
    used = users(connection, version.name, version.number)
    if used:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise Conflict(f"model {version.ref} is used by revision {used[0]}{more}")
    for alias in version.aliases:
        _refuse_used_alias(connection, version.name, alias)
    here = (schema.aliases.c.name == version.name) & (schema.aliases.c.number == version.number)
    connection.execute(delete(schema.aliases).where(here))
    made = schema.signatures
    connection.execute(delete(made).where((made.c.model == version.name) & (made.c.number == version.number)))
    table = schema.versions
    connection.execute(delete(table).where((table.c.name == version.name) & (table.c.number == version.number)))


def set_alias(connection: Connection, name: str, alias: str, number: int) -> None:
    """Point an alias at a version that must be there. Raises NotFound, or Conflict over ALIASES_MAX."""
    get(connection, ModelRef(name=ModelName(name), number=number))
    table = schema.aliases
    have = connection.execute(select(func.count()).select_from(table).where(table.c.name == name)).scalar_one()
    if have >= ALIASES_MAX:
        raise Conflict(f"model {name!r} has {ALIASES_MAX} aliases already")
    connection.execute(upsert(connection, table, {"name": name, "alias": alias}, {"number": number}))


def remove_alias(connection: Connection, name: str, alias: str) -> None:
    """Delete an alias. Raises NotFound, or Conflict while an endpoint's spec names it."""
    _refuse_used_alias(connection, name, alias)
    table = schema.aliases
    if not connection.execute(delete(table).where((table.c.name == name) & (table.c.alias == alias))).rowcount:
        raise NotFound(f"model {name!r} has no alias {alias!r}")


def blobs_in_use(connection: Connection) -> set[Digest]:
    """Return the digests of every file of every version."""
    rows = connection.execute(select(schema.versions.c.manifest)).scalars()
    manifests = (msgspec.json.decode(text, type=VersionManifest) for text in rows)
    return {file.digest for manifest in manifests for file in manifest.files}


def _refuse_used_alias(connection: Connection, name: str, alias: str) -> None:
    quoted = f'"model":"{name}@{alias}"'  # the exact JSON that msgspec writes
    table = schema.endpoints
    used = connection.execute(
        select(table.c.project, table.c.name).where(table.c.resource.contains(quoted, autoescape=True))
    ).first()
    if used is not None:
        raise Conflict(f"endpoint {used.project}/{used.name} follows {name}@{alias}; point it elsewhere first")


def _aliases(connection: Connection, name: str) -> dict[int, tuple[str, ...]]:
    table = schema.aliases
    found: dict[int, tuple[str, ...]] = {}
    ask = select(table.c.number, table.c.alias).where(table.c.name == name).order_by(table.c.alias)
    for row in connection.execute(ask):
        found[row.number] = (*found.get(row.number, ()), row.alias)
    return found
