"""What serving costs, from looks at nodes to stored lines: nothing is lost or doubled, whenever control dies."""

import asyncio
import csv
import io
import random
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from stoker.control.costs.book import CostBook
from stoker.control.costs.closing import charge
from stoker.control.costs.prices import set_price_list
from stoker.control.costs.watch import LATE_S, CostWatch
from stoker.control.loop import LEASE
from stoker.control.observe import Observer, State
from stoker.core.cost.focus import COLUMNS
from stoker.core.cost.report import Report
from stoker.core.snapshot import EndpointState
from stoker.store import costs, leases, schema
from stoker.store.costs import DAY_S, HOUR_S
from stoker.store.engine import Connection, Database, open_engine, sqlite_url
from stoker.store.leases import LeaseLost
from stoker.telemetry.metrics import Registry
from stoker.types.costs import CostLine, MachinePrice, PoolPrices, PriceList, Reserved
from stoker.types.days import parse_day
from stoker.types.ids import ModelName
from stoker.types.models import ModelVersion, manifest_digest
from stoker.types.prices import parse_dollars
from stoker.types.process import ProcessStatus
from stoker.types.usage import Flag, UsageRecord
from tests.control.test_around import NODE, Nodes
from tests.store.rows import assignment, endpoint, manifest, revision

VERSION = ModelVersion(ModelName("m"), 1, manifest_digest(manifest(1)), manifest(1), 1.0, 10)
REVISION = revision(VERSION)
DAY = parse_day("2026-11-02") * DAY_S
PRICE = "1.234567891"
PRICES = PriceList((PoolPrices((MachinePrice(node_hour=PRICE, replica_hour="0.1"),)),))


class Platform:
    """A database, a node with one replica that is busy for a quarter of its time, and whoever is control now."""

    def __init__(self, folder: Path) -> None:
        engine = open_engine(sqlite_url(folder / "state.db"))
        schema.metadata.create_all(engine)
        self.database = Database(engine)
        self.lease = self.database.write(lambda c: leases.acquire(c, LEASE, "a", 1.0))
        self.now_s = float(DAY)
        self.metrics = Registry("control")
        placed = assignment(REVISION)
        found = EndpointState(REVISION.project, REVISION.endpoint, 1, endpoint(), 0.0)
        self.state = State((found,), (REVISION,), (placed,), {}, {})
        self.replica = str(placed.replica)
        self.nodes = Nodes()
        self.observer = Observer(self.nodes)
        self.watch = self.control()
        self.set_prices(PRICES)

    def set_prices(self, prices: PriceList) -> None:
        self.database.write(lambda c: set_price_list(c, prices))

    def control(self) -> CostWatch:
        """Return a control that knows nothing but what is stored."""
        return CostWatch(
            self.database, self.observer, lambda: self.state, lambda: self.lease, self.metrics, lambda: self.now_s
        )

    def look(self, after_s: float = 5.0) -> None:
        """Let time pass, and control look."""
        self.now_s += after_s
        busy_s = (self.now_s - DAY) / 4
        process = ProcessStatus(self.replica, "replica", "ready", started_at_s=DAY - 9.0, busy_s=busy_s)
        self.nodes.statuses = (msgspec.structs.replace(NODE, node="local", processes=(process,)),)

        async def run() -> None:
            await self.observer.look()
            await self.watch.look()

        asyncio.run(run())

    def until(self, at_s: float, step_s: float = 300.0) -> None:
        while self.now_s < at_s:
            self.look(min(step_s, at_s - self.now_s))

    def ask(self, key: str, flags: int = 0, *, compute_us: int = 1000, late_s: float = 0.0) -> None:
        """Have a gateway tell of a request that ended a while ago."""
        record = UsageRecord(
            int((self.now_s - late_s) * 1000), "r", "default", "a", "", REVISION.revision, key, key,
            (("team", "x"),), "infer", 200, flags, 0, 0, 0, 1, compute_us, 1, 1, 1, 0,
        )  # fmt: skip
        self.database.write(lambda c: charge(c, [record]))

    def spent(
        self, by: tuple[str, ...] = (), from_s: int = DAY, to_s: int = DAY + 400 * DAY_S
    ) -> dict[tuple[str, ...], int]:
        """Return the sums of stored lines."""

        def read(connection: Connection) -> dict[tuple[str, ...], int]:
            return {
                tuple(map(str, each.by.values())): each.nano_usd for each in costs.read(connection, from_s, to_s, by)
            }

        return self.database.read(read)

    def report(self, *by: str, project: str | None = None) -> Report:
        book = CostBook(self.database, self.watch, lambda: self.state)
        return asyncio.run(book.report(DAY, DAY + 400 * DAY_S, by, project))


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


