"""The ledger over its database: what gateways are told, and that charges, ends and changes of budgets keep the sum."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.control.budgets import Budgets, settle
from stoker.core.wallet import Hold, Short, Wallet
from stoker.protocol.budgets import route
from stoker.store import budgets as rows
from stoker.store import projects
from stoker.store.engine import Database
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import BudgetSpec, BudgetView
from stoker.types.errors import Conflict
from stoker.types.ids import ProjectName
from stoker.types.prices import NANO_PER_USD
from stoker.types.resources import Budget, Metadata, Project, ProjectMetadata
from stoker.types.usage import Charge
from tests.databases import migrated

NOON_S = 1_800_057_600.0 + 43_200.0


class Ledger:
    """A ledger at a moment that the test says, and wallets that ask it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now_s = NOON_S
        self.budgets = Budgets(database, 2, Registry("control"), lambda: self.now_s)
        database.write(lambda connection: projects.put(connection, Project(ProjectMetadata("team")), self.now_s))

    def put(self, name: str = "b", **spec: Any) -> None:
        budget = Budget(Metadata(name, ProjectName("team")), BudgetSpec(**{"amount": "1", "period": "day", **spec}))
        self.database.write(lambda connection: rows.put(connection, budget, self.now_s))

    def wallet(self, holder: str) -> Wallet:
        wallet = Wallet(holder)
        kept = self.database.read(rows.everything)
        wallet.follow(route(row.id, row.resource) for row in kept)
        return wallet

    def ask(self, wallet: Wallet) -> None:
        answer = asyncio.run(self.budgets.answer(wallet.question(self.now_s)))
        assert wallet.take(answer, self.now_s)

    def hold(self, wallet: Wallet, bound: int) -> Hold | Short:
        purses = wallet.of("team", "k", (("team", "search"),))
        found = wallet.reserve(purses, bound, self.now_s)
        if isinstance(found, Short):
            self.ask(wallet)
            found = wallet.reserve(purses, bound, self.now_s)
        return found

    def settle(self, *charges: Charge) -> None:
        self.database.write(lambda connection: settle(connection, charges, self.now_s))

    def end(self, holder: str) -> None:
        asyncio.run(self.budgets.end(holder))

    @property
    def view(self) -> BudgetView:
        (view,) = asyncio.run(self.budgets.everything())
        return view


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)
    yield Ledger(database)
    database.close()


def spent(hold: Hold | Short, cost: int) -> tuple[Charge, ...]:
    assert isinstance(hold, Hold)
    return hold.spend(cost)


def test_what_is_settled_and_leased_is_within_the_budget_and_a_dead_gateways_rest_comes_back(ledger: Ledger) -> None:
    ledger.put()
    first, second = ledger.wallet("a"), ledger.wallet("b")
    charges = spent(ledger.hold(first, NANO_PER_USD // 2), NANO_PER_USD // 4)
    assert (ledger.view.settled, ledger.view.leased) == (0, NANO_PER_USD // 2)
    short = ledger.hold(second, NANO_PER_USD * 6 // 10)
    assert isinstance(short, Short)
    ledger.settle(*charges)  # `first` was killed, and its journal read
    ledger.end("a")
    assert (ledger.view.settled, ledger.view.leased) == (NANO_PER_USD // 4, 0)
    spent(ledger.hold(second, NANO_PER_USD * 6 // 10), 1)


def test_an_ended_holder_and_a_late_question_are_not_heard(ledger: Ledger) -> None:
    ledger.put()
    wallet = ledger.wallet("a")
    wallet.reserve(wallet.of("team", "k", ()), 1000, ledger.now_s)
    late = wallet.question(ledger.now_s)
    ledger.ask(wallet)
    with pytest.raises(Conflict, match="late"):
        asyncio.run(ledger.budgets.answer(late))
    ledger.end("a")
    with pytest.raises(Conflict, match="dead"):
        asyncio.run(ledger.budgets.answer(msgspec.structs.replace(late, number=99)))
    assert ledger.view.leased == 0


def test_a_charge_goes_to_the_period_of_its_lease_and_one_without_a_lease_to_this_one(ledger: Ledger) -> None:
    ledger.put()
    hold = ledger.hold(ledger.wallet("a"), 500)
    ledger.now_s += 86_400.0
    assert (ledger.view.settled, ledger.view.left) == (0, NANO_PER_USD)
    ledger.settle(*spent(hold, 300), Charge("1", "", 7))
    assert ledger.view.settled == 7
    ledger.now_s -= 86_400.0
    assert ledger.view.settled == 300


def test_a_raised_or_lowered_budget_keeps_what_was_spent_and_another_calendar_begins_anew(ledger: Ledger) -> None:
    ledger.put()
    wallet = ledger.wallet("a")
    ledger.settle(*spent(ledger.hold(wallet, NANO_PER_USD // 2), NANO_PER_USD // 2))
    ledger.put(amount="0.25")
    assert (ledger.view.settled, ledger.view.left) == (NANO_PER_USD // 2, -NANO_PER_USD // 4)
    ledger.ask(wallet)
    assert isinstance(ledger.hold(wallet, NANO_PER_USD // 4), Short)
    ledger.put(amount="2")
    assert isinstance(ledger.hold(wallet, NANO_PER_USD), Hold)
    ledger.put(period="month")
    assert (ledger.view.settled, ledger.view.leased) == (0, 0)
    ledger.settle(Charge("1", f"{int(NOON_S) // 86_400 * 86_400}@a", 5))  # in flight while it was changed
    assert ledger.view.settled == 0


def test_only_budgets_of_the_request_count(ledger: Ledger) -> None:
    ledger.put("project")
    ledger.put("key", scope="key", key="k")
    ledger.put("tag", scope="tag", tag="team=search")
    ledger.put("other", scope="tag", tag="team=ads")
    found = ledger.wallet("a").of("team", "k", (("team", "search"),))
    assert [purse.terms.name for purse in found] == ["project", "key", "tag"]
    assert ledger.wallet("a").of("another", "k", ()) == ()


def test_a_budget_tells_of_the_largest_fraction_that_is_spent(ledger: Ledger) -> None:
    ledger.put(on_limit="warn", alerts=(0.5, 1.0))
    wallet = ledger.wallet("a")
    ledger.ask(wallet)
    seen = []
    for cost in (NANO_PER_USD // 4, NANO_PER_USD // 2, NANO_PER_USD):
        ledger.settle(*spent(ledger.hold(wallet, cost), cost))
        signals = ledger.database.read(lambda connection: ledger.budgets.signals(connection, ledger.now_s))
        seen.append([(each.severity, each.labels["fraction"], each.because) for each in signals])
    assert seen == [[], [("ticket", "50%", "$0.75 of $1 in this day")], [("page", "100%", "$1.75 of $1 in this day")]]


def test_a_deleted_project_or_budget_leaves_nothing(ledger: Ledger) -> None:
    ledger.put()
    ledger.settle(*spent(ledger.hold(ledger.wallet("a"), 500), 300))
    with pytest.raises(Conflict, match="budget 'b'"):
        ledger.database.write(lambda connection: projects.remove(connection, "team"))
    ledger.database.write(lambda connection: rows.remove(connection, "team", "b"))
    ledger.database.write(lambda connection: projects.remove(connection, "team"))
    ledger.settle(Charge("1", "0@a", 5))
