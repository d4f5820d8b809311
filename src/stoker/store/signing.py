"""Keys that projects trust, and signatures of versions, as rows. A version has one signature of each key."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, delete, select

from stoker.store import projects, schema
from stoker.store.dialects import upsert
from stoker.types.errors import Conflict, NotFound
from stoker.types.signing import ROOTS_MAX, SIGNATURES_MAX, Keyless, ProjectTrust, SignedVersion, TrustRoot

_ROOTS: Final = schema.trust_roots
_SIGNATURES: Final = schema.signatures


def trust(connection: Connection, project: str) -> ProjectTrust:
    """Return what a project demands and whom it trusts. Raises NotFound."""
    found = projects.find(connection, project)
    if found is None:
        raise NotFound(f"no project {project!r}")
    rows = connection.execute(select(_ROOTS).where(_ROOTS.c.project == project).order_by(_ROOTS.c.name))
    return ProjectTrust(found.spec.signatures, tuple(_root(row) for row in rows))


def add_root(connection: Connection, project: str, root: TrustRoot) -> None:
    """Trust a key. The same name again means another key. Raises NotFound, or Conflict over ROOTS_MAX."""
    known = trust(connection, project)
    if len(known.roots) >= ROOTS_MAX and root.name not in {one.name for one in known.roots}:
        raise Conflict(f"project {project!r} trusts {ROOTS_MAX} keys already; remove one first")
    held = root.public_key if root.keyless is None else msgspec.json.encode(root.keyless).decode()
    values = {"public_key": held, "fingerprint": root.fingerprint, "created_at_s": root.created_at_s}
    connection.execute(upsert(connection, _ROOTS, {"project": project, "name": root.name}, values))


def _root(row: Row[tuple[object, ...]]) -> TrustRoot:
    """Return a row. Where a PEM would be, somebody without a key is JSON."""
    if not row.public_key.startswith("{"):
        return TrustRoot(row.name, row.public_key, row.fingerprint, row.created_at_s)
    keyless = msgspec.json.decode(row.public_key, type=Keyless)
    return TrustRoot(row.name, "", row.fingerprint, row.created_at_s, keyless)


def remove_root(connection: Connection, project: str, name: str) -> None:
    """Trust a key no longer. Raises NotFound."""
    gone = connection.execute(delete(_ROOTS).where(and_(_ROOTS.c.project == project, _ROOTS.c.name == name)))
    if not gone.rowcount:
        raise NotFound(f"project {project!r} trusts no key {name!r}; `stoker trust list` shows them")


def bundles(connection: Connection, model: str, number: int) -> tuple[str, ...]:
    """Return the signatures of a version, oldest first."""
    ask = select(_SIGNATURES.c.bundle).where(_of(model, number))
    return tuple(connection.execute(ask.order_by(_SIGNATURES.c.created_at_s)).scalars())


def signed(connection: Connection, project: str, model: str, number: int) -> SignedVersion:
    """Return what a version is to be held to where `project` serves it; its bundles only where they are asked for."""
    demanded = trust(connection, project)
    if demanded.policy == "off":
        return SignedVersion()
    return SignedVersion(demanded, bundles(connection, model, number))


def add(connection: Connection, model: str, number: int, fingerprint: str, bundle: str, now_s: float) -> None:
    """Keep a signature; the same key's earlier one goes. Raises Conflict over SIGNATURES_MAX."""
    ask = select(_SIGNATURES.c.fingerprint).where(_of(model, number))
    have = set(connection.execute(ask).scalars())
    if fingerprint not in have and len(have) >= SIGNATURES_MAX:
        raise Conflict(f"{model}@{number} has {SIGNATURES_MAX} signatures already")
    where = {"model": model, "number": number, "fingerprint": fingerprint}
    connection.execute(upsert(connection, _SIGNATURES, where, {"bundle": bundle, "created_at_s": now_s}))


def _of(model: str, number: int) -> Any:
    return and_(_SIGNATURES.c.model == model, _SIGNATURES.c.number == number)
