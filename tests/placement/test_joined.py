"""The driver for several machines: one that hangs, lies or is gone holds up nobody, and is left out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from stoker.placement import local
from stoker.placement.joined import JoinedDriver
from stoker.placement.local import LocalDriver
from stoker.types.errors import NotReachable
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus
from tests.placement.test_local import Peer, answer, peer

OWN = NodeStatus(node="local", sequence=1, cores=2.0, memory_bytes=1, memory_free_bytes=1, processes=())
THERE = ProcessStatus(name="default.a-1-x", kind="replica", phase="ready", address="unix:/on/its/disk.sock")
B = msgspec.structs.replace(OWN, node="b", processes=(THERE,))


def said(status: NodeStatus) -> bytes:
    return answer(msgspec.json.encode(status))


class Own(LocalDriver):
    """This machine's agent: it is as it is."""

    async def observe(self) -> tuple[NodeStatus, ...]:
        return (OWN,)

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        await asyncio.sleep(wait_s)


class World:
    """This machine, whose agent answers always, and others by name, which answer what they are given."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.agents: dict[str, str] = {}
        self.driver: JoinedDriver

    async def build(self, **others: list[bytes | None]) -> dict[str, Peer]:
        found = {}
        for name, answers in others.items():
            found[name] = await self.stack.enter_async_context(peer(self.folder / f"{name}.sock", *answers))
            self.agents[name] = found[name].path
        self.driver = JoinedDriver(Own(""), lambda: self.agents, lambda name: f"tls:there/{name}")
        return found

    async def sees(self, *nodes: str) -> tuple[NodeStatus, ...]:
        while True:
            found = await self.driver.observe()
            if tuple(each.node for each in found) == nodes:
                return found
            await asyncio.wait_for(self.driver.changed({}, 5.0), 60)


def run(tmp_path: Path, check: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            world = World(stack, tmp_path)
            async with asyncio.timeout(90):
                await check(world)
            world.agents.clear()
            await world.driver.observe()

    asyncio.run(main())


def test_a_node_that_joined_is_seen_with_its_processes_where_control_reaches_them(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        await world.build(b=[said(B), None])
        found = await world.sees("local", "b")
        assert found[1].processes[0].address == "tls:there/default.a-1-x"

    run(tmp_path, check)


def test_a_node_that_hangs_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(world: World) -> None:
        monkeypatch.setattr(local, "TIMEOUT_S", 1_000.0)  # who waited for it would wait for longer than this test may
        await world.build(b=[None], c=[said(msgspec.structs.replace(B, node="c")), None])
        await world.sees("local", "c")

    run(tmp_path, check)


def test_a_node_that_goes_is_left_out_and_told_of(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        found = await world.build(b=[said(B), b"HTTP/1.1 200 OK\r\nContent-Le", said(B), None])
        await world.sees("local", "b")
        await world.sees("local")
        await world.sees("local", "b")  # and is there again when it is back
        assert found["b"].asked[2].startswith(b"GET /v1/node HTTP")

    run(tmp_path, check)


def test_a_node_that_says_it_is_another_is_not_believed(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        found = await world.build(b=[said(OWN), None])
        await world.driver.observe()
        while len(found["b"].asked) < 2:  # so the first answer was looked at
            await asyncio.sleep(0.01)
        assert [each.node for each in await world.driver.observe()] == ["local"]

    run(tmp_path, check)


def test_a_node_that_was_removed_is_asked_for_nothing_more(tmp_path: Path) -> None:
    spec = ProcessSpec(name="x", kind="replica", argv=("true",), env={}, address="unix:/x", work_dir="/tmp")

    async def check(world: World) -> None:
        await world.build(b=[said(B), None])
        await world.sees("local", "b")
        world.agents.clear()
        await world.sees("local")
        with pytest.raises(NotReachable, match="no node 'b'"):
            await world.driver.start("b", spec, 1)

    run(tmp_path, check)
