"""What one gateway holds of one budget: its leases, by period, and what it says to control about them.

What is reserved or spent is never more than the cap of its lease (core/ledger.py says why the sum then holds).
"""

from collections.abc import Iterator
from typing import Final

from stoker.types.budgets import UNITS, Asked, BudgetRoute, Granted

# A lease is wanted to last so long at the present pace, so that a gateway goes on without control for as long.
HORIZON_S: Final = 600.0
LOW: Final = 0.5  # asked for more when less than this part of what is wanted is left
BOUNDS_WANTED: Final = 8  # requests that a lease should hold at the least
EARLY_S: Final = 60.0  # the next period's lease is asked for so long before it begins
STALE_S: Final = 1.0  # that nothing is left is believed for so long
HEARD_S: Final = 0.5  # longer without an answer while somebody waits, and nobody knows what is left
NOTICED: Final = 1e-6
LOOK_S: Final = 10.0  # how a budget that only warns stands is asked so often, while anything is spent of it
FADE: Final = 0.1  # weight of one question's time in the pace


class Pocket:
    """The lease of one budget in one period. cap ≥ spent + reserved, unless a request cost more than its bound."""

    __slots__ = ("cap", "ends_at_s", "lease", "period", "reserved", "spent", "told")

    def __init__(self, holder: str, period: int, ends_at_s: float) -> None:
        self.lease = f"{period}@{holder}"  # as charges name it
        self.period = period
        self.ends_at_s = ends_at_s
        self.cap = self.spent = self.reserved = 0
        self.told = -1  # the cap that control has agreed to

    @property
    def room(self) -> int:
        """What may be reserved."""
        return self.cap - self.spent - self.reserved


