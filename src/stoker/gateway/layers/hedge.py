"""A second replica for a request that is slow in the first: the first answer counts, the other try is cancelled.

Inside of route, because only who has a place can be slow in it; only for what can be asked twice (infer, embeddings),
and never while something is suspected of killing replicas. The rules are in core/hedge.py.

During a rollout both tries are the same arm's, so that a slow canary is not saved by the baseline before anybody has
seen that it is slow; and what answered first is counted as the answer of the one try that was drawn.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, cast

from stoker.gateway import trail
from stoker.gateway.exchange import Client, Exchange, Handler, TryFailed, Work
from stoker.gateway.fleet import learning, suspicion
from stoker.gateway.lane import Lane
from stoker.gateway.layers.upstream import send
from stoker.gateway.relay import Relay
from stoker.gateway.usage.waste import Took, waste
from stoker.protocol.frames import EndHead
from stoker.types.errors import Draining, UnprocessableInput
from stoker.types.usage import Flag

_TWICE: Final = frozenset(("infer", "embeddings"))


def hedge(inner: Handler) -> Handler:
    """Ask a second replica when the first takes longer than most do."""

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if lane.hedges is None or exchange.method not in _TWICE or lane.book or not lane.choice.may_hedge:
            return inner(exchange)
        return hedged(exchange, lane)

    async def hedged(exchange: Exchange, lane: Lane) -> None:
        hedges = lane.hedges
        assert hedges is not None
        began_s = time.monotonic()
        if exchange.tries == 0:
            hedges.earn()
        race = Race(exchange, lane, began_s)
        delay_s = hedges.delay_s  # 0 while too little is known
        if delay_s:
            race.start(delay_s)
        failure: TryFailed | None = None
        try:
            try:
                await inner(exchange)
            except TryFailed as failed:
                failure = failed
            if failure is not None and not await race.is_won():
                raise failure
        finally:
            failure = None  # its traceback knows this frame
            race.end()
        hedges.observe(time.monotonic() - began_s)

    return handle


class _Nowhere:
    """The connection of a try whose answer goes to nobody directly: never stalled."""

    is_stalled = False

    def __init__(self) -> None:
        self.on_writable: Callable[[], None] | None = None


class Twin(Exchange):
    """The second try of a request: as an exchange of its own that keeps its answer."""

    __slots__ = ("answer",)

    def __init__(self, first: Exchange) -> None:
        connection = cast(Client, _Nowhere())
        super().__init__(connection, first.request, first.route, first.name, first.version)
        for name in (
            "body",
            "deadline_s",
            "header_bytes",
            "id",
            "key",
            "lane",
            "method",
            "project",
            "shape",
            "trace",
            "span",
            "caller",
            "is_sampled",
        ):
            setattr(self, name, getattr(first, name))
        self.avoid = first.replica
        self.sends = first.sends + trail.HEDGE - 1  # sending makes it one more
        self.tries = 1  # not the one to see how an ejected replica does
        self.answer: tuple[bytes, bytes] = (b"", b"")

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Keep the answer."""
        self.is_started = self.is_answered = True
        self.status = status
        self.answer = (headers, body)


class Race:
    """One request and, from some moment on, its twin."""

    __slots__ = ("_began_s", "_bill", "_exchange", "_lane", "_timer", "_twin", "_twin_s")

    def __init__(self, exchange: Exchange, lane: Lane, began_s: float) -> None:
        self._exchange = exchange
        self._lane = lane
        self._began_s = began_s
        self._bill = exchange.bill  # the exchange has none any more when it is answered
        self._timer: asyncio.TimerHandle | None = None
        self._twin: Twin | None = None
        self._twin_s = 0.0

    def start(self, delay_s: float) -> None:
        """Launch the twin after `delay_s`, unless the race has ended."""
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._launch)

    async def is_won(self) -> bool:
        """Wait for the twin of a try that failed; return whether it answered."""
        twin = self._twin
        if twin is None or twin.relay is None:
            return False
        await asyncio.wait([twin.relay.done])
        self._take(twin)
        return self._exchange.is_answered

    def end(self) -> None:
        """Cancel what still runs of the twin."""
        if self._timer is not None:
            self._timer.cancel()
        twin, self._twin = self._twin, None
        if twin is not None and twin.relay is not None:
            twin.relay.cancel()
            self._note(twin, twin.relay, "lost")
            self._lane.meters.hedge("lost")
            relay = self._exchange.relay
            self._pay(relay.end if relay is not None else None, self._twin_s)
            self._release(twin)

    def _launch(self) -> None:
        exchange, lane = self._exchange, self._lane
        if exchange.is_answered or exchange.relay is None or lane.book or lane.hedges is None:
            return
        twin = Twin(exchange)
        if lane.arms is not None:
            twin.arm = exchange.revision
        replica = lane.take(twin)
        if replica is None or replica is exchange.replica or replica.link is None or not lane.hedges.spend():
            lane.meters.hedge("denied")
            lane.release(twin)
            return
        if exchange.bill is not None:
            exchange.bill.is_hedged = True
        self._twin, self._twin_s = twin, time.monotonic()
        send(twin, replica, replica.link, self._twin_s).done.add_done_callback(lambda _: self._take(twin))

    def _take(self, twin: Twin) -> None:
        """Take what came of the twin: its answer, if it is the first, or nothing. Does nothing the second time."""
        relay = twin.relay
        if relay is None or self._twin is not twin:
            return
        self._twin = None
        if relay.problem is None:
            self._answer(twin, relay)
        else:
            self._lane.meters.hedge("failed")
            self._note(twin, relay, relay.problem.code)
            learning.failed(twin, relay.replica, relay.problem)
            if isinstance(relay.problem, Draining):
                relay.replica.drains()
            if relay.was_death:
                with contextlib.suppress(UnprocessableInput):  # the next like it is refused; this one has its own try
                    suspicion.blame(self._lane, twin, relay.replica)
        self._release(twin)

    def _answer(self, twin: Twin, relay: Relay) -> None:
        first = self._exchange
        if first.is_answered or first.relay is None:
            return
        learning.ended(twin, relay.replica, time.monotonic())
        self._lane.meters.hedge("won")
        self._pay(relay.end, self._began_s)
        loser = first.relay
        trail.note(first, "lost", time.monotonic(), loser.replica)
        self._note(twin, relay, "ok")
        first.relay = relay  # what is metered is the answer that counts
        first.revision, first.usage = twin.revision, twin.usage
        first.send(twin.status, *twin.answer)
        loser.yield_to(relay)

    def _pay(self, end: EndHead | None, sent_s: float) -> None:
        """Count what the try that was sent at `sent_s` and lost took of its replica, `end` being the other's, if any.

        It was cancelled, so nobody says what it took: as much as the other, but for the time that it had less.
        """
        now_s = time.monotonic()
        share = min((now_s - sent_s) / max(now_s - self._began_s, 1e-6), 1.0)
        self._lane.meters.wasted(now_s - sent_s, end.usage.rows if end is not None else 0)
        self._lane.admission.lost(now_s - sent_s)
        if end is not None:
            self._lane.admission.wasted(self._exchange, end, share)
            waste(
                self._bill, self._exchange, Flag.WASTED_HEDGE, self._exchange.revision, Took(end, share, now_s - sent_s)
            )

    def _note(self, twin: Twin, relay: Relay, outcome: str) -> None:
        trail.note_hedge(self._exchange, outcome, time.monotonic(), relay.replica, twin.sent_s)

    def _release(self, twin: Twin) -> None:
        twin.relay = None
        self._lane.release(twin)
