"""The connections to replicas: kept open, pinged, judged.

A replica is open for requests when its process says `ready`, it is not ejected and no trial has it for itself.
"""

import asyncio
import contextlib
import logging
import random
import time
from typing import Final, Protocol

import xxhash

from stoker.core import affinity, outlier, route
from stoker.core.concurrency import Learned
from stoker.core.retry import BUSY_WAIT_S
from stoker.gateway.fleet.health import Evidence, Health
from stoker.gateway.meters import Meters
from stoker.gateway.remote.asking import Asking
from stoker.gateway.remote.pool import Pool
from stoker.protocol.direct import Direct
from stoker.protocol.link import Link, connect
from stoker.types.errors import Busy, ReplicaLost
from stoker.types.replica import ReplicaState, ReplicaStats
from stoker.types.routes import ReplicaRoute

PING_S: Final = 0.5
BUSY_PING_S: Final = 0.25  # while it holds requests: a second's silence is seen, and the load of others is fresh
LOADING_PING_S: Final = 0.05  # readiness is waited for
BACKOFF_MIN_S: Final = 0.02
BACKOFF_WANTED_S: Final = 0.25  # while requests wait for this replica
BACKOFF_MAX_S: Final = 2.0
PLACES_FIRST: Final = 2  # until its first PONG, a round trip after HELLO

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """What a replica's owner does when something about it changes."""

    task: str
    meters: Meters

    def replica_changed(self, replica: "Replica") -> None:
        """It opened, closed, or its place count changed."""

    def refused(self) -> None:
        """A replica is sent nothing more for a while: it, or the server behind it, is full."""

    def may_eject(self) -> bool:
        """Return whether one more replica may be out."""

    def evidence(self, now_s: float, *, is_fresh: bool) -> Evidence:
        """Return what all replicas show, this one too; a little old, unless `is_fresh`."""

    def ejected(self, replica: "Replica", reason: str) -> None:
        """Move what can move away from it."""

    def probe(self, replica: "Replica") -> None:
        """Try one request on it, although it is out."""

    def is_wanted(self) -> bool:
        """Return whether requests wait for a replica."""

    def places(self, replica: "Replica") -> int:
        """Return how many requests of this gateway `replica` may hold, by what it says of itself."""


