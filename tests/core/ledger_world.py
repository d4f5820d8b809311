"""A world of budgets on virtual time: control, gateways and clients, killed at any moment, over a network that loses,
repeats and reorders. What is checked after every event is what must never happen; `History` says what was seen.

The journal is the least that the real one promises: an entry is kept before its answer ends, it is read at least once
and settled exactly once, and a dead process's journal is read to its end by its successor.
"""

import heapq
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from typing import Final

from stoker.control.periods import bounds
from stoker.core import ledger
from stoker.core.ledger import Account, Lately
from stoker.core.purse import Pocket
from stoker.core.wallet import Hold, Short, Wallet
from stoker.types.budgets import Answer, BudgetRoute, OnLimit, Period, Question
from stoker.types.usage import Charge

GATEWAYS: Final = 3
ASK_EVERY_S: Final = 1.0
ASK_AGAIN_S: Final = 0.1
WAIT_S: Final = 2.0
MIDNIGHT_S: Final = 1_800_057_600.0  # the beginning of a day, UTC
Entry = tuple[Charge, ...]


@dataclass
class History:
    """What one run came to."""

    answered: int = 0
    refused: int = 0
    unheard: int = 0
    false: int = 0  # refused though no process held the room, or another one did
    kills: int = 0
    stranded_max: int = 0  # leases that one killed process left behind in one account
    lowered: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass
class Gateway:
    """One gateway process, until it is killed."""

    name: str
    wallet: Wallet
    journal: list[Entry] = field(default_factory=list)
    is_alive: bool = True
    sent: int = 0  # entries that control is known to have settled
    old: list["Gateway"] = field(default_factory=list)  # predecessors whose journals it has yet to ship
    holds: set[Hold] = field(default_factory=set)
    is_asking: bool = False
    answered_s: float = 0.0  # control's newest answer came

    @property
    def is_low(self) -> bool:
        """Whether it should ask at once."""
        return any(purse.is_low for purse in self.wallet.purses)

    def pockets(self, budget: int, period: int) -> Iterator[Pocket]:
        """Yield what it holds of `budget` in `period`."""
        for purse in self.wallet.purses:
            if purse.terms.budget == budget:
                yield from (pocket for pocket in purse.pockets if pocket.period == period)


