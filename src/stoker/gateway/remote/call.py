"""One request to a server, from its first byte to the last of its answer: what a link's stream is for a replica."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stoker.gateway.remote import whole
from stoker.gateway.remote.request import Outgoing
from stoker.gateway.remote.stream import Stream
from stoker.protocol.frames import WINDOW_BYTES, EndHead
from stoker.protocol.link import Receiver
from stoker.types.errors import EngineFailed, StokerError
from stoker.types.replica import Timings

if TYPE_CHECKING:
    from stoker.gateway.remote.connection import Connection

ANSWER_BYTES_MAX: Final = 64 << 20  # of an answer that is not streamed
CROSSING_S: Final = 2.0  # a request and the close of its connection crossed, if not more passed between them
EVENT_STREAM: Final = "text/event-stream"


class Call:
    """Takes what the connection reads and gives the receiver what a replica would send. It ends once.

    is_full: the receiver is behind by WINDOW_BYTES; nothing more is read for it until it gives credit.
    """

    __slots__ = (
        "_budget", "_first_s", "_forget", "_receiver", "_request", "_stream", "answer_bytes_max", "asked", "began_s",
        "connection", "ended_s", "is_full", "is_over", "key_number", "number", "problem", "trace", "was_keyed_again",
        "was_sent_again",
    )  # fmt: skip

    def __init__(
        self, number: int, receiver: Receiver, asked: Outgoing, request: str, forget: Callable[[int], object]
    ) -> None:
        self.number = number
        self.asked = asked
        self.trace = b""  # header lines that tell the server which trace its work belongs to
        self.answer_bytes_max = ANSWER_BYTES_MAX
        self.connection: Connection | None = None
        self.began_s = time.monotonic()
        self.ended_s = 0.0
        self.was_sent_again = False
        self.was_keyed_again = False  # with another key, after its server refused the one before
        self.key_number = 0  # of the key that it was sent with
        self.is_over = False
        self.is_full = False
        self.problem: StokerError | None = None
        self._receiver = receiver
        self._request = request
        self._forget = forget
        self._stream = Stream(asked) if asked.is_stream else None
        self._budget = WINDOW_BYTES
        self._first_s = 0.0

    def feed(self, data: bytes) -> None:
        """Take a piece of a stream."""
        stream = self._stream
        assert stream is not None
        piece = stream.feed(data)
        if piece:
            self._budget -= len(piece)
            if not self._first_s:
                self._first_s = time.monotonic()
            self.is_full = self._budget <= 0
            self._receiver.push(piece)
        if self.is_over:
            return  # the receiver gave it up
        if stream.problem is not None:
            self.fail(stream.problem)
        elif stream.is_done:
            self._end_stream(stream, b"")

    def end(self, body: bytes) -> None:
        """Take the end of an answer, whose `body` it is if it was not streamed."""
        stream = self._stream
        if stream is None:
            try:
                told, usage = whole.read(body, self.asked)
            except EngineFailed as problem:
                self.fail(problem)
            else:
                self._end(EndHead(usage=usage, timings=self._timings()), told)
            return
        piece = stream.end()
        if piece and stream.problem is not None:
            self._receiver.push(piece)
        if stream.problem is not None:
            self.fail(stream.problem)
        else:
            self._end_stream(stream, piece)

    def fail(self, problem: StokerError) -> None:
        """End badly."""
        if not self.is_over:
            self._close()
            self.ended_s = time.monotonic()
            self.problem = problem
            self._receiver.fail(problem)

    def may_be_sent_again(self) -> bool:
        """Return whether it was sent a moment ago, and once: later, it may be itself why the connection closed."""
        return not self.was_sent_again and time.monotonic() - self.began_s < CROSSING_S

    def credit(self, count: int) -> None:
        """The reader made room."""
        self._budget = min(self._budget + count, WINDOW_BYTES)
        if self.is_full and self._budget > 0:
            self.is_full = False
            if self.connection is not None:
                self.connection.resume()

    def _end_stream(self, stream: Stream, piece: bytes) -> None:
        head = EndHead(content_type=EVENT_STREAM, usage=stream.usage, timings=self._timings())
        self._end(head, piece + stream.last(self._request, time.time()))

    def _end(self, head: EndHead, last: bytes) -> None:
        self._close()
        self._receiver.push((head, last))

    def _timings(self) -> Timings:
        now_s = self.ended_s = time.monotonic()
        return Timings(compute_s=now_s - self.began_s, first_token_s=(self._first_s or now_s) - self.began_s)

    def _close(self) -> None:
        self.is_over = True
        self._forget(self.number)
