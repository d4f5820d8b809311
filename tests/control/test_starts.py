"""What control keeps of starts: each once, with its first answer when it came, over restarts of everything."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from stoker.app.home import Home
from stoker.control.loop import LEASE
from stoker.control.observe import Observer, State
from stoker.control.starts import StartWatch
from stoker.store import endpoints, leases, projects, schema, starts
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.types.ids import ModelName
from stoker.types.loading import Usual
from stoker.types.models import ModelVersion, manifest_digest
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.starts import Start
from tests.control.test_around import NODE, Nodes
from tests.store.rows import assignment, endpoint, manifest, project, revision

VERSION = ModelVersion(ModelName("m"), 1, manifest_digest(manifest(1)), manifest(1), 1.0, 10)
REVISION = revision(VERSION)
PLACED = msgspec.structs.replace(assignment(REVISION), since_s=100.0, created_at_s=100.0)
REPLICA = str(PLACED.replica)
PROCESS = ProcessStatus(
    REPLICA, "replica", "ready", started_at_s=100.5, ready_at_s=101.5, phases={"process": 0.1, "imports": 0.7}
)


class Platform:
    """One database, one node; a control after the other."""

    def __init__(self, folder: Path) -> None:
        self._home = Home(folder)
        engine = open_engine(sqlite_url(folder / "state.db"))
        schema.metadata.create_all(engine)
        self.database = Database(engine)
        self._lease = self.database.write(lambda c: leases.acquire(c, LEASE, "a", 1.0))
        self.control()

    def control(self) -> None:
        self.driver = Nodes()
        self.observer = Observer(self.driver)
        state = State((), (REVISION,), (PLACED,), {}, {})
        self._watch = StartWatch(self.database, self.observer, self._home, lambda: state, lambda: self._lease)

    def reports(self, **changes: object) -> list[Start]:
        node: NodeStatus = msgspec.structs.replace(NODE, processes=(msgspec.structs.replace(PROCESS, **changes),))
        self.driver.statuses = (node,)

        async def told() -> None:
            await self.observer.look()
            await self._watch.write()

        asyncio.run(told())
        return self.database.read(lambda c: starts.of_endpoint(c, REVISION.project, REVISION.endpoint))

    def usual(self) -> Usual:
        return self.database.write(self._watch.usual)[REVISION.project, REVISION.endpoint]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


def test_a_start_is_kept_once_it_is_ready_and_again_with_its_first_answer(platform: Platform) -> None:
    assert platform.reports(phase="loading", ready_at_s=0.0) == []
    (kept,) = platform.reports()
    assert kept.phases == {"order": 0.5, "process": 0.1, "imports": 0.7}
    assert (kept.replica, kept.at_s, kept.total_s, kept.is_restart) == (REPLICA, 100.5, 1.0, False)
    assert platform.reports() == [kept]
    (answered,) = platform.reports(phases={**PROCESS.phases, "first answer": 0.2})
    assert list(answered.phases) == ["order", "process", "imports", "first answer"]


def test_a_start_after_a_death_was_not_ordered(platform: Platform) -> None:
    platform.reports()
    second, first = platform.reports(started_at_s=300.0, ready_at_s=302.0, restarts=1)
    assert (second.is_restart, first.is_restart) == (True, False)
    assert "order" not in second.phases
    assert second.total_s == 2.0


def test_a_control_that_is_followed_by_another_leaves_it_the_same_start(platform: Platform) -> None:
    (kept,) = platform.reports()
    platform.control()
    assert platform.reports() == [kept]


def test_a_platform_that_comes_up_again_does_not_say_that_its_replicas_waited_since_their_order(
    platform: Platform,
) -> None:
    platform.reports()
    platform.control()
    for phases in (PROCESS.phases, {**PROCESS.phases, "first answer": 0.2}):
        second, _ = platform.reports(started_at_s=9000.0, ready_at_s=9001.0, phases=phases)
        assert second.phases == phases
        assert second.is_restart


def test_what_starts_usually_take_follows_each_that_is_kept(platform: Platform) -> None:
    platform.database.write(lambda c: projects.put(c, project(), 1.0))
    platform.database.write(lambda c: endpoints.put(c, endpoint(), 1, 1.0))
    assert platform.usual() == ()
    platform.reports()
    assert platform.usual() == (("order", 0.5), ("process", 0.1), ("imports", 0.7))
    platform.reports(started_at_s=300.0, ready_at_s=302.0, restarts=1, phases={"process": 0.3, "imports": 0.7})
    assert platform.usual() == (("process", 0.2), ("imports", 0.7))
    platform.control()
    assert platform.usual() == (("process", 0.2), ("imports", 0.7))