class World:
    """One history. Everything happens in `run`; `chaos`: whether anything fails at all."""

    def __init__(
        self,
        seed: int,
        *,
        clients: int = 64,
        amount: int = 20_000,
        chaos: bool = True,
        lasts_s: float = 20.0,
        period: Period = "day",
        changes: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.chaos, self.clients, self.lasts_s, self.changes = chaos, clients, lasts_s, changes
        self.now_s = MIDNIGHT_S - lasts_s / 2 if period == "day" else MIDNIGHT_S
        self.end_s = self.now_s + lasts_s
        self.period: Period = period
        on_limit: OnLimit = "refuse"
        self.routes = [
            BudgetRoute(1, "all", "p", "project", "p", amount, on_limit),
            BudgetRoute(2, "one", "p", "key", "k0", amount // 3, on_limit),
            BudgetRoute(3, "team", "p", "tag", "t=1", amount // 2, on_limit),
        ]
        self.amounts = {route.budget: route.amount for route in self.routes}
        self.highest = dict(self.amounts)
        self.history = History()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.is_moved = False  # something happened that could break what must be true
        # control: all of it but `lately` is in its database
        self.accounts: dict[tuple[int, int], Account] = {}
        self.numbers: dict[str, int] = {}
        self.settled: dict[str, int] = {}
        self.lately = Lately()
        self.is_up = True
        self.truth: dict[tuple[int, int], int] = {}  # what journals say, by budget and period
        self.gateways = [self.born(index, 0) for index in range(GATEWAYS)]

    # ---- time

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now_s + delay_s, self.count, act))

    def carry(self, act: Callable[[], None]) -> None:
        """Deliver a message: late, not at all, or twice, and so in any order."""
        roll = self.random.random() if self.chaos else 1.0
        for _ in range(0 if roll < 0.08 else 2 if roll < 0.16 else 1):
            late = self.random.expovariate(2.0) if self.chaos and self.random.random() < 0.1 else 0.0
            self.at(self.random.uniform(0.0005, 0.005) + late, act)

    def run(self) -> History:
        for index in range(GATEWAYS):
            self.at(0.0, partial(self.pulse, index))
        for client in range(self.clients):
            self.at(self.random.random(), partial(self.ask, client))
        if self.chaos:
            self.at(self.random.expovariate(0.2), self.break_something)
        while self.events and not self.history.problems:
            self.now_s, _, act = heapq.heappop(self.events)
            self.is_moved = False
            act()
            if self.is_moved:
                self.check()
            if self.is_over() and not self.pending():
                break
        self.check_end()
        return self.history

    def is_over(self) -> bool:
        return self.now_s > self.end_s + 5.0

    def pending(self) -> bool:
        return self.now_s < self.end_s + 60.0 and any(
            gateway.holds or gateway.old or gateway.sent < len(gateway.journal) for gateway in self.gateways
        )

    # ---- gateways

    def born(self, index: int, incarnation: int) -> Gateway:
        wallet = Wallet(f"g{index}-{incarnation}")
        wallet.follow(self.routes)
        return Gateway(f"g{index}", wallet)

    def pulse(self, index: int) -> None:
        """What a gateway does once a second: say what it holds, ship its journal."""
        gateway = self.gateways[index]
        if gateway.is_alive:
            self.question(gateway)
            self.ship(gateway)
        if not self.is_over() or self.pending():
            self.at(ASK_EVERY_S, lambda: self.pulse(index))

    def question(self, gateway: Gateway) -> None:
        question = gateway.wallet.question(self.now_s)
        self.carry(lambda: self.hear(gateway, question))

    def ship(self, gateway: Gateway) -> None:
        for each in (*gateway.old, gateway):
            first, batch = each.sent, each.journal[each.sent : each.sent + 50]
            is_end = each is not gateway and first + len(batch) == len(each.journal)
            if batch or is_end:
                self.carry(partial(self.settle, gateway, each, first, batch, is_end=is_end))

    # ---- control

    def account(self, budget: int, period: int) -> Account:
        known = self.accounts.get((budget, period), Account(budget, period, 0))
        return Account(budget, period, self.amounts[budget], known.settled, known.leases)

    def hear(self, gateway: Gateway, question: Question) -> None:
        if not self.is_up or self.is_late(question):
            return
        self.is_moved = True
        self.numbers[question.holder] = question.number
        living = self.lately.living(self.now_s)
        granted = []
        for asked in question.asked:
            found = bounds(self.period, UTC, asked.at_s)
            account = ledger.heard(self.account(asked.budget, found.start_s), question.holder, asked, GATEWAYS)
            self.accounts[asked.budget, found.start_s] = account
            granted.append(ledger.granted(account, question.holder, found.end_s, living))
        self.lately.heard(question, granted, self.now_s)
        answer = Answer(question.number, tuple(granted), self.lately.scarce(self.now_s))
        if not self.chaos or self.random.random() > 0.01:  # else killed after the commit, before the answer
            self.carry(lambda: self.take(gateway, answer))

    def close(self, holder: str) -> None:
        """Hear no question of `holder` any more: one may still be on its way."""
        self.numbers[holder] = sys.maxsize

    def is_late(self, question: Question) -> bool:
        return self.numbers.get(question.holder, 0) >= question.number

    def take(self, gateway: Gateway, answer: Answer) -> None:
        if gateway.is_alive:
            self.is_moved = True
            if gateway.wallet.take(answer, self.now_s):
                gateway.answered_s = self.now_s

    def settle(self, shipper: Gateway, gateway: Gateway, first: int, batch: list[Entry], *, is_end: bool) -> None:
        if not self.is_up:
            return
        self.is_moved = True
        holder = gateway.wallet.holder
        done = self.settled.get(holder, 0)
        for at, entries in enumerate(batch, first):
            if at == done:
                done += 1
                for charge in entries:
                    period, _, of = charge.lease.partition("@")
                    key = (int(charge.budget), int(period))
                    self.accounts[key] = ledger.charged(self.account(*key), of, charge.amount)
        self.settled[holder] = done
        if is_end and done == first + len(batch):
            for key in self.accounts:
                self.accounts[key] = ledger.ended(self.account(*key), holder)
            self.close(holder)
        is_closed = is_end and done == first + len(batch)
        self.carry(lambda: self.shipped(shipper, gateway, done, is_closed=is_closed))

    def shipped(self, shipper: Gateway, gateway: Gateway, done: int, *, is_closed: bool) -> None:
        if shipper.is_alive:
            gateway.sent = max(gateway.sent, done)
            if is_closed and gateway in shipper.old:
                shipper.old.remove(gateway)

    # ---- clients

    def ask(self, client: int) -> None:
        if self.now_s >= self.end_s:
            return
        gateway = self.random.choice(self.gateways)
        bound = self.random.randint(5, 60)
        if gateway.is_alive:
            self.serve(gateway, client, bound, self.now_s)
        else:
            self.again(client)

    def again(self, client: int) -> None:
        self.at(self.random.expovariate(10.0), lambda: self.ask(client))

    def serve(self, gateway: Gateway, client: int, bound: int, asked_s: float) -> None:
        if not gateway.is_alive:
            self.again(client)
            return
        tags = (("t", "1"),) if client % 3 == 0 else ()
        found = gateway.wallet.reserve(gateway.wallet.of("p", f"k{client % 4}", tags), bound, self.now_s)
        if isinstance(found, Short):
            self.short(gateway, found, (client, bound, asked_s))
            return
        gateway.holds.add(found)
        if gateway.is_low:
            self.hurry(gateway)
        self.at(self.random.expovariate(4.0), lambda: self.finish(gateway, client, found))

    def short(self, gateway: Gateway, short: Short, request: tuple[int, int, float]) -> None:
        client, bound, asked_s = request
        if short.why == "unheard" and self.now_s - asked_s < WAIT_S:
            self.hurry(gateway)
            self.at(ASK_AGAIN_S / 2, lambda: self.serve(gateway, client, bound, asked_s))
            return
        # Control answered meanwhile, and nobody gave enough; or nothing was heard of it, which is no budget's fault.
        if short.why == "gone" or gateway.answered_s >= asked_s + WAIT_S / 2:
            self.history.refused += 1
            self.judge(short, bound)
        else:
            self.history.unheard += 1
        self.at(self.random.expovariate(1.0), lambda: self.ask(client))

    def judge(self, short: Short, bound: int) -> None:
        """Count a refusal that was false: what is not leased and what living gateways could reserve has room for it."""
        budget = short.purse.terms.budget
        period = bounds(self.period, UTC, self.now_s).start_s
        account = self.account(budget, period)
        living = sum(
            max(pocket.room, 0)
            for gateway in self.gateways
            if gateway.is_alive
            for pocket in gateway.pockets(budget, period)
        )
        if max(account.left, 0) + living >= bound:
            self.history.false += 1
            if account.left >= bound and short.why == "gone" and not self.chaos:
                self.history.problems.append(f"budget {budget}: refused {bound} with {account.left} not even leased")

    def hurry(self, gateway: Gateway) -> None:
        if not gateway.is_asking:
            gateway.is_asking = True
            self.question(gateway)
            self.at(ASK_AGAIN_S, lambda: self.calm(gateway))

    def calm(self, gateway: Gateway) -> None:
        gateway.is_asking = False
        if gateway.is_alive and gateway.is_low and self.now_s < self.end_s:
            self.hurry(gateway)

    def finish(self, gateway: Gateway, client: int, hold: Hold) -> None:
        if not gateway.is_alive:
            self.again(client)
            return
        gateway.holds.discard(hold)
        cost = 0 if self.random.random() < 0.05 else self.random.randint(hold.bounds[0] // 3, hold.bounds[0])
        charges = hold.spend(cost)
        if charges:
            gateway.journal.append(charges)
            for charge in charges:
                key = (int(charge.budget), int(charge.lease.partition("@")[0]))
                self.truth[key] = self.truth.get(key, 0) + charge.amount
        self.history.answered += 1
        self.is_moved = self.history.answered % 16 == 0
        self.again(client)

    # ---- what goes wrong

    def break_something(self) -> None:
        if self.now_s >= self.end_s:
            return
        self.at(self.random.expovariate(0.3), self.break_something)
        self.history.kills += 1
        roll = self.random.random()
        if roll < 0.25:
            self.is_up, self.lately = False, Lately()
            self.at(self.random.expovariate(0.7), lambda: setattr(self, "is_up", True))
        elif roll < 0.4 and self.changes:
            route = self.random.choice(self.routes)
            self.amounts[route.budget] = int(route.amount * self.random.uniform(0.3, 1.2))
            self.highest[route.budget] = max(self.highest[route.budget], self.amounts[route.budget])
            self.history.lowered = True
        else:
            index = self.random.randrange(GATEWAYS)
            if self.gateways[index].is_alive:
                self.kill(index)

    def kill(self, index: int) -> None:
        gateway = self.gateways[index]
        gateway.is_alive = False
        gateway.holds.clear()
        for account in self.accounts.values():
            stranded = [lease for lease in account.leases if lease.holder == gateway.wallet.holder]
            self.history.stranded_max = max(self.history.stranded_max, len(stranded))
        incarnation = int(gateway.wallet.holder.partition("-")[2]) + 1
        heir = self.born(index, incarnation)
        heir.old = [*gateway.old, gateway]
        self.at(self.random.expovariate(1.0), lambda: self.gateways.__setitem__(index, heir))

    # ---- what must be true

    def spent(self, budget: int, period: int) -> int:
        return self.truth.get((budget, period), 0)

    def held(self, budget: int, period: int) -> int:
        """Return what living gateways have reserved, and may reserve."""
        return sum(
            pocket.reserved + max(pocket.room, 0)
            for gateway in self.gateways
            if gateway.is_alive
            for pocket in gateway.pockets(budget, period)
        )

    def check(self) -> None:
        for (budget, period), account in self.accounts.items():
            sum_now = account.settled + account.leased
            if sum_now > self.highest[budget]:
                self.history.problems.append(f"budget {budget}: settled + leased = {sum_now} of {self.highest[budget]}")
            spent = self.spent(budget, period) + self.held(budget, period)
            if spent > sum_now:
                self.history.problems.append(f"budget {budget}: {spent} spent or held, {sum_now} settled or leased")

    def check_end(self) -> None:
        for (budget, period), account in self.accounts.items():
            spent = self.spent(budget, period)
            if account.settled != spent:
                self.history.problems.append(f"budget {budget}: {account.settled} settled, {spent} in journals")
            living = {gateway.wallet.holder for gateway in self.gateways}
            for lease in account.leases:
                if lease.holder not in living and lease.outstanding:
                    self.history.problems.append(f"budget {budget}: {lease} of a dead gateway is outstanding")
