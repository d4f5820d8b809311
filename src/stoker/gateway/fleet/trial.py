"""A suspected request runs alone: nothing else of this gateway is sent to its replica, and no other trial is held.

Gateways of one machine take turns by a file lock, so that two suspects never share a death. A trial is over when the
request ended, or after PAROLE_S: what did not kill by then gets company again, because a long answer must not hold up
everybody. A death in the trial convicts.
"""

import asyncio
import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from stoker.core import admit
from stoker.gateway.exchange import Exchange, Handler
from stoker.gateway.fleet import suspicion
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.lane import Lane
from stoker.types.errors import QueueFull

PAROLE_S: Final = 0.5
EMPTY_S: Final = 2.0  # how long a trial waits for its replica to be empty; what is older than this is innocent
POLL_S: Final = 0.003


class _Turn:
    """The right to hold a trial in an endpoint, in this gateway and on this machine. `end` may be called twice."""

    def __init__(self, lane: Lane, replica: Replica, file: int) -> None:
        self._lane = lane
        self._replica: Replica | None = replica
        self._file = file

    def end(self) -> None:
        """Give company back to the replica, and the turn to the next."""
        replica, self._replica = self._replica, None
        if replica is not None:
            replica.is_reserved = False
            os.close(self._file)
            self._lane.suspects.give_back()
            self._lane.refresh()


class Trials:
    """Holds trials. `folder` is where the gateways of this machine keep their locks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, exchange: Exchange, inner: Handler) -> bool:
        """Try `exchange` alone; False, and nothing done, when its shape was cleared while it waited for its turn."""
        lane = exchange.lane
        assert lane is not None
        turn = await self._begin(lane, exchange)
        if turn is None:
            return False
        exchange.on_trial = True
        loop = asyncio.get_running_loop()
        parole = loop.call_later(PAROLE_S, self._parole, exchange, turn)
        try:
            await inner(exchange)
        finally:
            parole.cancel()
            lane.release(exchange)
            turn.end()
        return True

    async def _begin(self, lane: Lane, exchange: Exchange) -> _Turn | None:
        """Wait for the turn and an empty replica, and hold a place in it. None when the suspicion is gone.

        Raises QueueFull when too many wait already.
        """
        _check_room(lane, exchange)
        await lane.suspects.take(len(exchange.body))
        file = -1
        replica: Replica | None = None
        try:
            exchange.on_trial = False
            if suspicion.is_suspect(lane, exchange):
                file = os.open(self._lock_path(lane), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                while not _lock(file):  # noqa: ASYNC110 - another process holds it; it has no event for us
                    await asyncio.sleep(POLL_S)
                replica = await self._reserve(lane, exchange)
                lane.hold(exchange, replica)
                return _Turn(lane, replica, file)
        finally:
            if replica is None:
                if file >= 0:
                    os.close(file)
                lane.suspects.give_back()
        return None

    async def _reserve(self, lane: Lane, exchange: Exchange) -> Replica:
        """Return a replica that is kept empty for the trial. Raises when there is none to be expected."""
        while True:
            replica = lane.quietest()
            if replica is None:
                if exchange.can_move or lane.is_down(time.monotonic()):
                    raise lane.unavailable()
                await asyncio.sleep(POLL_S)
                continue
            replica.is_reserved = True
            lane.refresh()
            is_kept = False
            try:
                until_s = time.monotonic() + EMPTY_S
                while replica.in_flight and replica.is_connected and time.monotonic() < until_s:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
                is_kept = replica.is_connected and replica.state == "ready"
            finally:
                if not is_kept:
                    replica.is_reserved = False
                    lane.refresh()
            if is_kept:
                return replica

    def _parole(self, exchange: Exchange, turn: _Turn) -> None:
        exchange.on_trial = False
        turn.end()

    def _lock_path(self, lane: Lane) -> Path:
        name = hashlib.sha256(f"{lane.route.project}/{lane.route.endpoint}".encode()).hexdigest()[:16]
        return self._folder / f"trial-{name}.lock"


def _check_room(lane: Lane, exchange: Exchange) -> None:
    """Raise QueueFull when one more may not wait. What was in a replica already may: it had its place."""
    suspects, queue, route = lane.suspects, lane.admission, lane.route
    if exchange.tries or not suspects.is_taken:
        return
    size_bytes = suspects.size_bytes + queue.size_bytes + len(exchange.body)
    if suspects.count + len(queue) >= route.queue_max or size_bytes > route.queue_max_bytes:
        raise QueueFull(
            f"{suspects.count} requests wait to be tried alone at {route.endpoint} already, because a replica died "
            "with one like them; retry later",
            retry_after_s=admit.retry_after_s(suspects.count, 1, PAROLE_S),
        )


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
