"""One try of one request at one replica: the answer's pieces go from the replica's socket to the client's.

A stream's pieces are written where they are read, inside the link's `data_received`: no task wakes, no queue holds
them. What a slow client leaves here is bounded by the link: WINDOW_BYTES without credit, which is only given while the
client keeps up.
"""

import asyncio
import time
from typing import Final

from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet import learning
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.http import replies
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, RequestHead
from stoker.protocol.link import Sender
from stoker.types.errors import EngineFailed, ReplicaLost, StokerError

ANSWER_MAX_BYTES: Final = 256 << 20  # of an answer that is not streamed
PING: Final = b": ping\n\n"  # a comment, the only keep-alive that no SDK stumbles over
PING_AFTER_S: Final = 15.0
_CREDIT_BYTES: Final = frames.WINDOW_BYTES // 2


class Relay:
    """A link.Receiver. `done` is over when the answer ended, well (`end`) or badly (`problem`)."""

    __slots__ = ("_exchange", "_lane", "_link", "_pieces", "_size", "_stream", "_unread", "done", "end", "is_direct",
                 "problem", "replica", "was_death", "was_written")  # fmt: skip

    def __init__(self, exchange: Exchange, replica: Replica, link: Sender, head: RequestHead, body: bytes) -> None:
        self.replica = replica
        self.is_direct = link is not replica.link  # to the server behind the replica, which it does not depend on
        self.done: asyncio.Future[None] = link.loop.create_future()
        self.end: EndHead | None = None
        self.problem: StokerError | None = None
        self.was_death = False  # the replica's process went away with the request in it
        self.was_written = False
        assert exchange.lane is not None
        self._exchange = exchange
        self._lane = exchange.lane
        self._link = link
        self._pieces: list[bytes] = []
        self._size = 0
        self._unread = 0
        self._stream = link.send(self, head, body)
        exchange.relay = self
        exchange.connection.on_writable = self._give_credit

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        """See link.Receiver."""
        self.replica.progress += 1
        exchange = self._exchange
        if not isinstance(event, bytes):
            self._end(*event)
        elif exchange.is_started:
            self.was_written = True
            if exchange.between is not None:
                now_s = time.monotonic()
                exchange.between.observe(now_s - exchange.piece_s)
                exchange.piece_s = now_s
            exchange.connection.send_piece(event)
            if exchange.transcript is not None:
                exchange.transcript.add(event)
            self._count(len(event))
        elif exchange.stream:
            now_s = exchange.first_byte_s = exchange.piece_s = time.monotonic()
            exchange.between = self._lane.meters.revision(exchange.revision, exchange.method).text.between
            learning.first_piece(exchange, self.replica, now_s)
            exchange.extra += self._revision()
            self._count(len(event))
            exchange.start(event)
            if exchange.transcript is not None:
                exchange.transcript.add(event)
        else:
            self._pieces.append(event)
            self._size += len(event)
            if self._size > ANSWER_MAX_BYTES:
                self.abandon(EngineFailed(f"the answer is over {ANSWER_MAX_BYTES} bytes"))
            else:
                self._count(len(event))

    def fail(self, problem: StokerError) -> None:
        """See link.Receiver."""
        self.problem = problem
        self.was_death = type(problem) is ReplicaLost
        self._finish()

    def abandon(self, problem: StokerError) -> None:
        """End the try with `problem`; the replica is told that nobody waits."""
        if not self.done.done():
            self._link.forget(self._stream)
            self.problem = problem
            self._finish()

    def cancel(self) -> None:
        """Tell the replica that nobody waits any more; nothing is written after this."""
        self._link.forget(self._stream)

    def yield_to(self, other: "Relay") -> None:
        """End well without an answer, because `other` gave it (layers/hedge.py)."""
        self._link.forget(self._stream)
        self.end = other.end
        self._finish()

    def keep_alive(self) -> None:
        """Write a comment if the stream was idle since the last call (the pulse calls this every PING_AFTER_S)."""
        if not self.was_written and self._exchange.is_started and not self._exchange.is_answered:
            self._exchange.connection.comment(PING)
        self.was_written = False

    def _end(self, end: EndHead, last: bytes) -> None:
        self.end = end
        exchange = self._exchange
        exchange.usage = end.usage
        if not self.is_direct:  # else the replica does not see it, and tells in its next PONG
            self.replica.others = end.others
        if exchange.is_started:
            exchange.end(last)
        elif exchange.stream:
            exchange.first_byte_s = time.monotonic()
            exchange.extra += self._revision()
            exchange.start(last)
            exchange.end(b"")
        else:
            body = b"".join((*self._pieces, last)) if self._pieces else last
            exchange.send(200, replies.of_answer(end) + self._revision(), body)
        self._finish()

    def _revision(self) -> bytes:
        """Return the header line that tells, while a rollout runs, which revision answers."""
        arms = self._lane.arms
        return b"" if arms is None else arms.header(self.replica.revision)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _count(self, size: int) -> None:
        self._unread += size
        bill = self._exchange.bill
        if bill is not None:
            bill.pieces += 1
            bill.bytes_out += size
        if self._unread >= _CREDIT_BYTES:
            self._give_credit()

    def _give_credit(self) -> None:
        if self._unread >= _CREDIT_BYTES and not self._exchange.connection.is_stalled:
            self._link.credit(self._stream, self._unread)
            self._unread = 0