class Replica:
    """One replica as this gateway sees it."""

    __slots__ = (
        "_asking", "_closing", "_pause", "_task", "_watcher", "address", "boot", "busy", "cost", "down_since_s",
        "error", "handed", "health", "id", "in_flight", "is_ejected", "is_reserved", "key", "known", "learned",
        "link", "meters", "node", "others", "paused_until_s", "places", "progress", "remote", "revision", "secrets",
        "stage_since_s", "state", "stats", "version",
    )  # fmt: skip

    def __init__(self, route_: ReplicaRoute, revision: str, version: str, watcher: Watcher) -> None:
        self.id = str(route_.replica)
        self.address = route_.address
        self.revision = revision
        self.version = version
        self.link: Link | None = None
        self.remote: Pool | None = None  # the server behind it, where this gateway speaks to that itself
        self.state: ReplicaState = "loading"
        self.stats = ReplicaStats()
        self.boot = ""
        self.error = ""
        self.in_flight = 0  # places taken by requests of this gateway
        self.places = PLACES_FIRST  # that it has for them
        self.learned = Learned()  # where it does not say how many it can work on
        self.paused_until_s = 0.0  # nothing is sent before: it, or the server behind it, said when to come again
        self.busy = 0.0  # the same, each counted as its share of a usual request
        self.others = 0  # requests of others in it, as last reported
        self.cost = route.Cost()
        self.node = xxhash.xxh3_64_intdigest(self.id.encode())  # stands for it where sessions are spread
        self.known = affinity.Known()
        self.progress = 0  # pieces and answers that came from it
        self.is_ejected = False
        self.is_reserved = False  # for one request on trial
        self.secrets: tuple[str, ...] = ()  # references that it is handed the values of, and which is its server's key
        self.key = ""
        self.handed: tuple[Link, dict[str, int]] | None = None  # numbers of the values it has (remote/keys.py)
        self.down_since_s = self.stage_since_s = time.monotonic()  # the phase of its start that it is in (stats.stage)
        self.health = Health(self.down_since_s)
        self.meters = watcher.meters.replica(revision, self.id)
        self._watcher = watcher
        self._asking: Asking | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"replica {self.id}")

    @property
    def is_connected(self) -> bool:
        """Return whether its process answers (it may still be loading)."""
        return self.link is not None and self.link.is_open

    @property
    def is_open(self) -> bool:
        """Return whether requests may go to it."""
        return (
            self.state == "ready"
            and not self.is_ejected
            and not self.is_reserved
            and not self._closing
            and self.is_connected
        )

    @property
    def load(self) -> float:
        """Return how many usual requests it holds, as far as known."""
        return self.busy + self.others

    def answered(self, sample_s: float, sent_s: float, now_s: float) -> None:
        """Learn from a good answer to what was sent at `sent_s`: what a unit of work took."""
        self.cost.observe(sample_s, now_s)
        self.health.record.answered(sample_s, now_s)
        if self.is_ejected:
            self.health.probed(is_good=sample_s <= self.health.record.slow_over_s, sent_s=sent_s, now_s=now_s)

    def failed(self, sent_s: float, now_s: float) -> None:
        """Learn from an error that was its own."""
        record = self.health.record
        record.failed(now_s)
        if self.is_ejected:
            self.health.probed(is_good=False, sent_s=sent_s, now_s=now_s)
        elif record.in_a_row % outlier.ERRORS_IN_A_ROW == 0:  # at once: who fails is quick, and attracts more
            self._judge(now_s, is_urgent=True)

    def refused(self, problem: Busy, sent_s: float, now_s: float, *, is_first: bool) -> None:
        """Take note that what was sent at `sent_s` was too much: nothing more is sent before the time that it says.

        Unless that was refused before: it may be too much by itself, and holds up the others only once.
        """
        self.learned.failed(self.in_flight + self.others, sent_s, now_s)
        pause_s = problem.retry_after_s or BUSY_WAIT_S
        if is_first and now_s + pause_s > self.paused_until_s:
            self.paused_until_s = now_s + pause_s
            if self._pause is not None:
                self._pause.cancel()
            self._pause = asyncio.get_running_loop().call_later(pause_s, self._resume)
            self._watcher.refused()
        self.recount()

    def drains(self) -> None:
        """Take note that it refuses new requests."""
        if self.state == "ready":
            self.state = "draining"
            self._watcher.replica_changed(self)

    def retire(self) -> None:
        """Send it nothing more; close the connection when what runs in it has ended."""
        self._closing = True
        if self.in_flight == 0:
            self._task.cancel()

    async def close(self) -> None:
        """Close the connection now."""
        self._closing = True
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _keep(self) -> None:
        """Connect, watch, and connect again, until cancelled or retired."""
        wait_s = BACKOFF_MIN_S
        try:
            while not (self._closing and self.in_flight == 0):
                link = None
                with contextlib.suppress(ReplicaLost):
                    link = await connect(self.address)
                if link is None:
                    bound_s = BACKOFF_WANTED_S if self._watcher.is_wanted() else BACKOFF_MAX_S
                    wait_s = min(wait_s * 1.6, bound_s)
                    await asyncio.sleep(wait_s * random.uniform(0.75, 1.25))
                    continue
                self.link = link
                wait_s = BACKOFF_MIN_S
                await self._watch(link)
        finally:
            if self._pause is not None:
                self._pause.cancel()
            if self.link is not None:
                self.link.close()

    async def _watch(self, link: Link) -> None:
        """Ping and judge until the connection ends."""
        assert link.hello is not None
        lost = asyncio.Event()
        now_s = time.monotonic()
        is_new = link.hello.boot != self.boot
        if is_new:  # it has measured nothing and keeps no prompts
            self.cost.reset()
            self.known.clear()
            self.stage_since_s = now_s
        self.boot = link.hello.boot
        has_server = self._watcher.task == "chat"  # it may have one; is it ready, it is asked before it is open
        self.state = "loading" if has_server and link.hello.state == "ready" else link.hello.state
        self._asking = Asking(link, self._ready) if has_server else None
        self.health.connected(self.progress, now_s, is_new=is_new)
        link.on_stats = self._hear

        def note_loss() -> None:
            self.down_since_s = time.monotonic()  # at once: who asks before this task runs again asks for how long
            lost.set()

        link.on_lost = note_loss
        self._watcher.replica_changed(self)
        try:
            while link.is_open and not (self._closing and self.in_flight == 0):
                self._ping(link)
                self.health.asked(time.monotonic())
                every_s = LOADING_PING_S
                if self.state == "ready":
                    every_s = BUSY_PING_S if self.in_flight else PING_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), every_s)
                self._look(every_s)
        finally:
            link.on_stats = link.on_lost = None
            link.close()
            if self.remote is not None:
                self.remote.close()
                self.remote = None
            self.state = "loading"
            self.is_ejected = False
            self.others = 0
            self.down_since_s = time.monotonic()
            self._watcher.replica_changed(self)

    def _ping(self, link: Link) -> None:
        link.doubt()
        link.ping(passed=self.remote.passed if self.remote is not None else (0, 0))

    def _ready(self, link: Link, direct: Direct | None) -> None:
        """It is ready, and said what is behind it."""
        self._asking = None
        if self.link is link and link.is_open and self.state != "ready":
            if direct is not None:
                with contextlib.suppress(ValueError):  # then it serves itself what goes to such a URL
                    self.remote = Pool(direct, link.loop, lambda: self._ping(link))
                    self.remote.sever(is_severed=self.stats.is_severed)
            self.state = "ready"
            self._watcher.replica_changed(self)

    def _hear(self, stats: ReplicaStats) -> None:
        now_s = time.monotonic()
        self.health.heard(now_s)
        if stats.stage != self.stats.stage:
            self.stage_since_s = now_s
        self.stats = stats
        self.error = stats.error
        self.others = stats.others
        if self.remote is not None:
            self.remote.sever(is_severed=stats.is_severed)
        self.recount()
        if stats.state == "ready" and self._asking is not None:
            self._asking.ask()
        elif stats.state != self.state:
            self.state = stats.state
            self._watcher.replica_changed(self)

    def recount(self) -> None:
        """Look again how many places it has for this gateway."""
        places = 0 if self._pause is not None else self._watcher.places(self)
        if places != self.places:
            self.places = places
            self._watcher.replica_changed(self)

    def _resume(self) -> None:
        self._pause = None
        self.paused_until_s = 0.0
        self.recount()

    def _mark(self) -> int:
        return self.progress + self.stats.finished + self.stats.tokens

    def _look(self, every_s: float) -> None:
        now_s = time.monotonic()
        self.health.look(self._mark(), self.in_flight > 0, every_s, now_s)
        if not self.in_flight:
            self.cost.fade(now_s)
        if self.state != "loading":
            verdict = self._judge(now_s)
            if verdict in ("silent", "stuck") and self.in_flight:
                self.meters.stalled(every_s)

    def _judge(self, now_s: float, *, is_urgent: bool = False) -> str:
        mark = self._mark()
        evidence = self._watcher.evidence(now_s, is_fresh=is_urgent)
        verdict = self.health.verdict(self._watcher.task, evidence, now_s)
        if self.is_ejected:
            is_idle = self.stats.queued + self.stats.running == 0
            if self.health.may_return(verdict, mark, is_idle=is_idle, now_s=now_s):
                self.is_ejected = False
                self.health.returned()
                _log.info("replica is back", extra={"replica": self.id})
                self._watcher.replica_changed(self)
            elif self.health.wants_probe(now_s):
                self._watcher.probe(self)
        elif verdict and not self._watcher.may_eject():
            if is_urgent:
                self.cost.penalize(now_s)
        elif verdict:
            self.is_ejected = True
            self.health.ejected(verdict, mark, now_s)
            _log.warning("replica ejected", extra={"replica": self.id, "reason": verdict})
            self._watcher.replica_changed(self)
            self._watcher.ejected(self, verdict)
        return verdict
