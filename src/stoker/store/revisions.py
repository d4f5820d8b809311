"""Revisions, and the replicas assigned to them, as rows."""

from collections.abc import Container

import msgspec
from sqlalchemy import Connection, Row, and_, delete, func, select, update

from stoker.core.refs import ModelRef
from stoker.core.revisions import ServingConfig
from stoker.core.snapshot import Assignment, AssignmentPhase, EndpointKey, Revision
from stoker.store import models, nodes, schema
from stoker.store.dialects import insert_missing
from stoker.types.errors import NotFound


class Made(msgspec.Struct, frozen=True):
    """When the model version of a revision was trained, or else pushed (unix seconds)."""

    key: EndpointKey
    revision: str
    made_at_s: float


def add(connection: Connection, revision: Revision) -> None:
    """Store a revision; one that is there stays as it is."""
    row = {
        "revision": revision.revision,
        "project": revision.project,
        "endpoint": revision.endpoint,
        "number": revision.number,
        "digest": revision.digest,
        "config": msgspec.json.encode(revision.config).decode(),
        "model": revision.config.model,
        "model_number": revision.config.number,
        "created_at_s": revision.created_at_s,
        "replicas_made": revision.replicas_made,
    }
    connection.execute(insert_missing(connection, schema.revisions, row))


def everything(connection: Connection, project: str | None = None, endpoint: str | None = None) -> list[Revision]:
    """Return revisions by endpoint and number, of one endpoint where given."""
    table = schema.revisions
    ask = select(table).order_by(table.c.project, table.c.endpoint, table.c.number)
    if project is not None:
        ask = ask.where(and_(table.c.project == project, table.c.endpoint == endpoint))
    return [_revision(row) for row in connection.execute(ask)]


def get(connection: Connection, revision: str) -> Revision:
    """Return the revision. Raises NotFound."""
    row = connection.execute(select(schema.revisions).where(schema.revisions.c.revision == revision)).one_or_none()
    if row is None:
        raise NotFound(f"no revision {revision!r}")
    return _revision(row)


def made(connection: Connection, known: Container[str]) -> list[Made]:
    """Return when the versions of all revisions but the `known` were made; of one whose version is gone nothing."""
    table = schema.revisions
    ask = select(table.c.project, table.c.endpoint, table.c.revision, table.c.model, table.c.model_number)
    found = []
    for row in connection.execute(ask).all():
        if row.revision not in known:
            version = models.resolve(connection, ModelRef(name=row.model, number=row.model_number))
            if version is not None:
                found.append(Made((row.project, row.endpoint), row.revision, version.made_at_s))
    return found


def remove(connection: Connection, revision: str) -> None:
    """Drop a revision that no replica is assigned to."""
    assigned = select(func.count()).select_from(schema.replicas).where(schema.replicas.c.revision == revision)
    if not connection.execute(assigned).scalar_one():
        connection.execute(delete(schema.revisions).where(schema.revisions.c.revision == revision))


def assign(connection: Connection, assignment: Assignment) -> None:
    """Store a new replica's place and count it; one that is there stays as it is."""
    row = {
        "replica": assignment.replica,
        "revision": assignment.revision,
        "node": assignment.node,
        "phase": assignment.phase,
        "since_s": assignment.since_s,
        "created_at_s": assignment.created_at_s,
        "gpus": msgspec.json.encode(assignment.gpus).decode(),
        "port": nodes.take_port(connection, assignment.node),
    }
    if connection.execute(insert_missing(connection, schema.replicas, row)).rowcount:
        table = schema.revisions
        made = table.c.replicas_made + 1
        connection.execute(update(table).where(table.c.revision == assignment.revision).values(replicas_made=made))


def set_phase(connection: Connection, replica: str, phase: AssignmentPhase, since_s: float) -> None:
    """Begin a phase of a replica's life; telling the same phase again keeps when it began."""
    table = schema.replicas
    changed = and_(table.c.replica == replica, table.c.phase != phase)
    connection.execute(update(table).where(changed).values(phase=phase, since_s=since_s))


def unassign(connection: Connection, replica: str) -> None:
    """Drop a replica's row."""
    connection.execute(delete(schema.replicas).where(schema.replicas.c.replica == replica))


def assignments(connection: Connection, project: str | None = None, endpoint: str | None = None) -> list[Assignment]:
    """Return replicas by name, of one endpoint where given."""
    replicas, revisions = schema.replicas, schema.revisions
    ask = (
        select(replicas, revisions.c.project, revisions.c.endpoint)
        .join(revisions, revisions.c.revision == replicas.c.revision)
        .order_by(replicas.c.replica)
    )
    if project is not None:
        ask = ask.where(and_(revisions.c.project == project, revisions.c.endpoint == endpoint))
    return [
        Assignment(**{**row._mapping, "gpus": msgspec.json.decode(row.gpus, type=tuple[int, ...])})
        for row in connection.execute(ask)
    ]


def _revision(row: Row[tuple[object, ...]]) -> Revision:
    return Revision(
        revision=row.revision,
        project=row.project,
        endpoint=row.endpoint,
        number=row.number,
        digest=row.digest,
        config=msgspec.json.decode(row.config, type=ServingConfig),
        created_at_s=row.created_at_s,
        replicas_made=row.replicas_made,
    )
