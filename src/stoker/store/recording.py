"""Who acts, while an operation runs; and what their transactions change, seen at the statements themselves.

A transaction that begins under `acting` ends with a row of the audit that has every row of every table it changed,
before and after: no handler can forget it, and a transaction that is undone leaves none. The actor is in a context
variable because it must follow an operation through rooms that have no business with it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, and_, event, select
from sqlalchemy.sql import Delete, Insert, Update

from stoker.core.audit import images
from stoker.store import (
    audit,
    schema,
    schema_audit,
    schema_budgets,
    schema_costs,
    schema_identity,
    schema_nodes,
    schema_secrets,
    schema_usage,
)
from stoker.types.audit import PLATFORM, Act, Outcome, ResourceChange

# What each row is called before its primary key (or these columns); a test asks for every table, here or below.
RECORDED: Final[dict[Table, tuple[str, tuple[str, ...]]]] = {
    schema.meta: ("setting", ()),
    schema.projects: ("project", ()),
    schema.keys: ("key", ("project", "id")),
    schema.models: ("model", ()),
    schema.versions: ("version", ()),
    schema.aliases: ("alias", ()),
    schema.roles: ("role", ()),
    schema.trust_roots: ("trust", ()),
    schema.signatures: ("signature", ()),
    schema.endpoints: ("endpoint", ()),
    schema.revisions: ("revision", ()),
    schema.rollouts: ("rollout", ("project", "endpoint", "number")),
    schema.notifiers: ("notifier", ()),
    schema.policies: ("policy", ()),
    schema_budgets.budgets: ("budget", ("project", "name")),
    schema.watch: ("alerts", ()),
    schema.incidents: ("incident", ("project", "endpoint", "number")),
    schema.golden_sets: ("golden", ()),
    schema_audit.audit_holds: ("hold", ()),
    schema_identity.identity_providers: ("provider", ()),
    schema_identity.sessions: ("session", ("subject", "id")),
    schema_secrets.secret_reads: ("secret", ()),
    schema_nodes.nodes: ("node", ()),
    schema_nodes.node_tokens: ("nodetoken", ("id",)),
}
UNRECORDED: Final[dict[Table, str]] = {
    schema.lease: "which control acts",
    schema_identity.identity_documents: "what providers publish",
    schema.journal: "tells of the same; what it says is the row's reason",
    schema.replicas: "the loop's: what people asked for is recorded, what it takes is in the journal",
    schema.rollout_entries: "the timeline of a rollout, whose row is recorded",
    schema.rollout_outbox: "messages that wait",
    schema.dossiers: "signed and never written again",
    schema.scaling: "the loop's memory",
    schema.scale_decisions: "scaling is no act of anybody's; it has its own record",
    schema.starts: "measurements",
    schema.shapes: "measurements",
    schema.usage_cursors: "what gateways counted, settled",
    schema.usage_sums: "what gateways counted, settled",
    schema.usage_tags: "what gateways counted, settled",
    schema_usage.usage_batches: "what gateways counted, settled",
    schema_costs.cost_sheets: "measurements",
    schema_costs.gpu_times: "measurements",
    schema_costs.cost_works: "what gateways counted, settled",
    schema_costs.cost_lines: "reckoned from measurements; prices are settings",
    schema_budgets.budget_accounts: "what gateways counted, settled",
    schema_budgets.budget_leases: "between control and gateways: no act of anybody's",
    schema_budgets.budget_holders: "between control and gateways: no act of anybody's",
    schema_nodes.node_revocations: "of nodes that were removed, whose rows are recorded",
    schema_audit.audit: "the audit itself",
    schema_audit.audit_checkpoints: "the audit itself",
}
# Numbers, and what a provider says of a person; their digest is enough.
_BULKY: Final = frozenset((("rollouts", "evidence"), ("rollouts", "posted"), ("sessions", "claims")))

_T = TypeVar("_T")
_Key = tuple[Table, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from where, in which operation (types/audit.py, Act), and what they are about by its path."""

    name: str
    action: str
    origin: str = ""
    request: str = ""
    resources: tuple[str, ...] = ()
    subject: str = ""
    within: str = ""

    def act(self, outcome: Outcome, because: str = "", changes: tuple[ResourceChange, ...] = ()) -> Act:
        """Return what they do now."""
        about = dict.fromkeys((*self.resources, *(each.what for each in changes)))
        return Act(
            time.time_ns() // 1000, self.name, self.origin, self.request, self.action,
            outcome, images.hidden(because), tuple(about), changes, self.subject, self.within,
        )  # fmt: skip


