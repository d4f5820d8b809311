"""Dossiers and the examples of endpoints as rows. A dossier that is decided is never changed."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, case, delete, func, insert, literal, select, update

from stoker.core.gate.law import Kept, law
from stoker.store import schema
from stoker.store.dialects import upsert
from stoker.types.errors import NotFound
from stoker.types.ids import Digest
from stoker.types.releases import DOSSIERS_MAX, Dossier, GoldenSet, ReleaseView

VERDICTS_MAX: Final = 20  # of one dossier: a revision may be tried again and again

_DOSSIERS: Final = schema.dossiers
_SETS: Final = schema.golden_sets
RevisionKey = tuple[str, float]  # its name, and when it was made


class _Swapped(msgspec.Struct):
    """What of a pending dossier is looked at in each turn."""

    swapped: bool = False


class Begun(msgspec.Struct, frozen=True):
    """A row and what it was judged by. basis: everything besides the gates that a judgement depends on."""

    number: int
    kept: Kept
    basis: str


def begin(connection: Connection, dossier: Dossier, basis: str) -> int:
    """Store a dossier that is yet to be made and return its number; old ones of the endpoint go over DOSSIERS_MAX."""
    row = {
        "project": dossier.project,
        "endpoint": dossier.endpoint,
        "revision": dossier.revision,
        "born_s": dossier.born_s,
        "gates": law(dossier.gates),
        "basis": basis,
        "has_served": False,
        "statement": "",
        "verdict": "",
        "verdict_statement": "",
        **_record(dossier),
    }
    key = connection.execute(insert(_DOSSIERS).values(**row)).inserted_primary_key
    _prune(connection, dossier.project, dossier.endpoint)
    return int(key[0]) if key is not None else 0


def put(connection: Connection, number: int, dossier: Dossier, statement: str = "") -> bool:
    """Store what a dossier has become, with its signed statement once it is decided; False when it was decided before.

    Also False when it is gone.
    """
    pending = and_(_DOSSIERS.c.number == number, _DOSSIERS.c.state == "pending")
    values = _record(dossier) | {"statement": statement}
    return bool(connection.execute(update(_DOSSIERS).where(pending).values(**values)).rowcount)


def renew(connection: Connection, revision: str) -> None:
    """Have a revision that was refused judged once more. What its dossiers say stays; the newest counts no longer."""
    newest = select(func.max(_DOSSIERS.c.number)).where(_DOSSIERS.c.revision == revision, _born(revision))
    refused = and_(_DOSSIERS.c.number == newest.scalar_subquery(), _DOSSIERS.c.state == "refused")
    connection.execute(update(_DOSSIERS).where(refused).values(gates="", basis=""))


def mark_served(connection: Connection, revision: str) -> None:
    """Note that a revision has traffic: a return to it is never held up, whatever gates come later."""
    newest = select(func.max(_DOSSIERS.c.number)).where(_DOSSIERS.c.revision == revision, _born(revision))
    done = connection.execute(
        update(_DOSSIERS).where(_DOSSIERS.c.number == newest.scalar_subquery()).values(has_served=True)
    )
    if not done.rowcount:
        table = schema.revisions
        said = ("", "", "complete", "it served before there were gates", "", True, "", "", "", "")
        columns = (table.c.project, table.c.endpoint, table.c.revision, table.c.created_at_s, *map(literal, said))
        names = [column.name for column in _DOSSIERS.columns if column.name != "number"]
        row = select(*columns).where(table.c.revision == revision)
        connection.execute(insert(_DOSSIERS).from_select(names, row))


def mark_taken_back(connection: Connection, revision: str) -> None:
    """Note that a revision lost its traffic for good reason: who asks for it again takes no way back, but its gates and
    steps like any other. `stoker rollback --to` still goes there at once.
    """
    mine = and_(_DOSSIERS.c.revision == revision, _born(revision))
    connection.execute(update(_DOSSIERS).where(mine, _DOSSIERS.c.has_served).values(has_served=False))


def add_verdict(connection: Connection, revision: str, verdict: str, statement: str) -> bool:
    """Append how a rollout of a revision ended to its newest decided dossier; False when there is none.

    verdict: a sentence, shown until the next one. statement: signed; of more than VERDICTS_MAX the oldest goes.
    """
    newest = _newest_decided(revision, _DOSSIERS.c.number, _DOSSIERS.c.verdict_statement)
    row = connection.execute(newest).one_or_none()
    if row is None:
        return False
    statements = [*row.verdict_statement.splitlines(), statement][-VERDICTS_MAX:]
    values = {"verdict": verdict, "verdict_statement": "\n".join(statements)}
    return bool(connection.execute(update(_DOSSIERS).where(_DOSSIERS.c.number == row.number).values(**values)).rowcount)


def standing(connection: Connection) -> dict[RevisionKey, Begun]:
    """Return the newest row of every revision that is kept."""
    newest = select(func.max(_DOSSIERS.c.number).label("number")).group_by(_DOSSIERS.c.revision, _DOSSIERS.c.born_s)
    columns = (
        _DOSSIERS.c.number,
        _DOSSIERS.c.revision,
        _DOSSIERS.c.born_s,
        _DOSSIERS.c.gates,
        _DOSSIERS.c.basis,
        _DOSSIERS.c.state,
        _DOSSIERS.c.because,
        _DOSSIERS.c.failed,
        _DOSSIERS.c.has_served,
        case((_DOSSIERS.c.state == "pending", _DOSSIERS.c.record), else_="").label("record"),
    )
    ask = select(*columns).where(_DOSSIERS.c.number.in_(newest))
    return {
        (row.revision, row.born_s): Begun(
            row.number,
            Kept(row.state, row.because, row.gates, row.has_served, row.failed, _swapped(row.record)),
            row.basis,
        )
        for row in connection.execute(ask)
    }


def of(connection: Connection, project: str, endpoint: str, limit: int = DOSSIERS_MAX) -> list[ReleaseView]:
    """Return the dossiers of an endpoint, the newest first; those of before there were gates have no record."""
    ask = select(_DOSSIERS).where(_is(project, endpoint), _DOSSIERS.c.record != "")
    return [_view(row) for row in connection.execute(ask.order_by(_DOSSIERS.c.number.desc()).limit(limit))]


def get(connection: Connection, project: str, endpoint: str, revision: str | None = None) -> ReleaseView:
    """Return the newest dossier of an endpoint, or of one of its revisions. Raises NotFound."""
    ask = select(_DOSSIERS).where(_is(project, endpoint), _DOSSIERS.c.record != "")
    if revision is not None:
        ask = ask.where(_DOSSIERS.c.revision == revision)
    row = connection.execute(ask.order_by(_DOSSIERS.c.number.desc()).limit(1)).one_or_none()
    if row is None:
        which = f"revision {revision}" if revision is not None else f"endpoint {endpoint!r}"
        has_some = bool(of(connection, project, endpoint, 1))
        lists = (
            f"`stoker release list {endpoint}` shows them" if has_some else "`stoker get endpoints` shows what is there"
        )
        raise NotFound(f"no dossier of {which} in project {project!r}; {lists}")
    return _view(row)


def served(connection: Connection, project: str, endpoint: str) -> set[str]:
    """Return the revisions of an endpoint that had traffic, of those that are kept."""
    table = schema.revisions
    is_kept = and_(table.c.revision == _DOSSIERS.c.revision, table.c.created_at_s == _DOSSIERS.c.born_s)
    ask = select(_DOSSIERS.c.revision).join(table, is_kept).where(_is(project, endpoint), _DOSSIERS.c.has_served)
    return set(connection.execute(ask).scalars())


def decided(connection: Connection, revision: str) -> Dossier | None:
    """Return the newest decided dossier of the revision of that name that is kept now."""
    text = connection.execute(_newest_decided(revision, _DOSSIERS.c.record)).scalar()
    return None if text is None else msgspec.json.decode(text, type=Dossier)


def set_golden(connection: Connection, project: str, endpoint: str, golden: GoldenSet) -> None:
    """Have an endpoint hold examples, instead of those that it held. Raises NotFound."""
    table = schema.endpoints
    known = select(table.c.name).where(table.c.project == project, table.c.name == endpoint)
    if connection.execute(known).first() is None:
        raise NotFound(f"no endpoint {endpoint!r} in project {project!r}; deploy it first, or `stoker push --golden`")
    values = msgspec.structs.asdict(golden)
    connection.execute(upsert(connection, _SETS, {"project": project, "endpoint": endpoint}, values))


def remove_golden(connection: Connection, project: str, endpoint: str) -> bool:
    """Have an endpoint hold no examples any more; False when it held none."""
    here = and_(_SETS.c.project == project, _SETS.c.endpoint == endpoint)
    return bool(connection.execute(delete(_SETS).where(here)).rowcount)


def golden(connection: Connection, project: str, endpoint: str) -> GoldenSet | None:
    """Return the examples that an endpoint holds."""
    ask = select(_SETS).where(_SETS.c.project == project, _SETS.c.endpoint == endpoint)
    row = connection.execute(ask).one_or_none()
    return None if row is None else GoldenSet(row.digest, row.rows, row.size_bytes, row.set_at_s)


def golden_digests(connection: Connection) -> frozenset[Digest]:
    """Return the blobs that endpoints hold as examples."""
    return frozenset(connection.execute(select(_SETS.c.digest)).scalars())


def _prune(connection: Connection, project: str, endpoint: str) -> None:
    """Drop the oldest dossiers over DOSSIERS_MAX, but for those of revisions that are kept."""
    mine = select(_DOSSIERS.c.number).where(_is(project, endpoint)).order_by(_DOSSIERS.c.number.desc())
    old = connection.execute(mine.offset(DOSSIERS_MAX)).scalars().all()
    if old:
        kept = select(schema.revisions.c.revision)
        gone = and_(_DOSSIERS.c.number.in_(old), _DOSSIERS.c.revision.not_in(kept))
        connection.execute(delete(_DOSSIERS).where(gone))


def _swapped(record: str) -> bool:
    return bool(record) and msgspec.json.decode(record, type=_Swapped).swapped


def _record(dossier: Dossier) -> dict[str, Any]:
    failed = dossier.failed
    return {
        "state": dossier.state,
        "because": dossier.because,
        "failed": failed.kind if failed is not None else "",
        "record": msgspec.json.encode(dossier, order="sorted").decode(),
    }


def _newest_decided(revision: str, *columns: Any) -> Any:
    mine = and_(_DOSSIERS.c.revision == revision, _born(revision), _DOSSIERS.c.record != "")
    ask = select(*columns).where(mine, _DOSSIERS.c.state != "pending")
    return ask.order_by(_DOSSIERS.c.number.desc()).limit(1)


def _born(revision: str) -> Any:
    """Return the clause that means the revision of that name that is kept now, not one of a deleted endpoint."""
    table = schema.revisions
    return _DOSSIERS.c.born_s == select(table.c.created_at_s).where(table.c.revision == revision).scalar_subquery()


def _is(project: str, endpoint: str) -> Any:
    return and_(_DOSSIERS.c.project == project, _DOSSIERS.c.endpoint == endpoint)


def _view(row: Row[tuple[object, ...]]) -> ReleaseView:
    statements = tuple(each for each in (row.statement, *row.verdict_statement.splitlines()) if each)
    return ReleaseView(row.number, msgspec.json.decode(row.record, type=Dossier), statements, verdict=row.verdict)
