"""Who of those that wait goes next: urgent bands first, fair shares between tenants, the nearest deadline within one.

Bands are strict, but one that waits is passed over about TURNS_MAX times in a row at most, so that none starves. Inside
a band the tenant that was served least goes next, in units of service divided by its weight; inside a tenant, the
request whose deadline is nearest. Shares are of one busy time: when nobody waits any more, the books are closed.

Who waits for a place in one version of the model has the same turn as all others; while that version has no place it is
passed over, and its turn is not used up.

Source: the virtual token counter (Sheng et al., "Fairness in Serving Large Language Models"), with its lift: who begins
to wait starts at the least served of those that wait, so that idling saves up nothing.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from math import inf
from typing import Final, Generic, TypeVar

from stoker.types.keys import PRIORITIES

BANDS: Final = len(PRIORITIES)
# How often in a row a waiting band may be passed over: standard keeps one turn of 9 and sheddable one of 33.
TURNS_MAX: Final = (0, 8, 32)
# Of one tenant and band, waiting for versions without a place, that others of the same may overtake in one turn. A
# tenant with more of them in front holds up itself, and nobody else.
PASSED_OVER_MAX: Final = 64
TENANTS_MAX: Final = 4096  # counters kept; those of tenants that wait are always

INPUT_UNITS: Final = 1.0  # a token read
OUTPUT_UNITS: Final = 2.0  # a token written: it takes a whole step of the engine
CACHED_UNITS: Final = 0.1  # a token found in the cache


class Ticket:
    """One request that waits. `order` is set by the line. `version`: of the model; "" for any."""

    __slots__ = ("band", "deadline_s", "is_waiting", "order", "size_bytes", "tenant", "version", "weight")

    def __init__(
        self, band: int, tenant: str, weight: float, deadline_s: float, size_bytes: int, version: str = ""
    ) -> None:
        self.band = band
        self.tenant = tenant
        self.weight = weight
        self.deadline_s = deadline_s
        self.size_bytes = size_bytes
        self.version = version
        self.order = 0
        self.is_waiting = False

    @property
    def rank(self) -> tuple[float, int]:
        """Return where it stands among its tenant's: the last of a list goes first."""
        return (-self.deadline_s, -self.order)


_T = TypeVar("_T", bound=Ticket)


