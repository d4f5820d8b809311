"""The ledger: leases for gateways, charges from their journals, and what is told of it. Rules: core/ledger.py.

Each question and each batch of charges is one transaction, so a control that is killed has heard all of it or nothing.
What the next one must know is in the database; it learns of who lives, and what is scarce, within seconds.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from stoker.control.periods import Bounds, bounds
from stoker.core import ledger
from stoker.core.alerts import Signal
from stoker.core.ledger import Account, Lately
from stoker.protocol.budgets import amount, zone
from stoker.store import budgets as rows
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import Answer, Asked, BudgetView, Granted, Question
from stoker.types.errors import Conflict
from stoker.types.prices import NANO_PER_USD, format_dollars
from stoker.types.resources import Budget
from stoker.types.usage import Charge

AHEAD_MAX_S: Final = 600.0  # a period may be asked for so long before it begins; clocks of gateways may be apart


class Budgets:
    """What control does with budgets. gateways: how many processes share each."""

    def __init__(
        self, database: Database, gateways: int, metrics: Registry, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._gateways = gateways
        self._metrics = metrics
        self._clock = clock
        self._lately = Lately()
        self._shown: set[tuple[str, str]] = set()

    async def answer(self, question: Question) -> Answer:
        """Return what a gateway may charge from now on. Raises Conflict for a question that comes too late."""
        now_s = self._clock()
        living = self._lately.living(now_s)
        granted: tuple[Granted, ...] = ()
        if question.asked:  # else it only says that it lives
            granted = await self._database.writing(lambda connection: self._answer(connection, question, living, now_s))
        self._lately.heard(question, granted, now_s)
        return Answer(question.number, granted, self._lately.scarce(now_s))

    def _answer(
        self, connection: Connection, question: Question, living: set[str], now_s: float
    ) -> tuple[Granted, ...]:
        if not rows.hears(connection, question.holder, question.number, now_s):
            raise Conflict(f"question {question.number} of {question.holder} is late: it asked since, or is dead")
        known = rows.known(connection, (asked.budget for asked in question.asked))
        return tuple(
            self._grant(connection, known[asked.budget], question.holder, asked, living)
            for asked in question.asked
            if asked.budget in known and asked.at_s < now_s + AHEAD_MAX_S
        )

    def _grant(self, connection: Connection, budget: Budget, holder: str, asked: Asked, living: set[str]) -> Granted:
        period = _bounds(budget, asked.at_s)
        rows.open_account(connection, asked.budget, period.start_s)
        before = _account(connection, asked.budget, budget, period)
        if budget.spec.on_limit == "warn":  # nothing is leased of it: it holds nobody up
            asked = Asked(asked.budget, asked.at_s, asked.cap, asked.room, want=0)
        after = ledger.heard(before, holder, asked, self._gateways)
        if after.of(holder) != before.of(holder):
            rows.keep(connection, after, after.of(holder))
        return ledger.granted(after, holder, period.end_s, living)

    async def end(self, holder: str) -> None:
        """Give back what a dead gateway was leased, once every charge in its journal was settled."""
        await self._database.writing(lambda connection: rows.end(connection, holder, self._clock()))

    async def everything(self) -> list[BudgetView]:
        """Return every budget as it stands now."""
        return await self._database.reading(lambda connection: views(connection, self._clock()))

    def signals(self, connection: Connection, now_s: float) -> list[Signal]:
        """Return what is to be told of budgets: for each the largest fraction of its alerts that is spent."""
        found = views(connection, now_s)
        self._count(found)
        return [_signal(view) for view in found if view.reached]

    def _count(self, found: Iterable[BudgetView]) -> None:
        shown = set()
        for view in found:
            whose = {"project": view.project, "budget": view.name}
            unit = view.spec.unit
            for kind, count in (("spent", view.settled), ("leased", view.leased), ("left", max(view.left, 0))):
                if unit == "usd":
                    self._metrics.gauge("stoker_budget_usd", **whose, kind=kind).set(count / NANO_PER_USD)
                else:
                    self._metrics.gauge("stoker_budget_units", **whose, unit=unit, kind=kind).set(float(count))
            shown.add((view.project, view.name))
        for project, name in self._shown - shown:
            self._metrics.forget(project=project, budget=name)
        self._shown = shown


def settle(connection: Connection, charges: Iterable[Charge], now_s: float) -> None:
    """Take charges from their leases, in the transaction that settles the records they are of: exactly once.

    What has no lease (a budget that only warns, before its gateway heard of it) counts for the period of now. What was
    charged to a budget that is deleted is charged to nobody.
    """
    sums: defaultdict[tuple[int, str], int] = defaultdict(int)
    for charge in charges:
        sums[int(charge.budget), charge.lease] += charge.amount
    known = rows.known(connection, (budget for budget, _ in sums))
    for (number, lease), spent in sorted(sums.items()):
        budget = known.get(number)
        if budget is not None:
            began, _, holder = lease.partition("@")
            period = int(began) if began else _bounds(budget, now_s).start_s
            rows.charge(connection, number, period, holder, spent)


def views(connection: Connection, now_s: float) -> list[BudgetView]:
    """Return every budget with its account of now, by project and name."""
    found = []
    for row in rows.everything(connection):
        period = _bounds(row.resource, now_s)
        account = _account(connection, row.id, row.resource, period)
        found.append(
            BudgetView(
                project=str(row.resource.metadata.project),
                name=row.resource.metadata.name,
                spec=row.resource.spec,
                amount=account.amount,
                settled=account.settled,
                leased=account.leased,
                left=account.left,
                began_at_s=period.start_s,
                ends_at_s=period.end_s,
                reached=ledger.reached(row.resource.spec.alerts, account.amount, account.settled),
            )
        )
    return found


def _bounds(budget: Budget, at_s: float) -> Bounds:
    return bounds(budget.spec.period, zone(budget.spec.timezone), at_s)


def _account(connection: Connection, number: int, budget: Budget, period: Bounds) -> Account:
    return rows.account(connection, number, period.start_s, amount(budget.spec))


def _signal(view: BudgetView) -> Signal:
    unit = view.spec.unit
    if unit == "usd":
        because = f"${format_dollars(view.settled)} of ${format_dollars(view.amount)} in this {view.spec.period}"
    else:
        because = f"{view.settled} of {view.amount} {unit} in this {view.spec.period}"
    return Signal(
        labels={
            "alertname": "BudgetSpent",
            "project": view.project,
            "budget": view.name,
            "fraction": f"{view.reached:.0%}",
        },
        severity="page" if view.reached >= 1.0 else "ticket",
        summary=f"{view.reached:.0%} of budget {view.project}/{view.name} is spent",
        because=because,
        runbook="docs/how-to/set-a-budget.md",
    )
