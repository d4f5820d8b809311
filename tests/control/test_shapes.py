"""What control keeps of the shapes of engine calls: asked of the replicas that serve, added up by endpoint."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from stoker.control.loop import LEASE
from stoker.control.observe import Observer, State
from stoker.control.shapes import ShapeWatch
from stoker.core.shapes import HALF_LIFE_S, Tally
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.store import leases, schema, shapes
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.store.leases import LeaseLost
from stoker.types.ids import ModelName
from stoker.types.models import ModelVersion, manifest_digest
from stoker.types.process import ProcessStatus
from stoker.types.replica import ReplicaStats
from stoker.types.shapes import Shape, ShapeCost
from tests.control.test_around import NODE, Nodes
from tests.store.rows import assignment, manifest, revision

VERSION = ModelVersion(ModelName("m"), 1, manifest_digest(manifest(1)), manifest(1), 1.0, 10)
REVISION = revision(VERSION)
NOW_S = 1_000.0


class Replica:
    """A replica that tells what its tally has; of an older version it knows no such question."""

    body_max_bytes = 1 << 20

    def __init__(self, tally: Tally | None) -> None:
        self.tally = tally

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="r", kind="replica", pid=1, boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats()

    def drain(self) -> None: ...

    def request(self, exchange: Exchange) -> None: ...

    def call(self, exchange: Exchange) -> None:
        if self.tally is None:
            raise refuse(exchange.head.method)
        exchange.end(EndHead(), msgspec.msgpack.encode(self.tally.take()))


class Platform:
    """A database, a node with replicas of one endpoint, and the watch."""

    def __init__(self, folder: Path, replicas: Sequence[Replica]) -> None:
        self._folder = folder
        self._replicas = replicas
        engine = open_engine(sqlite_url(folder / "state.db"))
        schema.metadata.create_all(engine)
        self.database = Database(engine)
        self.lease = self.database.write(lambda c: leases.acquire(c, LEASE, "a", 1.0))
        self.now_s = NOW_S
        self.task = "predict"
        self.phase = "ready"

    def look(self) -> list[tuple[Shape, float]]:
        """Ask once; return what is known then: shapes and how often they were called."""
        asyncio.run(self._look())
        known = self.database.read(lambda c: shapes.of_endpoint(c, REVISION.project, REVISION.endpoint))
        return [(each.shape, round(each.calls, 3)) for each in known]

    async def _look(self) -> None:
        config = msgspec.structs.replace(REVISION.config, task=self.task)
        placed = [assignment(REVISION, str(number)) for number in range(len(self._replicas))]
        state = State((), (msgspec.structs.replace(REVISION, config=config),), tuple(placed), {}, {})
        addresses = [f"unix:{self._folder}/{number}" for number in range(len(self._replicas))]
        driver = Nodes()
        processes = [
            ProcessStatus(str(one.replica), "replica", self.phase, address=address)  # type: ignore[arg-type]
            for one, address in zip(placed, addresses, strict=True)
        ]
        driver.statuses = (msgspec.structs.replace(NODE, processes=tuple(processes)),)
        observer = Observer(driver)
        await observer.look()
        servers = [await serve(address, one) for address, one in zip(addresses, self._replicas, strict=True)]
        try:
            await ShapeWatch(self.database, observer, lambda: state, lambda: self.lease, lambda: self.now_s).look()
        finally:
            for server in servers:
                await server.close()


def calls(tally: Tally, rows: int, many: int) -> None:
    for _ in range(many):
        tally.called(rows, (), 0.1)


def test_what_the_replicas_of_an_endpoint_tell_adds_up_and_fades(tmp_path: Path) -> None:
    one, other = Tally(), Tally()
    platform = Platform(tmp_path, [Replica(one), Replica(None), Replica(other)])
    assert platform.look() == []
    calls(one, 4, 10)
    calls(other, 4, 5)
    calls(other, 2, 20)
    assert platform.look() == [(Shape(2), 20), (Shape(4), 15)]
    assert platform.look() == [(Shape(2), 20), (Shape(4), 15)], "a call is told once"
    platform.now_s += HALF_LIFE_S
    calls(one, 4, 1)
    assert platform.look() == [(Shape(2), 10), (Shape(4), 8.5)]


def test_replicas_that_load_or_have_no_shapes_are_not_asked(tmp_path: Path) -> None:
    tally = Tally()
    calls(tally, 4, 10)
    platform = Platform(tmp_path, [Replica(tally)])
    platform.phase = "loading"
    assert platform.look() == []
    platform.phase, platform.task = "ready", "chat"
    assert platform.look() == []
    platform.task = "predict"
    assert platform.look() == [(Shape(4), 10)]


def test_a_control_that_lost_its_lease_writes_nothing(tmp_path: Path) -> None:
    tally = Tally()
    calls(tally, 4, 10)
    platform = Platform(tmp_path, [Replica(tally)])
    platform.database.write(lambda c: leases.acquire(c, LEASE, "b", 1e9))
    with pytest.raises(LeaseLost):
        platform.look()


def test_what_is_known_of_an_endpoint_goes_with_it(tmp_path: Path) -> None:
    database = Platform(tmp_path, []).database
    cost = ShapeCost(Shape(4, ((3, 8),)), 10, 0.5, 0.1)
    for name in ("a", "b"):
        database.write(lambda c, name=name: shapes.keep(c, ("default", name), [cost], 5.0))  # type: ignore[misc]
    database.write(lambda c: shapes.forget(c, "default", "a"))
    assert database.read(shapes.everything) == {("default", "b"): shapes.Known(5.0, (cost,))}
