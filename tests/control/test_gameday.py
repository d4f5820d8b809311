"""Who takes a bad revision back when its command is gone: whatever one look meets, the next one looks again."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from stoker.control import gameday
from stoker.observe.history.history import History
from stoker.observe.incidents.evidence import Recorded
from stoker.observe.incidents.incidents import Incidents
from stoker.store import endpoints, leases, models, projects
from stoker.store.engine import Database
from stoker.store.leases import Lease
from stoker.types.faults import BAD_REVISION, BadRevision
from stoker.types.ids import ModelName
from tests.databases import migrated
from tests.store.rows import endpoint, manifest, project


@dataclass
class Turns:
    """What of control's loop is asked here."""

    lease: Lease
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Plane:
    """What of the control plane is asked here, of real parts."""

    database: Database
    incidents: Incidents
    loop: Turns
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)
    lease = database.write(lambda each: leases.acquire(each, "control", "me", time.time()))
    assert lease is not None
    evidence = Recorded(database, History(tmp_path / "metrics.db"))
    bad = msgspec.json.encode(BadRevision(time.time() - 1.0)).decode()
    wanted = endpoint("a", "m@1")
    spec = msgspec.structs.replace(wanted.spec, env={BAD_REVISION: bad, "KEPT": "1"})
    database.write(lambda each: projects.put(each, project(), 1.0))
    database.write(lambda each: models.add(each, ModelName("m"), manifest(1), 1.0))
    database.write(lambda each: endpoints.put(each, msgspec.structs.replace(wanted, spec=spec), 0, 1.0))
    return Plane(database, Incidents(database, evidence, evidence.quarantined, lambda: lease), Turns(lease))


def environment(plane: Plane) -> dict[str, str]:
    return plane.database.read(lambda each: endpoints.get(each, "default", "a")).resource.spec.env


def test_a_look_that_fails_is_followed_by_one_that_takes_the_revision_back(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gameday, "LOOK_EVERY_S", 0.01)

    def rename(old: str, new: str) -> None:
        plane.database.write(lambda each: each.execute(text(f"alter table {old} rename to {new}")))

    async def main() -> None:
        watching = asyncio.create_task(gameday.watch(plane))  # type: ignore[arg-type]
        rename("endpoints", "elsewhere")
        with caplog.at_level(logging.ERROR):
            while not caplog.records and not watching.done():
                await asyncio.sleep(0.01)
        assert not watching.done(), "one look that failed ended them all"
        rename("elsewhere", "endpoints")
        while not plane.loop.woken:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(main(), 30))
    assert environment(plane) == {"KEPT": "1"}
    plane.database.close()