class Line(Generic[_T]):
    """Tickets in their order. Not bounded itself: `victims` says who must go so that another fits."""

    __slots__ = (
        "_again", "_bands", "_counters", "_counts", "_next", "_passed", "_ready_units", "_versions", "_whole", "count",
        "size_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self._bands: tuple[dict[str, list[tuple[float, int, _T]]], ...] = tuple({} for _ in range(BANDS))
        self._counts = [0] * BANDS
        self._passed = [0] * BANDS
        self._again: deque[_T] = deque()
        self._counters: dict[str, float] = {}
        self._whole: dict[str, float] | None = None  # the same of all gateways; None while nothing was heard of others
        self._ready_units = 0.0  # the counter of who was served last
        self._versions: dict[str, int] = {}  # how many wait for each, where they say one
        self._next = 0
        self.count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[_T]:
        yield from self._again
        for tenants in self._bands:
            for mine in tenants.values():
                yield from (ticket for _, _, ticket in mine)

    def put(self, ticket: _T) -> None:
        """Let `ticket` wait."""
        self._next += 1
        ticket.order = self._next
        tenants = self._bands[ticket.band]
        mine = tenants.get(ticket.tenant)
        if mine is None:
            mine = tenants[ticket.tenant] = []
            self._lift(ticket.tenant, tenants)
        insort(mine, (*ticket.rank, ticket))
        self._counts[ticket.band] += 1
        self._enter(ticket)

    def put_again(self, ticket: _T) -> None:
        """Let `ticket` wait in front of all: it had its turn already."""
        self._again.append(ticket)
        self._enter(ticket)

    def head(self, closed: Collection[str] = ()) -> _T | None:
        """Return who goes next, without those of the versions in `closed` ("": those of any); None when nobody may."""
        for ticket in self._again:
            if ticket.version not in closed:
                return ticket
        found: _T | None = None
        for band in range(BANDS):
            if self._counts[band] and (found is None or self._passed[band] >= TURNS_MAX[band]):
                found = self._first(band, closed) or found  # of bands that were passed over too often, the last
        return found

    def owed(self, is_owed: Callable[[_T], bool], closed: Collection[str] = (), ahead_units: float = inf) -> _T | None:
        """Return who goes although no place is free: the least served of those owed, in the most urgent band.

        Args:
            is_owed: says it of a tenant, by any of its tickets.
            ahead_units: who was served so much more than another that waits is owed nothing, whatever it holds. By all
                gateways, where they were heard: who asks only here would be the one that is served most.
        """
        band = next((band for band in range(BANDS) if self._counts[band]), None)
        if band is None:
            return None
        tenants, counters = self._bands[band], self._counters if self._whole is None else self._whole
        most = min([counters.get(name, 0.0) for name in tenants]) + ahead_units
        heads = [mine[-1][2] for name, mine in tenants.items() if counters.get(name, 0.0) <= most]
        found = [each for each in heads if each.version not in closed and is_owed(each)]
        return min(found, key=lambda each: counters.get(each.tenant, 0.0), default=None)

    def go(self, ticket: _T) -> None:
        """Take out `ticket`, which is the head: its turn is used up."""
        if ticket in self._again:
            self._again.remove(ticket)
            self._leave(ticket)
            return
        for band in range(BANDS):
            if self._counts[band]:
                self._passed[band] = 0 if band == ticket.band else self._passed[band] + 1
        self._ready_units = self._counters.get(ticket.tenant, 0.0)
        self._remove(ticket)

    def next(self) -> _T | None:
        """Take out who goes next; None when nobody waits."""
        ticket = self.head()
        if ticket is not None:
            self.go(ticket)
        return ticket

    def withdraw(self, ticket: _T) -> None:
        """Forget `ticket`, if it waits; no turn is used up."""
        if not ticket.is_waiting:
            return
        if ticket in self._again:
            self._again.remove(ticket)
            self._leave(ticket)
        else:
            self._remove(ticket)

    def charge(self, tenant: str, units: float, weight: float) -> None:
        """Count service given to `tenant` in this busy time; negative units take back what was counted too much."""
        if self.count:
            self._counters[tenant] = self._counters.get(tenant, self._ready_units) + units / weight
            if len(self._counters) > TENANTS_MAX:
                self._counters = self._of_waiting(self._counters)
            if self._whole is not None:
                self._whole[tenant] = self._whole.get(tenant, 0.0) + units / weight

    def hear(self, elsewhere: Mapping[str, float]) -> None:
        """Count what other gateways gave to tenants, in units divided by weight: for `owed`, not for the turns here.

        Turns stay this gateway's own: a tenant's requests here are not to wait for ever because others of it are served
        elsewhere. A tenant of which nothing was known begins at the least served of those that wait.
        """
        if not self.count:
            return
        if self._whole is None:
            self._whole = dict(self._counters)
        whole = self._whole
        least = min([whole.get(name, 0.0) for tenants in self._bands for name in tenants], default=0.0)
        for name, units in elsewhere.items():
            whole[name] = max(whole.get(name, 0.0), least) + units
        if len(whole) > TENANTS_MAX:
            self._whole = self._of_waiting(whole)

    def _of_waiting(self, counters: dict[str, float]) -> dict[str, float]:
        waiting = {name for tenants in self._bands for name in tenants}
        return {name: units for name, units in counters.items() if name in waiting}

    def ahead(self, ticket: Ticket) -> int:
        """Return about how many of those that wait would go before `ticket`: its tenant takes turns with the others.

        Those that wait for another version by name take no place from it, as far as is known here.
        """
        elsewhere = sum(count for version, count in self._versions.items() if version != ticket.version)
        above = len(self._again) + sum(self._counts[: ticket.band])
        tenants = self._bands[ticket.band]
        mine = tenants.get(ticket.tenant, ())
        sooner = len(mine) - bisect_left(mine, (-ticket.deadline_s, -inf)) if mine else 0
        turns = (sooner + 1) * (len(tenants) + (not mine)) - 1
        return min(above + min(turns, self._counts[ticket.band] - len(mine) + sooner), self.count - elsewhere)

    def victims(self, ticket: Ticket, count_max: int, bytes_max: int) -> list[_T] | None:
        """Return who must go so that `ticket` fits, maybe nobody; None when it is the one that must not come in.

        Those go that hold most of what is full: of the least urgent band, of the tenant with the most waiting there
        for its weight, the latest deadlines. A tenant never pushes out another that has no more than itself.
        """
        over_count = self.count + 1 - count_max
        over_bytes = self.size_bytes + ticket.size_bytes - bytes_max
        if over_count <= 0 and over_bytes <= 0:
            return []
        band = max((band for band in range(BANDS) if self._counts[band]), default=-1)
        if band < ticket.band or count_max <= 0 or ticket.size_bytes > bytes_max:
            return None
        tenants = self._bands[band]
        largest = max(tenants, key=lambda name: len(tenants[name]) / tenants[name][0][2].weight)
        held = tenants[largest]
        if band == ticket.band:
            mine = len(tenants.get(ticket.tenant, ()))
            spare = int(len(held) - (mine + 1) * held[0][2].weight / ticket.weight) if largest != ticket.tenant else 0
        else:
            spare = len(held)
        chosen: list[_T] = []
        for _, _, each in held[: max(spare, 0)]:
            if over_count <= 0 and over_bytes <= 0:
                break
            chosen.append(each)
            over_count -= 1
            over_bytes -= each.size_bytes
        return chosen if over_count <= 0 and over_bytes <= 0 else None

    def _first(self, band: int, closed: Collection[str]) -> _T | None:
        """Return whose turn it is in `band`: the nearest deadline of the tenant that was served least."""
        tenants, counters = self._bands[band], self._counters
        if not closed:
            return tenants[min(tenants, key=lambda name: counters.get(name, 0.0))][-1][2]
        found: _T | None = None
        least = inf
        for name, mine in tenants.items():
            units = counters.get(name, 0.0)
            if found is None or units < least:
                for _, _, ticket in mine[: -PASSED_OVER_MAX - 1 : -1]:
                    if ticket.version not in closed:
                        found, least = ticket, units
                        break
        return found

    def _lift(self, tenant: str, tenants: dict[str, list[tuple[float, int, _T]]]) -> None:
        others = [self._counters.get(name, 0.0) for name in tenants if name != tenant]
        least = min(others) if others else self._ready_units
        self._counters[tenant] = max(self._counters.get(tenant, 0.0), least)
        if self._whole is not None:
            whole = self._whole
            least = min([whole.get(name, 0.0) for name in tenants if name != tenant], default=0.0)
            whole[tenant] = max(whole.get(tenant, 0.0), least)

    def _remove(self, ticket: _T) -> None:
        tenants = self._bands[ticket.band]
        mine = tenants[ticket.tenant]
        del mine[bisect_left(mine, ticket.rank)]
        if not mine:
            del tenants[ticket.tenant]
        self._counts[ticket.band] -= 1
        if not self._counts[ticket.band]:
            self._passed[ticket.band] = 0
        self._leave(ticket)

    def _enter(self, ticket: Ticket) -> None:
        ticket.is_waiting = True
        if ticket.version:
            self._versions[ticket.version] = self._versions.get(ticket.version, 0) + 1
        self.count += 1
        self.size_bytes += ticket.size_bytes

    def _leave(self, ticket: Ticket) -> None:
        ticket.is_waiting = False
        if ticket.version:
            self._versions[ticket.version] -= 1
            if not self._versions[ticket.version]:
                del self._versions[ticket.version]
        self.count -= 1
        self.size_bytes -= ticket.size_bytes
        if not self.count:
            self._counters.clear()
            self._whole = None
            self._ready_units = 0.0
            self._passed = [0] * BANDS


def token_units(input_tokens: int, cached_tokens: int, output_tokens: int) -> float:
    """Return the service units of a language-model request."""
    cached = min(cached_tokens, input_tokens)
    return INPUT_UNITS * (input_tokens - cached) + CACHED_UNITS * cached + OUTPUT_UNITS * output_tokens
