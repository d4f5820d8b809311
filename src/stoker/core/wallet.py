"""What one gateway holds of every budget: room for a request's bound before it is served, its cost when it has ended.

All of it is in this process's memory and asks nobody, so a request waits for control only where a lease has run out.
A request with several budgets (its key's, its project's, its tag's) has room in all of them or takes none of any.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from stoker.core.purse import Pocket, Purse
from stoker.types.budgets import Answer, BudgetRoute, Question
from stoker.types.usage import Charge, Tags

Scarce = frozenset[int]


class Short(msgspec.Struct, frozen=True):
    """A budget without room for a request. gone: nobody has it; unheard: it may be got, control was not heard yet."""

    purse: Purse
    why: Literal["gone", "unheard"]


class Hold:
    """Room that one request has reserved in each of its budgets; None where only control can tell the period."""

    __slots__ = ("bound", "parts")

    def __init__(self, bound: int, parts: Sequence[tuple[Purse, Pocket | None]]) -> None:
        self.bound = bound
        self.parts = parts

    def spend(self, nano_usd: int) -> tuple[Charge, ...]:
        """End it: free what was not needed and return who pays `nano_usd`. Call it once; with 0 for what cost nothing.

        Charges go to the leases that it reserved in, whatever the time is now; a cost over its bound is charged too.
        """
        charges: list[Charge] = []
        for purse, pocket in self.parts:
            if pocket is not None:
                pocket.reserved -= self.bound
                purse.spend(pocket, nano_usd)
            if nano_usd:
                charges.append(Charge(purse.name, "" if pocket is None else pocket.lease, nano_usd))
        return tuple(charges)


class Wallet:
    """The leases of one gateway process. `holder` names the process for good: no later one has the same."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._purses: dict[int, Purse] = {}
        self._places: dict[tuple[str, str, str], tuple[Purse, ...]] = {}
        self._number = 0
        self._is_open = False  # no answer to the newest question has come
        self._asked_s = float("-inf")
        self._scarce: Scarce = frozenset()

    def __bool__(self) -> bool:
        return bool(self._purses)

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

    # ---- a request

    def of(self, project: str, key: str, tags: Tags) -> tuple[Purse, ...]:
        """Return the budgets of a request."""
        places = self._places
        found = places.get((project, "project", project), ()) + places.get((project, "key", key), ())
        for name, value in tags:
            found += places.get((project, "tag", f"{name}={value}"), ())
        return found

    def reserve(self, purses: Sequence[Purse], bound: int, now_s: float) -> Hold | Short:
        """Reserve `bound` in every budget, or nothing in any; then the next question asks for what is short."""
        short: Short | None = None
        for purse in purses:
            lacking = purse.lacks(bound, now_s)
            if lacking:
                purse.miss(lacking)
                is_gone = purse.is_gone(lacking, now_s)
                if short is None or (is_gone and short.why == "unheard"):
                    short = Short(purse, "gone" if is_gone else "unheard")
        if short is not None:
            return short
        parts = [(purse, purse.current(now_s)) for purse in purses]
        for _, pocket in parts:
            if pocket is not None:
                pocket.reserved += bound
        return Hold(bound, parts)

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
        self._scarce = frozenset(answer.scarce)
        for granted in answer.granted:
            purse = self._purses.get(granted.budget)
            if purse is not None:
                purse.take(granted, now_s)
        for purse in self._purses.values():
            purse.drop_old(now_s)
        return True


def tightest(purses: Iterable[Purse], now_s: float) -> tuple[Purse, int] | None:
    """Return the budget of which the least is left, and that, of those that hold anybody up and were heard of."""
    found: tuple[Purse, int] | None = None
    for each in purses:
        pocket = each.current(now_s)
        if pocket is not None and each.terms.on_limit != "warn":
            left = each.left_in(pocket)
            if found is None or left < found[1]:
                found = (each, left)
    return found


def left_ratio(purses: Iterable[Purse], now_s: float) -> float:
    """Return the least part that is left of one of `purses`, in 0 to 1; 1 where none holds anybody up."""
    heard = (each for each in purses if each.terms.on_limit != "warn" and each.current(now_s) is not None)
    return min((min(each.left(now_s) / max(each.terms.amount, 1), 1.0) for each in heard), default=1.0)
