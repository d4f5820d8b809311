"""Whole days of a platform that is looked at, stopped and asked things: all lines are what its machines cost."""

from collections import Counter
from datetime import date, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.core.capacity import Capacity
from stoker.core.cost import hours, machines, timesheet
from stoker.core.cost.attribute import ReplicaTime
from stoker.core.cost.fold import fold
from stoker.core.cost.hours import Asked, Done, kind_of
from stoker.core.cost.machines import Present
from stoker.core.cost.money import HOUR_MS
from stoker.core.cost.timesheet import Look, SeenReplica, Sheet
from stoker.types.costs import CostLine, LineKind, MachinePrice, Payer, PoolPrices, PriceList, Reserved
from stoker.types.usage import Flag, UsageRecord

DAY_MS = 24 * HOUR_MS
START_MS = 20_000 * DAY_MS
NODES = (
    Capacity("n1", 8.0, 2**35),
    Capacity("n2", 4.0, 2**34, gpus=1),
    Capacity("n3", 4.0, 2**34, "gpu", gpus=2),
)
WHERE = {"a": "n1", "b": "n1", "c": "n2", "d": "n3"}
MIDDLE = (date(1970, 1, 1) + timedelta(days=20_000)).isoformat()
DOLLARS = st.sampled_from(["0", "0.000000001", "0.35", "4", "1.234567891"])
KINDS = st.sampled_from(["requests", "failed", "canary"])


@st.composite
def prices(draw: st.DrawFn) -> PriceList:
    """Return prices of none, one or both pools, which change with the day and reserve more than there is."""
    found = []
    for pool in draw(st.sets(st.sampled_from(["default", "gpu", "empty"]))):
        reserved = st.none() | st.builds(Reserved, st.integers(1, 4), DOLLARS)
        price = st.builds(MachinePrice, st.sampled_from(["1970-01-01", MIDDLE]), DOLLARS, DOLLARS, DOLLARS, reserved)
        who = st.sampled_from(get_args(Payer))
        found.append(PoolPrices(tuple(draw(st.lists(price, min_size=1, max_size=3))), pool, draw(who), draw(who)))
    return PriceList(tuple(found))


@st.composite
def days(draw: st.DrawFn) -> list[Look]:
    """Return looks over a day or two, some hours apart, at nodes that come and go and replicas that do as they like."""
    at_ms, busy_s, found = START_MS - draw(st.integers(0, DAY_MS)), Counter[str](), []
    for _ in range(draw(st.integers(2, 25))):
        at_ms += draw(st.integers(1, 600_000) | st.integers(1, 8 * HOUR_MS))
        nodes = tuple(node for node in NODES if draw(st.booleans()))
        replicas = []
        for name, node in WHERE.items():
            if draw(st.booleans()) and node in {each.node for each in nodes}:
                busy_s[name] += draw(st.integers(0, 300))
                gpus = (0,) if node != "n1" else ()
                holds = ReplicaTime(name, node, "team", "chat", name, 2.0, 2**33, gpus=gpus, gpu_milli=1000)
                replicas.append(SeenReplica(holds, draw(st.booleans()), draw(st.booleans()), 0.0, float(busy_s[name])))
        found.append(Look(at_ms, nodes, tuple(replicas)))
    return found


def ended(looks: list[Look]) -> list[Sheet]:
    """Return every hour of the looks, each stored and read again on the way."""
    sheet, found = timesheet.begin(looks[0].at_ms), []
    for each in looks:
        sheet, over = timesheet.look(msgspec.json.decode(msgspec.json.encode(sheet), type=Sheet), each)
        found += over
    return [*found, sheet]


def done() -> st.SearchStrategy[dict[Asked, Done]]:
    tags: st.SearchStrategy[Any] = st.sampled_from([(), (("x", "y"),)])
    keys = st.sampled_from(["k1", "k2", ""])
    asked = st.builds(Asked, st.sampled_from([*WHERE, "gone"]), KINDS, st.just("team"), keys, tags)
    return st.dictionaries(asked, st.builds(Done, st.integers(0, 10**9), st.integers(0, 10**9)), max_size=5)


