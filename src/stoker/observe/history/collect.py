"""The one sampler: asks every process what it has counted each TICK_S, and gives the answers to the history.

A process that is late or gone is left out of a sample; what it has counted comes with its next answer.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.port import TICK_S
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.telemetry.metrics import Registry, decode_snapshot
from stoker.types.errors import ReplicaLost, StokerError

ASK_TIMEOUT_S: Final = 1.0
SAMPLES_KEPT: Final = 2  # with one taken for an answer they span 5 to 10 s

log = logging.getLogger(__name__)


class Source(Protocol):
    """One process that counts. `name` is the platform's own name for it, and unique."""

    @property
    def name(self) -> str:
        """See above."""

    async def ask(self) -> Answer | None:
        """Return what it has counted since its start; None when it does not answer. Raises nothing."""


class Remote:
    """A process that answers CALL `metrics` on its frames socket."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address

    async def ask(self) -> Answer | None:
        """See Source."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(self._address, timeout_s=ASK_TIMEOUT_S)
                try:
                    _, body = await link.call(RequestHead(method="metrics"), kind=Kind.CALL).answer()
                    boot = link.hello.boot if link.hello is not None else ""
                finally:
                    link.close()
            return Answer(self.name, boot, await asyncio.to_thread(decode_snapshot, body))
        except (ReplicaLost, TimeoutError, OSError):
            return None  # it starts, or is gone; the others count on
        except (StokerError, ValueError) as odd:
            log.warning("a process' metrics could not be read", extra={"source": self.name, "reason": str(odd)})
            return None


class Own:
    """This process itself. `refresh` sets the gauges that are read rather than kept."""

    def __init__(self, registry: Registry, refresh: Callable[[], None] = lambda: None) -> None:
        self.name = registry.process
        self._registry = registry
        self._refresh = refresh
        self._boot = secrets.token_hex(8)

    async def ask(self) -> Answer | None:
        """See Source."""
        self._refresh()
        return Answer(self.name, self._boot, self._registry.snapshot())


class Sample(msgspec.Struct, frozen=True):
    """What those that answered had counted. `at_s` is monotonic."""

    at_s: float
    answers: dict[str, Answer]


class Collector:
    """Samples the sources for the history, and for who wants the rates of these seconds.

    around: who else is asked at this tick, for the history alone. Nobody waits for them: what they say is counted with
        the next tick, for one that hangs must not make an outage be seen later.
    """

    def __init__(
        self, history: History, sources: Sequence[Source], around: Callable[[], Sequence[Source]] = lambda: ()
    ) -> None:
        self._history = history
        self._sources = tuple(sources)
        self._around = around
        self._recent: deque[Sample] = deque(maxlen=SAMPLES_KEPT)
        self._sampled = asyncio.Event()

    @property
    def before(self) -> Sample | None:
        """The sample of 5 to 10 seconds ago, if there is one."""
        return self._recent[0] if self._recent else None

    async def newest(self, within_s: float) -> Sample:
        """Return the newest sample, if it is at most `within_s` old; else take one, for the caller alone."""
        now_s = asyncio.get_running_loop().time()
        if self._recent and now_s - self._recent[-1].at_s <= within_s:
            return self._recent[-1]
        return await self.sample()

    async def sampled(self) -> None:
        """Return when the next sample is in the history."""
        await self._sampled.wait()

    async def sample(self) -> Sample:
        """Ask every source at once; none is waited for longer than ASK_TIMEOUT_S."""
        found = {answer.process: answer for answer in await _ask(self._sources)}
        return Sample(asyncio.get_running_loop().time(), found)

    async def run(self) -> None:
        """Sample on the grid of TICK_S; returns only by cancellation."""
        asked: asyncio.Task[list[Answer]] | None = None
        try:
            while True:
                try:
                    sample = await self.sample()
                    late, asked = asked, None
                    around = await late if late is not None else []
                    self._recent.append(sample)
                    await self._history.observe([*sample.answers.values(), *around])
                    asked = asyncio.create_task(_ask(self._around()))
                    self._sampled.set()
                    self._sampled = asyncio.Event()
                except Exception:  # a bug here must not end control
                    log.exception("a sample failed; the next one counts what it would have")
                await asyncio.sleep(TICK_S - self._history.clock() % TICK_S)
        finally:
            if asked is not None:
                asked.cancel()


async def _ask(sources: Sequence[Source]) -> list[Answer]:
    """Ask all at once; return what those said that answered."""
    answers = await asyncio.gather(*(source.ask() for source in sources))
    return [answer for answer in answers if answer is not None]
