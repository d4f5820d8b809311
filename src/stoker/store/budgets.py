"""Budgets, their accounts and their leases as rows. What core/ledger.py decides is read and written here, whole."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from stoker.core.ledger import Account, Lease
from stoker.store import schema_budgets as schema
from stoker.store.dialects import insert_missing, upsert
from stoker.store.schema import projects
from stoker.types.errors import Conflict, NotFound
from stoker.types.resources import Budget

BUDGETS_MAX: Final = 1000  # each is in the route table and in every gateway's wallet
KEPT_S: Final = 400 * 86_400.0  # accounts of periods that are over
HOLDERS_KEPT_S: Final = 7 * 86_400.0  # that are ended: no question of theirs is on its way any more

_decode = msgspec.json.Decoder(Budget).decode


class BudgetRow(msgspec.Struct, frozen=True):
    """A budget as stored."""

    id: int
    resource: Budget
    created_at_s: float


# ---- budgets


def find(connection: Connection, project: str, name: str) -> BudgetRow | None:
    """Return the budget, or None."""
    table = schema.budgets
    row = connection.execute(select(table).where(_is(project, name))).one_or_none()
    return None if row is None else BudgetRow(row.id, _decode(row.resource), row.created_at_s)


def everything(connection: Connection) -> list[BudgetRow]:
    """Return all budgets by project and name."""
    table = schema.budgets
    rows = connection.execute(select(table).order_by(table.c.project, table.c.name))
    return [BudgetRow(row.id, _decode(row.resource), row.created_at_s) for row in rows]


def put(connection: Connection, budget: Budget, now_s: float) -> None:
    """Create or replace. With another scope or calendar it is another budget, of which nothing is spent yet.

    Raises NotFound when its project is not there, Conflict over BUDGETS_MAX.
    """
    project, name = budget.metadata.project, budget.metadata.name
    table, text = schema.budgets, msgspec.json.encode(budget).decode()
    kept = find(connection, project, name)
    if kept is not None and _whose(kept.resource) == _whose(budget):
        connection.execute(update(table).where(_is(project, name)).values(resource=text))
        return
    if kept is not None:
        remove(connection, project, name)
    if connection.execute(select(projects.c.name).where(projects.c.name == project)).first() is None:
        raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= BUDGETS_MAX:
        raise Conflict(f"there are {BUDGETS_MAX} budgets already; delete one first")
    connection.execute(insert(table).values(project=project, name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, project: str, name: str) -> None:
    """Delete a budget with its accounts; what is charged to it from here on is charged to nobody. Raises NotFound."""
    kept = find(connection, project, name)
    if kept is None:
        raise NotFound(f"no budget {name!r} in project {project!r}")
    for table in (schema.budget_leases, schema.budget_accounts):
        connection.execute(delete(table).where(table.c.budget == kept.id))
    connection.execute(delete(schema.budgets).where(schema.budgets.c.id == kept.id))


# ---- accounts and leases


def account(connection: Connection, budget: int, period: int, amount: int) -> Account:
    """Return the account of a budget of `amount` in one period; locked until the transaction ends, where that is said.

    An empty one, if there is none.
    """
    accounts, leases = schema.budget_accounts, schema.budget_leases
    settled = connection.execute(
        select(accounts.c.settled).where(_in(accounts, budget, period)).with_for_update()
    ).scalar_one_or_none()
    rows = connection.execute(select(leases).where(_in(leases, budget, period)).order_by(leases.c.holder))
    held = tuple(Lease(row.holder, row.cap, row.charged) for row in rows)
    return Account(budget, period, amount, settled or 0, held)


def open_account(connection: Connection, budget: int, period: int) -> None:
    """Make sure that there is a row to lock."""
    row = {"budget": budget, "period": period, "settled": 0}
    connection.execute(insert_missing(connection, schema.budget_accounts, row))


def keep(connection: Connection, of: Account, lease: Lease) -> None:
    """Store a lease as it is from now on."""
    key = {"budget": of.budget, "period": of.period, "holder": lease.holder}
    values = {"cap": lease.cap, "charged": lease.charged}
    connection.execute(upsert(connection, schema.budget_leases, key, values))


def charge(connection: Connection, budget: int, period: int, holder: str, amount: int) -> None:
    """Move `amount` from leased to settled. Where no such lease is, only what is settled grows: nothing is lost."""
    accounts, leases = schema.budget_accounts, schema.budget_leases
    open_account(connection, budget, period)
    grown = update(accounts).where(_in(accounts, budget, period)).values(settled=accounts.c.settled + amount)
    connection.execute(grown)
    whose = and_(_in(leases, budget, period), leases.c.holder == holder)
    connection.execute(update(leases).where(whose).values(charged=leases.c.charged + amount))


def known(connection: Connection, numbers: Iterable[int]) -> dict[int, Budget]:
    """Return those of the budgets that there are."""
    table = schema.budgets
    rows = connection.execute(select(table.c.id, table.c.resource).where(table.c.id.in_(set(numbers))))
    return {row.id: _decode(row.resource) for row in rows}


# ---- holders


def hears(connection: Connection, holder: str, number: int, now_s: float) -> bool:
    """Note that question `number` of `holder` is heard; false when a newer one was, or the holder is ended."""
    table = schema.budget_holders
    row = {"holder": holder, "number": 0, "is_ended": False, "heard_at_s": now_s}
    connection.execute(insert_missing(connection, table, row))
    fits = and_(table.c.holder == holder, table.c.number < number, table.c.is_ended.is_(False))
    return bool(connection.execute(update(table).where(fits).values(number=number, heard_at_s=now_s)).rowcount)


def end(connection: Connection, holder: str, now_s: float) -> None:
    """Close every lease of a holder that is dead and whose journal was read to its end: what it was not charged is
    free again. Nothing that it still says is heard.
    """
    table = schema.budget_holders
    values = {"number": 0, "is_ended": True, "heard_at_s": now_s}
    connection.execute(upsert(connection, table, {"holder": holder}, values))
    connection.execute(delete(schema.budget_leases).where(schema.budget_leases.c.holder == holder))


def prune(connection: Connection, now_s: float) -> None:
    """Forget old periods, and ended holders of which nothing can come any more."""
    accounts, leases, holders = schema.budget_accounts, schema.budget_leases, schema.budget_holders
    old = now_s - KEPT_S
    connection.execute(delete(leases).where(and_(leases.c.period > 0, leases.c.period < old)))
    connection.execute(delete(accounts).where(and_(accounts.c.period > 0, accounts.c.period < old)))
    gone = and_(holders.c.is_ended.is_(True), holders.c.heard_at_s < now_s - HOLDERS_KEPT_S)
    connection.execute(delete(holders).where(gone))


def _is(project: str, name: str) -> Any:
    return and_(schema.budgets.c.project == project, schema.budgets.c.name == name)


def _in(table: Any, budget: int, period: int) -> Any:
    return and_(table.c.budget == budget, table.c.period == period)


def _whose(budget: Budget) -> tuple[str, ...]:
    spec = budget.spec
    return spec.unit, spec.scope, spec.key, spec.tag, spec.period, spec.timezone
