"""One endpoint on virtual time: a queue, replicas with places that start slowly, and a policy that says how many.

The plain model behind comparisons of scaling policies: one queue that knows every place (as one gateway does), no
failures, no refusals: who comes while a schedule lets no replica be waits too. It costs about a microsecond an event.
`sim/platform/` has everything else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import numpy as np

from stoker.core.scale.bounds import Closed
from stoker.core.scale.policy import sleeps
from stoker.sim.calendar import Calendar
from stoker.sim.policy import Observation, Policy
from stoker.sim.run import Run, Sample

NEVER: Final = math.inf
SAMPLE_S: Final = 10.0  # between two points of the timeline
# What is left in the queue when arrivals end is served; who has not been after so long never is.
GRACE_S: Final = 3600.0
_CANCELLED: Final = -1
_READY: Final = -1  # in place of a request's index: the event is a replica that became ready

Told = Callable[[float], None]  # of the virtual time reached


@dataclass(frozen=True, slots=True)
class Terms:
    """What an endpoint is: how much a replica does at once, how slowly it starts, and how many there may be.

    calendar: schedules that have other bounds while they are on; None: there are none.
    """

    places: int = 4
    cold_start_s: float = 40.0
    least: int = 1
    most: int = 20
    initial: int = -1  # replicas ready at the beginning; -1: the least
    calendar: Calendar | None = None

    @property
    def first(self) -> int:
        """Replicas ready at the beginning."""
        return self.bounds(0.0)[0] if self.initial < 0 else self.initial

    def bounds(self, now_s: float) -> tuple[int, int]:
        """Return the fewest and the most replicas there may be at a virtual second."""
        if self.calendar is None:
            return self.least, self.most
        return self.calendar.bounds(self.least, self.most, now_s)

    @property
    def can_sleep(self) -> bool:
        """Whether nothing may run while nobody asks, and the next request is waited with."""
        return sleeps(self.least, self.most, self.calendar.windows if self.calendar is not None else ())

    @property
    def can_close(self) -> bool:
        """Whether a schedule may let no replica be."""
        return self.calendar is not None and any(each.max == 0 for each in self.calendar.windows)

    def closed(self, now_s: float) -> Closed | None:
        """Return that schedules let no replica be at a virtual second."""
        return self.calendar.closed(self.least, self.most, now_s) if self.calendar is not None else None


def simulate(
    at_s: Sequence[float],
    service_s: Sequence[float],
    policy: Policy,
    terms: Terms,
    duration_s: float,
    told: Told | None = None,
) -> Run:
    """Return what becomes of requests that arrive at `at_s` (ascending) and each hold a place for `service_s`."""
    endpoint = _Endpoint(list(at_s), list(service_s), policy, terms, duration_s)
    endpoint.go(told)
    return endpoint.result()


class _Endpoint:
    """The state between two events. Who waits is a stretch of indices, because places are given in order of arrival."""

    def __init__(
        self, at_s: list[float], service_s: list[float], policy: Policy, terms: Terms, duration_s: float
    ) -> None:
        self._at_s, self._service_s = at_s, service_s
        self._policy, self._terms, self._duration_s = policy, terms, duration_s
        self._begun_s = [NEVER] * len(at_s)
        self._heap: list[tuple[float, int, int]] = []  # when, request or _READY, replica
        self._free: list[int] = []  # the replica of each free place
        self._arrived = self._head = self._finished = 0
        self._busy_s = self._presence_s = 0.0  # of what finished; arrivals negative, departures positive
        self._ordered_s: list[float] = []  # of each replica ever ordered
        self._stopped_s: list[float] = []
        self._held: list[int] = []  # places of each replica that are taken, or _CANCELLED
        self._ready: list[int] = []
        self._starting: list[int] = []
        self._draining: set[int] = set()
        self._wanted = terms.first
        self._changes = 0
        self._cold_start_s = 0.0
        self._timeline: list[Sample] = []
        self._now_s = 0.0
        for _ in range(terms.first):
            self._order(0.0, 0.0)

    def go(self, told: Told | None) -> None:
        """Run from the beginning until everybody is served, and as long as arrivals may come at the least."""
        tick_s = sample_s = 0.0
        end_s = self._duration_s + GRACE_S
        total = len(self._at_s)
        while self._finished < total or tick_s <= self._duration_s:
            self._advance(min(tick_s, sample_s, end_s))
            if self._now_s >= end_s:
                return
            if self._now_s >= sample_s:
                self._timeline.append(self._sample())
                sample_s += SAMPLE_S
                if told is not None:
                    told(self._now_s)
            if self._now_s >= tick_s:
                self._scale(self._policy.tick(self._observe()))
                tick_s += self._policy.every_s

    def _advance(self, until_s: float) -> None:
        """Handle every arrival and event before `until_s`."""
        at_s, service_s, begun_s = self._at_s, self._service_s, self._begun_s
        heap, free, held, total = self._heap, self._free, self._held, len(self._at_s)
        arrived, head = self._arrived, self._head
        presence_s = self._presence_s
        next_s = at_s[arrived] if arrived < total else NEVER
        while True:
            if heap and heap[0][0] <= next_s:
                now_s, request, replica = heap[0]
                if now_s >= until_s:
                    break
                heappop(heap)
                if request == _READY:
                    self._become_ready(now_s, replica)
                    if held[replica] < 0:  # cancelled meanwhile
                        continue
                else:
                    presence_s += now_s
                    self._finished += 1
                    self._busy_s += service_s[request]
                    held[replica] -= 1
                    if replica in self._draining:
                        self._drained(now_s, replica)
                    else:
                        free.append(replica)
                while head < arrived and free:
                    place = free.pop()
                    held[place] += 1
                    begun_s[head] = now_s
                    heappush(heap, (now_s + service_s[head], head, place))
                    head += 1
                self._head = head
            else:
                if next_s >= until_s:
                    break
                presence_s -= next_s
                if free:
                    place = free.pop()
                    held[place] += 1
                    begun_s[arrived] = next_s
                    heappush(heap, (next_s + service_s[arrived], arrived, place))
                    head += 1
                arrived += 1
                next_s = at_s[arrived] if arrived < total else NEVER
        self._arrived, self._head, self._presence_s = arrived, head, presence_s
        self._now_s = until_s

    # ---- replicas

    def _order(self, now_s: float, takes_s: float) -> None:
        replica = len(self._held)
        self._ordered_s.append(now_s)
        self._stopped_s.append(NEVER)
        self._held.append(0)
        self._starting.append(replica)
        heappush(self._heap, (now_s + takes_s, _READY, replica))

    def _become_ready(self, now_s: float, replica: int) -> None:
        if self._held[replica] < 0:
            return
        self._starting.remove(replica)
        self._ready.append(replica)
        self._free.extend([replica] * self._terms.places)
        if now_s > self._ordered_s[replica]:
            self._cold_start_s = now_s - self._ordered_s[replica]

    def _scale(self, asked: int) -> None:
        least, most = self._terms.bounds(self._now_s)
        wanted = min(max(asked, least), most)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._changes += self._now_s <= self._duration_s
        spare = len(self._ready) + len(self._starting) - wanted
        for _ in range(-spare):
            self._order(self._now_s, self._terms.cold_start_s)
        for _ in range(spare):
            if self._starting:  # the youngest: it has the most of its start before it
                replica = self._starting.pop()
                self._held[replica] = _CANCELLED
                self._stopped_s[replica] = self._now_s
            else:
                self._drain(min(self._ready, key=lambda each: (self._held[each], -each)))

    def _drain(self, replica: int) -> None:
        self._ready.remove(replica)
        self._free[:] = [each for each in self._free if each != replica]
        self._draining.add(replica)
        if not self._held[replica]:
            self._drained(self._now_s, replica)

    def _drained(self, now_s: float, replica: int) -> None:
        if not self._held[replica]:
            self._draining.discard(replica)
            self._stopped_s[replica] = now_s

    # ---- what is seen

    def _observe(self) -> Observation:
        here = self._arrived - self._finished
        waiting = self._arrived - self._head
        return Observation(
            now_s=self._now_s,
            ready=len(self._ready),
            starting=len(self._starting),
            wanted=self._wanted,
            places=self._terms.places,
            running=here - waiting,
            waiting=waiting,
            arrived=self._arrived,
            finished=self._finished,
            service_s=self._busy_s,
            presence_s=self._presence_s + here * self._now_s,
            cold_start_s=self._cold_start_s,
            queue_age_s=self._now_s - self._at_s[self._head] if waiting else 0.0,
            served=self._finished,
        )

    def _sample(self) -> Sample:
        return Sample(
            self._now_s, self._arrived, len(self._ready), len(self._starting), self._arrived - self._head, self._wanted
        )

    def result(self) -> Run:
        """Return what became of everybody."""
        begun_s = np.array(self._begun_s)
        at_s = np.array(self._at_s)
        is_served = np.isfinite(begun_s)
        # Who was never served has waited until now.
        wait_s = np.where(is_served, begun_s, self._now_s) - at_s
        ends_s = np.minimum(self._stopped_s, self._duration_s)
        begins_s = np.minimum(self._ordered_s, self._duration_s)
        return Run(
            policy=self._policy.name,
            duration_s=self._duration_s,
            wait_s=wait_s,
            finished=self._finished,
            replica_hours=float(np.sum(ends_s - begins_s)) / 3600.0,
            changes=self._changes,
            timeline=self._timeline,
        )
