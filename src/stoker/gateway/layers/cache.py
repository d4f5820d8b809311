"""An answer given before is given again, where the endpoint says that equal requests have equal answers.

Inside of auth, validate and meter: who may not ask gets nothing, and a hit is a request. Outside of deadline, admit and
retry: a hit waits for nothing, holds no place, and is given with every replica dead. The lookup is by the revision that
would serve, so that no revision answers with another's words; what is kept is kept under the one that did answer.
"""

import time
from collections.abc import Callable

from stoker.core import cache as rules
from stoker.gateway.answers import Answer, Answers, Shelf
from stoker.gateway.exchange import Client, Exchange, Handler, Work
from stoker.gateway.lane import Lane
from stoker.gateway.protocols import sameness


def cache(answers: Answers, inner: Handler) -> Handler:
    """Look before `inner` is asked; keep what it answered."""

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if lane.route.cache is None or not exchange.is_repeatable:
            return inner(exchange)
        freshness = rules.freshness(exchange.request.headers.get(b"cache-control"))
        return looked_up(exchange, lane, freshness) if freshness.may_store else inner(exchange)

    async def looked_up(exchange: Exchange, lane: Lane, freshness: rules.Freshness) -> None:
        identity = await sameness.identity(
            exchange
        )  # of a large body this takes a while, so the table is read after it
        revision = "" if lane.route.cache is None else answers.shelf(lane).taker(exchange.version)
        if not revision:
            await inner(exchange)
            return
        if lane.arms is not None and not exchange.version:
            revision = lane.arms.of_who(exchange) or revision
        shelf, now_s = answers.shelf(lane), time.monotonic()
        kept = shelf.store.get((revision, identity), now_s)
        if kept is not None and now_s - kept.stored_s <= freshness.age_max_s:
            shelf.meters.hits.add(1)
            give(exchange, revision, kept.value, int(now_s - kept.stored_s))
        else:
            shelf.meters.misses.add(1)
            exchange.extra += b"x-stoker-cache: miss\r\n"
            await listened(exchange, shelf)

    async def listened(exchange: Exchange, shelf: Shelf) -> None:
        client, asked = exchange.connection, shelf.route
        tap = exchange.connection = Tap(client, shelf.store.entry_max_bytes)
        try:
            await inner(exchange)
        finally:
            exchange.connection = client
        relay = exchange.relay
        is_own = exchange.served_by in ("", asked.endpoint)  # not another's words (fallback.py)
        if tap.is_whole and is_own and relay is not None and relay.end is not None:
            shelf.keep(exchange, asked, relay.end, b"".join(tap.pieces), time.monotonic())

    return handle


def give(exchange: Exchange, revision: str, answer: Answer, age_s: int) -> None:
    """Answer with what was kept. Its tokens cost nothing now and are counted as saved."""
    assert exchange.lane is not None
    exchange.revision = revision
    exchange.lane.meters.revision(revision, exchange.method).save(answer.usage)
    exchange.extra += b"x-stoker-cache: hit\r\nage: %d\r\n" % age_s
    if answer.is_stream:
        exchange.start(answer.body)
        exchange.end(b"")
    else:
        exchange.send(200, answer.headers, answer.body)


class Tap:
    """A client whose answer is also kept, while it is a good one of at most `max_bytes`."""

    __slots__ = ("_client", "_left", "_was_good", "is_whole", "pieces")

    def __init__(self, client: Client, max_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self.is_whole = False  # all of a good answer is in `pieces`
        self._client = client
        self._left = max_bytes
        self._was_good = False

    @property
    def is_stalled(self) -> bool:
        """See Client."""
        return self._client.is_stalled

    @property
    def on_writable(self) -> Callable[[], None] | None:
        """See Client."""
        return self._client.on_writable

    @on_writable.setter
    def on_writable(self, call: Callable[[], None] | None) -> None:
        self._client.on_writable = call

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """See Client."""
        self._was_good = status == 200
        self._take(body)
        self.is_whole = self._was_good
        self._client.send(status, headers, body)

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """See Client."""
        self._was_good = True
        self._take(first)
        self._client.start_stream(headers, first)

    def send_piece(self, data: bytes) -> None:
        """See Client."""
        self._take(data)
        self._client.send_piece(data)

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """See Client; it is not kept."""
        self._was_good = self._was_good or bool(headers)
        self._client.comment(data, headers)

    def end_stream(self, last: bytes) -> None:
        """See Client."""
        self._take(last)
        self.is_whole = self._was_good
        self._client.end_stream(last)

    def hold(self, count: int) -> None:
        """See Client."""
        self._client.hold(count)

    def abort(self) -> None:
        """See Client."""
        self._client.abort()

    def _take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._was_good = False
            self.pieces.clear()
        elif self._was_good:
            self.pieces.append(data)
