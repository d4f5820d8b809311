"""Rollouts as rows, with their timelines, and what people and judges said of them.

What a rollout was judged by takes some 10 KB, in a column of its own: of those that have ended it is read only where
somebody asks for it (`get`, `latest`), for the loop looks at the newest of every endpoint in each of its turns.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, Select, and_, case, delete, func, insert, select, update

from stoker.core.rollout.hooks import message
from stoker.core.rollout.state import Entry, Read, RolloutState
from stoker.core.rollout.table import ENDED, Order
from stoker.core.verdict.judge import Finding, Memory
from stoker.store import outbox, recording, revisions, schema
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.rollouts import POSTED_MAX, WRONG, ArmCounts, Arms

KEPT: Final = 50  # ended ones of an endpoint, the newest
UNTOLD_MAX: Final = 20  # that are told of at a time
ENTRIES_MAX: Final = 1000  # of a timeline; over it the oldest mere looks go

POSTED_IDS_MAX: Final = 1000  # of a rollout; a judge that tries again does so before as many others have told

_state = msgspec.json.Decoder(RolloutState)
_entry = msgspec.json.Decoder(Entry)


class Posted(msgspec.Struct, frozen=True):
    """What was told of a rollout from outside: by metric what judges counted, and the ids under which they told it, the
    newest last; and who gave the newest order, and why.
    """

    metrics: dict[str, Arms] = {}
    ids: tuple[str, ...] = ()
    words: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What a rollout was judged by."""

    read: Read = Read()
    memory: Memory = Memory()
    findings: tuple[Finding, ...] = ()


_NO_EVIDENCE: Final = Evidence()
_posted = msgspec.json.Decoder(Posted)
_evidence = msgspec.json.Decoder(Evidence)


class Stored(msgspec.Struct, frozen=True):
    """A rollout with what was said to it: an order ("" for none) with its words, and by metric what a judge has told.

    Where the evidence was left out, nothing is posted either, and the state's read, memory and findings are empty.
    """

    state: RolloutState
    ordered: str
    posted: dict[str, Arms]
    words: str = ""


def keep(connection: Connection, state: RolloutState, entries: Iterable[Entry] = ()) -> RolloutState:
    """Store a rollout and what is new in its timeline; a new one gets its number. What was ordered is done with.

    Evidence only grows: an empty one was left out when the state was read, and what is stored of it stays.
    """
    numbered = state if state.number else _begin(connection, state)
    table = schema.rollouts
    head = msgspec.structs.replace(numbered, read=Read(), memory=Memory(), findings=())
    values = {"state": msgspec.json.encode(head).decode(), "ended_at_s": numbered.ended_s, "ordered": ""}
    evidence = Evidence(numbered.read, numbered.memory, numbered.findings)
    if evidence != _NO_EVIDENCE:
        values["evidence"] = msgspec.json.encode(evidence).decode()
    connection.execute(update(table).where(table.c.number == numbered.number).values(values))
    for entry in entries:
        values = {"rollout": numbered.number, "entry": msgspec.json.encode(entry).decode()}
        made = connection.execute(insert(schema.rollout_entries).values(values)).inserted_primary_key
        assert made is not None
        _tell(connection, numbered, entry, int(made[0]))
        if entry.event != "look" and (entry.phase in ENDED or entry.phase == "returning"):
            about = f"endpoint {numbered.project}/{numbered.endpoint}"
            told = f"rollout {numbered.number} from {numbered.baseline} to {numbered.canary}: {entry.because}"
            recording.note(connection, f"rollout {entry.phase}", told, (about,))
    if entries:
        _shorten(connection, numbered.number)
    return numbered


def note(connection: Connection, project: str, number: int, at_s: float, event: str, because: str) -> None:
    """Add a line to a rollout's timeline that changes nothing of it, and that nobody is told of.

    Not where the line before says the same, or the rollout is gone.
    """
    table, entries = schema.rollouts, schema.rollout_entries
    mine = and_(table.c.number == number, table.c.project == project)
    text = connection.execute(select(table.c.state).where(mine)).scalar()
    if text is None:
        return
    state: RolloutState = _state.decode(text)
    last = select(entries.c.entry).where(entries.c.rollout == number).order_by(entries.c.sequence.desc()).limit(1)
    before = [_entry.decode(each) for each in connection.execute(last).scalars()]
    if any((each.event, each.because) == (event, because) for each in before):
        return
    entry = Entry(at_s, event, state.phase, because, state.weight, state.step)
    connection.execute(insert(entries).values(rollout=number, entry=msgspec.json.encode(entry).decode()))
    _shorten(connection, number)


