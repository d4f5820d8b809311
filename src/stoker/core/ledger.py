"""What control decides about budgets: how much of one each gateway may spend without asking, and what is left.

A budget's account in one period is what was settled and what is leased. A gateway has one lease of it: a cap on all
that it will ever charge to it in that period. The cap is raised when it asks for more and lowered when it gives back;
what it charges comes through its usage journal, at any time and in any order.

What stays true, over every crash and every lost, late or repeated message: settled + leased ≤ amount, where leased is
the sum of what the caps are above what was charged. Why it does:

- a charge moves an amount from leased to settled, so the sum stays;
- a cap is only raised by what is left;
- a cap is only lowered to what its gateway says it will keep to, or, when its journal was read to the end, to what was
  charged: nobody is left who could charge more. That of a killed gateway waits for that;
- a raise that its gateway never heard of is taken back by its next question, which says the lower cap. Questions are
  numbered, an older one is not heard, and a gateway takes no answer but that to its newest question: so no cap counts
  here as lowered while a gateway holds it raised. One whose journal was read to the end is never heard again.

Lowering the amount of a budget below the sum raises nothing more until the sum has come down under it. A charge over
its cap (a request that cost more than its bound) is counted all the same: no charge is ever lost.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stoker.types.budgets import Asked, Granted, Question

# A gateway's lease is never more than this part of what it could get, over the number of gateways: near the end leases
# are halved again and again, so that what is left is in many hands until it is less than a request.
PART: Final = 2
LIVING_S: Final = 5.0  # a gateway that was not heard for so long cannot be asked to give back
SCARCE_S: Final = 3.0  # gateways ask every second; so each hears of it


class Lease(msgspec.Struct, frozen=True):
    """What one gateway may charge in one period, `cap`, and what of it has come."""

    holder: str
    cap: int = 0
    charged: int = 0

    @property
    def outstanding(self) -> int:
        """What may still be charged to it."""
        return max(self.cap - self.charged, 0)


class Account(msgspec.Struct, frozen=True):
    """A budget in one period, which its start names. `amount`: what may be spent, as its manifest says now."""

    budget: int
    period: int
    amount: int
    settled: int = 0
    leases: tuple[Lease, ...] = ()

    @property
    def leased(self) -> int:
        """What may still be charged to leases."""
        return sum(lease.outstanding for lease in self.leases)

    @property
    def left(self) -> int:
        """What is neither spent nor leased; below 0 where the amount was lowered, or a request cost over its bound."""
        return self.amount - self.settled - self.leased

    def of(self, holder: str) -> Lease:
        """Return the lease of `holder`; one of nothing if it has none."""
        return next((lease for lease in self.leases if lease.holder == holder), Lease(holder))

    def others(self, holder: str, living: Iterable[str] | None) -> int:
        """Return what `living` holders but this may still charge: what could be given back. None: any may live."""
        awake = {each.holder for each in self.leases} if living is None else set(living)
        return sum(lease.outstanding for lease in self.leases if lease.holder in awake - {holder})


def heard(account: Account, holder: str, asked: Asked, gateways: int) -> Account:
    """Return the account after a question of `holder`: its cap lowered to what it says, then raised by what it gets.

    gateways: how many share the budget.
    """
    lease = account.of(holder)
    told = max(min(lease.cap, asked.cap), lease.charged)
    account = _with(account, msgspec.structs.replace(lease, cap=told))
    more = size(account.left, asked, gateways)
    return _with(account, msgspec.structs.replace(lease, cap=told + more)) if more else account


def size(left: int, asked: Asked, gateways: int) -> int:
    """Return how much to raise a cap by: up to what is wanted, but leave the others something.

    Nothing where it would let none of the requests go on that wait. A lease is filled up, never piled up: what is not
    spent of it counts.
    """
    need = asked.need if asked.need <= left else asked.least
    if left <= 0 or need > left:
        return 0
    room = max(asked.room, 0)
    share = (left + room) // (PART * gateways)
    waits = min(asked.waits, left // gateways)
    return min(max(need, waits, min(asked.want, share) - room, 0), left)


def charged(account: Account, holder: str, amount: int) -> Account:
    """Return the account after a charge of `amount` to the lease of `holder`."""
    lease = account.of(holder)
    account = msgspec.structs.replace(account, settled=account.settled + amount)
    return _with(account, msgspec.structs.replace(lease, charged=lease.charged + amount))


def ended(account: Account, holder: str) -> Account:
    """Return the account after the journal of `holder`, which is dead, was read to its end."""
    lease = account.of(holder)
    return _with(account, msgspec.structs.replace(lease, cap=lease.charged))


def reached(alerts: Iterable[float], amount: int, settled: int) -> float:
    """Return the largest fraction of `amount` that is spent; 0 while none is. Nothing is a part of nothing."""
    return max((each for each in alerts if amount > 0 and settled >= each * amount), default=0.0)


class Lately:
    """What control remembers of the last seconds: who lives, and which budgets somebody could not get enough of.

    Lost with the process; then any holder may live, and nothing is scarce, until gateways have asked again.
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._heard_s: dict[str, float] = {}
        self._missed_s: dict[int, float] = {}

    def heard(self, question: Question, answer: Sequence[Granted], now_s: float) -> None:
        """Take note of what was asked and granted."""
        self._heard_s[question.holder] = now_s
        needs = {asked.budget: asked.cap + asked.need for asked in question.asked if asked.need}
        for granted in answer:
            if granted.cap < needs.get(granted.budget, 0):
                self._missed_s[granted.budget] = now_s

    def living(self, now_s: float) -> set[str] | None:
        """Return the holders that were heard lately; None while it is too early to say who does not live."""
        if self._began_s is None:
            self._began_s = now_s
        if now_s - self._began_s < LIVING_S:
            return None
        self._heard_s = {holder: at_s for holder, at_s in self._heard_s.items() if now_s - at_s < LIVING_S}
        return set(self._heard_s)

    def scarce(self, now_s: float) -> tuple[int, ...]:
        """Return the budgets of which gateways should give back what they do not need."""
        self._missed_s = {budget: at_s for budget, at_s in self._missed_s.items() if now_s - at_s < SCARCE_S}
        return tuple(self._missed_s)


def granted(account: Account, holder: str, ends_at_s: float, living: Iterable[str] | None) -> Granted:
    """Return what `holder` is told of its lease."""
    others = account.others(holder, living)
    return Granted(account.budget, account.period, ends_at_s, account.of(holder).cap, account.left, others)


def _with(account: Account, lease: Lease) -> Account:
    rest = tuple(each for each in account.leases if each.holder != lease.holder)
    return msgspec.structs.replace(account, leases=(*rest, lease))
