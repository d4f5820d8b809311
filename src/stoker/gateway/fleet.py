"""The connections to replicas: kept open, pinged, judged.

A replica is open for requests when its process says `ready`, it is not ejected and no trial has it for itself.
"""

import asyncio
import contextlib
import logging
import random
import time
from typing import Final, Protocol

from stoker.core import breaker, route
from stoker.core.concurrency import Learned
from stoker.protocol.link import Link, connect
from stoker.types.errors import ReplicaLost
from stoker.types.replica import ReplicaState, ReplicaStats
from stoker.types.routes import ReplicaRoute

PING_S: Final = 1.0
LOADING_PING_S: Final = 0.05  # readiness is waited for
BACKOFF_MIN_S: Final = 0.02
BACKOFF_WANTED_S: Final = 0.25  # while requests wait for this replica
BACKOFF_MAX_S: Final = 2.0
PLACES_FIRST: Final = 2  # until its first PONG, a round trip after HELLO
STOPPED_S: Final = 2.0  # when a second took this much longer, this process was stopped, not the replica
EJECTED_MIN_S: Final = 5.0  # an ejected replica without work shows no progress; it is tried again after this

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """What a replica's owner does when something about it changes."""

    task: str

    def replica_changed(self, replica: "Replica") -> None:
        """It opened, closed, or its place count changed."""

    def may_eject(self) -> bool:
        """Return whether one more replica may be out."""

    def ejected(self, replica: "Replica", reason: str) -> None:
        """Move what can move away from it."""

    def is_wanted(self) -> bool:
        """Return whether requests wait for a replica."""

    def places(self, replica: "Replica") -> int:
        """Return how many requests of this gateway `replica` may hold, by what it says of itself."""


class Replica:
    """One replica as this gateway sees it."""

    __slots__ = (
        "_closing", "_ejected_mark", "_ejected_s", "_heard_s", "_judged_s", "_seen", "_task", "_watcher",
        "address", "boot", "down_since_s", "error", "id", "in_flight", "is_ejected", "is_reserved", "learned",
        "link", "others", "places", "progress", "revision", "state", "stats", "version",
    )  # fmt: skip

    def __init__(self, route_: ReplicaRoute, revision: str, version: str, watcher: Watcher) -> None:
        self.id = str(route_.replica)
        self.address = route_.address
        self.revision = revision
        self.version = version
        self.link: Link | None = None
        self.state: ReplicaState = "loading"
        self.stats = ReplicaStats()
        self.boot = ""
        self.error = ""
        self.in_flight = 0  # places taken by requests of this gateway
        self.places = PLACES_FIRST  # that it has for them
        self.learned = Learned()  # where it does not say how many it can work on
        self.others = 0  # requests of others in it, as last reported
        self.progress = 0  # pieces and answers that came from it
        self.is_ejected = False
        self.is_reserved = False  # for one request on trial
        self.down_since_s = time.monotonic()
        self._seen = breaker.Progress(0, self.down_since_s)
        self._heard_s = self._judged_s = self.down_since_s
        self._ejected_mark = 0
        self._ejected_s = 0.0
        self._watcher = watcher
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
    def load(self) -> int:
        """Return how many requests it holds, as far as known."""
        return self.in_flight + self.others

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
                try:
                    self.link = await connect(self.address)
                except ReplicaLost:
                    bound_s = BACKOFF_WANTED_S if self._watcher.is_wanted() else BACKOFF_MAX_S
                    wait_s = min(wait_s * 1.6, bound_s)
                    await asyncio.sleep(wait_s * random.uniform(0.75, 1.25))
                    continue
                wait_s = BACKOFF_MIN_S
                await self._watch(self.link)
        finally:
            if self.link is not None:
                self.link.close()

    async def _watch(self, link: Link) -> None:
        """Ping and judge until the connection ends."""
        assert link.hello is not None
        lost = asyncio.Event()
        now_s = self._heard_s = self._judged_s = time.monotonic()
        self.boot = link.hello.boot
        self.state = link.hello.state
        self._seen = breaker.Progress(self.progress, now_s, self._seen.gap_max_s)
        link.on_stats = self._hear
        link.on_lost = lost.set
        self._watcher.replica_changed(self)
        try:
            while link.is_open and not (self._closing and self.in_flight == 0):
                link.ping()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), PING_S if self.state == "ready" else LOADING_PING_S)
                self._judge()
        finally:
            link.on_stats = link.on_lost = None
            link.close()
            self.state = "loading"
            self.is_ejected = False
            self.others = 0
            self.down_since_s = time.monotonic()
            self._watcher.replica_changed(self)

    def _hear(self, stats: ReplicaStats) -> None:
        self._heard_s = time.monotonic()
        self.stats = stats
        self.error = stats.error
        self.others = route.load_of_others(stats.queued + stats.running, self.in_flight)
        places = self._watcher.places(self)
        if places != self.places:
            self.places = places
            self._watcher.replica_changed(self)
        if stats.state != self.state:
            self.state = stats.state
            self._watcher.replica_changed(self)

    def _judge(self) -> None:
        now_s = time.monotonic()
        mark = self.progress + self.stats.finished + self.stats.tokens
        if now_s - self._judged_s > PING_S + STOPPED_S:  # it was us who did not run
            self._heard_s = now_s
            self._seen = breaker.Progress(mark, now_s, self._seen.gap_max_s)
        self._judged_s = now_s
        self._seen = breaker.observe(self._seen, mark, self.in_flight > 0, now_s)
        if self.state == "loading":
            return
        verdict = breaker.judge(self._seen, self._watcher.task, self._heard_s, now_s)
        if self.is_ejected:
            is_idle = self.stats.queued + self.stats.running == 0 and now_s - self._ejected_s > EJECTED_MIN_S
            if verdict == "healthy" and (mark != self._ejected_mark or is_idle):
                self.is_ejected = False
                _log.info("replica is back", extra={"replica": self.id})
                self._watcher.replica_changed(self)
        elif verdict != "healthy" and self._watcher.may_eject():
            self.is_ejected = True
            self._ejected_mark, self._ejected_s = mark, now_s
            _log.warning("replica ejected", extra={"replica": self.id, "reason": verdict})
            self._watcher.replica_changed(self)
            self._watcher.ejected(self, verdict)
