"""What one gateway holds of every budget: room for a request's bound before it is served, its cost when it has ended.

All of it is in this process's memory and asks nobody, so a request waits for control only where a lease has run out.
A request with several budgets (its key's, its project's, its tag's) has room in all of them or takes none of any.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from stoker.core.purse import HEARD_S, Pocket, Purse
from stoker.types.budgets import Answer, BudgetRoute, Question
from stoker.types.usage import Charge, Tags

Scarce = frozenset[int]
WAIT_S: Final = 2.0  # for what other gateways have to give back first; they ask every second
WAIT_MAX_S: Final = 5.0  # while there is something to be had, and others that wait have it first
KNOWN_MAX: Final = 4096  # projects, keys and tags whose budgets are looked up once a table
MONEY: Final = 0  # the place of dollars in types/budgets.UNITS


class Short(msgspec.Struct, frozen=True):
    """A budget without room for a request. gone: nobody has it; unheard: it may be got, control was not heard yet."""

    purse: Purse
    why: Literal["gone", "unheard"]


def ends(
    short: Short, now_s: float, waited_s: float, *, is_over: bool = False
) -> Literal["waits", "refused", "unheard"]:
    """Return what becomes of a request that is short of a budget. is_over: it can wait no longer, whatever comes."""
    if short.why == "gone":
        return "refused"
    purse = short.purse
    is_known = purse.is_known(now_s)
    if not is_over:
        pocket = purse.current(now_s)
        if pocket is not None:
            waited_s = min(waited_s, now_s - pocket.period)  # who waits at midnight waits for the new day
        limit_s = WAIT_MAX_S if purse.came_since(now_s - waited_s) else WAIT_S
        if waited_s < limit_s or (waited_s < limit_s + HEARD_S and not is_known):
            return "waits"
    return "refused" if is_known else "unheard"


class Hold:
    """Room that one request has reserved in each of its budgets; None where only control can tell the period."""

    __slots__ = ("bounds", "parts")

    def __init__(self, bounds: tuple[int, int, int], parts: Sequence[tuple[Purse, Pocket | None]]) -> None:
        self.bounds = bounds  # by unit, as types/budgets.UNITS has them
        self.parts = parts

    def spend(self, nano_usd: int, requests: int = 0, tokens: int = 0) -> tuple[Charge, ...]:
        """End it: free what was not needed and return who pays what it took, each budget in its own unit.

        Call it once; with 0 for what took nothing. Charges go to the leases that it reserved in, whatever the time is
        now; a cost over its bound is charged too.
        """
        charges: list[Charge] = []
        costs = (nano_usd, requests, tokens)
        for purse, pocket in self.parts:
            cost = costs[purse.unit]
            if pocket is not None:
                pocket.reserved -= self.bounds[purse.unit]
                purse.spend(pocket, cost)
            if cost:
                charges.append(Charge(purse.name, "" if pocket is None else pocket.lease, cost))
        return tuple(charges)


class Wallet:
    """The leases of one gateway process. `holder` names the process for good: no later one has the same."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._purses: dict[int, Purse] = {}
        self._places: dict[tuple[str, str, str], tuple[Purse, ...]] = {}
        self._known: dict[tuple[str, str, Tags], tuple[Purse, ...]] = {}  # of who asked since the last table
        self._number = 0
        self._is_open = False  # no answer to the newest question has come
        self._asked_s = float("-inf")
        self._scarce: Scarce = frozenset()
        self._called: Scarce = frozenset()  # of these, what was not scarce before

    def __bool__(self) -> bool:
        return bool(self._purses)

    @property
    def is_called(self) -> bool:
        """Whether something is held that others lack since the newest answer: it is given back with a question."""
        return any(
            pocket.room > 0 for budget in self._called & self._purses.keys() for pocket in self._purses[budget].pockets
        )

    @property
    def purses(self) -> Iterable[Purse]:
        """Every budget's."""
        return self._purses.values()

    def follow(self, routes: Iterable[BudgetRoute]) -> None:
        """Know the budgets of a route table; what is held of one that is gone is forgotten, as control forgot it."""
        known = {route.budget: route for route in routes}
        for budget in self._purses.keys() - known.keys():
            del self._purses[budget]
        for budget, route in known.items():
            purse = self._purses.get(budget)
            if purse is None:
                self._purses[budget] = Purse(self.holder, route)
            else:
                purse.terms = route
        places: dict[tuple[str, str, str], list[Purse]] = {}
        for purse in self._purses.values():
            terms = purse.terms
            places.setdefault((terms.project, terms.scope, terms.of), []).append(purse)
        self._places = {place: tuple(purses) for place, purses in places.items()}
        self._known = {}

    # ---- a request

    def of(self, project: str, key: str, tags: Tags) -> tuple[Purse, ...]:
        """Return the budgets of a request."""
        found = self._known.get((project, key, tags))
        if found is None:
            if len(self._known) >= KNOWN_MAX:  # tags are the callers' own
                self._known.clear()
            found = self._known[project, key, tags] = self._of(project, key, tags)
        return found

    def _of(self, project: str, key: str, tags: Tags) -> tuple[Purse, ...]:
        places = self._places
        found = places.get((project, "project", project), ()) + places.get((project, "key", key), ())
        for name, value in tags:
            found += places.get((project, "tag", f"{name}={value}"), ())
        return found + places.get(("", "platform", ""), ())

    def reserve(
        self, purses: Sequence[Purse], bound: int, now_s: float, requests: int = 0, tokens: int = 0
    ) -> Hold | Short:
        """Reserve what a request may take in every budget, or nothing in any.

        In each by its unit: `bound` nano-dollars, `requests` or `tokens`. Where one is short, the next question asks
        for it. A budget of whose unit a request takes nothing has no part in it.
        """
        short: Short | None = None
        bounds, parts = (bound, requests, tokens), []
        for purse in purses:
            needed = bounds[purse.unit]
            if not needed:
                continue
            pocket = purse.current(now_s)
            parts.append((purse, pocket))
            lacking = purse.lacks(needed, pocket)
            if lacking:
                purse.miss(lacking)
                is_gone = purse.is_gone(lacking, now_s)
                if short is None or (is_gone and short.why == "unheard"):
                    short = Short(purse, "gone" if is_gone else "unheard")
        if short is not None:
            return short
        for purse, pocket in parts:
            if pocket is not None:
                pocket.reserved += bounds[purse.unit]
        return Hold(bounds, parts)

    # ---- control

    def question(self, now_s: float) -> Question:
        """Return what to ask now. An answer to an earlier one is void from here on."""
        now_s = max(now_s, self._asked_s)  # a clock that is set back must not ask for a period that is forgotten
        since_s, self._asked_s = now_s - self._asked_s, now_s
        self._number += 1
        self._is_open = True
        asked = [
            each
            for budget, purse in self._purses.items()
            for each in purse.asks(now_s, since_s, is_scarce=budget in self._scarce)
        ]
        return Question(self.holder, self._number, tuple(asked))

    def take(self, answer: Answer, now_s: float) -> bool:
        """Hold what control granted; return whether it answered the newest question, and so was heard at all."""
        if answer.number != self._number or not self._is_open:
            return False
        self._is_open = False
        scarce = frozenset(answer.scarce)
        self._called, self._scarce = scarce - self._scarce, scarce
        for granted in answer.granted:
            purse = self._purses.get(granted.budget)
            if purse is not None:
                purse.take(granted, now_s)
        for purse in self._purses.values():
            purse.drop_old(now_s)
        return True