def day_cost(hours: int = 24) -> int:
    return parse_dollars(PRICE) * hours + parse_dollars("0.1") * hours


def test_a_day_costs_what_its_machines_do_however_often_control_is_killed(platform: Platform) -> None:
    chance = random.Random(7)
    platform.look(0.0)
    while platform.now_s < DAY + DAY_S + LATE_S:
        step_s = chance.choice([5.0, 560.0, 570.0, 580.0])
        platform.look(step_s)
        if chance.random() < 0.3:
            platform.watch = platform.control()
        if chance.random() < 0.5:
            platform.ask(
                chance.choice(["k1", "k2"]), chance.choice([0, Flag.FAILED, Flag.CANARY]), late_s=chance.choice([0, 80])
            )
    assert platform.spent(to_s=DAY + DAY_S) == {(): day_cost()}
    kinds = {kind for (kind,) in platform.spent(("kind",))}
    assert kinds >= {"requests", "failed", "canary", "idle", "unallocated"}


def test_an_hour_that_dies_on_its_way_into_lines_is_made_lines_of_once(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + HOUR_S + LATE_S - 5)
    fault = "CREATE TRIGGER broken BEFORE DELETE ON cost_works BEGIN SELECT RAISE(ABORT, 'power cut'); END"
    platform.ask("k1")
    platform.ask("k1", late_s=LATE_S)
    platform.database.write(lambda c: c.execute(text(fault)))
    with pytest.raises(IntegrityError, match="power cut"):
        platform.look()
    assert platform.spent() == {}
    platform.watch = platform.control()
    platform.database.write(lambda c: c.execute(text("DROP TRIGGER broken")))
    platform.look()
    assert platform.spent(to_s=DAY + HOUR_S) == {(): day_cost(1)}
    platform.watch = platform.control()
    platform.look()
    assert platform.spent(to_s=DAY + HOUR_S) == {(): day_cost(1)}


def test_a_control_that_lost_its_lease_writes_nothing(platform: Platform) -> None:
    platform.look(0.0)
    platform.database.write(lambda c: leases.acquire(c, LEASE, "b", 1e12))
    with pytest.raises(LeaseLost):
        platform.look(60.0)
    assert platform.database.read(costs.ended) == []


def test_what_a_key_is_told_of_too_late_is_paid_in_the_hour_after(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + HOUR_S + LATE_S)
    assert platform.spent(("kind", "key"))["unmetered", ""] > 0
    platform.ask("k1", late_s=HOUR_S)
    platform.until(DAY + 2 * HOUR_S + LATE_S)
    assert platform.spent(("kind", "key"), from_s=DAY + HOUR_S)["requests", "k1"] > 0


def test_what_is_asked_by_too_many_is_of_no_key(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "WORKS_MAX", 3)
    platform.look(0.0)
    for number in range(9):
        platform.ask(f"k{number}")
    done = platform.database.read(lambda c: costs.works(c, DAY))
    assert {asked.key for asked in done} == {"k0", "k1", "k2", ""}
    assert sum(each.compute_us for each in done.values()) == 9_000


