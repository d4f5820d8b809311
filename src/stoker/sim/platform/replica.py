"""One replica: its process from order to end, and the requests in it."""

from collections.abc import Callable
from typing import Final, Literal

from stoker.core.leaving import SETTLE_S
from stoker.sim.platform import engines, plan
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.engine import Engine
from stoker.sim.platform.request import Request

# A replica is `lost` with its node: what it has goes nowhere, and nobody has said so.
State = Literal["starting", "ready", "draining", "lost", "dead"]
OPEN: Final[tuple[State, ...]] = ("ready", "lost")


class Replica:
    """A replica that control ordered. `number` is its place in the order of all of the platform."""

    __slots__ = (
        "_clock", "_ended", "_kind", "boot", "crashes", "engine", "held", "in_flight", "node", "number", "ordered_s",
        "ready_s", "revision", "slower", "started_s", "state", "stopped_s",
    )  # fmt: skip

    def __init__(
        self, number: int, revision: str, node: str, clock: Clock, kind: plan.Engine, slower: float, ended: "Ended"
    ) -> None:
        self.number, self.revision, self.node, self.slower = number, revision, node, slower
        self.state: State = "starting"
        self.ordered_s = self.started_s = clock.now_s
        self.ready_s = self.stopped_s = -1.0
        self.in_flight = 0  # of all gateways
        self.crashes = 0  # in a row (core/backoff.py)
        self.boot = 0  # grows with each process
        self.held: list[Request] = []  # while it is lost: what it had, and what was sent to it since
        self._clock, self._kind, self._ended = clock, kind, ended
        self.engine = self._engine()

    def take(self, request: Request) -> None:
        """Work on a request; of a lost replica nothing comes back."""
        self.in_flight += 1
        request.replica = self
        if self.state == "lost":
            self.held.append(request)
        else:
            self.engine.submit(request)

    def leave(self) -> None:
        """Count one request less."""
        self.in_flight -= 1
        if self.state == "draining":
            self.end_if_empty()

    def become_ready(self) -> None:
        """Take requests from now on."""
        self.state = "ready"
        self.ready_s = self._clock.now_s

    def drain(self) -> None:
        """Take no new requests once gateways have heard, and stop when the last has ended."""
        self.state = "draining"
        self._clock.at(self._clock.now_s + SETTLE_S, self.end_if_empty)

    def end_if_empty(self) -> None:
        """Stop, if nothing is here any more and gateways have had the time to hear of it."""
        if self.state == "draining" and not self.in_flight:
            self.stop()

    def stop(self) -> list[Request]:
        """Stop for good, and return what was in it."""
        had = self.held if self.state == "lost" else self.engine.stop()
        self.held = []
        self.state = "dead"
        self.stopped_s = self._clock.now_s
        return had

    def lose(self) -> None:
        """Go dark with the node: nothing ends here any more, and nobody is told."""
        self.held = self.engine.stop()
        self.state = "lost"

    def crash(self) -> list[Request]:
        """Lose the process; the same replica may start again. Return what was in it."""
        lost = self.engine.stop()
        self.boot += 1
        self.engine = self._engine()
        self.state = "starting"
        return lost

    def _engine(self) -> Engine:
        boot = self.boot

        def done(request: Request) -> None:
            if boot == self.boot and self.state != "lost":
                self._ended(self, request, True)

        def dropped(request: Request) -> None:
            if boot == self.boot and self.state != "lost":
                self._ended(self, request, False)

        return engines.make(self._kind, self._clock, done, dropped, self.slower)


Ended = Callable[[Replica, Request, bool], None]  # the request, and whether it was answered
