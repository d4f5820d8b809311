"""Some requests are copied to the canary of a shadow, and what both answered is compared. Nobody waits for a copy.

Outside of admit, so that a request is copied once however often it is tried; inside of fallback and coalesce, so that
the endpoint that serves copies what it really computed. Which requests are copied is drawn before anything is known of
the answer, and of the baseline only those count, so that both arms are seen with the same requests. The copy is sent
when the answer is with the caller: it takes nothing from it, waits in no queue, is tried once, and is dropped where the
canary has no free place.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final, cast

from stoker.gateway.arms import Arms
from stoker.gateway.exchange import Client, Exchange, Handler, Work
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.lane import Lane
from stoker.gateway.layers.cache import Tap
from stoker.gateway.layers.upstream import send
from stoker.gateway.protocols import agreement
from stoker.gateway.protocols.agreement import Answer
from stoker.gateway.usage.record import Bill
from stoker.gateway.usage.waste import Took, waste
from stoker.types.errors import DeadlineExceeded, StokerError
from stoker.types.rollouts import Mirror
from stoker.types.usage import Flag

BODY_MAX_BYTES: Final = 1 << 20  # of a request that is copied
ANSWER_MAX_BYTES: Final = 1 << 20  # of either answer that is compared
HERE_BYTES: Final = 16 << 10  # larger answers are compared in a thread

_log = logging.getLogger(__name__)


class Shadows:
    """The copies that are under way; bounded by each endpoint's mirror.in_flight_max."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Exchange, lane: Lane, arms: Arms, mine: Answer | None, bill: Bill | None) -> None:
        """Send the copy of `exchange`, which was answered with `mine` (None: badly, or with too much)."""
        task = asyncio.get_running_loop().create_task(_copy(exchange, lane, arms, mine, bill))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def shadow(shadows: Shadows, inner: Handler) -> Handler:
    """Copy what is drawn. Costs a look at a flag where no shadow runs."""

    def handle(exchange: Exchange) -> Work:
        arms = exchange.lane.arms if exchange.lane is not None else None
        if arms is None or arms.rollout.mirror is None or not _is_drawn(exchange, arms, arms.rollout.mirror):
            return inner(exchange)
        return copied(exchange, arms)

    async def copied(exchange: Exchange, arms: Arms) -> None:
        lane, client, bill = exchange.lane, exchange.connection, exchange.bill
        assert lane is not None
        arms.copying += 1
        exchange.is_copied = True
        tap = exchange.connection = Tap(client, ANSWER_MAX_BYTES)
        is_judged = False
        try:
            await inner(exchange)
            is_judged = True
        except StokerError as problem:
            is_judged = problem.status >= 500  # what the caller did wrong, or was too much, says nothing of either arm
            raise
        except asyncio.CancelledError:
            is_judged = exchange.cause is not None
            raise
        finally:
            exchange.connection = client
            relay = exchange.relay
            mine = None
            if tap.is_whole and relay is not None and relay.end is not None:
                mine = Answer(b"".join(tap.pieces), relay.end.header_bytes)
            if is_judged and arms is lane.arms and not lane.book:
                shadows.begin(exchange, lane, arms, mine, bill)
            else:
                arms.copying -= 1

    return handle


def _is_drawn(exchange: Exchange, arms: Arms, mirror: Mirror) -> bool:
    return (
        arms.copying < mirror.in_flight_max
        and not exchange.version
        and not arms.reverted
        and len(exchange.body) <= BODY_MAX_BYTES
        and random.random() < mirror.ratio
    )


class _Collected:
    """The client of a copy: keeps what comes, up to ANSWER_MAX_BYTES of it."""

    is_stalled = False

    def __init__(self) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.pieces: list[bytes] = []
        self.size = 0

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """See Client."""
        self.send_piece(body)

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """See Client."""
        self.send_piece(first)

    def send_piece(self, data: bytes) -> None:
        """See Client."""
        self.size += len(data)
        if self.size <= ANSWER_MAX_BYTES:
            self.pieces.append(data)

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """See Client; a copy is compared by its answer."""

    def end_stream(self, last: bytes) -> None:
        """See Client."""
        self.send_piece(last)


