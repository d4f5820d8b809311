"""Load at a steady rate, and what those who send it see of each second.

Requests begin when they are due, not when the last one ended: a replica that hangs does not silence the load. Threads,
because each exchange of the client blocks; when all of them wait, what falls due is dropped and counted.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.client.connection import Connection
from stoker.client.data import ModelMetadata
from stoker.types.errors import InvalidInput, StokerError
from stoker.types.resources import Task

TIMEOUT_S: Final = 5.0
WORKERS_MAX: Final = 96
SECONDS_MAX: Final = 3600
TIMES_MAX: Final = 1000  # answers of one second whose times are kept
LATE_MAX_S: Final = 0.5
ELEMENTS_MAX: Final = 1_000_000  # of an input that is made up
ANSWER_TOKENS: Final = 8
TEXT: Final = "The quick brown fox jumps over the lazy dog. "


class Ask(msgspec.Struct, frozen=True):
    """One request, sent again and again. is_stream: its answer comes as a chat's stream does."""

    path: str
    body: bytes
    headers: Mapping[str, str] = {}
    is_stream: bool = False


class Tally(msgspec.Struct):
    """What was sent in one second and what became of it. `times_s` are of those that were answered well."""

    requests: int = 0
    failed: int = 0
    answered: int = 0
    dropped: int = 0
    times_s: list[float] = []

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is in flight any more."""
        return self.failed + self.answered >= self.requests

    @property
    def slow_s(self) -> float:
        """What the slowest twentieth took at least; 0 when nothing was answered."""
        ordered = sorted(self.times_s)
        return ordered[int(len(ordered) * 0.95)] if ordered else 0.0


class Load:
    """Sends `ask` at `rate` a second once started. `problem` is the newest failure."""

    def __init__(self, connection: Connection, ask: Ask, rate: float) -> None:
        self.problem = ""
        self._connection = connection
        self._ask = ask
        self._rate = rate
        self._began_s = 0.0
        self._next = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._tallies: dict[int, Tally] = {}
        count = min(WORKERS_MAX, max(2, int(rate * TIMEOUT_S) + 1))
        self._workers = [threading.Thread(target=self._work, name="load", daemon=True) for _ in range(count)]

    def start(self, origin_s: float) -> None:
        """Begin. Seconds count from `origin_s` (monotonic)."""
        self._origin_s, self._began_s = origin_s, time.monotonic()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End; returns when nothing is in flight any more, TIMEOUT_S at most."""
        self._stopped.set()
        until_s = time.monotonic() + TIMEOUT_S + 1.0
        for worker in self._workers:
            if worker.ident is not None:
                worker.join(max(until_s - time.monotonic(), 0.0))

    def tallies(self) -> dict[int, Tally]:
        """Return what was seen, by second since the origin."""
        with self._lock:
            return {at: msgspec.structs.replace(each, times_s=list(each.times_s)) for at, each in self._tallies.items()}

    def once(self) -> None:
        """Send one request and wait for the answer. Raises what is wrong with it."""
        self._exchange()

    def _work(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                due_s = self._began_s + self._next / self._rate
                self._next += 1
            now_s = time.monotonic()
            if due_s > now_s and self._stopped.wait(due_s - now_s):
                return
            if now_s - due_s > LATE_MAX_S:
                self._count(due_s, dropped=1)
                continue
            sent_s = time.monotonic()
            self._count(sent_s, requests=1)
            try:
                self._exchange()
            except StokerError as problem:
                self.problem = f"{problem.code}: {problem.message}"
                self._count(sent_s, failed=1)
            else:
                self._count(sent_s, took_s=time.monotonic() - sent_s)

    def _exchange(self) -> None:
        self._connection.exchange(
            "POST", self._ask.path, body=self._ask.body, headers=self._ask.headers, timeout_s=TIMEOUT_S
        )

    def _count(self, at_s: float, *, requests: int = 0, failed: int = 0, dropped: int = 0, took_s: float = -1) -> None:
        second = int(at_s - self._origin_s)
        with self._lock:
            if second not in self._tallies and len(self._tallies) >= SECONDS_MAX:
                return
            tally = self._tallies.setdefault(second, Tally(times_s=[]))
            tally.requests += requests
            tally.failed += failed
            tally.dropped += dropped
            if took_s >= 0:
                tally.answered += 1
                if len(tally.times_s) < TIMES_MAX:
                    tally.times_s.append(took_s)


def example(
    endpoint: str, task: Task, metadata: ModelMetadata | None, *, length: int = 1, rows: int = 1, value: int = 0
) -> Ask:
    """Return a plain request for an endpoint: `rows` of numbers that are all `value`, or a sentence `length` times.

    Raises InvalidInput for a signature that no request can be made up for.
    """
    headers = {"Content-Type": "application/json"}
    if task == "chat":
        messages = [{"role": "user", "content": TEXT * length}]
        body = {"model": endpoint, "messages": messages, "max_tokens": ANSWER_TOKENS}
        return Ask("/v1/chat/completions", msgspec.json.encode(body), headers)
    if task == "embed":
        return Ask("/v1/embeddings", msgspec.json.encode({"model": endpoint, "input": [TEXT * length]}), headers)
    if metadata is None or not metadata.inputs:
        raise InvalidInput(f"{endpoint} does not say what goes in; give a whole request with --data @FILE")
    inputs = []
    for spec in metadata.inputs:
        shape = [size if size >= 0 else rows if axis == 0 else 1 for axis, size in enumerate(spec.shape)]
        count = 1
        for size in shape:
            count *= size
        if count > ELEMENTS_MAX:
            raise InvalidInput(f"input {spec.name!r} has {count} elements; give a whole request with --data @FILE")
        plain: object = {"BYTES": "a", "BOOL": False}.get(spec.datatype, value)
        inputs.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [plain] * count})
    return Ask(f"/v2/models/{endpoint}/infer", msgspec.json.encode({"inputs": inputs}), headers)