def test_the_hour_of_now_is_shown_and_not_counted_twice(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + HOUR_S // 2)
    platform.ask("k1")
    assert platform.spent() == {}
    before = platform.report("kind", "key")
    assert before.total.nano_usd == day_cost(1) // 2
    assert {(row.by["kind"], row.by["key"]) for row in before.items} == {
        ("requests", "k1"), ("idle", ""), ("unallocated", "")
    }  # fmt: skip
    platform.until(DAY + HOUR_S + LATE_S)
    assert platform.report().total.nano_usd == day_cost(1) + platform.report("hour").items[-1].nano_usd
    (each,) = platform.report().endpoints
    assert (each.utilisation_ratio, each.idle_ratio) == (0.25, 0.75)


def test_machines_without_a_price_cost_nothing_and_are_shown_by_their_time(platform: Platform) -> None:
    platform.set_prices(PriceList())
    platform.look(0.0)
    platform.until(DAY + HOUR_S + LATE_S)
    found = platform.report("kind")
    assert found.total.nano_usd == 0
    assert {row.by["kind"]: row.machine_s for row in found.items}["idle"] > HOUR_S * 3 / 4
    assert found.utilisation_ratio is not None


def test_a_project_sees_what_it_pays_and_what_its_endpoints_cost(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + HOUR_S + LATE_S)
    assert {row.by["kind"] for row in platform.report("kind", project="default").items} == {"unmetered", "idle"}
    assert platform.report("kind", project="other").items == ()


def test_days_of_old_hours_cost_the_same(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + DAY_S + LATE_S, step_s=590.0)
    before = platform.spent(("kind", "endpoint"), to_s=DAY + DAY_S)
    gone = platform.database.write(lambda c: costs.tidy(c, DAY + DAY_S + costs.HOURS_KEPT_S))
    assert gone > 0
    assert platform.spent(("kind", "endpoint"), to_s=DAY + DAY_S) == before
    spans = platform.database.read(lambda c: {span for span, _, _ in costs.lines(c, DAY, DAY + DAY_S)})
    assert spans == {"day"}
    assert platform.database.write(lambda c: costs.tidy(c, DAY + 2 * DAY_S + costs.DAYS_KEPT_S)) > 0
    assert platform.spent(to_s=DAY + DAY_S) == {}


def test_too_many_lines_become_days_sooner_and_the_oldest_days_go(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "ROWS_MAX", 50)
    line = CostLine("idle", "default", 5, 1000)

    def write(connection: Connection) -> None:
        for hour in range(5 * 24):
            costs.close(connection, DAY + hour * HOUR_S, [line])

    platform.database.write(write)
    platform.database.write(lambda c: costs.tidy(c, DAY + 5 * DAY_S))
    kept = platform.database.read(
        lambda c: [(span, at_s, each.nano_usd) for span, at_s, each in costs.lines(c, 0, 1 << 40)]
    )
    assert [each for each in kept if each[0] == "day"] == [("day", DAY + day * DAY_S, 5 * 24) for day in range(1, 3)]
    assert len(kept) == 50


def test_the_export_has_a_row_for_each_line_and_adds_up_to_the_same(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + 2 * HOUR_S + LATE_S)
    book = CostBook(platform.database, platform.watch, lambda: platform.state)

    async def read() -> str:
        return b"".join([piece async for piece in book.focus(DAY, DAY + DAY_S, None)]).decode()

    rows = list(csv.DictReader(io.StringIO(asyncio.run(read()))))
    assert tuple(rows[0]) == COLUMNS
    assert sum(parse_dollars(row["BilledCost"]) for row in rows) == day_cost(2)


def test_a_day_out_of_the_ordinary_is_a_ticket_until_it_is_yesterday(platform: Platform) -> None:
    platform.set_prices(
        PriceList(
            (
                PoolPrices(
                    (MachinePrice(reserved=Reserved(1, "1")), MachinePrice("2026-11-05", reserved=Reserved(9, "2")))
                ),
            )
        )
    )
    platform.look(0.0)
    assert platform.watch.unusual == ()
    platform.until(DAY + 3 * DAY_S + 12 * HOUR_S, step_s=12 * HOUR_S)
    assert platform.watch.unusual is not None
    (told,) = platform.watch.unusual
    assert told.labels == {"alertname": "CostUnusual"}
    assert told.severity == "ticket"
    assert "× the usual day: reserved unused" in told.summary


def test_what_is_counted_for_prometheus_is_what_is_stored(platform: Platform) -> None:
    platform.look(0.0)
    platform.until(DAY + 2 * HOUR_S + LATE_S)
    labels = {"kind": "idle", "pool": "default", "project": "default", "endpoint": "a"}
    counted = platform.metrics.counter("stoker_cost_micro_dollars_total", **labels).value
    assert counted == pytest.approx(platform.spent(("kind",), to_s=DAY + 2 * HOUR_S)["idle",] / 1000)
