"""Processes that count, a clock that is set by hand, and the truth to compare a History with."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.port import TICK_S, select
from stoker.telemetry.metrics import Registry

START_S = 1_800_000_000 // 3600 * 3600  # an hour begins
LABELS = {"project": "default", "endpoint": "a", "revision": "default.a-1", "method": "infer"}
REQUESTS = select("stoker_requests_total", endpoint="a")
LATENCY = select("stoker_request_duration_seconds", endpoint="a")

_T = TypeVar("_T")


class Clock:
    """Unix time that stands still until it is set."""

    def __init__(self, now_s: float = START_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Counting:
    """A process with a registry. A restart gives it another boot and nothing counted."""

    def __init__(self, name: str = "gateway-0") -> None:
        self.name = name
        self.starts = 0
        self.restart()

    def restart(self) -> None:
        self.starts += 1
        self.registry = Registry(self.name)

    def request(self, count: float = 1, *, code: str = "200", **labels: str) -> None:
        self.registry.counter("stoker_requests_total", **{**LABELS, "code": code, **labels}).add(count)

    def latency(self, *seconds: float, **labels: str) -> None:
        histogram = self.registry.histogram("stoker_request_duration_seconds", **{**LABELS, **labels})
        for each in seconds:
            histogram.observe(each)

    def queue(self, depth: float) -> None:
        self.registry.gauge("stoker_queue_depth", project="default", endpoint="a").set(depth)

    def answer(self) -> Answer:
        return Answer(self.name, f"{self.name}-{self.starts}", self.registry.snapshot())


class Rig:
    """One History on a file; `run` calls its coroutines."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = Clock()
        self.options = options
        self.loop = asyncio.new_event_loop()
        self.history = self.open()

    def open(self) -> History:
        history = History(self.path, clock=self.clock, **self.options)
        self.run(history.start())
        return history

    def run(self, question: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(question)

    def tick(self, *processes: Counting, seconds: float = TICK_S) -> None:
        """Let time pass, then have the processes asked."""
        self.clock.now_s += seconds
        self.run(self.history.observe([each.answer() for each in processes]))

    def minutes(self, count: int, *processes: Counting, each: Callable[[int], None] | None = None) -> None:
        """Let whole minutes pass with one sample at the end of each."""
        for number in range(count):
            if each is not None:
                each(number)
            self.tick(*processes, seconds=60)

    def forsake(self) -> None:
        """Leave the History as a killed process would: nothing is written, nothing is closed in order."""
        connection = self.history._connection
        self.history._pending = {}
        if connection is not None:
            connection.close()
            self.history._connection = None
        self.run(self.history.close())

    def reopen(self) -> None:
        """Close in order and start again."""
        self.run(self.history.close())
        self.history = self.open()

    def total(self, window_s: float, selector: Any = REQUESTS) -> float:
        return self.run(self.history.sums([selector], [window_s]))[0][0]

    def close(self) -> None:
        self.run(self.history.close())
        self.loop.close()
