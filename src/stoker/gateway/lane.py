"""One endpoint in this gateway: its replicas, the places in them, and the bounded queue of requests without a place.

A request holds a place in a replica from the moment it is sent until it ended. `concurrency` places a replica; who
finds none waits in order of arrival (a retry waits in front: it is older), until its deadline.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from stoker.core import admit, breaker, poison, retry
from stoker.gateway.choice import Choice
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet import Replica
from stoker.gateway.meters import Meters
from stoker.types.errors import Busy, NotFound, StokerError, Unavailable
from stoker.types.routes import EndpointRoute

SERVICE_SAMPLES: Final = 20  # the mean service time is of about so many requests


class Lane:
    """An endpoint's replicas and queue (fleet.Watcher)."""

    def __init__(self, endpoint: EndpointRoute, meters: Meters, convicted: "Callable[[Lane, bytes], None]") -> None:
        self._convicted = convicted
        self.route = endpoint
        self.task: str = endpoint.task
        self.meters = meters
        self.book = poison.Book()
        self.budget = retry.Budget(endpoint.concurrency, time.monotonic())
        self.exchanges: set[Exchange] = set()  # those that hold a place
        self.turn = asyncio.Lock()  # held by the trial that runs now
        self.service_s = 0.0
        self._samples = 0
        self.down_since_s = time.monotonic()
        self._replicas: dict[str, Replica] = {}
        self.choice = Choice()
        self._queue: OrderedDict[Exchange, asyncio.Future[Replica]] = OrderedDict()  # route.queue_max bounds it
        self.update(endpoint)

    @property
    def replicas(self) -> list[Replica]:
        """Every replica in the table, open or not."""
        return list(self._replicas.values())

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def ready_count(self) -> int:
        """Replicas that take requests now."""
        return len(self.choice.open)

    def versions(self) -> list[str]:
        """Return the versions that serve now, oldest first."""
        return sorted({each.version for each in self._replicas.values() if each.is_open}, key=lambda v: (len(v), v))

    def has_version(self, version: str) -> bool:
        """Return whether the table has a revision with `version`."""
        return any(revision.version == version for revision in self.route.revisions)

    def update(self, endpoint: EndpointRoute) -> None:
        """Follow a new route table: new replicas are connected, gone ones retire."""
        self.route = endpoint
        self.meters.keep({str(revision.revision) for revision in endpoint.revisions})
        self.choice.follow(endpoint)
        wanted = {
            str(replica.replica): (replica, revision)
            for revision in endpoint.revisions
            for replica in revision.replicas
        }
        for name in [name for name in self._replicas if name not in wanted]:
            self._replicas.pop(name).retire()
        for name, (replica, revision) in wanted.items():
            known = self._replicas.get(name)
            if known is None or known.address != replica.address or known.revision != revision.revision:
                if known is not None:
                    known.retire()
                self._replicas[name] = Replica(replica, str(revision.revision), revision.version, self)
        self.refresh()

    def close(self) -> list[Replica]:
        """Let the endpoint go: nobody waits any more, replicas retire; return them."""
        gone = NotFound(f"the endpoint {self.route.endpoint} was deleted", field="model")
        self._refuse_all(gone)
        retired = list(self._replicas.values())
        self._replicas.clear()
        for replica in retired:
            replica.retire()
        self.choice.refresh(())
        return retired

    # ---- places

    def is_full(self) -> bool:
        """Return whether a request that comes now has to wait."""
        return bool(self._queue) or len(self.exchanges) >= len(self.choice.open) * self.route.concurrency

    def take(self, exchange: Exchange) -> Replica | None:
        """Take a place for `exchange` if one is free, where the choice falls."""
        chosen = self.choice.choose(exchange)
        if chosen is not None:
            self.hold(exchange, chosen)
        return chosen

    def hold(self, exchange: Exchange, replica: Replica) -> None:
        """Give `exchange` a place in `replica`."""
        replica.in_flight += 1
        exchange.replica = replica
        exchange.revision = replica.revision
        self.exchanges.add(exchange)

    def release(self, exchange: Exchange) -> None:
        """Give the place of `exchange` to the next in the queue."""
        replica = exchange.replica
        if replica is not None:
            exchange.replica = None
            self.exchanges.discard(exchange)
            replica.in_flight -= 1
            if self._queue:
                self._wake()

    async def wait(self, exchange: Exchange, *, in_front: bool = False) -> Replica:
        """Wait for a place and return its replica. Raises StokerError when there will be none."""
        place: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._queue[exchange] = place
        if in_front:
            self._queue.move_to_end(exchange, last=False)
        began_s = time.monotonic()
        try:
            return await place
        except asyncio.CancelledError:
            self._queue.pop(exchange, None)
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release(exchange)  # the place came in the same moment as the end
            raise
        finally:
            self.meters.queue_wait.observe(time.monotonic() - began_s)

    def check(self, exchange: Exchange, now_s: float) -> None:
        """Raise what a request gets that would have to wait, if it may not."""
        waiting = len(self._queue)
        wait_s = admit.wait_s(waiting, len(self.exchanges), self.service_s)
        answer = admit.decide(
            waiting=waiting,
            queue_max=self.route.queue_max,
            wait_s=wait_s,
            left_s=exchange.deadline_s - now_s,
            is_down=self.is_down(now_s),
        )
        if answer == "wait":
            return
        if answer == "down":
            raise self.unavailable()
        again_s = admit.retry_after_s(waiting, len(self.exchanges), self.service_s)
        name = self.route.endpoint
        if answer == "full":
            raise Busy(f"{waiting} requests wait for {name} already; retry later", retry_after_s=again_s)
        raise Busy(f"{name} is busy for about {wait_s:.1f} s, longer than the deadline allows", retry_after_s=again_s)

    def convicted(self, shape: bytes) -> None:
        """Tell the other gateways that `shape` kills."""
        self._convicted(self, shape)

    def finished(self, took_s: float) -> None:
        """Learn how long a request was served."""
        if self._samples < SERVICE_SAMPLES:
            self._samples += 1
        self.service_s += (took_s - self.service_s) / self._samples

    # ---- what replicas tell (fleet.Watcher)

    def replica_changed(self, replica: Replica) -> None:
        """See fleet.Watcher."""
        self.refresh()

    def may_eject(self) -> bool:
        """See fleet.Watcher: at most half of those that are connected."""
        up = [replica for replica in self._replicas.values() if replica.is_connected and replica.state == "ready"]
        return breaker.may_eject(sum(replica.is_ejected for replica in up), len(up))

    def ejected(self, replica: Replica, reason: str) -> None:
        """Interrupt what can go elsewhere; the retry layer moves it."""
        self.meters.ejection(reason)
        for exchange in [each for each in self.exchanges if each.replica is replica and not each.is_started]:
            if exchange.relay is not None:
                exchange.relay.abandon(Unavailable(f"the replica makes no progress ({reason})", retry_after_s=1.0))

    def is_wanted(self) -> bool:
        """See fleet.Watcher."""
        return bool(self._queue)

    def quietest(self) -> Replica | None:
        """Return the open replica with the fewest requests, for a trial."""
        return self.choice.quietest()

    def refresh(self) -> None:
        """Look again which replicas are open, and serve the queue from them."""
        self.choice.refresh(self._replicas.values())
        self._wake()

    def sweep(self, now_s: float) -> None:
        """Give up on what waits for nothing; forget what is old. Called about once a second."""
        self.budget.fade(now_s)
        if self.book:
            self.book.sweep(now_s)
        if self._queue and self.is_down(now_s):
            self._refuse_all(self.unavailable())

    def _wake(self) -> None:
        """Give free places to those who wait, the oldest first; who wants a version of its own is passed over."""
        for exchange in list(self._queue) if self._queue else ():
            replica = self.take(exchange)
            if replica is not None:
                place = self._queue.pop(exchange)
                if place.done():
                    self.release(exchange)
                else:
                    place.set_result(replica)
            elif not exchange.version:
                return

    def _refuse_all(self, problem: StokerError) -> None:
        while self._queue:
            _, place = self._queue.popitem(last=False)
            if not place.done():
                place.set_exception(problem)

    def is_down(self, now_s: float) -> bool:
        """Return whether no replica runs or loads, and none has for long enough to stop hoping."""
        if not self._replicas:
            return True
        return all(
            (not replica.is_connected and now_s - replica.down_since_s > admit.DOWN_WAIT_S) or replica.state == "failed"
            for replica in self._replicas.values()
        )

    def unavailable(self) -> StokerError:
        """Return why nothing can serve, as far as known."""
        name = self.route.endpoint
        errors = [replica.error for replica in self._replicas.values() if replica.error]
        if errors:
            return Unavailable(f"no replica of {name} can serve: {errors[0]}", retry_after_s=10.0)
        if not self._replicas:
            return Unavailable(f"{name} has no replicas", retry_after_s=10.0)
        return Unavailable(f"no replica of {name} is running; they are being restarted", retry_after_s=5.0)
