"""Incidents in the database: one of an endpoint, explained from what really was counted, closed when it is well."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.core.alerts import Alert
from stoker.core.diagnose import incident as life
from stoker.observe import postmortem
from stoker.observe.incidents import Incidents
from stoker.observe.minutes import Minutes
from stoker.store import incidents, migrate
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.types.errors import NotFound

START_S = 1_000_000 * 60.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = open_engine(sqlite_url(tmp_path / "state.db"))
    migrate.upgrade(engine)
    database = Database(engine)
    yield database
    database.close()


class Gateway:
    """A gateway that counts in the platform's own registry, and a clock that goes a minute at a time."""

    def __init__(self, database: Database) -> None:
        self.registry = Registry("gateway-0")
        self.now_s = START_S
        self.minutes = Minutes(database, self.snapshots, lambda: self.now_s)
        self.alerts: list[Alert] = []
        self.incidents = Incidents(
            database, self.minutes, self.minutes.quarantined, lambda: self.alerts, lambda: self.now_s
        )

    async def snapshots(self) -> list[Snapshot]:
        return [self.registry.snapshot()]

    async def minute(self, *, queue_s: float = 0.001, tries: int = 60, queued: int = 0) -> None:
        labels = {"project": "default", "endpoint": "chat"}
        revision = {**labels, "revision": "chat-1"}
        for _ in range(tries):
            self.registry.counter("stoker_requests_total", **revision, method="chat", code="200").add()
            self.registry.histogram("stoker_request_duration_seconds", **revision, method="chat").observe(0.5 + queue_s)
            self.registry.histogram("stoker_queue_wait_seconds", **labels).observe(queue_s)
            self.registry.histogram("stoker_replica_compute_seconds", **revision).observe(0.5)
        if queued:
            self.registry.counter("stoker_quarantined_total", **labels).add(queued)
        self.now_s += 60.0
        await self.minutes.sample()


async def overloaded(gateway: Gateway) -> None:
    await gateway.minutes.sample()
    for _ in range(20):
        await gateway.minute()
    for _ in range(6):
        await gateway.minute(queue_s=4.0, tries=180)


def test_what_the_gateways_counted_explains_an_overload(database: Database) -> None:
    async def scenario() -> None:
        gateway = Gateway(database)
        await overloaded(gateway)
        found = await gateway.incidents.why("default", "chat")
        assert found.bad_from_s == START_S + 20 * 60
        assert found.diagnosis.causes[0].kind == "overload"
        assert "3 requests/s against 1" in found.diagnosis.causes[0].evidence
        other = await gateway.incidents.why("default", "other")
        assert not other.diagnosis.is_wrong

    asyncio.run(scenario())


def test_an_endpoint_has_one_open_incident_which_closes_when_it_is_well(database: Database) -> None:
    async def scenario() -> None:
        gateway = Gateway(database)
        await overloaded(gateway)
        first = await gateway.incidents.open("default", "chat", "SLO latency burns")
        again = await gateway.incidents.open("default", "chat", "SLO latency burns faster")
        assert again.number == first.number
        assert again.causes[0].kind == "overload"
        for _ in range(5 + life.RECOVERED_LOOKS):
            await gateway.minute()
            await gateway.incidents.look()
        after = database.read(lambda each: incidents.get(each, first.number))
        assert after.resolution == "it recovered"
        assert after.causes[0].kind == "overload"
        assert "## Timeline" in postmortem.draft(after)

    asyncio.run(scenario())


def test_hours_of_an_incident_do_not_become_its_own_baseline(database: Database) -> None:
    async def scenario() -> None:
        gateway = Gateway(database)
        await overloaded(gateway)
        one = await gateway.incidents.open("default", "chat", "SLO latency burns")
        for number in range(75):
            await gateway.minute(queue_s=4.0, tries=20)
            if number % 15 == 14:
                await gateway.incidents.look()
        assert database.read(lambda each: incidents.get(each, one.number)).is_open

    asyncio.run(scenario())


def test_a_shape_in_quarantine_opens_an_incident(database: Database) -> None:
    async def scenario() -> None:
        gateway = Gateway(database)
        await gateway.minutes.sample()
        await gateway.minute()
        await gateway.minute(queued=1)
        await gateway.incidents.look()
        (found,) = database.read(lambda each: incidents.newest(each, 10))
        assert "quarantine" in found.raised_by

    asyncio.run(scenario())


def test_an_alert_that_fires_opens_an_incident_once_however_long_it_fires(database: Database) -> None:
    async def scenario() -> None:
        gateway = Gateway(database)
        await gateway.minutes.sample()
        labels = {"project": "default", "endpoint": "chat"}
        gateway.alerts = [Alert("a1", labels, "page", "firing", "latency burns", "", "", START_S, START_S)]
        for _ in range(2 * life.RECOVERED_LOOKS):
            await gateway.minute()
            await gateway.incidents.look()
        (found,) = database.read(lambda each: incidents.newest(each, 10))
        assert [moment.kind for moment in found.timeline] == ["opened", "closed"]

    asyncio.run(scenario())


def test_incidents_are_bounded_and_numbers_are_never_given_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "INCIDENTS_MAX", 3)
    for _ in range(5):
        database.write(lambda each: incidents.add(each, life.opened("p", "e", "test", 1.0)))
    assert [one.number for one in database.read(lambda each: incidents.newest(each, 10))] == [5, 4, 3]
    with pytest.raises(NotFound, match="no incident 1"):
        database.read(lambda each: incidents.get(each, 1))


def test_text_from_outside_is_not_markup_in_a_postmortem() -> None:
    text = postmortem.draft(life.opened("p", "e", "`x` | <script>\n# heading", 1.0))
    assert "\n# heading" not in text
    assert "`'x' / <script> # heading`" in text
