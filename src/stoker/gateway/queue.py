"""The requests of one endpoint that wait for a place in a replica: bounded in number and bytes, in the core's order.

The order is core/fairness.py's. A retry waits in front: it had its turn. Who asked for one version of the model, or
belongs to one arm of a rollout, is passed over while only other revisions' replicas have places.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from stoker.core.fairness import TENANTS_MAX, Line, Ticket
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.types.errors import StokerError

UNITS_FIRST: Final = 1.0  # what a request is expected to cost while nothing is known
LEARN: Final = 0.05
# A burst that may go past full places. Who was served so much more than others that wait does not go before them,
# however few places it holds: large requests hold few.
AHEAD_REQUESTS: Final = 16


def _is_nobody(_: Ticket) -> bool:
    return False


class Waiting(Ticket):
    """One request that waits. `place` becomes its replica, or why there will be none."""

    __slots__ = ("exchange", "place")

    def __init__(self, exchange: Exchange, place: "asyncio.Future[Replica]") -> None:
        assert exchange.key is not None
        limits = exchange.key.limits
        tenant = limits.tenant or exchange.key.key
        # Who may go to one revision only, by version or by arm, is passed over while others have places.
        kind = exchange.version or exchange.arm
        super().__init__(exchange.band, tenant, limits.weight, exchange.deadline_s, len(exchange.body), kind)
        self.exchange = exchange
        self.place = place

    def refuse(self, problem: StokerError) -> None:
        """Tell it that there will be no place."""
        if not self.place.done():
            self.place.set_exception(problem)


class Queue:
    """Who waits, and what service was given while anybody did."""

    def __init__(self, *, tells: bool = False) -> None:
        self._tells = tells
        self._line: Line[Waiting] = Line()
        self._units = UNITS_FIRST
        self.given: dict[str, float] = {}  # units by weight, of each tenant, where it tells other gateways

    def __len__(self) -> int:
        return self._line.count

    def __bool__(self) -> bool:
        return self._line.count > 0

    @property
    def size_bytes(self) -> int:
        """Bodies that wait."""
        return self._line.size_bytes

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._line)

    def ahead(self, ticket: Ticket) -> int:
        """Return about how many go before `ticket`."""
        return self._line.ahead(ticket)

    def victims(self, ticket: Ticket, count_max: int, bytes_max: int) -> list[Waiting] | None:
        """Return who must go so that `ticket` fits; None when it must not come in."""
        return self._line.victims(ticket, count_max, bytes_max)

    def put(self, waiting: Waiting, *, in_front: bool) -> None:
        """Let a request wait."""
        if in_front:
            self._line.put_again(waiting)
        else:
            self._line.put(waiting)

    def withdraw(self, waiting: Waiting) -> None:
        """Forget a request, if it still waits."""
        self._line.withdraw(waiting)

    def serve(
        self,
        has_place: Callable[[], bool],
        take: Callable[[Exchange], Replica | None],
        lost: Callable[[Exchange], StokerError | None],
        past: Callable[[Exchange], Replica | None] | None = None,
        is_owed: Callable[[Ticket], bool] = _is_nobody,
    ) -> None:
        """Give places to those who wait, as long as there are any.

        Args:
            take: takes a place for one; it may find none for it although there are.
            lost: says why one is not worth a place any more.
            past: takes one that is past a replica's places; None where nobody may go past.
            is_owed: says whether a tenant may, when no place is free.
        """
        line = self._line
        closed: set[str] = set()  # versions for which no place was found
        while line.count:
            is_full = not has_place()
            if is_full and past is None:
                return
            ahead_units = AHEAD_REQUESTS * self._units
            waiting = line.owed(is_owed, closed, ahead_units) if is_full else line.head(closed)
            if waiting is None:
                return
            if waiting.place.done():  # it was cancelled in this moment, and withdraws itself in the next
                line.withdraw(waiting)
                continue
            problem = lost(waiting.exchange)
            if problem is not None:
                line.withdraw(waiting)
                waiting.refuse(problem)
                continue
            replica = past(waiting.exchange) if is_full and past is not None else take(waiting.exchange)
            if replica is None:
                closed.add(waiting.version)
                continue
            line.go(waiting)
            waiting.exchange.units = self._units
            line.charge(waiting.tenant, self._units, waiting.weight)
            waiting.place.set_result(replica)

    def served(self, exchange: Exchange, units: float) -> None:
        """Count what `exchange` did cost, instead of what it was expected to."""
        if self._tells and exchange.key is not None:
            limits, given = exchange.key.limits, self.given
            tenant = limits.tenant or exchange.key.key
            if len(given) >= TENANTS_MAX and tenant not in given:
                given.clear()  # who hears it takes it for a new beginning
            given[tenant] = given.get(tenant, 0.0) + units / limits.weight
        if self._line.count:
            self._units += LEARN * (units - self._units)
            self.charge(exchange, units - exchange.units)

    def hear(self, elsewhere: dict[str, float]) -> None:
        """Count what other gateways gave to tenants, by weight."""
        self._line.hear(elsewhere)

    def charge(self, exchange: Exchange, units: float) -> None:
        """Count `units` of service for the tenant of `exchange`."""
        if self._line.count:
            assert exchange.key is not None
            limits = exchange.key.limits
            self._line.charge(limits.tenant or exchange.key.key, units, limits.weight)

    def refuse_all(self, problem: StokerError) -> None:
        """Tell everybody that there will be no place."""
        while (waiting := self._line.next()) is not None:
            waiting.refuse(problem)
