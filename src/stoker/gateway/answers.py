"""The answers this process keeps: a shelf an endpoint, all of them within one allowance."""

import random
from collections.abc import Iterable

from stoker.core import cache, route
from stoker.gateway.exchange import Exchange
from stoker.gateway.http import replies
from stoker.gateway.lane import Lane
from stoker.protocol.frames import EndHead
from stoker.types.replica import Usage
from stoker.types.routes import EndpointRoute


class Answer:
    """A whole answer, or a whole stream's bytes: given back in the form it was asked for, which is part of the key."""

    __slots__ = ("body", "headers", "is_stream", "usage")

    def __init__(self, headers: bytes, body: bytes, usage: Usage, *, is_stream: bool) -> None:
        self.headers = headers
        self.body = body
        self.usage = usage
        self.is_stream = is_stream


class Shelf:
    """What is kept of one endpoint, and by which rules. Entries are by revision and identity."""

    def __init__(self, lane: Lane, allowance: cache.Allowance) -> None:
        rules = lane.route.cache
        assert rules is not None
        self.store: cache.Store[tuple[str, bytes], Answer] = cache.Store(rules.max_bytes, rules.ttl_s, allowance)
        self.meters = lane.meters.cache()
        self._lane = lane
        self.route = lane.route
        self._takers: dict[str, tuple[tuple[str, int], ...]] = {}  # by version; few, all of them in the table
        self._is_closed = False

    def follow(self) -> None:
        """Follow the lane's newest route: forget what its revisions did not say, and all of it under new rules."""
        known, now = self.route, self._lane.route
        if known is now:
            return
        self.route, self._takers = now, {}
        rules = now.cache
        if rules is None or rules != known.cache or now.created_at_s != known.created_at_s:
            self.store.clear()
        elif _names(known) - _names(now):
            left = _names(now)
            for key in [key for key in self.store if key[0] not in left]:
                self.store.drop(key)
        self.store.max_bytes, self.store.ttl_s = (rules.max_bytes, rules.ttl_s) if rules is not None else (0, 0.0)

    def close(self) -> None:
        """Forget everything, and keep nothing any more: not what a request of before may still bring either, because
        nobody would ever forget that."""
        self._is_closed = True
        self.store.clear()
        self.meters.bytes.set(0.0)

    def taker(self, version: str) -> str:
        """Return the revision whose answer the next request may be given, drawn by weight; "" for none."""
        found = self._takers.get(version)
        if found is None:
            found = self._takers[version] = cache.takers(self.route, version)
        if len(found) > 1:
            return found[route.weighted([weight for _, weight in found], random.random())][0]
        return found[0][0] if found else ""

    def keep(self, exchange: Exchange, asked: EndpointRoute, end: EndHead, body: bytes, now_s: float) -> None:
        """Keep the answer that `exchange` got, if it is one of this endpoint's own revisions in the table.

        `asked` is the route it was asked under: another endpoint of the same name may have taken its place.
        """
        self.follow()
        is_same = exchange.lane is self._lane and asked.created_at_s == self.route.created_at_s
        if is_same and not self._is_closed and exchange.revision in _names(self.route):
            headers = b"" if exchange.stream else replies.of_answer(end)
            answer = Answer(headers, body, end.usage, is_stream=exchange.stream)
            self.store.put((exchange.revision, exchange.identity), answer, len(body), now_s)


class Answers:
    """The shelves, made when an endpoint that wants one is first asked."""

    def __init__(self, max_bytes: int) -> None:
        self.allowance = cache.Allowance(max_bytes)
        self._shelves: dict[Lane, Shelf] = {}

    def shelf(self, lane: Lane) -> Shelf:
        """Return the shelf of `lane`, whose route says what may be kept."""
        found = self._shelves.get(lane)
        if found is None:
            found = self._shelves[lane] = Shelf(lane, self.allowance)
        found.follow()
        return found

    def sweep(self, lanes: Iterable[Lane], now_s: float) -> None:
        """Forget what is too old, and the shelves of endpoints that are gone or keep nothing any more."""
        wanted = {lane for lane in lanes if lane.route.cache is not None}
        for lane in [lane for lane in self._shelves if lane not in wanted]:
            self._shelves.pop(lane).close()
        for shelf in self._shelves.values():
            shelf.follow()
            shelf.store.sweep(now_s)

    def gauges(self) -> None:
        """Set what is read at the moment of a snapshot."""
        for shelf in self._shelves.values():
            shelf.meters.bytes.set(float(shelf.store.bytes))


def _names(table: EndpointRoute) -> set[str]:
    return {str(each.revision) for each in table.revisions}
