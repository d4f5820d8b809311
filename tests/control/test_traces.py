"""Control asks several gateways for their traces: together for who looks, each once for who they are sent to."""

import asyncio
import os
from pathlib import Path

import msgspec

from stoker.control.traces import Traces
from stoker.gateway.ring import Ring
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, Server, serve
from stoker.telemetry.metrics import Registry
from stoker.types.replica import ReplicaStats
from stoker.types.traces import TraceQuestion
from tests.gateway.test_ring import trace


class Peer:
    """Answers as a gateway does."""

    body_max_bytes = 1 << 16

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def hello(self) -> Hello:
        return Hello(frames.WIRE_VERSION, "gateway", "gateway", os.getpid(), "boot", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready")

    def request(self, exchange: Exchange) -> None:
        raise AssertionError("nobody asks for inference")

    def call(self, exchange: Exchange) -> None:
        exchange.end(EndHead(), self.ring.answer(msgspec.msgpack.decode(exchange.body, type=TraceQuestion)))

    def drain(self) -> None:
        pass


def test_gateways_are_asked_together_and_each_trace_is_taken_once(tmp_path: Path) -> None:
    registry = Registry("control")

    def address(name: str) -> str:
        return f"unix:{tmp_path / name}.sock"

    async def start(index: int, ring: Ring) -> tuple[Peer, Server]:
        peer = Peer(ring)
        return peer, await serve(address(f"gateway-{index}"), peer)

    async def work() -> None:
        first, one = await start(0, Ring(count_max=3))
        second, two = await start(1, Ring())
        traces = Traces(address, 3, registry)  # the third does not run
        for number in range(4):
            (first, second)[number % 2].ring.add(trace(number, is_stream=True), is_slow=False)
        found = await traces.find(TraceQuestion(limit=3))
        assert [each.request for each in found] == ["req-3", "req-2", "req-1"]
        assert sorted(each.request for each in await traces.take()) == ["req-0", "req-1", "req-2", "req-3"]
        assert await traces.take() == []
        for number in range(10, 15):
            first.ring.add(trace(number), is_slow=False)
        assert [each.request for each in await traces.take()] == ["req-12", "req-13", "req-14"]
        assert registry.snapshot().total("stoker_traces_missed_total") == 2
        first.ring = Ring()  # it was started anew
        first.ring.add(trace(20), is_slow=False)
        assert [each.request for each in await traces.take()] == ["req-20"]
        await one.close()
        await two.close()
        assert await traces.take() == []

    asyncio.run(asyncio.wait_for(work(), 20))
