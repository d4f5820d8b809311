"""What is kept of sampled requests, and the thread that redacts, seals and writes it.

The path of a request only hands over references: QUEUE_MAX samples of QUEUE_MAX_BYTES together may wait, what comes
when they do is dropped and counted. The thread works a quarter of the time at the most, because what it does in Python
the event loop cannot do meanwhile. A disk that is full drops samples, never requests.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from stoker.core import kept
from stoker.core.pseudonyms import Pseudonyms
from stoker.core.recognise.custom import Custom, compiled
from stoker.core.sampling import Reason
from stoker.gateway.exchange import Exchange
from stoker.gateway.meters import Meters
from stoker.telemetry import segments
from stoker.telemetry.sealing import KeyRing, Unreadable
from stoker.telemetry.segments import Writer
from stoker.types.errors import StokerError
from stoker.types.routes import SamplesRoute
from stoker.types.samples import SampleRecord

QUEUE_MAX: Final = 256
QUEUE_MAX_BYTES: Final = 16 << 20
HEARD_MAX_BYTES: Final = 32 << 20  # of streams that may yet fail or be slow, heard at once
IDLE_SHARE: Final = 3.0  # rests so much longer than it worked
SWEEP_EVERY_S: Final = 60.0
SWEEP_EVERY_BYTES: Final = 4 << 20  # so far over the total may all samples be, for each gateway
WRITERS_MAX: Final = 64  # open files
PATTERNS_MAX: Final = 256  # endpoints' own, compiled
CLOSE_S: Final = 2.0  # for what still waits when the process ends

_log = logging.getLogger(__name__)


class Answer:
    """What was heard of an answer: all of it, or its beginning and how long it was."""

    __slots__ = ("header_bytes", "is_cut", "is_stream", "pieces", "size")

    def __init__(self, *, is_stream: bool) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_cut = False
        self.is_stream = is_stream
        self.header_bytes = -1


class Sample:
    """One request to keep, as references to what the exchange had."""

    __slots__ = ("about", "answer", "body", "header_bytes", "meters", "method", "reasons", "rules")

    def __init__(
        self,
        exchange: Exchange,
        rules: SamplesRoute,
        reasons: list[Reason],
        status: int,
        took_s: float,
        problem: StokerError | None,
        answer: Answer | None,
        flag: str = "",
    ) -> None:
        lane, key = exchange.lane, exchange.key
        assert lane is not None
        assert key is not None
        self.meters: Meters = lane.meters
        self.rules = rules
        self.reasons = reasons
        self.method = exchange.method
        # A body that is too large is only measured: it need not be held until then.
        is_wanted = rules.request and len(exchange.body) <= rules.max_bytes
        self.body = exchange.body if is_wanted else b""
        self.header_bytes = exchange.header_bytes
        self.answer = answer
        first_s = exchange.first_byte_s
        self.about = SampleRecord(
            id=exchange.id,
            at_s=round(time.time() - took_s, 3),
            project=lane.route.project,
            endpoint=lane.route.endpoint,
            method=exchange.method,
            status=status,
            reasons=tuple(reasons),
            took_s=round(took_s, 6),
            revision=exchange.revision,
            flag=flag,
            served_by=exchange.served_by,
            stream=exchange.stream,
            code=problem.code if problem is not None else "",
            message=problem.message if problem is not None else "",
            first_token_s=round(first_s - exchange.request.started_s, 6) if first_s else 0.0,
            key=key.key,
            tenant=key.limits.tenant,
            input_tokens=exchange.usage.input_tokens,
            output_tokens=exchange.usage.output_tokens,
            request_bytes=len(exchange.body),
            response_bytes=answer.size if answer is not None else 0,
        )

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return len(self.body) + (sum(map(len, self.answer.pieces)) if self.answer is not None else 0)


class Samples:
    """The queue and the thread. Its methods are the event loop's.

    The thread starts with the first sample, or at once where some were kept: whoever samples no more has a day on which
    the last of them must go.
    """

    def __init__(self, folder: Path, keys: KeyRing, max_bytes: int, process: str) -> None:
        self._folder = folder
        self._keys = keys
        self.max_bytes = max_bytes
        self._boot = segments.boot_name(process)
        self._loop = asyncio.get_running_loop()
        self._turn = threading.Condition()
        self._waiting: deque[Sample] = deque()
        self._bytes = 0  # of what waits
        self._hearable = HEARD_MAX_BYTES
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._writers: OrderedDict[tuple[str, str], Writer] = OrderedDict()
        self._custom: dict[tuple[tuple[str, str], ...], list[Custom]] = {}
        self._unswept = SWEEP_EVERY_BYTES
        self._swept_s = 0.0
        if segments.has_any(folder):
            self._start()

    def reserve(self, size: int) -> bool:
        """Return whether an answer of up to `size` bytes may be heard to its end, and count them; `release` them."""
        if size > self._hearable:
            return False
        self._hearable -= size
        return True

    def release(self, size: int) -> None:
        """Give back what `reserve` counted."""
        self._hearable += size

    def offer(self, sample: Sample) -> None:
        """Take a sample to be kept, or count why it is not. Never raises, never waits for work."""
        size = sample.size
        with self._turn:
            is_full = len(self._waiting) >= QUEUE_MAX or self._bytes + size > QUEUE_MAX_BYTES
            if not is_full:
                self._waiting.append(sample)
                self._bytes += size
                self._turn.notify()
        if is_full:
            sample.meters.sample_dropped("queue")
        elif self._thread is None:
            self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, for CLOSE_S at the most."""
        self._ends.set()
        with self._turn:
            self._turn.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    # ---- the thread

    def _run(self) -> None:
        self._sweep()
        while True:
            with self._turn:
                if not self._waiting and not self._ends.is_set():
                    self._turn.wait(SWEEP_EVERY_S)
                if not self._waiting and self._ends.is_set():
                    return
                sample = self._waiting.popleft() if self._waiting else None
                self._bytes -= sample.size if sample is not None else 0
            began_s = time.thread_time()
            if sample is not None:
                self._tell(self._kept(sample))
            self._sweep()
            self._ends.wait(IDLE_SHARE * (time.thread_time() - began_s))

    def _kept(self, sample: Sample) -> Callable[[], None]:
        """Keep a sample; return what is to be counted, in the loop's thread."""
        project, endpoint = sample.about.project, sample.about.endpoint
        try:
            keys = self._keys.project(project)
            record = encoded(sample, Pseudonyms(keys.names, self._patterns(sample.rules)))
            size = self._writer(project, endpoint).append(keys.data, record, sample.rules.ttl_s, time.time())
        except OSError as full:
            _log.warning("a sample cannot be written", extra={"endpoint": endpoint, "reason": str(full)})
            self._unswept = SWEEP_EVERY_BYTES
            return lambda: sample.meters.sample_dropped("disk")
        except Unreadable as wrong:
            self._keys.forget()
            _log.error("samples cannot be sealed", extra={"project": project, "reason": str(wrong)})
            return lambda: sample.meters.sample_dropped("key")
        except Exception:  # the boundary of the thread: one sample's bug is its own
            _log.exception("a sample cannot be kept", extra={"endpoint": endpoint, "request": sample.about.id})
            return lambda: sample.meters.sample_dropped("bug")
        self._unswept += size
        return lambda: sample.meters.sampled(sample.reasons, size)

    def _patterns(self, rules: SamplesRoute) -> list[Custom]:
        patterns = tuple(rules.patterns.items())
        found = self._custom.get(patterns)
        if found is None:
            if len(self._custom) >= PATTERNS_MAX:
                self._custom.clear()
            found = self._custom[patterns] = [compiled(kind, pattern) for kind, pattern in patterns]
        return found

    def _writer(self, project: str, endpoint: str) -> Writer:
        found = self._writers.pop((project, endpoint), None)
        if found is None:
            found = Writer(self._folder / project / endpoint, self._boot)
            if len(self._writers) >= WRITERS_MAX:
                self._writers.popitem(last=False)[1].close()
        self._writers[project, endpoint] = found
        return found

    def _sweep(self) -> None:
        now_s = time.monotonic()
        if self._unswept >= SWEEP_EVERY_BYTES or now_s - self._swept_s >= SWEEP_EVERY_S:
            self._unswept, self._swept_s = 0, now_s
            try:
                segments.sweep(self._folder, self.max_bytes, time.time())
            except OSError as wrong:
                _log.warning("samples cannot be swept", extra={"reason": str(wrong)})

    def _tell(self, count: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(count)
        except RuntimeError:  # the loop has ended, and its numbers with it
            return


def encoded(sample: Sample, names: Pseudonyms) -> bytes:
    """Return the record of a sample: JSON, without what was recognised in it."""
    rules, about = sample.rules, sample.about
    record = msgspec.structs.replace(
        about,
        id=names.text(about.id),
        message=names.text(about.message),
        flag=names.text(about.flag),
        request=_request(sample, names) if rules.request else None,
        response=_response(sample.answer, rules, names) if sample.answer is not None else None,
    )
    return msgspec.json.encode(msgspec.structs.replace(record, hidden=names.hidden))


def _request(sample: Sample, names: Pseudonyms) -> Any:
    size, max_bytes = sample.about.request_bytes, sample.rules.max_bytes
    if size > max_bytes:
        return kept.measured(size)
    rules, header_bytes = sample.rules, sample.header_bytes
    return kept.body(sample.body, names, header_bytes=header_bytes, bytes_max=max_bytes, with_tensors=rules.tensors)


def _response(answer: Answer, rules: SamplesRoute, names: Pseudonyms) -> Any:
    if not answer.size:
        return None
    data = b"".join(answer.pieces)
    if answer.is_stream:
        return kept.stream(data, names, is_cut=answer.is_cut)
    if answer.is_cut:
        return kept.measured(answer.size)
    header_bytes = answer.header_bytes
    return kept.body(data, names, header_bytes=header_bytes, bytes_max=rules.max_bytes, with_tensors=rules.tensors)
