"""Incidents in the database: one of an endpoint, explained from what really was counted, closed when it is well."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.core.alerts import Alert
from stoker.core.diagnose import incident as life
from stoker.core.diagnose.shift import Harm
from stoker.gateway.meters import Meters
from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.incidents import postmortem
from stoker.observe.incidents.evidence import JOURNAL_READ, Recorded
from stoker.observe.incidents.incidents import Incidents
from stoker.store import incidents, journal, leases
from stoker.store.engine import Database
from stoker.store.leases import LeaseLost
from stoker.telemetry.metrics import Registry
from stoker.types.errors import NotFound, Unavailable
from tests.databases import migrated

START_S = 1_000_000 * 60.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(migrated(tmp_path / "state.db"))
    yield made
    made.close()


class Gateway:
    """A gateway that counts as all do, the history it is kept in, and a clock that goes a minute at a time."""

    def __init__(self, database: Database, path: Path) -> None:
        self.meters = Meters(registry := Registry("gateway-0"), "default", "chat")
        self.registry = registry
        self.now_s = START_S
        self.path = path
        self.database = database
        self.alerts: list[Alert] = []

    async def start(self) -> None:
        """Begin, or go on as a control that was started again."""
        self.history = History(self.path, clock=lambda: self.now_s)
        await self.history.start()
        evidence = Recorded(self.database, self.history)
        self.lease = self.database.write(lambda each: leases.acquire(each, "control", "me", self.now_s))
        self.incidents = Incidents(
            self.database, evidence, evidence.quarantined, lambda: self.lease, lambda: self.alerts, lambda: self.now_s
        )
        await self.sample()

    async def sample(self) -> None:
        await self.history.observe([Answer("gateway-0", "boot", self.registry.snapshot())])

    def take(self, tries: int, took_s: float, queue_s: float) -> None:
        """Count so many requests, which took so long after they had queued; without a queue, no phases."""
        revision = self.meters.revision("chat-1", "chat")
        labels = {"project": "default", "endpoint": "chat", "revision": "chat-1"}
        for _ in range(tries):
            revision.code(200).add()
            revision.duration.observe(took_s + queue_s)
            for phase, seconds in (("queue", queue_s), ("compute", took_s)) if queue_s else ():
                self.registry.histogram("stoker_request_phase_seconds", phase=phase, **labels).observe(seconds)

    async def minute(self, *, queue_s: float = 0.001, tries: int = 60, queued: int = 0) -> None:
        self.take(tries, 0.5, queue_s)
        for _ in range(queued):
            self.meters.quarantined()
        self.now_s += 60.0
        await self.sample()

    async def seconds(self, count: int, *, tries: int, took_s: float = 0.5, queue_s: float = 0.0) -> None:
        """Let `count` times five seconds pass, with so many requests in each."""
        for _ in range(count):
            self.take(tries, took_s, queue_s)
            self.now_s += 5.0
            await self.sample()

    async def look(self) -> None:
        await self.incidents.raise_new()
        await self.incidents.look()


def run(database: Database, folder: Path, scenario: Callable[[Gateway], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        gateway = Gateway(database, folder / "metrics.db")
        await gateway.start()
        try:
            await scenario(gateway)
        finally:
            await gateway.history.close()

    asyncio.run(whole())


async def overloaded(gateway: Gateway) -> None:
    for _ in range(20):
        await gateway.minute()
    for _ in range(6):
        await gateway.minute(queue_s=4.0, tries=180)


def test_what_the_gateways_counted_explains_an_overload(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        await overloaded(gateway)
        found = await gateway.incidents.why("default", "chat")
        assert START_S + 20 * 60 <= found.bad_from_s < START_S + 21 * 60
        assert found.diagnosis.causes[0].kind == "overload"
        # A sample a minute lies in the last 5 s of it, where the finest step finds the beginning.
        assert "3.54 requests/s against 0.956" in found.diagnosis.causes[0].evidence
        other = await gateway.incidents.why("default", "other")
        assert not other.diagnosis.is_wrong

    run(database, tmp_path, scenario)


def test_the_time_before_the_first_request_is_no_part_of_what_was_good(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        await gateway.seconds(9, tries=0)
        await gateway.seconds(8, tries=100)
        await gateway.seconds(6, tries=100, took_s=5.0)
        found = await gateway.incidents.why("default", "chat")
        assert (found.base_from_s, found.bad_from_s) == (START_S + 45, START_S + 85)
        assert "overload" not in {cause.kind for cause in found.diagnosis.causes}

    run(database, tmp_path, scenario)


def test_what_is_over_is_explained_afterwards_with_what_was_done_then(database: Database, tmp_path: Path) -> None:
    def entry(action: str, because: str, at_s: float) -> None:
        database.write(lambda each: journal.add(each, journal.Entry(at_s, action, because, "default", "chat")))

    async def scenario(gateway: Gateway) -> None:
        entry("ApplyEndpoint", "asked to", START_S)
        await overloaded(gateway)
        over_s = gateway.now_s
        entry("ApplyEndpoint", "changed: spec.slos", over_s - 340)
        entry("ApplyEndpoint", "changed: spec.limits.queue_max", over_s - 330)
        for _ in range(3 * 60):
            await gateway.minute()
        for number in range(2 * JOURNAL_READ):
            entry("StartReplica", f"replica {number}", gateway.now_s - 60.0)
        now = await gateway.incidents.why("default", "chat")
        assert not now.diagnosis.is_wrong
        then = await gateway.incidents.why("default", "chat", over_s - 360, over_s)
        assert then.diagnosis.is_wrong
        assert over_s - 360 <= then.bad_from_s < over_s - 300
        assert then.bad_until_s == over_s
        assert [each.what for each in then.changes] == ["manifest: changed: spec.limits.queue_max"]

    run(database, tmp_path, scenario)


def test_a_control_that_was_started_again_explains_what_happened_before_it_did(
    database: Database, tmp_path: Path
) -> None:
    async def scenario(gateway: Gateway) -> None:
        await overloaded(gateway)
        before = await gateway.incidents.why("default", "chat")
        await gateway.history.close()
        await gateway.start()
        assert await gateway.incidents.why("default", "chat") == before

    run(database, tmp_path, scenario)


def test_an_endpoint_has_one_open_incident_which_closes_when_it_is_well(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        await overloaded(gateway)
        first = await gateway.incidents.open("default", "chat", "SLO latency burns")
        again = await gateway.incidents.open("default", "chat", "SLO latency burns faster")
        assert again.number == first.number
        assert again.causes[0].kind == "overload"
        for _ in range(5 + life.RECOVERED_LOOKS):
            await gateway.minute()
            await gateway.look()
        after = database.read(lambda each: incidents.get(each, first.number))
        assert after.resolution == "it recovered"
        assert after.causes[0].kind == "overload"
        assert "## Timeline" in postmortem.draft(after)

    run(database, tmp_path, scenario)


def test_one_that_was_opened_before_anything_was_counted_is_explained_as_soon_as_something_is(
    database: Database, tmp_path: Path
) -> None:
    async def scenario(gateway: Gateway) -> None:
        for _ in range(20):
            await gateway.minute()
        one = await gateway.incidents.open("default", "chat", "SLO latency burns")
        assert one.causes == ()
        opened_s = gateway.now_s
        found = one
        while not found.causes and gateway.now_s - opened_s < 60:
            await gateway.seconds(1, tries=200, queue_s=4.0)
            await gateway.incidents.raise_new()
            await gateway.incidents.explain_new()
            found = database.read(lambda each: incidents.get(each, one.number))
        assert found.causes[0].kind == "overload"
        assert gateway.now_s - opened_s < 30

    run(database, tmp_path, scenario)


def test_hours_of_an_incident_do_not_become_its_own_baseline(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        await overloaded(gateway)
        one = await gateway.incidents.open("default", "chat", "SLO latency burns")
        for number in range(75):
            await gateway.minute(queue_s=4.0, tries=20)
            if number % 15 == 14:
                await gateway.look()
        assert database.read(lambda each: incidents.get(each, one.number)).is_open

    run(database, tmp_path, scenario)


def test_a_shape_in_quarantine_opens_an_incident(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        await gateway.minute()
        await gateway.minute(queued=1)
        await gateway.look()
        (found,) = database.read(lambda each: incidents.newest(each, 10))
        assert "quarantine" in found.raised_by

    run(database, tmp_path, scenario)


def test_an_alert_that_fires_opens_an_incident_once_however_long_it_fires(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        labels = {"project": "default", "endpoint": "chat"}
        gateway.alerts = [Alert("a1", labels, "page", "firing", "latency burns", "", "", START_S, START_S)]
        for _ in range(2 * life.RECOVERED_LOOKS):
            await gateway.minute()
            await gateway.look()
        (found,) = database.read(lambda each: incidents.newest(each, 10))
        assert [moment.kind for moment in found.timeline] == ["opened", "closed"]

    run(database, tmp_path, scenario)


def test_an_incident_that_was_closed_by_hand_stays_closed_when_control_starts_again(
    database: Database, tmp_path: Path
) -> None:
    async def scenario(gateway: Gateway) -> None:
        labels = {"project": "default", "endpoint": "chat"}
        gateway.alerts = [Alert("a1", labels, "page", "firing", "answers burn", "", "", START_S, START_S)]
        await gateway.look()
        closed = await gateway.incidents.close(1, "went back")
        for minutes in (1, 60):  # within the time in which it would be opened again, and after it
            gateway.now_s += 60.0 * minutes
            await gateway.history.close()
            await gateway.start()
            await gateway.look()
            assert database.read(lambda each: incidents.newest(each, 10)) == [closed]
        gateway.alerts = [Alert("a2", labels, "page", "firing", "it is slow", "", "", gateway.now_s, gateway.now_s)]
        await gateway.look()
        assert database.read(lambda each: incidents.newest(each, 10))[0].raised_by == "alert: it is slow"

    run(database, tmp_path, scenario)


def test_who_lost_the_lease_or_never_had_it_writes_no_incident(database: Database, tmp_path: Path) -> None:
    async def scenario(gateway: Gateway) -> None:
        one = await gateway.incidents.open("default", "chat", "SLO latency burns")
        later_s = gateway.now_s + leases.TTL_S + 1
        database.write(lambda each: leases.acquire(each, "control", "another", later_s))
        with pytest.raises(LeaseLost):
            await gateway.incidents.close(one.number, "by somebody who was asleep")
        with pytest.raises(LeaseLost):
            await gateway.incidents.open("default", "other", "SLO latency burns")
        gateway.lease = None
        with pytest.raises(Unavailable, match="another one acts"):
            await gateway.incidents.close(one.number, "by somebody who never acted")
        (found,) = database.read(lambda each: incidents.newest(each, 10))
        assert found.is_open

    run(database, tmp_path, scenario)


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


def test_a_postmortem_says_harm_in_words_for_it_is_a_share_of_nothing() -> None:
    harm = Harm(latency=0.2, errors=1.0, refusals=0.5)
    text = postmortem.draft(msgspec.structs.replace(life.opened("p", "e", "x", 1.0), harm=harm))
    assert "- **Harm** latency (slight), errors (severe), refusals (clear)\n" in text