def newest(connection: Connection) -> list[Stored]:
    """Return the newest rollout of every endpoint; ended ones without their evidence."""
    table = schema.rollouts
    last = select(func.max(table.c.number)).group_by(table.c.project, table.c.endpoint)
    return [_stored(row) for row in connection.execute(_brief().where(table.c.number.in_(last)))]


def running(connection: Connection) -> list[Stored]:
    """Return the rollouts that have not ended."""
    table = schema.rollouts
    return [_stored(row) for row in connection.execute(select(table).where(table.c.ended_at_s == 0.0))]


def untold(connection: Connection) -> list[RolloutState]:
    """Return rollouts that have ended and are not in their dossiers, the oldest first, at most UNTOLD_MAX."""
    table = schema.rollouts
    ask = select(table).where(table.c.ended_at_s > 0.0, table.c.is_told.is_(False)).order_by(table.c.number)
    return [_stored(row).state for row in connection.execute(ask.limit(UNTOLD_MAX))]


def mark_told(connection: Connection, number: int) -> bool:
    """Note that the end of a rollout was told; False when it was before, or it is gone."""
    table = schema.rollouts
    ask = update(table).where(table.c.number == number, table.c.is_told.is_(False)).values(is_told=True)
    return bool(connection.execute(ask).rowcount)


def everything(connection: Connection, project: str, endpoint: str | None = None) -> list[Stored]:
    """Return the rollouts of a project, or of one endpoint of it, the newest first; ended ones without evidence."""
    table = schema.rollouts
    ask = _brief().where(table.c.project == project).order_by(table.c.number.desc())
    if endpoint is not None:
        ask = ask.where(table.c.endpoint == endpoint)
    return [_stored(row) for row in connection.execute(ask.limit(KEPT * 20))]


def latest(connection: Connection, project: str, endpoint: str) -> Stored | None:
    """Return the newest rollout of an endpoint, whole; None where there was none."""
    table = schema.rollouts
    ask = select(table).where(table.c.project == project, table.c.endpoint == endpoint)
    row = connection.execute(ask.order_by(table.c.number.desc()).limit(1)).first()
    return _stored(row) if row is not None else None


def get(connection: Connection, project: str, number: int) -> Stored:
    """Return a rollout. Raises NotFound."""
    table = schema.rollouts
    row = connection.execute(select(table).where(and_(table.c.number == number, table.c.project == project))).first()
    if row is None:
        raise NotFound(f"no rollout {number} in project {project!r}")
    return _stored(row)


def timeline(connection: Connection, number: int, last: int | None = None) -> tuple[list[Entry], int]:
    """Return what happened in a rollout, the oldest first: all, or the `last`; and how many came before those."""
    table = schema.rollout_entries
    mine = table.c.rollout == number
    count = connection.execute(select(func.count()).where(mine)).scalar_one()
    ask = select(table.c.entry).where(mine).order_by(table.c.sequence.desc()).limit(count if last is None else last)
    found = [_entry.decode(text) for text in connection.execute(ask).scalars()]
    return found[::-1], count - len(found)


def order(connection: Connection, number: int, said: Order, words: str = "") -> None:
    """Keep what somebody said, until the loop has done it, and in what words. The last word counts."""
    table = schema.rollouts
    connection.execute(update(table).where(table.c.number == number).values(ordered=said))
    _put_posted(connection, number, msgspec.structs.replace(_posted_of(connection, number), words=words))


def post(connection: Connection, number: int, metric: str, more: Arms, id_: str = "") -> bool:
    """Add what a judge has told of one metric; return whether it counts: what came under the same id before does not.

    Raises InvalidInput when there are as many other metrics as there may be: POSTED_MAX with `wrong`.
    """
    posted = _posted_of(connection, number)
    if id_ and id_ in posted.ids:
        return False
    others = sorted(posted.metrics.keys() - {WRONG})
    if metric not in posted.metrics and len(others) >= POSTED_MAX - 1:
        raise InvalidInput(
            f"a rollout has at most {POSTED_MAX - 1} metrics of judges; there are {', '.join(others)}", field="metric"
        )
    before = posted.metrics.get(metric, Arms())
    summed = Arms(_sum(before.canary, more.canary), _sum(before.baseline, more.baseline))
    ids = (*posted.ids, id_)[-POSTED_IDS_MAX:] if id_ else posted.ids
    _put_posted(connection, number, Posted({**posted.metrics, metric: summed}, ids, posted.words))
    return True


