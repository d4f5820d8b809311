"""What a process says about itself: the link to it, kept up and pinged."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from stoker.agent import kernel
from stoker.protocol.frames import Hello, Kind, RequestHead
from stoker.protocol.link import Link, connect
from stoker.types.errors import Conflict, ReplicaLost, StokerError
from stoker.types.faults import METHOD, Fault
from stoker.types.process import LoadProgress, ProcessPhase
from stoker.types.replica import ReplicaStats
from stoker.types.sandbox import Confinement
from stoker.types.starts import PHASE_CHARS_MAX, PHASES_MAX

# A start is watched closely, because somebody waits for it; a start that takes longer is one that takes long.
RETRY_FIRST_S: Final = 0.02
RETRY_MAX_S: Final = 0.25
TELL_S: Final = 3.0


class Watch:
    """The link to one process. `stats` is its last word, None while it never said any."""

    def __init__(self, name: str, pid: int, address: str, on_change: Callable[[], None]) -> None:
        self.stats: ReplicaStats | None = None
        self._name = name
        self._pid = pid
        self._address = address
        self._on_change = on_change
        self._link: Link | None = None
        self._answers = 0
        self.sandbox: Confinement | None = None  # as first told: later the model's own code could say otherwise
        self._lost = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._keep_linked(), name=f"watch {name}")

    @property
    def is_linked(self) -> bool:
        """Return whether the connection stands."""
        return self._link is not None and self._link.is_open

    @property
    def phase(self) -> ProcessPhase:
        """Return the phase by the process' own words."""
        if self.stats is None:
            return "starting"
        return "loading" if self.stats.state == "failed" else self.stats.state

    @property
    def progress(self) -> LoadProgress:
        """Return how far a load is."""
        return LoadProgress() if self.stats is None else LoadProgress(self.stats.stage, self.stats.fraction)

    @property
    def phases(self) -> dict[str, float]:
        """Return what is over of its start, as it says, and no more than a start has."""
        said = self.stats.phases if self.stats is not None else {}
        return {name[:PHASE_CHARS_MAX]: seconds for name, seconds in islice(said.items(), PHASES_MAX)}

    @property
    def error(self) -> str:
        """Return why it could not load, "" while nothing failed."""
        return self.stats.error if self.stats is not None else ""

    @property
    def busy_s(self) -> float:
        """Return how long its engine has worked."""
        return self.stats.busy_s if self.stats is not None else 0.0

    def take_answered(self) -> bool:
        """Return whether it said anything since this was asked last."""
        answered, self._answers = self._answers > 0, 0
        return answered

    def ping(self) -> None:
        """Ask how it does; the answer changes `stats`."""
        if self._link is not None:
            self._link.ping()

    def drain(self) -> None:
        """Tell it to finish what runs and take nothing new."""
        if self._link is not None:
            self._link.drain()

    async def tell(self, fault: Fault | None) -> None:
        """Have it put a fault into itself, or end the one that is there. Raises Conflict, with its own words."""
        link = self._link
        if link is None or not link.is_open:
            raise Conflict(f"{self._name} does not answer, so it cannot be asked to put a fault into itself")
        body = msgspec.json.encode(fault) if fault is not None else b""
        call = link.call(RequestHead(METHOD, body_bytes=len(body)), body, kind=Kind.CALL)
        try:
            async with asyncio.timeout(TELL_S):
                await call.answer()
        except TimeoutError as silent:
            raise Conflict(f"{self._name} did not answer within {TELL_S:g} s") from silent
        except StokerError as refused:
            raise Conflict(refused.message) from refused

    async def close(self) -> None:
        """Drop the connection."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._link is not None:
            self._link.close()
            self._link = None

    async def _keep_linked(self) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            try:
                link = await connect(self._address)
            except ReplicaLost:
                await asyncio.sleep(retry_s)
                retry_s = min(RETRY_MAX_S, retry_s * 1.1)
                continue
            if link.hello is None or not self._is_it(link.hello):
                link.close()
                await asyncio.sleep(RETRY_MAX_S)
                continue
            await self._use(link, link.hello)
            retry_s = RETRY_FIRST_S

    async def _use(self, link: Link, hello: Hello) -> None:
        self._link = link
        self._lost.clear()
        link.on_lost = self._lost.set
        link.on_stats = self._take
        if not link.is_open:
            return
        self._take(ReplicaStats(state=hello.state))
        link.ping()
        try:
            await self._lost.wait()
        finally:
            link.close()

    def _is_it(self, hello: Hello) -> bool:
        """Return whether this process answers, or a child of its session (a wrapper script's), and not another."""
        if hello.name != self._name:
            return False
        if hello.pid == self._pid:
            return True
        line = kernel.process(hello.pid)
        return line is not None and line.session == self._pid

    def _take(self, stats: ReplicaStats) -> None:
        before, self.stats = self.stats, stats
        if self.sandbox is None:
            self.sandbox = stats.sandbox
        self._answers += 1
        if before is None or _shown(stats) != _shown(before):
            self._on_change()


def _shown(stats: ReplicaStats) -> tuple[object, ...]:
    return (stats.state, stats.stage, stats.fraction, stats.error, stats.engine, stats.phases)
