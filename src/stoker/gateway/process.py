"""What a gateway answers on its own frames address: who it is, its numbers, drain."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from stoker.gateway.directory import Directory
from stoker.gateway.elsewhere import LANES_MAX, Told
from stoker.gateway.remote.keys import Keys
from stoker.gateway.ring import Ring
from stoker.gateway.siblings import Conviction
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse
from stoker.secrets import keeper
from stoker.telemetry.metrics import Snapshot, encode_snapshot
from stoker.types.errors import Conflict, InvalidInput, NotFound
from stoker.types.replica import ReplicaState, ReplicaStats
from stoker.types.rollouts import GoBack, Reverted
from stoker.types.traces import TraceQuestion

_T = TypeVar("_T")


class Process:
    """The gateway as a process (link.Handler). `stopping` is set by DRAIN."""

    body_max_bytes = 1 << 20

    def __init__(
        self, name: str, directory: Directory, snapshot: Callable[[], Snapshot], ring: Ring, keys: Keys
    ) -> None:
        self.stopping = asyncio.Event()
        self.serves = False  # the port is open
        self._name = name
        self._boot = secrets.token_hex(8)
        self._directory = directory
        self._snapshot = snapshot
        self._ring = ring
        self._keys = keys

    def hello(self) -> Hello:
        """See link.Handler."""
        return Hello(
            wire=frames.WIRE_VERSION,
            name=self._name,
            kind="gateway",
            pid=os.getpid(),
            boot=self._boot,
            state=self._state(),
        )

    def stats(self) -> ReplicaStats:
        """See link.Handler."""
        lanes = list(self._directory)
        return ReplicaStats(
            state=self._state(),
            queued=sum(len(lane.admission) for lane in lanes),
            running=sum(len(lane.exchanges) for lane in lanes),
            stage="" if self._directory.version >= 0 else "waits for a route table",
        )

    def request(self, exchange: Exchange) -> None:
        """See link.Handler."""
        raise refuse(exchange.head.method)

    def call(self, exchange: Exchange) -> None:
        """Answer `metrics`, `traces`, `rollouts`, `loads`, `keys`, `secrets`; take `convict`, `revert` and `standing`.

        secrets: how those that it resolves stand; with a body, they are read again before.
        """
        if exchange.head.method == "metrics":
            self._finish(exchange, encode_snapshot(self._snapshot()))
        elif exchange.head.method == "traces":
            self._finish(exchange, self._ring.answer(_read(exchange.body, TraceQuestion)))
        elif exchange.head.method == "rollouts":
            self._finish(exchange, msgspec.json.encode(self._directory.rollouts()))
        elif exchange.head.method == "loads":
            self._finish(exchange, msgspec.json.encode(self._directory.loads()))
        elif exchange.head.method == "keys":
            self._finish(exchange, msgspec.json.encode(self._directory.take_used()))
        elif exchange.head.method == "secrets":
            task = asyncio.get_running_loop().create_task(self._tell_secrets(exchange, insists=bool(exchange.body)))
            exchange.on_cancel = task.cancel
        elif exchange.head.method == "revert":
            self._finish(exchange, msgspec.json.encode(self._go_back(exchange.body)))
        elif exchange.head.method == "standing":
            self._finish(exchange, self._stand(exchange.body))
        elif exchange.head.method == "convict":
            self._convict(exchange.body)
            exchange.end(EndHead())
        else:
            raise refuse(exchange.head.method)

    def drain(self) -> None:
        """Stop accepting, finish, exit."""
        self.stopping.set()

    def _finish(self, exchange: Exchange, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(exchange.finish(EndHead(), body))
        exchange.on_cancel = task.cancel

    async def _tell_secrets(self, exchange: Exchange, *, insists: bool) -> None:
        await exchange.finish(EndHead(), keeper.encode(await self._keys.told(insists=insists)))

    def _convict(self, body: bytes) -> None:
        conviction = _read(body, Conviction)
        lane = self._directory.lane(conviction.project, conviction.endpoint)
        if lane is not None:
            lane.book.convict(conviction.shape, time.monotonic())
            if lane.arms is not None:
                lane.arms.convicted(conviction.shape)

    def _stand(self, body: bytes) -> bytes:
        told, now_s, found = _read(body, Told), time.monotonic(), []
        for standing in told.lanes[:LANES_MAX]:
            lane = self._directory.lane(standing.project, standing.endpoint)
            if lane is not None:
                lane.hear(told.gateway, standing, now_s)
                found.append(lane.standing())
        return msgspec.msgpack.encode(Told(self._name, found))

    def _go_back(self, body: bytes) -> Reverted:
        told = _read(body, GoBack)
        lane = self._directory.lane(told.project, told.endpoint)
        if lane is None:
            raise NotFound(f"there is no endpoint {told.project}/{told.endpoint}", field="endpoint")
        found = lane.go_back(told.because, told.to)
        if found is None:
            wanted = told.to or "an earlier revision"
            raise Conflict(f"no replica of {wanted} of {told.endpoint} takes requests; nothing was changed")
        return found

    def _state(self) -> ReplicaState:
        if self.stopping.is_set():
            return "draining"
        return "ready" if self.serves and self._directory.version >= 0 else "loading"


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.DecodeError as broken:
        raise InvalidInput(f"no {kind.__name__}: {broken}") from broken
