"""Delivers an outbox: each receiver has its own queue and its own pace, so a dead one holds up nobody else.

What fails is tried again after 1 s, 2 s, … up to RETRY_MAX_S, in its order; what a receiver would never take (a 4xx)
and what is older than GIVE_UP_S is given up, and said so in the log.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from stoker.observe.notify import http
from stoker.types.errors import InvalidInput, NoticeRefused, NotReachable, SecretUnavailable

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 300.0
GIVE_UP_S: Final = 3600.0
_TRY_AGAIN: Final = (408, 425, 429)  # of 4xx: what another time may be taken

log = logging.getLogger(__name__)


class Item(Protocol):
    """What is delivered. `number` is its own in the outbox, `at_s` unix time."""

    @property
    def number(self) -> int:
        """See the class."""

    @property
    def receiver(self) -> str:
        """See the class."""

    @property
    def at_s(self) -> float:
        """See the class."""


class Tried(NamedTuple):
    """How an item that was tried stands. reason: why it was not taken when it was tried last; "" where it was.

    is_ours: it could not be sent at all, for want of its address or of what signs it.
    """

    tries: int
    outcome: Literal["later", "delivered", "lost"]
    reason: str = ""
    is_ours: bool = False


T = TypeVar("T", bound=Item)


class Delivery(Generic[T]):
    """One outbox under way. `close` at the end.

    send: tells one receiver once; raises NotReachable, NoticeRefused, or InvalidInput (such as no such secret).
    counted: hears of each end, delivered or lost.
    """

    def __init__(
        self,
        send: Callable[[T], Awaitable[None]],
        counted: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._send = send
        self._counted = counted
        self._clock = clock
        self._queues: dict[str, deque[T]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._held: set[int] = set()  # numbers that were taken on
        self._settled: set[int] = set()
        self._tried: dict[int, Tried] = {}  # by number, of what is in the outbox

    def deliver(self, outbox: Sequence[T], receivers: Collection[str]) -> None:
        """Take on what of `outbox` is not under way yet; whoever is not among `receivers` is told nothing more."""
        for name in self._workers.keys() - set(receivers):
            self._workers.pop(name).cancel()
            self._held -= {item.number for item in self._queues.pop(name, ())}
        known = {item.number for item in outbox}
        for name, queue in self._queues.items():  # what the outbox dropped for newer ones is not sent either
            self._queues[name] = deque(item for item in queue if item.number in known)
        self._held &= known
        self._settled &= known
        self._tried = {number: tried for number, tried in self._tried.items() if number in known}
        for item in outbox:
            if item.number in self._held or item.receiver not in receivers:
                continue
            self._held.add(item.number)
            self._queues.setdefault(item.receiver, deque()).append(item)
            worker = self._workers.get(item.receiver)
            if worker is None or worker.done():
                self._workers[item.receiver] = asyncio.create_task(self._work(item.receiver))

    def settled(self) -> set[int]:
        """Return the numbers of items that were delivered or given up, until they are in no outbox."""
        return set(self._settled)

    def tried(self) -> dict[int, Tried]:
        """Return how items stand that were tried, by number, until they are in no outbox."""
        return dict(self._tried)

    async def close(self) -> None:
        """Stop delivering; what was not delivered is still in the outbox."""
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)

    async def _work(self, name: str) -> None:
        """Deliver one receiver's queue, in order, until it is empty."""
        wait_s = RETRY_FIRST_S
        while self._queues.get(name):
            item = self._queues[name][0]
            outcome, reason, is_ours = await self._try(name, item)
            if outcome == "later" and self._clock() - item.at_s >= GIVE_UP_S:
                outcome = "lost"
            before = self._tried.get(item.number)
            tries = 1 if before is None else before.tries + 1
            self._tried[item.number] = Tried(tries, outcome, reason, is_ours)
            if outcome == "later":
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            wait_s = RETRY_FIRST_S
            self._counted(outcome)
            self._settled.add(item.number)
            queue = self._queues.get(name)
            if queue and queue[0] is item:
                queue.popleft()

    async def _try(self, name: str, item: T) -> tuple[Literal["later", "delivered", "lost"], str, bool]:
        """Return what became of it, why, and whether it could not even be sent (see Tried)."""
        told = {"receiver": name, "notice": item.number}
        try:
            await self._send(item)
        except NoticeRefused as refused:
            log.error("a receiver refused a notice; it is given up", extra={**told, "reason": refused.message})
            return "lost", refused.message, False
        except (NotReachable, SecretUnavailable, InvalidInput) as failed:
            log.warning("a notice could not be delivered", extra={**told, "reason": failed.message})
            return "later", failed.message, not isinstance(failed, NotReachable)
        except Exception as odd:  # a receiver's odd answer must not end its worker
            log.exception("a notice failed", extra=told)
            return "lost", type(odd).__name__, False
        return "delivered", "", False


async def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Send one body, once. Raises NotReachable, and NoticeRefused where another time would be no better."""
    sent = {"Content-Type": "application/json", "User-Agent": "stoker", **headers}
    status = await http.post(url, body, sent)
    if 400 <= status < 500 and status not in _TRY_AGAIN:
        raise NoticeRefused(f"it answered {status}")
    if not 200 <= status < 300:
        raise NotReachable(f"it answered {status}")
