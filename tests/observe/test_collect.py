"""The sampler against real sockets: who answers is counted, who does not is waited for without harm."""

import asyncio
import contextlib
from pathlib import Path

from stoker.observe.history.accounts import Answer
from stoker.observe.history.collect import ASK_TIMEOUT_S, Collector, Own, Remote
from stoker.observe.history.history import History
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.telemetry.metrics import Registry, encode_snapshot
from stoker.types.replica import ReplicaStats
from tests.observe.rig import REQUESTS, Clock, Counting


class Gateway:
    """The end of a socket that answers CALL metrics: truly, with nonsense, or never."""

    body_max_bytes = 1 << 16

    def __init__(self, counting: Counting, how: str = "truly") -> None:
        self.counting = counting
        self.how = how

    def hello(self) -> Hello:
        boot = self.counting.answer().boot
        return Hello(wire=frames.WIRE_VERSION, name=self.counting.name, kind="gateway", pid=1, boot=boot, state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready")

    def request(self, exchange: Exchange) -> None:
        raise refuse(exchange.head.method)

    def call(self, exchange: Exchange) -> None:
        if self.how == "truly":
            exchange.end(EndHead(), encode_snapshot(self.counting.registry.snapshot()))
        elif self.how == "nonsense":
            exchange.end(EndHead(), b"\x93\xff nonsense")

    def drain(self) -> None:
        pass


def test_who_answers_is_counted_and_who_is_late_broken_or_gone_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        history = History(tmp_path / "metrics.db", clock=clock)
        await history.start()
        counting = [Counting(f"gateway-{number}") for number in range(3)]
        gateways = [Gateway(each) for each in counting]
        addresses = [f"unix:{tmp_path}/{each.name}.sock" for each in counting]
        servers = [await serve(address, gateway) for address, gateway in zip(addresses, gateways, strict=True)]
        own = Registry("control")
        sources = [Own(own), *(Remote(f"gateway-{number}", address) for number, address in enumerate(addresses))]
        sources.append(Remote("gateway-3", f"unix:{tmp_path}/nobody.sock"))
        collector = Collector(history, sources)

        async def tick() -> set[str]:
            clock.now_s += 5
            sample = await collector.sample()
            await history.observe(list(sample.answers.values()))
            return set(sample.answers)

        assert await tick() == {"control", "gateway-0", "gateway-1", "gateway-2"}
        gateways[1].how, gateways[2].how = "nonsense", "never"
        for each in counting:
            each.request(2)
        began_s = asyncio.get_running_loop().time()
        assert await tick() == {"control", "gateway-0"}
        assert asyncio.get_running_loop().time() - began_s < 10 * ASK_TIMEOUT_S
        assert (await history.sums([REQUESTS], [60.0])) == [(2.0,)]
        gateways[1].how = gateways[2].how = "truly"
        counting[0].restart()
        counting[0].request(5)
        await tick()
        assert (await history.sums([REQUESTS], [60.0])) == [(11.0,)]
        for server in servers:
            await server.close()
        assert await tick() == {"control"}
        await history.close()

    asyncio.run(main())


def test_who_wants_numbers_that_were_just_asked_for_shares_them(tmp_path: Path) -> None:
    class Asked:
        name = "gateway-0"
        count = 0

        async def ask(self) -> Answer:
            self.count += 1
            return Answer(self.name, "boot", Registry(self.name).snapshot())

    async def main() -> None:
        history = History(tmp_path / "metrics.db", clock=Clock())
        await history.start()
        source = Asked()
        collector = Collector(history, [source])
        task = asyncio.create_task(collector.run())
        await collector.sampled()
        first = await collector.newest(15.0)
        assert (await collector.newest(15.0), source.count) == (first, 1)
        assert set(first.answers) == {"gateway-0"}
        await collector.newest(0.0)
        assert source.count == 2
        task.cancel()
        await history.close()

    asyncio.run(main())


def test_the_sampler_goes_on_after_whatever_went_wrong(tmp_path: Path) -> None:
    class Broken:
        name = "broken"
        asked = 0

        async def ask(self) -> None:
            self.asked += 1
            raise RuntimeError("a bug")

    async def main() -> None:
        clock = Clock(1_800_000_004.999)
        history = History(tmp_path / "metrics.db", clock=clock)
        broken = Broken()
        task = asyncio.create_task(Collector(history, [broken]).run())
        while broken.asked < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await history.close()

    asyncio.run(main())


def test_nobody_waits_for_who_is_around_and_what_they_said_comes_with_the_next_tick(tmp_path: Path) -> None:
    class Said:
        def __init__(self, counting: Counting, answers: asyncio.Event) -> None:
            self.name = counting.name
            self.counting = counting
            self.answers = answers

        async def ask(self) -> Answer:
            await self.answers.wait()
            return self.counting.answer()

    async def main() -> None:
        clock = Clock(1_800_000_004.999)  # the next tick is due at once, and always
        history = History(tmp_path / "metrics.db", clock=clock)
        await history.start()
        at_once, later = asyncio.Event(), asyncio.Event()
        at_once.set()
        gateway, replica = Counting("gateway-0"), Counting("replica")
        await history.observe([gateway.answer(), replica.answer()])
        collector = Collector(history, [Said(gateway, at_once)], lambda: [Said(replica, later)])
        task = asyncio.create_task(collector.run())
        gateway.request(2)
        replica.request(5)
        await collector.sampled()
        assert await history.sums([REQUESTS], [60.0]) == [(2.0,)]
        later.set()
        await collector.sampled()
        assert await history.sums([REQUESTS], [60.0]) == [(7.0,)]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await history.close()

    asyncio.run(main())
