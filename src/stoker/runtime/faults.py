"""What goes wrong in a replica on purpose, where nobody outside of it could make it so (`stoker gameday`).

A fault ends by this process' own clock, when whoever asked for it ends it, or with the connection that it was asked
over: an agent that dies leaves none behind. There is one at a time.
"""

import asyncio
import logging
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, assert_never

import msgspec
import xxhash

from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange, Impairment
from stoker.runtime.engines.port import CallsOut
from stoker.telemetry import machine
from stoker.types.errors import Conflict, EngineFailed, InvalidInput
from stoker.types.faults import BAD_REVISION, BadRevision, Fault
from stoker.types.units import format_bytes

SPARE_BYTES: Final = 512 << 20  # of the node's memory that a fault leaves free, whatever it was asked for
OVER_RATIO: Final = 1.1  # of its limit that a replica takes at most …
OVER_BYTES: Final = 32 << 20  # … and so much more: over it for sure, however its agent counts
FILL_S: Final = 5.0  # from what it uses to its limit, unless …
STEP_BYTES: Final = 8 << 20  # … that is so much that its loop would have no time for anything else
STEP_EVERY_MIN_S: Final = 0.02
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_log: Final = logging.getLogger(__name__)


class Faults:
    """The faults of one replica. `impair` is of its server, `dependency` its engine once it is loaded."""

    def __init__(self, memory_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.impair: Callable[[Impairment | None], None] = lambda _: None
        self.dependency: CallsOut | None = None
        self.is_severed = False
        self._memory_bytes = memory_bytes
        self._loop = loop
        self._undo: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take(self, exchange: Exchange) -> None:
        """Answer the CALL: begin the Fault in its body, or end what is there. Raises InvalidInput or Conflict."""
        if not exchange.body:
            self.end()
            exchange.end(EndHead())
            return
        try:
            fault = msgspec.json.decode(exchange.body, type=Fault)
        except msgspec.MsgspecError as wrong:
            raise InvalidInput(f"no fault: {wrong}") from wrong
        if self._undo is not None:
            raise Conflict("a fault is here already; end that one first")
        self._undo = undo = self._begin(fault)
        self._timer = self._loop.call_later(fault.seconds, self.end)
        exchange.when_lost(lambda: self.end() if self._undo is undo else None)
        _log.warning("fault on purpose", extra={"kind": fault.kind, "seconds": fault.seconds})
        exchange.end(EndHead())

    def end(self) -> None:
        """Have everything as it was; again changes nothing."""
        undo, self._undo = self._undo, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if undo is not None:
            undo()
            _log.warning("the fault on purpose is over")

    def _begin(self, fault: Fault) -> Callable[[], object]:
        """Put it in and return what takes it out."""
        match fault.kind:
            case "memory":
                return Ballast(self._memory_bytes, self._loop).drop
            case "clock":
                return step_clock(fault.step_s)
            case "network":
                self.impair(Impairment(fault.delay_s, fault.loss_ratio))
                return lambda: self.impair(None)
            case "dependency":
                if self.dependency is None:
                    raise Conflict("this replica's engine calls no server of others, so none can be out of its reach")
                self._sever(is_severed=True)
                return lambda: self._sever(is_severed=False)
            case "kill" | "hang" | "slow" | "disk" | "corrupt":
                raise Conflict(f"{fault.kind} is done from outside, by the agent")
            case _:
                assert_never(fault.kind)

    def _sever(self, *, is_severed: bool) -> None:
        self.is_severed = is_severed
        if self.dependency is not None:
            self.dependency.is_severed = is_severed


class Ballast:
    """Memory that grows from its making on until the process is over its limit. Raises Conflict where it cannot."""

    def __init__(self, limit_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        if limit_bytes <= 0:
            raise Conflict("this replica has no limit of memory (spec.resources.memory), so nothing would end it")
        wanted = int(limit_bytes * OVER_RATIO) + OVER_BYTES - resident_bytes()
        _, free = machine.memory()
        if wanted > free - SPARE_BYTES:
            raise Conflict(
                f"to go over its limit of {format_bytes(limit_bytes)} this replica would take {format_bytes(wanted)}, "
                f"and {format_bytes(free)} are free on the node, of which {format_bytes(SPARE_BYTES)} stay free; give "
                "the endpoint a lower spec.resources.memory, or the node more memory"
            )
        self._loop = loop
        self._left = max(1, -(-wanted // STEP_BYTES))  # steps
        self._every_s = max(FILL_S / self._left, STEP_EVERY_MIN_S)
        self._held: list[mmap.mmap] = []
        self._timer: asyncio.TimerHandle | None = None
        self._grow()

    def drop(self) -> None:
        """Give it back to the kernel."""
        if self._timer is not None:
            self._timer.cancel()
        for piece in self._held:
            piece.close()
        self._held.clear()

    def _grow(self) -> None:
        piece = mmap.mmap(-1, STEP_BYTES)
        for at in range(0, STEP_BYTES, _PAGE_BYTES):
            piece[at] = 1  # only a page that was written to is taken
        self._held.append(piece)
        self._left -= 1
        if self._left and machine.memory()[1] > SPARE_BYTES:
            self._timer = self._loop.call_later(self._every_s, self._grow)


def step_clock(step_s: float) -> Callable[[], object]:
    """Set the wall clock that Python code of this process reads, and return what sets it back.

    The kernel has one wall clock for all; its time namespaces leave that alone. Monotonic clocks are not touched, and
    C code that asks the kernel itself sees no change.
    """
    now, now_ns = time.time, time.time_ns
    vars(time).update(time=lambda: now() + step_s, time_ns=lambda: now_ns() + int(step_s * 1e9))
    return lambda: vars(time).update(time=now, time_ns=now_ns)


class Failing:
    """The requests that a bad revision fails."""

    def __init__(self, bad: BadRevision) -> None:
        self._bad = bad

    def check(self, request: str) -> None:
        """Raise EngineFailed when it fails this request."""
        share = xxhash.xxh32_intdigest(request.encode()) / 2**32
        if share < self._bad.failed_ratio and time.time() < self._bad.until_s:
            raise EngineFailed("this revision fails some of its requests on purpose (stoker gameday)")


def failing(environment: str) -> Failing | None:
    """Return what a revision with `environment` as its BAD_REVISION fails, None for nothing.

    Raises InvalidInput when it is none.
    """
    if not environment:
        return None
    try:
        return Failing(msgspec.json.decode(environment, type=BadRevision))
    except msgspec.MsgspecError as wrong:
        raise InvalidInput(f"the variable {BAD_REVISION} is stoker's own, and holds: {wrong}") from wrong


def resident_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
