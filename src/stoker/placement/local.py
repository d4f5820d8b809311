"""The driver for one machine: the agent's HTTP API on its Unix socket, or over TLS (placement/joined.py)."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

import msgspec

from stoker.protocol.unixhttp import request, stream
from stoker.telemetry.snapshot import Snapshot, decode_snapshot
from stoker.types.ahead import Ahead
from stoker.types.errors import Conflict, InvalidInput, NotFound, NotReachable, StokerError, Unavailable
from stoker.types.faults import Fault
from stoker.types.nodes import NodeStart
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus
from stoker.types.replica import ReplicaSpec

FENCE_HEADER: Final = "x-stoker-fence"
TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.25  # between two looks for an agent that does not answer
_KINDS: Final[dict[int, type[StokerError]]] = {400: InvalidInput, 404: NotFound, 409: Conflict, 422: InvalidInput}


class LocalDriver:
    """Talks to the agent on this machine; see `placement.port.Driver`."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    async def observe(self) -> tuple[NodeStatus, ...]:
        """Return this machine's status, or nothing when its agent does not answer."""
        try:
            return (await self._node("/v1/node", TIMEOUT_S),)
        except NotReachable:
            return ()

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        """Return when the agent's sequence differs from the one seen; looks again for an agent that is gone."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        after = next(iter(seen.values()), None)
        while (left_s := end_s - loop.time()) > 0:
            try:
                if after is None:
                    await self._node("/v1/node", TIMEOUT_S)
                else:
                    await self._node(f"/v1/node?after={after}&wait_s={left_s:.3f}", left_s + TIMEOUT_S)
            except NotReachable:
                if after is not None:
                    return  # it was there: that it is gone is a change
                await asyncio.sleep(min(RETRY_S, left_s))
            else:
                return

    async def status(self, after: int | None, wait_s: float) -> NodeStatus:
        """Return the node once its sequence is another than `after`, or after `wait_s`. Raises NotReachable."""
        path = "/v1/node" if after is None else f"/v1/node?after={after}&wait_s={wait_s:.3f}"
        return await self._node(path, wait_s + TIMEOUT_S)

    async def start(
        self, node: str, spec: ProcessSpec, fence: int, replica: ReplicaSpec | None = None
    ) -> ProcessStatus:
        """Have the agent run `spec`."""
        kind, told = ("processes", msgspec.json.encode(spec))
        if replica is not None:
            kind, told = ("replicas", msgspec.json.encode(NodeStart(spec, replica)))
        answer = await self._send("PUT", f"/v1/{kind}/{quote(spec.name, safe='')}", fence, told)
        return msgspec.json.decode(answer, type=ProcessStatus)

    async def stop(self, node: str, name: str, drain_s: float, fence: int) -> None:
        """Have the agent drain and end a process."""
        try:
            await self._send("DELETE", f"/v1/processes/{quote(name, safe='')}?drain_s={drain_s:g}", fence)
        except NotFound:
            return

    async def inject(self, node: str, name: str, fault: Fault, fence: int) -> None:
        """Have the agent put a fault into a replica."""
        await self._send("POST", f"/v1/processes/{quote(name, safe='')}/fault", fence, msgspec.json.encode(fault))

    async def end_fault(self, node: str, name: str, fence: int) -> None:
        """Have the agent end the fault in a replica."""
        await self._send("DELETE", f"/v1/processes/{quote(name, safe='')}/fault", fence)

    async def expect(self, node: str, ahead: Sequence[Ahead], fence: int) -> None:
        """Tell the agent which versions may be started soon."""
        await self._send("PUT", "/v1/ahead", fence, msgspec.json.encode(ahead))

    async def metrics(self, node: str) -> Snapshot:
        """Return what the agent counted."""
        status, body = await request(self._socket, "GET", "/v1/metrics", timeout_s=TIMEOUT_S)
        try:
            return decode_snapshot(body)
        except ValueError as odd:  # an agent of an older version
            raise NotReachable(f"the agent answered {status} for its metrics: {odd}") from odd

    async def logs(self, node: str, name: str, *, tail: int, follow: bool) -> AsyncIterator[bytes]:
        """Yield the log of a process."""
        path = f"/v1/processes/{quote(name, safe='')}/logs?tail={tail}&follow={int(follow)}"
        async with aclosing(stream(self._socket, "GET", path)) as answer:
            async for status, piece in answer:
                if status >= 400:
                    raise _told(status, piece)
                yield piece

    async def _node(self, path: str, timeout_s: float) -> NodeStatus:
        status, body = await request(self._socket, "GET", path, timeout_s=timeout_s)
        if status != 200:
            raise NotReachable(f"the agent answered {status} for {path}")
        return msgspec.json.decode(body, type=NodeStatus)

    async def _send(self, method: str, path: str, fence: int, body: bytes = b"") -> bytes:
        headers = {FENCE_HEADER: str(fence), "content-type": "application/json"}
        status, answer = await request(self._socket, method, path, body=body, headers=headers, timeout_s=TIMEOUT_S)
        if status >= 400:
            raise _told(status, answer)
        return answer


class _Error(msgspec.Struct, frozen=True):
    message: str


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error


def _told(status: int, body: bytes) -> StokerError:
    try:
        message = msgspec.json.decode(body, type=_ErrorBody).error.message
    except msgspec.MsgspecError:
        message = body.decode("utf-8", "replace")[:500]
    return _KINDS.get(status, Unavailable)(f"the agent refused ({status}): {message}")