class Purse:
    """All leases of one budget: of this period, of the next, and of those that requests in flight began in."""

    __slots__ = (
        "_bound_max", "_came_s", "_heard_of", "_heard_s", "_holder", "_now", "_spent", "_told_spent", "_urgent",
        "elsewhere", "least", "missing", "name", "need", "pace", "pockets", "terms", "told", "unit",
    )  # fmt: skip

    def __init__(self, holder: str, terms: BudgetRoute) -> None:
        self._holder = holder
        self.terms = terms
        self.unit = UNITS.index(terms.unit)  # another unit makes another budget
        self.name = str(terms.budget)  # as charges name it
        self.told = terms.name.encode()  # as answers name it
        self.pockets: list[Pocket] = []
        self._now: Pocket | None = None
        self.need = self.least = 0  # more room that requests wait for: the largest of them and the smallest
        self.missing = 0  # and all of them
        self.elsewhere = 0  # what control said is not here but may be got
        self._came_s = float("-inf")  # when some of it was leased to nobody, or came here, last
        self._heard_s = float("-inf")  # when it said so
        self._heard_of = -1  # of which period
        self.pace = 0.0  # spent a second, lately
        self._spent = self._told_spent = 0  # in all; and of that until the newest question
        self._bound_max = 0  # of a request, lately
        self._urgent = 0  # with less room control is asked at once

    # ---- a request

    def current(self, now_s: float) -> Pocket | None:
        """Return the pocket of the period of now; None when nothing was heard of it yet."""
        pocket = self._now
        if pocket is not None and pocket.period <= now_s < pocket.ends_at_s:
            return pocket
        self._now = next((each for each in self.pockets if each.period <= now_s < each.ends_at_s), None)
        return self._now

    def lacks(self, bound: int, pocket: Pocket | None) -> int:
        """Return how much room is missing for `bound` in the pocket of now; 0 when it fits.

        Of a budget that only warns nothing ever is.
        """
        if self.terms.on_limit == "warn":
            return 0
        if bound > self._bound_max:
            self._bound_max = bound
            self._urgent = self.wanted() // 4
        if pocket is None:
            return bound
        if bound + pocket.spent + pocket.reserved <= pocket.cap:
            return 0
        return bound - pocket.room

    def miss(self, lacking: int) -> None:
        """Ask for `lacking` with the next question: a request waits for it."""
        self.need = max(self.need, lacking)
        self.least = min(self.least or lacking, lacking)
        self.missing += lacking

    def is_gone(self, lacking: int, now_s: float) -> bool:
        """Return whether control said, a moment ago, that `lacking` is not there, with all that others hold."""
        if lacking <= self.elsewhere or now_s - self._heard_s >= STALE_S:
            return False
        pocket = self.current(now_s)
        return pocket is not None and pocket.period == self._heard_of

    def came_since(self, since_s: float) -> bool:
        """Whether there was something to be had since then: it was others that wait who had it."""
        return self._came_s >= since_s

    def is_known(self, now_s: float) -> bool:
        """Whether control, which is asked many times a second while somebody waits, told of this period lately."""
        pocket = self.current(now_s)
        return pocket is not None and pocket.period == self._heard_of and now_s - self._heard_s < HEARD_S

    def left(self, now_s: float) -> int:
        """Return what may be left of the budget, as control said last: here, unleased and with others."""
        pocket = self.current(now_s)
        return self.elsewhere if pocket is None else self.left_in(pocket)

    def left_in(self, pocket: Pocket) -> int:
        """Return what may be left of the budget in the period of `pocket`, which is that of now."""
        room = pocket.room
        return room + self.elsewhere if room > 0 else self.elsewhere

    def spend(self, pocket: Pocket, cost: int) -> None:
        """Note what a request of `pocket` cost."""
        pocket.spent += cost
        self._spent += cost

    # ---- control

    def wanted(self) -> int:
        """Return how much room this gateway would like to have."""
        return max(int(self.pace * HORIZON_S), self._bound_max * BOUNDS_WANTED, self.missing)

    @property
    def is_low(self) -> bool:
        """Whether it is time to ask for more, rather than with the next regular question."""
        pocket = self._now
        return self.need > 0 or (pocket is not None and pocket.cap - pocket.spent - pocket.reserved < self._urgent)

    def asks(self, now_s: float, since_s: float, *, is_scarce: bool) -> Iterator[Asked]:
        """Yield what to say of each period, and give back what others lack. since_s: from the question before on."""
        self._learn(since_s)
        current = self.current(now_s)
        is_held = self.terms.on_limit != "warn"
        if is_scarce and self.need and current is not None:  # all of it goes back; who asks first when it fits has it
            given = max(current.room, 0)
            self.need, self.least, self.missing = self.need + given, self.least + given, self.missing + given
        wanted = self.missing if is_scarce else self.wanted() if is_held else 0
        for pocket in self.pockets:
            is_over = pocket.ends_at_s <= now_s
            if is_over or is_scarce:
                self._give_back(pocket, is_current=pocket is current)
            is_waited_for = pocket is current and self.need > 0
            is_low = is_held and not is_over and pocket.room < wanted * LOW
            if pocket.cap != pocket.told or is_waited_for or is_low:
                yield self._asked(pocket, 0 if is_over else wanted, is_waited_for=is_waited_for)
        if current is None:
            yield Asked(self.terms.budget, now_s, 0, 0, wanted, self.need, self.least, self.missing)
        elif not is_held and self.pace > NOTICED and now_s - self._heard_s >= LOOK_S:
            yield self._asked(current, 0, is_waited_for=False)
        elif current.ends_at_s - now_s < EARLY_S and not any(each.period > now_s for each in self.pockets):
            yield Asked(self.terms.budget, current.ends_at_s, 0, 0, wanted)

    def take(self, granted: Granted, now_s: float) -> None:
        """Hold what control granted in answer to the newest question."""
        pocket = next((each for each in self.pockets if each.period == granted.period), None)
        if pocket is None:
            pocket = Pocket(self._holder, granted.period, granted.ends_at_s)
            self.pockets.append(pocket)
        is_raised = granted.cap > pocket.cap
        pocket.cap = pocket.told = granted.cap
        if pocket is self.current(now_s):
            self.elsewhere = max(granted.left, 0) + granted.others
            if granted.left > 0 or is_raised:
                self._came_s = now_s
            self._heard_s, self._heard_of = now_s, pocket.period
            self.need = self.least = self.missing = 0

    def drop_old(self, now_s: float) -> None:
        """Forget periods that are over and agreed upon: nothing is reserved, all else is given back."""
        self.pockets = [
            each
            for each in self.pockets
            if each.ends_at_s > now_s or each.reserved or each.cap != each.told or each.room > 0
        ]

    def _give_back(self, pocket: Pocket, *, is_current: bool) -> None:
        given = max(pocket.room, 0)
        pocket.cap -= given
        if is_current:
            self.elsewhere += given

    def _asked(self, pocket: Pocket, want: int, *, is_waited_for: bool) -> Asked:
        waiting = (self.need, self.least, self.missing) if is_waited_for else (0, 0, 0)
        return Asked(self.terms.budget, float(pocket.period), pocket.cap, pocket.room, want, *waiting)

    def _learn(self, since_s: float) -> None:
        if since_s > 0.0:
            self.pace += FADE * ((self._spent - self._told_spent) / since_s - self.pace)
            self._bound_max -= self._bound_max >> 8  # a large one is forgotten after some minutes
        self._told_spent = self._spent
        self._urgent = self.wanted() // 4 if self.terms.on_limit != "warn" else 0
