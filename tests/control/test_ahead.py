"""What control tells nodes to have ready: laid out, within their memory, and told again only where it is news."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from stoker.control.ahead import AheadWatch
from stoker.control.loop import LEASE
from stoker.control.observe import Observer, State
from stoker.core.gate.law import DossierState
from stoker.core.snapshot import EndpointState
from stoker.store import leases, schema
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.types.ahead import Ahead
from stoker.types.errors import NotFound, Unavailable
from stoker.types.ids import ModelName
from stoker.types.models import ModelVersion, VersionManifest, manifest_digest
from tests.control.test_around import NODE, Nodes
from tests.store.rows import assignment, endpoint, manifest, revision

VERSION = ModelVersion(ModelName("m"), 1, manifest_digest(manifest(1)), manifest(1), 1.0, 10)
REVISION = revision(VERSION)


class Told(Nodes):
    """Takes note of what nodes are told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, tuple[Ahead, ...]]] = []
        self.gone: set[str] = set()  # nodes that do not answer

    async def expect(self, node: str, ahead: Sequence[Ahead], fence: int) -> None:
        if node in self.gone:
            raise Unavailable(f"{node} does not answer")
        self.told.append((node, tuple(ahead)))


class Platform:
    """An endpoint that sleeps, and one node."""

    def __init__(self, folder: Path) -> None:
        engine = open_engine(sqlite_url(folder / "state.db"))
        schema.metadata.create_all(engine)
        database = Database(engine)
        lease = database.write(lambda c: leases.acquire(c, LEASE, "a", 1.0))
        self.driver = Told()
        self.driver.statuses = (msgspec.structs.replace(NODE, memory_free_bytes=1 << 30),)
        observer = Observer(self.driver)
        one = endpoint()
        serving = EndpointState(REVISION.project, REVISION.endpoint, 1, one, 1.0, serving=str(REVISION.revision))
        versions = {(REVISION.config.model, REVISION.config.number): VERSION}
        self.state = State((serving,), (REVISION,), (), {}, versions)
        self.laid = lambda manifest: folder / "models" / manifest.entry
        self._observer = observer
        self.watch = AheadWatch(database, observer, self.driver, self._lay, lambda: self.state, lambda: lease)

    def _lay(self, manifest: VersionManifest) -> Path:
        return self.laid(manifest)

    def look(self) -> list[tuple[str, tuple[Ahead, ...]]]:
        async def both() -> None:
            await self._observer.look()
            await self.watch.look()

        asyncio.run(both())
        told, self.driver.told = self.driver.told, []
        return told


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


def test_a_node_is_told_of_what_sleeps_once_and_again_when_its_agent_or_that_changes(platform: Platform) -> None:
    ((node, (told,)),) = platform.look()
    assert (node, told.model, told.size_bytes) == (NODE.node, REVISION.config.ref, VERSION.size_bytes)
    assert told.folder.endswith(f"models/{VERSION.manifest.entry}")
    assert told.because.startswith("it sleeps")
    assert platform.look() == []
    (status,) = platform.driver.statuses
    platform.driver.statuses = (msgspec.structs.replace(status, started_at_s=5.0),)
    assert platform.look() == [(node, (told,))]
    platform.state = msgspec.structs.replace(platform.state, assignments=(assignment(REVISION),))
    assert platform.look() == [(node, ())]


def test_a_node_without_memory_or_of_another_pool_and_a_version_without_files_are_told_nothing(
    platform: Platform,
) -> None:
    (status,) = platform.driver.statuses
    for changes in ({"memory_free_bytes": 20}, {"pool": "other"}):
        platform.driver.statuses = (msgspec.structs.replace(status, **changes),)
        assert platform.look() == []
    platform.driver.statuses = (status,)

    def missing(_: VersionManifest) -> Path:
        raise NotFound("no such blob")

    platform.laid = missing
    assert platform.look() == []


def test_a_node_that_does_not_answer_keeps_nothing_from_the_others_and_is_told_when_it_does(platform: Platform) -> None:
    (status,) = platform.driver.statuses
    platform.driver.statuses = tuple(msgspec.structs.replace(status, node=name) for name in ("gone", "there"))
    platform.driver.gone = {"gone"}
    assert [node for node, _ in platform.look()] == ["there"]
    platform.driver.gone = set()
    assert [node for node, _ in platform.look()] == ["gone"]


def test_a_node_is_told_of_a_version_while_its_gates_run_and_no_more_once_it_is_refused(platform: Platform) -> None:
    version = ModelVersion(ModelName("m"), 2, manifest_digest(manifest(2)), manifest(2), 1.0, 20)
    asked = msgspec.structs.replace(revision(version, number=2), created_at_s=time.time())
    platform.laid = lambda manifest: Path("/models") / manifest_digest(manifest)
    for state, whys in (("pending", ["its gates run", "it sleeps"]), ("refused", ["it sleeps"])):
        platform.state = msgspec.structs.replace(
            platform.state,
            endpoints=tuple(
                msgspec.structs.replace(each, status=msgspec.structs.replace(each.status, revision=asked.revision))
                for each in platform.state.endpoints
            ),
            revisions=(REVISION, asked),
            versions={**platform.state.versions, (asked.config.model, asked.config.number): version},
            dossiers={str(asked.revision): DossierState(state)},
        )
        ((_, told),) = platform.look()
        assert [each.because.partition(";")[0] for each in told] == whys
        assert (asked.config.ref in {each.model for each in told}) is (state == "pending")