def whole_cost(sheets: list[Sheet], pool: PoolPrices) -> int:
    """Return what the pool's machines and replicas cost over all the time at once."""
    spans: dict[str, list[tuple[int, int]]] = {}
    gpus: dict[str, int] = {}
    for sheet in sheets:
        for each in timesheet.of_pool(sheet, pool.pool)[0]:
            spans.setdefault(each.node, []).extend(each.spans)
            gpus[each.node] = each.gpus
    present = [Present(name, tuple(found), gpus[name]) for name, found in spans.items()]
    extra = sum(
        machines.replica(pool, sheet.hour_ms, sheet.hour_ms + HOUR_MS) * each.held_ms // HOUR_MS
        for sheet in sheets
        for each in timesheet.of_pool(sheet, pool.pool)[2]
    )
    return machines.over(pool, present, sheets[0].hour_ms, sheets[-1].hour_ms + HOUR_MS).total + extra


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(days(), prices(), st.lists(done(), min_size=1, max_size=3), st.integers(1, 40))
def test_all_lines_of_any_days_are_what_the_machines_cost(
    looks: list[Look], paid: PriceList, asked: list[dict[Asked, Done]], most: int
) -> None:
    sheets, found = ended(looks), list[CostLine]()
    for number, sheet in enumerate(sheets):
        work = hours.works(asked[number % len(asked)], {"k1": "team", "k2": "other"})
        lines = hours.lines(sheet, paid, work, sheet.hour_ms + HOUR_MS)
        folded = fold(lines, most)
        assert sum(line.ms for line in folded) == sum(line.ms for line in lines)
        assert {line.kind for line in folded} == {line.kind for line in lines}
        found += folded
    assert [each.hour_ms for each in sheets] == list(range(sheets[0].hour_ms, sheets[-1].hour_ms + 1, HOUR_MS))
    assert sum(line.nano_usd for line in found) == sum(whole_cost(sheets, each) for each in paid.pools)


LINES = st.builds(
    CostLine,
    KINDS,
    st.just("p"),
    st.integers(0, 9),
    st.integers(0, 9),
    st.just("team"),
    st.just("team"),
    st.sampled_from("xy"),
    st.sampled_from("12"),
    st.text("ab", max_size=2),
)


@given(st.lists(LINES, max_size=40), st.integers(1, 20))
def test_few_lines_stay_as_they_are_and_many_lose_their_smallest_keys(lines: list[CostLine], most: int) -> None:
    whole, folded = fold(lines, len(lines) + 1), fold(lines, most)
    assert len({msgspec.structs.replace(each, nano_usd=0, ms=0) for each in whole}) == len(whole)
    if len(whole) <= most:
        assert folded == whole
    assert len(folded) <= max(most, len({(each.kind, each.endpoint) for each in lines}))
    amounts = Counter[tuple[str, str]]()
    for each in lines:
        amounts[each.kind, each.endpoint] += each.nano_usd
    for each in folded:
        amounts[each.kind, each.endpoint] -= each.nano_usd
    assert not any(amounts.values())


def record(revision: str = "1", flags: int = 0, **changes: int) -> UsageRecord:
    values = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "compute_us": 0, **changes}
    return UsageRecord(
        START_MS + 5, "r", "team", "chat", "", revision, "k1", "k1", (), "chat", 200, flags,
        values["input_tokens"], values["output_tokens"], values["cached_tokens"], 1, values["compute_us"],
        1, 1, 1, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (0, "requests"),
        (Flag.CANARY, "canary"),
        (Flag.CANARY | Flag.FAILED, "failed"),
        (Flag.CANCELLED | Flag.STREAM, "failed"),
        (Flag.RETRIED | Flag.HEDGED, "requests"),
        (Flag.WASTED_TRY | Flag.ESTIMATED, "retries"),
        (Flag.WASTED_HEDGE, "hedges"),
        (Flag.WASTED_COPY | Flag.CANARY, "shadow"),
    ],
)
def test_what_the_work_of_a_request_was_for(flags: int, kind: LineKind) -> None:
    assert kind_of(flags) == kind


def test_work_is_measured_in_tokens_where_there_are_some_and_else_in_the_engines_time() -> None:
    told = [
        record("chat-1", input_tokens=10, output_tokens=5, compute_us=7),
        record("chat-1", Flag.FAILED, compute_us=1_000_000),
        record("digits-1", compute_us=40),
        record("digits-1", compute_us=2),
        record("digits-1", Flag.RETRIED | Flag.STREAM, compute_us=3),
        record("digits-1", Flag.CACHED, compute_us=99),
        record("", compute_us=99),
    ]
    found = hours.asked(told)
    assert {at_ms for at_ms, _ in found} == {START_MS}
    work = hours.works({whose: done for (_, whose), done in found.items()}, {"k1": "payer"})
    assert {(each.revision, each.kind): each.units for each in work} == {
        ("chat-1", "requests"): 200,
        ("chat-1", "failed"): 0,
        ("digits-1", "requests"): 45,
    }
    assert {each.payer for each in work} == {"payer"}


def test_what_is_reserved_is_paid_in_hours_in_which_control_was_not_there() -> None:
    paid = PriceList((PoolPrices((MachinePrice(reserved=Reserved(2, "1")),)),))
    looks = [Look(START_MS, (), ()), Look(START_MS + 5 * HOUR_MS, (), ())]
    found = [line for sheet in ended(looks) for line in hours.lines(sheet, paid, (), sheet.hour_ms + HOUR_MS)]
    assert [(line.kind, line.nano_usd) for line in found] == [("reserved_unused", 2 * 10**9)] * 6