def tightest(purses: Iterable[Purse], now_s: float) -> tuple[Purse, int] | None:
    """Return the budget of money of which the least is left, and that: of those that hold anybody up and are known."""
    found: tuple[Purse, int] | None = None
    for each in purses:
        pocket = each.current(now_s)
        if pocket is not None and each.unit == MONEY and each.terms.on_limit != "warn":
            left = each.left_in(pocket)
            if found is None or left < found[1]:
                found = (each, left)
    return found


def narrowest(purses: Iterable[Purse], now_s: float) -> tuple[Purse, int] | None:
    """Return the budget of requests or tokens of which the smallest part is left, and how much; those that are known.

    One that only warns is told of when nothing is left of it.
    """
    found: tuple[Purse, int] | None = None
    least = 2.0
    for each in purses:
        if each.unit != MONEY and each.current(now_s) is not None:
            left = each.left(now_s)
            ratio = left / max(each.terms.amount, 1)
            if ratio < least and (left == 0 or each.terms.on_limit != "warn"):
                found, least = (each, left), ratio
    return found


def left_ratio(purses: Iterable[Purse], now_s: float) -> float:
    """Return the least part that is left of one of `purses`, in 0 to 1; 1 where none holds anybody up."""
    heard = (each for each in purses if each.terms.on_limit != "warn" and each.current(now_s) is not None)
    return min((min(each.left(now_s) / max(each.terms.amount, 1), 1.0) for each in heard), default=1.0)