class Copy(Exchange):
    """A request as the canary gets it: with the time that its caller gave, and a name of its own."""

    __slots__ = ("collected",)

    def __init__(self, first: Exchange) -> None:
        self.collected = _Collected()
        super().__init__(cast(Client, self.collected), first.request, first.route, first.name, "")
        for name in ("body", "header_bytes", "key", "lane", "max_tokens", "method", "project", "stream", "trace"):
            setattr(self, name, getattr(first, name))
        self.id = f"{first.id}-shadow"
        self.span = first.span
        self.deadline_s = time.monotonic() + first.deadline_s - first.request.started_s


async def _copy(exchange: Exchange, lane: Lane, arms: Arms, mine: Answer | None, bill: Bill | None) -> None:
    mirror = arms.rollout.mirror
    try:
        replica = lane.choice.free(arms.canary)
        if mirror is None or replica is None or replica.link is None:
            lane.meters.shadow("dropped", 0.0)
            return
        copy = Copy(exchange)
        began_s = time.monotonic()
        theirs = await _ask(copy, replica, lane, arms)
        end = copy.relay.end if copy.relay is not None else None
        waste(bill, copy, Flag.WASTED_COPY, replica.revision, Took(end, compute_s=time.monotonic() - began_s))
        outcome = "failed"
        if theirs is not None:
            found = await _compare(exchange, mine, theirs, mirror.tolerance)
            outcome = {True: "agreed", False: "disagreed", None: "not_compared"}[found]
            if found is not None and arms is lane.arms:
                arms.compared(agreed=found)
        lane.meters.shadow(outcome, time.monotonic() - began_s)
    except Exception:  # a bug in a copy is nobody's answer
        _log.exception("a copy failed", extra=exchange.names())
    finally:
        arms.copying -= 1


async def _ask(copy: Copy, replica: Replica, lane: Lane, arms: Arms) -> Answer | None:
    """Return what the canary answers by the deadline; None: nothing, or nothing good. Counted for its arm."""
    assert replica.link is not None
    copy.revision = replica.revision
    replica.in_flight += 1
    replica.busy += 1.0
    now_s = time.monotonic()
    relay = send(copy, replica, replica.link, now_s)
    try:
        await asyncio.wait([relay.done], timeout=copy.deadline_s - now_s)
        now_s = time.monotonic()
        if not relay.done.done():
            relay.cancel()
            copy.cause = DeadlineExceeded("the copy was not answered in time")
            if arms is lane.arms:
                arms.gone(copy, replica, now_s)
            return None
    finally:
        replica.in_flight -= 1
        replica.busy = replica.busy - 1.0 if replica.in_flight else 0.0
    if relay.problem is None and relay.end is not None:
        if arms is lane.arms:
            arms.answered(copy, replica, relay.end, now_s)
        return Answer(b"".join(copy.collected.pieces), relay.end.header_bytes)
    if arms is lane.arms and relay.problem is not None:
        arms.failed(copy, replica, relay.problem, now_s)
    return None


async def _compare(exchange: Exchange, mine: Answer | None, theirs: Answer, tolerance: float) -> bool | None:
    """Return whether both answers agree; None where there is nothing to compare, or too much."""
    if mine is None or len(theirs.body) >= ANSWER_MAX_BYTES:
        return None
    is_exact = exchange.is_repeatable
    if len(mine.body) + len(theirs.body) <= HERE_BYTES:
        return agreement.agree(exchange.method, mine, theirs, tolerance, is_exact=is_exact)
    return await asyncio.to_thread(agreement.agree, exchange.method, mine, theirs, tolerance, is_exact=is_exact)
