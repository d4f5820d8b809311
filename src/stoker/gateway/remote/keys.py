"""Hands replicas the secrets that their endpoints name, and pools the keys of their servers; follows what changes.

A gateway resolves them, for it is the platform's own process: a replica may run a project's code, and could not be
given the platform's way to Vault. Requests in flight keep the key they were sent with.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from stoker.gateway.fleet.replica import Replica
from stoker.gateway.lane import Lane
from stoker.gateway.remote.pool import Pool
from stoker.protocol import handed
from stoker.protocol.frames import EndHead, Kind, RequestHead
from stoker.protocol.link import Link
from stoker.secrets.keeper import Secrets
from stoker.types.errors import StokerError
from stoker.types.secrets import SecretState

LOOK_S: Final = 0.1  # a replica that loads waits for it


class _Told:
    """A link.Receiver: what became of a handing over."""

    def __init__(self, replica: Replica, mark: tuple[Link, dict[str, int]]) -> None:
        self._replica = replica
        self._mark = mark

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        """See link.Receiver: it has them."""

    def fail(self, problem: StokerError) -> None:
        """See link.Receiver: they are handed over again, on the next connection if this one broke."""
        if self._replica.handed is self._mark and problem.retryable:
            self._replica.handed = None


class Keys:
    """One in a gateway."""

    def __init__(self, lanes: Iterable[Lane], secrets: Secrets) -> None:
        self._lanes = lanes
        self._secrets = secrets
        self._replicas: list[Replica] = []

    def follow(self) -> None:
        """Take note of a new route table."""
        self._replicas = [each for lane in self._lanes for each in lane.replicas if each.secrets]
        self._secrets.follow({reference for each in self._replicas for reference in each.secrets})
        self.look()

    async def run(self) -> None:
        """Keep values fresh, and hand them over; returns only by cancellation."""
        reading = asyncio.create_task(self._secrets.run())
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.look()
        finally:
            reading.cancel()
            await self._secrets.close()

    def look(self) -> None:
        """Hand over what is new, and what a replica that started again does not have."""
        for each in self._replicas:
            self._hand(each)
            if each.remote is not None and each.key:
                self._key(each, each.remote)

    async def told(self, *, insists: bool) -> list[SecretState]:
        """Return how the secrets stand, for control; read again before if somebody `insists`."""
        if insists:
            names = {reference for each in self._replicas for reference in each.secrets}
            await asyncio.gather(*(self._secrets.reread(name, insists=True) for name in names))
            self.look()
        return self._secrets.states()

    def _hand(self, replica: Replica) -> None:
        link: Link | None = replica.link
        if link is None or not link.is_open:
            return
        found = {name: at for name in replica.secrets if (at := self._secrets.peek(name)) is not None}
        has = replica.handed[1] if replica.handed is not None and replica.handed[0] is link else {}
        numbers = {name: number for name, (number, _) in found.items()}
        gone = {name: 0 for name in has if name not in found}  # stale for too long, or not to be named any more
        if {**numbers, **gone} == has:
            return
        replica.handed = mark = (link, {**numbers, **gone})
        body = handed.encode({**dict.fromkeys(gone, ""), **{name: value for name, (_, value) in found.items()}})
        try:
            link.send(_Told(replica, mark), RequestHead(method=handed.METHOD), body, kind=Kind.CALL)
        except StokerError:  # it broke this moment
            replica.handed = None

    def _key(self, replica: Replica, pool: Pool) -> None:
        found = self._secrets.peek(replica.key)
        if pool.reread is None:
            pool.reread = partial(self._reread, replica.key)
        if found is None:
            pool.lock(f"{replica.key} cannot be read; `stoker secrets list` says why")
            return
        try:
            pool.rekey(*found)
        except ValueError:
            pool.lock(f"{replica.key}: no header may have its characters")

    async def _reread(self, reference: str) -> None:
        await self._secrets.reread(reference)
        self.look()