def grow(connection: Connection, number: int, metric: str, now: Arms) -> bool:
    """Raise what is kept of a metric to `now`, which was counted anew; return whether that changed anything."""
    posted = _posted_of(connection, number)
    before = posted.metrics.get(metric, Arms())
    after = Arms(_larger(before.canary, now.canary), _larger(before.baseline, now.baseline))
    if after == before and metric in posted.metrics:
        return False
    _put_posted(connection, number, Posted({**posted.metrics, metric: after}, posted.ids, posted.words))
    return True


def remove(connection: Connection, number: int) -> None:
    """Drop a rollout with its timeline."""
    connection.execute(delete(schema.rollout_entries).where(schema.rollout_entries.c.rollout == number))
    connection.execute(delete(schema.rollouts).where(schema.rollouts.c.number == number))


def _tell(connection: Connection, state: RolloutState, entry: Entry, sequence: int) -> None:
    """Have the hooks of a rollout told of an entry."""
    if not state.spec.hooks:
        return
    models = (_model(connection, state.baseline), _model(connection, state.canary))
    told = message(state, entry, sequence, models)
    if told is not None:
        outbox.add(connection, state.spec.hooks, told)


def _model(connection: Connection, revision: str) -> str:
    try:
        return revisions.get(connection, revision).config.ref
    except NotFound:
        return ""


def _posted_of(connection: Connection, number: int) -> Posted:
    table = schema.rollouts
    return _posted.decode(connection.execute(select(table.c.posted).where(table.c.number == number)).scalar_one())


def _put_posted(connection: Connection, number: int, posted: Posted) -> None:
    table = schema.rollouts
    text = msgspec.json.encode(posted).decode()
    connection.execute(update(table).where(table.c.number == number).values(posted=text))


def _sum(one: ArmCounts, other: ArmCounts) -> ArmCounts:
    bad = {metric: one.bad.get(metric, 0) + other.bad.get(metric, 0) for metric in {**one.bad, **other.bad}}
    return ArmCounts(one.total + other.total, bad)


def _larger(one: ArmCounts, other: ArmCounts) -> ArmCounts:
    bad = {metric: max(one.bad.get(metric, 0), other.bad.get(metric, 0)) for metric in {**one.bad, **other.bad}}
    return ArmCounts(max(one.total, other.total), bad)


def _begin(connection: Connection, state: RolloutState) -> RolloutState:
    row = {
        "project": state.project,
        "endpoint": state.endpoint,
        "ended_at_s": state.ended_s,
        "state": "",
        "ordered": "",
        "posted": "{}",
        "is_told": False,
        "evidence": "",
    }
    made = connection.execute(insert(schema.rollouts).values(row)).inserted_primary_key
    assert made is not None
    numbered = msgspec.structs.replace(state, number=int(made[0]))
    _prune(connection, numbered)
    return numbered


def _prune(connection: Connection, state: RolloutState) -> None:
    table = schema.rollouts
    old = (
        select(table.c.number)
        .where(and_(table.c.project == state.project, table.c.endpoint == state.endpoint, table.c.ended_at_s > 0.0))
        .order_by(table.c.number.desc())
        .offset(KEPT)
        .limit(KEPT)
    )
    for number in connection.execute(old).scalars().all():
        remove(connection, number)


def _shorten(connection: Connection, number: int) -> None:
    table = schema.rollout_entries
    count = connection.execute(select(func.count()).where(table.c.rollout == number)).scalar_one()
    if count <= ENTRIES_MAX:
        return
    looks_first = select(table.c.sequence).where(table.c.rollout == number)
    looks_first = looks_first.order_by(table.c.entry.contains('"event":"look"').desc(), table.c.sequence)
    gone = connection.execute(looks_first.limit(count - ENTRIES_MAX)).scalars().all()
    connection.execute(delete(table).where(table.c.sequence.in_(gone)))


def _brief() -> Select[tuple[object, ...]]:
    """Return a question for rollouts that leaves out the evidence of those that have ended."""
    table = schema.rollouts
    runs = table.c.ended_at_s == 0.0
    return select(
        table.c.state,
        table.c.ordered,
        case((runs, table.c.posted), else_="").label("posted"),
        case((runs, table.c.evidence), else_="").label("evidence"),
    )


def _stored(row: Row[tuple[object, ...]]) -> Stored:
    state: RolloutState = _state.decode(row.state)
    if row.evidence:
        found = _evidence.decode(row.evidence)
        state = msgspec.structs.replace(state, read=found.read, memory=found.memory, findings=found.findings)
    told = _posted.decode(row.posted) if row.posted else Posted()
    return Stored(state, row.ordered, told.metrics, told.words if row.ordered else "")
