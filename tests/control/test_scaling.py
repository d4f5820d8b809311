"""What gateways say becomes decisions that are written down before they are true, and that a restart goes on from."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from stoker.control.observe import Observer, read_state
from stoker.control.scaling import watch
from stoker.control.scaling.gather import Gatherer
from stoker.control.scaling.watch import WOKEN_S, ScalingWatch
from stoker.core.conditions import CRASH_LOOP_CRASHES
from stoker.observe.history.history import History
from stoker.placement.local import LocalDriver
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, Server, serve
from stoker.store import endpoints, journal, leases, models, projects, revisions, scaling
from stoker.store.engine import Connection, Database
from stoker.store.versions import Versions
from stoker.telemetry.metrics import Registry
from stoker.types.ids import EndpointName, ModelName, ProjectName
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.replica import ReplicaStats
from stoker.types.resources import Endpoint, Replicas
from stoker.types.scaling import LaneLoad
from tests.databases import migrated
from tests.store.rows import assignment, endpoint, manifest, project, revision

KEY = (ProjectName("default"), EndpointName("a"))
START_S = 1_800_000_000.0


class Gateway:
    """Answers `loads` as a gateway does."""

    body_max_bytes = 1 << 16

    def __init__(self) -> None:
        self.now = LaneLoad("default", "a", 0, 0, 0.0, 0, 0, 0, 1, 4.0)
        self.asked = asyncio.Semaphore(0)

    def hello(self) -> Hello:
        return Hello(frames.WIRE_VERSION, "gateway-0", "gateway", os.getpid(), "boot", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready")

    def request(self, exchange: Exchange) -> None:
        raise AssertionError("nobody asks for inference")

    def call(self, exchange: Exchange) -> None:
        assert exchange.head.method == "loads"
        exchange.end(EndHead(), msgspec.json.encode([self.now]))
        self.asked.release()

    def drain(self) -> None:
        pass


class Nodes(LocalDriver):
    """One node, whose replica was ready five seconds after it began."""

    def __init__(self) -> None:
        super().__init__("/nowhere")

    async def observe(self) -> tuple[NodeStatus, ...]:
        process = ProcessStatus("default.a-1-aaaaa", "replica", "ready", started_at_s=10.0, ready_at_s=15.0)
        return (NodeStatus("local", 1, 8.0, 8 << 30, 4 << 30, (process,)),)

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        raise AssertionError("nobody waits here")


class HalfBroken(Nodes):
    """A second replica beside that one, which crashes again and again."""

    async def observe(self) -> tuple[NodeStatus, ...]:
        (node,) = await super().observe()
        broken = ProcessStatus("default.a-1-bbbbb", "replica", "starting", crashes_in_row=CRASH_LOOP_CRASHES)
        return (msgspec.structs.replace(node, processes=(*node.processes, broken)),)


class Scene:
    """An endpoint with one ready replica, its gateway, and the control that looks at them."""

    def __init__(self, folder: Path) -> None:
        engine = migrated(folder / "state.db")
        self.folder, self.database, self.metrics = folder, Database(engine), Registry("control")
        self.now_s, self.woken = START_S, 0
        self.gateway = Gateway()
        self.lease = self.database.write(lambda each: leases.acquire(each, "control", "me", self.now_s))
        self.history = History(folder / "metrics.db", clock=lambda: self.now_s)
        self.database.write(self._make)
        self.observer = Observer(Nodes())
        asyncio.run(self.observer.look())
        self.watch = self.restarted()

    def restarted(self) -> ScalingWatch:
        gatherer = Gatherer(self.address, 1, self.observer, self.history)
        state = self.database.read(lambda each: read_state(each, Versions()))
        return ScalingWatch(
            self.database, gatherer, lambda: state, lambda: self.lease, self.metrics, self._wake, lambda: self.now_s
        )

    def address(self, name: str) -> str:
        return f"unix:{self.folder / name}.sock"

    async def served(self) -> Server:
        return await serve(self.address("gateway-0"), self.gateway)

    async def look(self, arrived: int, lasts_s: float) -> None:
        """Look every two seconds, in each of which so many come and are served in 0.4 s each."""
        for _ in range(int(lasts_s / 2)):
            self.now_s += 2.0
            now = self.gateway.now
            self.gateway.now = msgspec.structs.replace(
                now, arrived=now.arrived + arrived, served=now.served + arrived, served_s=now.served_s + 0.4 * arrived
            )
            await self.watch.look()

    def written(self) -> list[tuple[int, int]]:
        records = self.database.read(lambda each: scaling.records(each, *KEY, 100))
        return [(one.before, one.desired) for one in reversed(records) if one.before != one.desired]

    def _wake(self) -> None:
        self.woken += 1

    def _make(self, connection: Connection) -> None:
        projects.put(connection, project(), 1.0)
        version, _ = models.add(connection, ModelName("m"), manifest(), 1.0)
        endpoints.put(connection, _scaled(1, 8), 0, 1.0)
        one = revision(version)
        revisions.add(connection, one)
        revisions.assign(connection, assignment(one, "aaaaa"))
        endpoints.set_serving(connection, *KEY, one.revision)


def _scaled(least: int, most: int) -> Endpoint:
    plain = endpoint("a", "m@1")
    return msgspec.structs.replace(
        plain, spec=msgspec.structs.replace(plain.spec, replicas=Replicas(min=least, max=most))
    )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_load_becomes_replicas_with_a_journal_that_says_why_and_a_restart_takes_none_away(scene: Scene) -> None:
    async def work() -> None:
        server = await scene.served()
        await scene.look(arrived=6, lasts_s=90)
        assert scene.watch.scaled() == {KEY: 1}
        woken = scene.woken
        await scene.look(arrived=80, lasts_s=60)
        called = (scene.watch.scaled() or {})[KEY]
        assert called >= 5
        assert scene.woken > woken
        changes = scene.written()
        assert changes[-1][1] == called
        entries = scene.database.read(lambda each: journal.last(each, 100, *KEY))
        assert len([each for each in entries if each.action == "Scale"]) == len(changes)
        assert "requests/s x 0.4 s" in entries[0].because
        newest = scene.watch.newest(KEY)
        assert newest is not None
        assert newest.sight.cold_start_s == 5.0

        scene.watch = scene.restarted()  # killed, and the load is gone meanwhile
        assert scene.watch.scaled() is None
        scene.now_s += 30.0
        await scene.look(arrived=0, lasts_s=58)
        assert scene.watch.scaled() == {KEY: called}
        await scene.look(arrived=0, lasts_s=300)
        assert scene.watch.scaled() == {KEY: 1}
        await server.close()

    asyncio.run(asyncio.wait_for(work(), 100))


def test_without_an_answer_it_stays_and_what_does_not_scale_any_more_is_forgotten(scene: Scene) -> None:
    async def work() -> None:
        server = await scene.served()
        await scene.look(arrived=80, lasts_s=90)
        called = (scene.watch.scaled() or {})[KEY]
        await server.close()
        await scene.look(arrived=0, lasts_s=200)
        assert scene.watch.scaled() == {KEY: called}
        newest = scene.watch.newest(KEY)
        assert newest is not None
        assert "old, so it stays" in newest.because

    asyncio.run(asyncio.wait_for(work(), 100))
    scene.database.write(lambda each: endpoints.put(each, _scaled(2, 2), 0, 2.0))
    scene.watch = scene.restarted()
    asyncio.run(scene.watch.look())
    assert scene.watch.scaled() == {}
    assert scene.database.read(scaling.memories) == {}
    assert scene.written() == []


def test_one_replica_that_crashes_beside_one_that_serves_is_no_endpoint_that_does_not_start(scene: Scene) -> None:
    def assign(connection: Connection) -> None:
        revisions.assign(connection, assignment(revisions.everything(connection)[0], "bbbbb"))

    async def work() -> bool:
        server = await scene.served()
        await scene.look(arrived=6, lasts_s=2)
        await server.close()
        newest = scene.watch.newest(KEY)
        assert newest is not None
        assert (newest.sight.ready, newest.sight.pending) == (1, 1)
        return newest.sight.is_failing

    scene.database.write(assign)
    scene.observer = Observer(HalfBroken())
    asyncio.run(scene.observer.look())
    scene.watch = scene.restarted()
    assert not asyncio.run(asyncio.wait_for(work(), 100)), "its requests would go with it"


def test_it_looks_at_once_when_somebody_waits_and_not_the_oftener_the_more_say_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 1_000.0)  # the usual next look never comes

    async def work() -> None:
        server = await scene.served()
        looking = asyncio.create_task(scene.watch.run())
        await scene.gateway.asked.acquire()
        for _ in range(100):
            scene.watch.wake()
        await scene.gateway.asked.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scene.gateway.asked.acquire(), 3 * WOKEN_S)
        looking.cancel()
        await asyncio.wait([looking])
        await server.close()

    asyncio.run(asyncio.wait_for(work(), 100))


def test_a_clock_that_is_set_back_takes_no_replica_away_and_is_no_reason_to_see_no_load(scene: Scene) -> None:
    async def work() -> None:
        server = await scene.served()
        await scene.look(arrived=20, lasts_s=90)
        before = (scene.watch.scaled() or {})[KEY]
        scene.now_s -= 86_400.0
        await scene.look(arrived=20, lasts_s=10)
        assert (scene.watch.scaled() or {})[KEY] >= before
        await scene.look(arrived=100, lasts_s=60)
        called = (scene.watch.scaled() or {})[KEY]
        assert called > before
        await scene.look(arrived=0, lasts_s=600)
        assert scene.watch.scaled() == {KEY: 1}
        await server.close()

    asyncio.run(asyncio.wait_for(work(), 100))
