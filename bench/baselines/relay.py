"""The limit of a gateway in Python: bytes both ways over one upstream connection for each client's, events counted.

python -m bench.baselines.relay UPSTREAM_PORT
"""

import asyncio
import json
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, upstream_port: int = 0) -> None:
        self._upstream_port = upstream_port
        self._transport: asyncio.Transport
        self._held: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None
        self.other: asyncio.Transport | None = None
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._upstream_port:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._held.append(data)
            return
        self.events += data.count(b"data: ")
        self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()

    async def _connect(self) -> None:
        upstream = Side()
        upstream.other = self._transport
        connection = await asyncio.get_running_loop().create_connection(
            lambda: upstream, "127.0.0.1", self._upstream_port
        )
        self.other = cast(asyncio.Transport, connection[0])
        self.other.write(b"".join(self._held))


async def main(upstream_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Side(upstream_port), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