_acting: Final[ContextVar[Actor | None]] = ContextVar("acting", default=None)


@contextmanager
def acting(actor: Actor | None) -> Iterator[None]:
    """Have every transaction that begins meanwhile, in this task, be one of `actor`; None: nobody's act."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


def recorded(connection: Connection, change: Callable[[Connection], _T]) -> _T:
    """Return what `change` returns; before its transaction ends, write down what it changed and who acts."""
    actor = _acting.get()
    if actor is None:
        return change(connection)
    with _watched(connection) as seen:
        result = change(connection)
    changes = seen.changes(connection)
    if changes:
        audit.append(connection, actor.act("done", "; ".join(seen.reasons), changes))
    return result


def note(connection: Connection, action: str, because: str, resources: tuple[str, ...]) -> None:
    """Write down what the platform does by itself, in the caller's transaction.

    Where somebody acts, their own row tells what changed.
    """
    if _acting.get() is None:
        audit.append(connection, Actor(PLATFORM, action, resources=resources).act("done", because))


@dataclass(slots=True)
class _Seen:
    """What a transaction did: each row it touched as it was before, and what it wrote into the journal."""

    before: dict[_Key, Mapping[str, Any] | None] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def before_execute(self, conn: Connection, statement: Any, many: Any, values: Any, options: Any) -> None:
        """Keep the rows that a statement is about to change. See SQLAlchemy, ConnectionEvents."""
        if isinstance(statement, Insert | Update | Delete) and statement.table in RECORDED:
            if many:
                raise TypeError(f"many statements at once on {statement.table} cannot be audited")
            _look_before(conn, self, statement, values)

    def after_execute(
        self, conn: Connection, statement: Any, many: Any, values: Any, options: Any, result: Any
    ) -> None:
        """Know the rows that were made. See SQLAlchemy, ConnectionEvents."""
        if not isinstance(statement, Insert):
            return
        if statement.table is schema.journal:
            told = statement.compile().params
            self.reasons.append(f"{told['action']}: {told['because']}")
        elif statement.table in RECORDED and result.inserted_primary_key is not None:
            self.before.setdefault((statement.table, tuple(result.inserted_primary_key)), None)

    def changes(self, connection: Connection) -> tuple[ResourceChange, ...]:
        """Return what is different now."""
        found = []
        for (table, key), before in self.before.items():
            after = _row(connection, table, key)
            row = after if after is not None else before
            if row is None:
                continue  # made and removed again
            kind, named = RECORDED[table]
            name = "/".join(str(row[column]) for column in named) if named else "/".join(map(str, key))
            change = images.change(f"{kind} {name}", before, after)
            if change is not None:
                found.append(change)
        return tuple(found)


@contextmanager
def _watched(connection: Connection) -> Iterator[_Seen]:
    """See every statement that the connection executes meanwhile."""
    seen = _Seen()
    event.listen(connection, "before_execute", seen.before_execute)
    event.listen(connection, "after_execute", seen.after_execute)
    try:
        yield seen
    finally:
        event.remove(connection, "before_execute", seen.before_execute)
        event.remove(connection, "after_execute", seen.after_execute)


def _look_before(connection: Connection, seen: _Seen, statement: Any, values: Mapping[str, Any]) -> None:
    """Keep the rows that a statement is about to change, as they are."""
    table: Table = statement.table
    if isinstance(statement, Insert):
        given = {**statement.compile(dialect=connection.dialect).params, **values}
        key = tuple(given.get(column.name) for column in table.primary_key)
        if None not in key:  # an upsert may meet one
            seen.before.setdefault((table, key), _row(connection, table, key))
        return
    ask = select(table)
    if statement.whereclause is not None:
        ask = ask.where(statement.whereclause)
    for row in connection.execute(ask, values).mappings().all():
        key = tuple(row[column.name] for column in table.primary_key)
        seen.before.setdefault((table, key), _image(table, row))


def _row(connection: Connection, table: Table, key: tuple[Any, ...]) -> Mapping[str, Any] | None:
    where = and_(*(column == value for column, value in zip(table.primary_key, key, strict=True)))
    found = connection.execute(select(table).where(where)).mappings().first()
    return None if found is None else _image(table, found)


def _image(table: Table, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        column.name: images.summary(row[column.name]) if (table.name, column.name) in _BULKY else row[column.name]
        for column in table.columns
    }
