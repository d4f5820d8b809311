"""Usage is settled exactly once, whatever is sent twice, late, out of order, or not answered; and sums stay exact."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import StaticPool, create_engine

from stoker.core.usage import DAY_S, DAYS_KEPT_S, HOURS_KEPT_S, OTHER
from stoker.store import schema, usage
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.types.usage import Flag, Tags, UsageBatch, UsageRecord

NOW_S = 1_800_000_000


def record(number: int = 0, at_s: int = NOW_S, endpoint: str = "chat", tags: Tags = (), flags: int = 0) -> UsageRecord:
    """Return a record whose price is a power of ten thousand of its number: a sum tells which ones are in it."""
    return UsageRecord(
        at_s * 1000, f"req-{number}", "team", endpoint, "", f"team.{endpoint}-1", "k1", "acme", tags, "chat", 200,
        flags, 10, 5, 0, 0, 7, 1, 2, 1, 10**number if number < 18 else number,
    )  # fmt: skip


def database(folder: Path) -> Database:
    made = Database(open_engine(sqlite_url(folder / "state.db")))
    schema.metadata.create_all(made.engine)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    made = database(tmp_path)
    yield made
    made.close()


def total(store: Database, by: tuple[str, ...] = ()) -> dict[tuple[str, ...], usage.Sums]:
    with store.engine.connect() as connection:
        return {tuple(who.values()): sums for who, _, sums in usage.read(connection, 0, 1 << 40, by)}


def settle(store: Database, first: int, *records: UsageRecord, lost: int = 0, incarnation: str = "a") -> int:
    batch = UsageBatch("gateway-0", incarnation, first, lost, list(records))
    return store.write(lambda connection: usage.settle(connection, batch, NOW_S)[0])


def test_a_batch_is_settled_once_and_a_gap_is_refused(store: Database) -> None:
    one, two, three = record(0), record(1), record(2)
    assert settle(store, 1, one, two) == 2
    assert settle(store, 1, one, two) == 2
    assert settle(store, 4, record(3)) == 2  # 3 is missing
    assert settle(store, 2, two, three) == 3
    assert settle(store, 1, record(4), incarnation="b") == 1
    (sums,) = total(store).values()
    assert (sums.requests, sums.price_nano_usd) == (4, 10111)


def test_what_can_never_be_read_is_passed_over_and_told(store: Database) -> None:
    assert settle(store, 4, record(3), lost=3) == 4
    assert settle(store, 4, record(3), lost=3) == 4
    assert total(store)[()].requests == 1
    with store.engine.connect() as connection:
        row = connection.execute(schema.usage_cursors.select()).one()
    assert (row.settled, row.lost) == (4, 3)


def test_counts_what_became_of_requests(store: Database) -> None:
    flags = (Flag.FAILED, Flag.CANCELLED | Flag.STREAM, Flag.CACHED, Flag.RETRIED)
    settle(store, 1, *(record(flags=int(each)) for each in flags))
    sums = total(store)[()]
    assert (sums.requests, sums.failed, sums.cancelled, sums.cached) == (4, 1, 1, 1)
    assert (sums.input_tokens, sums.output_tokens, sums.compute_us, sums.bytes_out) == (40, 20, 28, 8)


def test_old_hours_become_days_and_old_days_months_and_no_sum_changes(store: Database) -> None:
    ages = (0, HOURS_KEPT_S - DAY_S, HOURS_KEPT_S + DAY_S, DAYS_KEPT_S - DAY_S, DAYS_KEPT_S + 40 * DAY_S)
    settle(store, 1, *(record(at, NOW_S - age - hour) for age in ages for at, hour in enumerate((0, 3600))))
    before = total(store)[()]
    store.write(lambda connection: usage.tidy(connection, NOW_S))
    store.write(lambda connection: usage.tidy(connection, NOW_S + DAYS_KEPT_S))
    assert total(store)[()] == before
    settle(store, 11, record(0, NOW_S - 40 * DAY_S))  # late, for a month that is closed
    store.write(lambda connection: usage.tidy(connection, NOW_S + DAYS_KEPT_S))
    assert total(store)[()].requests == before.requests + 1
    with store.engine.connect() as connection:
        spans = Counter(row.span for row in connection.execute(schema.usage_sums.select()))
    assert set(spans) <= {"month", "day"}


def test_sets_of_tags_are_bounded_and_those_over_it_are_one(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "TAG_SETS_MAX", 3)
    settle(store, 1, *(record(tags=(("run", str(number)),)) for number in range(10)))
    with store.engine.connect() as connection:
        found = {tags: sums.requests for _, tags, sums in usage.read(connection, 0, 1 << 40, ("tags",))}
    assert len(found) == 4
    assert found[OTHER] == 7
    store.write(lambda connection: usage.tidy(connection, NOW_S))
    assert len(total(store, ("tags",))) == 4


def test_rows_and_cursors_are_bounded(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "CURSORS_MAX", 2)
    monkeypatch.setattr(usage, "ROWS_MAX", 4)
    for number in range(6):
        settle(store, 1, record(at_s=NOW_S - 40 * DAY_S * (6 - number)), incarnation=f"i{number}")
    store.write(lambda connection: usage.tidy(connection, NOW_S))
    assert total(store)[()].requests == 4
    with store.engine.connect() as connection:
        assert len(usage.cursors(connection)) == 2


class Shipping(RuleBasedStateMachine):
    """Gateways that write, ship, die and are restarted; and a control that dies before or after its commit."""

    @initialize()
    def begin(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        schema.metadata.create_all(engine)
        self.store = Database(engine)
        self.written: dict[str, list[UsageRecord]] = {"i0": []}
        self.acknowledged: Counter[str] = Counter()
        self.sent: list[UsageBatch] = []  # anything of it may come again
        self.charged: Counter[str] = Counter()

    def teardown(self) -> None:
        self.store.close()

    @rule(count=st.integers(1, 4), endpoint=st.sampled_from(["chat", "digits"]))
    def write(self, count: int, endpoint: str) -> None:
        own = self.written[f"i{len(self.written) - 1}"]
        own += [record(20 + len(own) + at, NOW_S + 1800 * at, endpoint) for at in range(count)]

    @rule()
    def restart_the_gateway(self) -> None:
        self.written[f"i{len(self.written)}"] = []

    @rule(data=st.data(), fate=st.sampled_from(["answered", "answer lost", "dies before commit", "delayed"]))
    def ship(self, data: st.DataObject, fate: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.written)))
        rest = self.written[name][self.acknowledged[name] :]
        if rest:
            count = data.draw(st.integers(1, len(rest)))
            batch = UsageBatch("gateway-0", name, self.acknowledged[name] + 1, 0, rest[:count])
            self.sent.append(batch)
            self.receive(batch, fate)

    @rule(data=st.data(), fate=st.sampled_from(["answered", "answer lost"]))
    def an_old_batch_comes_again(self, data: st.DataObject, fate: str) -> None:
        if self.sent:
            self.receive(data.draw(st.sampled_from(self.sent)), fate)

    def receive(self, batch: UsageBatch, fate: str) -> None:
        wire = msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=UsageBatch)
        if fate == "delayed":
            return
        with self.store.engine.connect() as connection:
            until, new = usage.settle(connection, wire, NOW_S)
            if fate == "dies before commit":
                connection.rollback()
                return
            connection.commit()
            self.charged.update(f"{batch.incarnation}/{each.request}" for each in new)
        if fate == "answered":
            self.acknowledged[batch.incarnation] = max(self.acknowledged[batch.incarnation], until)

    @invariant()
    def every_record_is_in_the_sums_at_most_once_and_every_acknowledged_one_is(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.engine.connect() as connection:
            cursors = usage.cursors(connection)
        settled = [each for name, until in cursors.items() for each in self.written[name][:until]]
        (sums,) = total(self.store).values() if settled else (usage.Sums(),)
        assert sums.requests == len(settled)
        assert sums.price_nano_usd == sum(each.price_nano_usd for each in settled)
        assert all(cursors.get(name, 0) >= until for name, until in self.acknowledged.items())
        assert len(self.charged) == len(settled)
        assert set(self.charged.values()) <= {1}


Shipping.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestShipping = Shipping.TestCase
