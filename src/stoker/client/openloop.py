"""Requests at the moments when they are due, over connections that are kept, and what the client's own clock saw.

Open loop: a request is sent when it is due, whatever became of those before it. One worker at a time waits for the next
moment, on a connection that is open already, and sends the request itself: no hand-over between threads is in what is
measured. When all are busy, what falls due is left out and counted.
"""

import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from stoker.client.connection import Connection, Opened
from stoker.client.data import Tokens, read_chunk
from stoker.client.load import Ask
from stoker.client.sse import events
from stoker.types.errors import StokerError

IN_FLIGHT_MAX: Final = 64
LATE_MAX_S: Final = 0.5


class Due(msgspec.Struct, frozen=True):
    """A request, when it is due, in seconds from the beginning, and its number, by which it is known again."""

    at_s: float
    ask: Ask
    number: int = 0


class Seen(msgspec.Struct, frozen=True):
    """What became of one request. Times are infinite where no whole answer came; `problem` says why."""

    number: int
    at_s: float  # when it was sent, from the beginning
    ttft_s: float
    latency_s: float
    tokens: Tokens = Tokens()
    problem: str = ""


class OpenLoop:
    """Sends `dues`, which ascend, once started; each is made when it is the next.

    in_flight_max: up to IN_FLIGHT_MAX. timeout_s: the longest silence before a request counts as failed.
    """

    def __init__(self, connection: Connection, dues: Iterable[Due], timeout_s: float, in_flight_max: int) -> None:
        self.left_out = 0
        self._connection, self._timeout_s = connection, timeout_s
        self._left = iter(dues)
        self._began_s = 0.0
        self._turn = threading.Lock()  # of who waits for the next moment
        self._kept: list[Opened] = []  # idle; the one that was used last is taken first
        self._flying: dict[float, int] = {}  # the number of each, by when it was sent
        self._seen: list[Seen] = []
        self._stopped, self._ended = threading.Event(), threading.Event()
        count = min(in_flight_max, IN_FLIGHT_MAX)
        self._workers = [threading.Thread(target=self._work, name="open loop", daemon=True) for _ in range(count)]

    @property
    def elapsed_s(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._began_s

    def start(self) -> None:
        """Begin."""
        self._began_s = time.monotonic()
        for each in self._workers:
            each.start()

    def wait(self, patience_s: float) -> bool:
        """Return whether everything has been sent and has ended, within so long."""
        until_s = time.monotonic() + patience_s
        for each in self._workers:
            each.join(max(until_s - time.monotonic(), 0.0))
        return not any(each.is_alive() for each in self._workers)

    def stop(self, patience_s: float) -> tuple[Seen, ...]:
        """Send nothing more, wait at most so long for what is in flight, and return what was seen, in order."""
        self._stopped.set()
        self.wait(patience_s)
        self._ended.set()
        while self._kept:
            self._kept.pop().close()
        lost = [
            Seen(number, at_s, math.inf, math.inf, problem=f"no answer within {patience_s:g} s")
            for at_s, number in list(self._flying.items())
        ]
        return tuple(sorted([*self._seen, *lost], key=lambda each: each.at_s))

    def _work(self) -> None:
        while True:
            with self._turn:
                due = next(self._left, None)
                if due is None or self._stopped.is_set():
                    return
                wire = self._wire()
                wait_s = due.at_s - self.elapsed_s
                if self._stopped.wait(max(wait_s, 0.0)):
                    self._let_go(wire)
                    return
                if wire is not None and not wire.is_kept:  # the other side closed it while it was waited for the moment
                    wire.close()
                    wire = None
                if wait_s < -LATE_MAX_S:
                    self.left_out += 1
                    self._let_go(wire)
                    continue
            self._send(due, wire)

    def _send(self, due: Due, wire: Opened | None) -> None:
        sent_s = time.monotonic()
        at_s = sent_s - self._began_s
        self._flying[at_s] = due.number
        try:
            if wire is None:
                wire = self._connection.opened(self._timeout_s).__enter__()
            first_s, tokens = exchange(wire, due.ask)
        except StokerError as problem:
            said = f"{problem.code}: {problem.message}"
            self._seen.append(Seen(due.number, at_s, math.inf, math.inf, problem=said))
            if wire is not None:
                wire.close()
        else:
            ended_s = time.monotonic()
            self._seen.append(Seen(due.number, at_s, first_s - sent_s, ended_s - sent_s, tokens))
            self._let_go(wire)
        self._flying.pop(at_s, None)

    def _wire(self) -> Opened | None:
        """Return an open connection, by itself or fresh; None where there is none: the request will say why."""
        while self._kept:
            kept = self._kept.pop()
            if kept.is_kept:
                return kept
            kept.close()
        with suppress(StokerError):
            return self._connection.opened(self._timeout_s).__enter__()
        return None

    def _let_go(self, wire: Opened | None) -> None:
        if wire is None:
            return
        if self._ended.is_set():  # stopped without waiting for it
            wire.close()
        else:
            self._kept.append(wire)


def exchange(wire: Opened, ask: Ask) -> tuple[float, Tokens]:
    """Return when the first of an answer was there (monotonic), and its tokens. Raises what is wrong with it."""
    answer = wire.ask("POST", ask.path, None, ask.body, ask.headers)
    if not ask.is_stream:
        wire.read(answer)
        return time.monotonic(), Tokens()
    first_s, tokens = 0.0, Tokens()
    for payload in events(wire.pieces(answer)):
        chunk = read_chunk(payload)
        tokens = chunk.usage or tokens
        if not first_s and any(each.delta.content for each in chunk.choices):
            first_s = time.monotonic()
    wire.read(answer)  # what is behind the last event, so that the connection can be kept
    return first_s or time.monotonic(), tokens
