"""What goes through an engine: requests as jobs, and one call of some of them."""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

import msgspec

from stoker.core.latency import Shapes
from stoker.protocol.link import Exchange
from stoker.runtime import caller

_R = TypeVar("_R")


class Job:
    """One request, or one part of a large one, in the shape `core.batch.Waiting` asks for.

    turn, passed: as in core.turns.Turn.
    held_bytes: what it keeps in memory while it waits; of a part, the whole request.
    """

    __slots__ = (
        "alone", "arrived_s", "deadline_s", "exchange", "held_bytes", "passed", "payload", "rows", "shapes",
        "size_bytes", "turn",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, payload: Any, rows: int, shapes: Shapes, size_bytes: int, held_bytes: int
    ) -> None:
        head = exchange.head
        self.exchange = exchange
        self.payload = payload
        self.rows = rows
        self.shapes = shapes
        self.size_bytes = size_bytes
        self.held_bytes = held_bytes
        self.alone = head.alone
        self.turn = head.turn
        self.passed = 0
        self.arrived_s = arrived_s = monotonic()
        self.deadline_s = arrived_s + head.timeout_s if head.timeout_s > 0 else math.inf


class Spent(msgspec.Struct, frozen=True):
    """When an engine call began and ended (monotonic), how many rows it had, and since when the engine was free."""

    start_s: float
    end_s: float
    rows: int
    free_s: float = 0.0


class Call(Generic[_R]):
    """One engine call: what went in, and what came of it."""

    __slots__ = ("failure", "jobs", "result", "spent")

    def __init__(self, jobs: list[Job], rows: int, free_s: float) -> None:
        self.jobs = jobs
        self.result: _R | None = None
        self.failure: Exception | None = None
        self.spent = Spent(0.0, 0.0, rows, free_s)

    def execute(self, run: Callable[[list[Job]], _R]) -> None:
        """Make the call; blocks."""
        before = caller.begin([job.exchange.head for job in self.jobs])
        start_s = monotonic()
        try:
            self.result = run(self.jobs)
        except Exception as problem:  # the boundary to the engine: whatever it raises belongs to these requests
            self.failure = problem
        finally:
            caller.end(before)
        self.spent = Spent(start_s, monotonic(), self.spent.rows, self.spent.free_s)
