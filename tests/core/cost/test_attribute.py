"""Every nano-dollar of a machine has its line, whatever was measured; and a worked example, checked by hand."""

import re
from collections import Counter
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.capacity import Capacity
from stoker.core.cost.attribute import ReplicaTime, Window, Work, attribute, units
from stoker.core.cost.machines import NodeCost, PoolCost
from stoker.core.cost.money import HOUR_MS
from stoker.core.cost.payers import assign
from stoker.types.costs import NOBODY, OVERHEAD, CostLine, LineKind, MachinePrice, Payer, PoolPrices

KINDS: list[LineKind] = ["requests", *sorted(OVERHEAD - {"unmetered"})]
MS = st.integers(0, HOUR_MS)
PAYERS = st.sampled_from(["a", "b", "c"])
FREE = PoolPrices((MachinePrice(),))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Return a window of whatever was measured: more promised than a node has, times over its end, works of nobody."""
    names = ["n1", "n2", "n3"][: draw(st.integers(0, 3))]
    amounts = st.integers(0, 10**9)
    costs = [NodeCost(name, draw(amounts), draw(MS), tuple(draw(st.lists(amounts, max_size=2)))) for name in names]
    nodes = [Capacity(name, draw(st.floats(0, 64)), draw(st.integers(0, 2**40))) for name in names]
    replicas = [
        ReplicaTime(
            f"r{index}", draw(st.sampled_from(names)), draw(PAYERS), draw(st.sampled_from("xy")),
            draw(st.sampled_from("12")),
            draw(st.floats(0, 128)), draw(st.integers(0, 2**41)), draw(MS), draw(MS), draw(MS), draw(MS),
            tuple(draw(st.sets(st.integers(0, 3), max_size=2))), draw(st.integers(0, 1000)), draw(amounts),
        )
        for index in range(draw(st.integers(0, 6)) if names else 0)
    ]  # fmt: skip
    works = draw(
        st.lists(
            st.builds(Work, st.sampled_from("123"), st.sampled_from(KINDS), st.integers(0, 10**12), PAYERS), max_size=9
        )
    )
    return Window("default", PoolCost(tuple(costs), draw(amounts)), tuple(nodes), tuple(replicas), tuple(works))


@given(windows())
def test_the_lines_of_a_window_are_what_its_machines_cost(window: Window) -> None:
    lines = attribute(window)
    assert sum(line.nano_usd for line in lines) == window.cost.total + sum(each.extra for each in window.replicas)
    assert all(line.nano_usd >= 0 and line.ms >= 0 and (line.nano_usd or line.ms) for line in lines)
    of_replicas = sum(line.ms for line in lines if line.kind not in ("unallocated", "reserved_unused"))
    assert of_replicas == sum(each.held_ms for each in window.replicas)


@given(windows(), st.sampled_from(get_args(Payer)), st.sampled_from(get_args(Payer)))
def test_who_pays_changes_no_sum_and_no_kind(window: Window, idle: Payer, overhead: Payer) -> None:
    before = attribute(window)
    after = assign(before, PoolPrices((MachinePrice(),), idle=idle, overhead=overhead))
    sums: list[Counter[tuple[str, str, str]]] = [Counter(), Counter()]
    for found, lines in zip(sums, (before, after), strict=True):
        for line in lines:
            found[line.kind, line.endpoint, line.revision] += line.nano_usd
            found[line.kind, line.endpoint, f"{line.revision} ms"] += line.ms
    assert sums[0] == sums[1]
    assert [line for line in after if line.kind == "requests"] == [line for line in before if line.kind == "requests"]


# The example of docs/explanation/costs.md: a machine of $4.00 an hour, 8 cores and 32 GiB; `chat` of project team-a
# holds half of it for the whole hour, is busy for half of that and answers two keys.
NODE = Capacity("n1", 8.0, 32 * 2**30)
CHAT = ReplicaTime("r1", "n1", "team-a", "chat", "1", 4.0, 8 * 2**30, 0, HOUR_MS // 2, 0, HOUR_MS // 2)
WORKS = (
    Work("1", "requests", 3_000, "team-a", "k1"),
    Work("1", "requests", 6_000, "team-b", "k2"),
    Work("1", "failed", 1_000, "team-b", "k2"),
)
HOUR = Window("default", PoolCost((NodeCost("n1", 4_000_000, HOUR_MS),), 0), (NODE,), (CHAT,), WORKS)


def _paid(policy: Payer) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for line in assign(attribute(HOUR), PoolPrices((MachinePrice(),), idle=policy, overhead=policy)):
        found[line.kind, line.payer] += line.nano_usd
    return dict(found)


def test_the_worked_example_where_the_endpoints_owner_pays_for_idle_time() -> None:
    assert _paid("owner") == {
        ("requests", "team-a"): 300_000,
        ("requests", "team-b"): 600_000,
        ("failed", "team-a"): 100_000,
        ("idle", "team-a"): 1_000_000,
        ("unallocated", NOBODY): 2_000_000,
    }


def test_the_worked_example_where_callers_pay_for_it_by_what_was_done_for_them() -> None:
    found = _paid("proportional")
    assert found["idle", "team-a"] == 333_333
    assert found["idle", "team-b"] == 666_667
    assert found["unallocated", "team-a"] + found["unallocated", "team-b"] == 2_000_000
    assert found["failed", "team-b"] == 66_667


def test_the_page_shows_what_the_worked_example_costs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "costs.md").read_text()
    policies: tuple[Payer, ...] = ("owner", "proportional")
    columns = [_paid(policy) for policy in policies]
    rows = [(f"`{kind}`, {payer or 'the platform'}", kind, payer) for kind, payer in columns[0] | columns[1]]
    wanted = {name: [found.get((kind, payer)) for found in columns] for name, kind, payer in rows}
    wanted["all"] = [sum(found.values()) for found in columns]
    found = {}
    for name, *amounts in re.findall(r"^\| (`?\w+`?[^|]*?) \| ([\d,.–]+) \| ([\d,.–]+) \|$", page, re.MULTILINE):
        found[name] = [None if each == "–" else round(float(each.replace(",", "")) * 1000) for each in amounts]
    assert found == wanted


def test_what_nobody_is_told_of_stays_with_the_platform() -> None:
    assert {payer for kind, payer in _paid("none") if kind != "requests"} == {NOBODY}


def test_of_two_that_hold_different_things_of_a_node_each_pays_by_the_larger() -> None:
    cores = ReplicaTime("r1", "n1", "a", "x", "1", 8.0, 2**30, idle_ms=HOUR_MS)
    memory = ReplicaTime("r2", "n1", "b", "y", "2", 1.0, 24 * 2**30, idle_ms=HOUR_MS)
    window = Window("default", PoolCost((NodeCost("n1", 700, HOUR_MS),), 0), (NODE,), (cores, memory), ())
    assert {line.endpoint: line.nano_usd for line in attribute(window)} == {"x": 400, "y": 300}


def test_a_gpu_that_is_shared_is_paid_by_what_is_held_of_it() -> None:
    half = ReplicaTime("r1", "n1", "a", "x", "1", 0.0, 0, idle_ms=HOUR_MS, gpus=(1,), gpu_milli=500)
    whole = PoolCost((NodeCost("n1", 0, HOUR_MS, (1_000, 2_000)),), 0)
    lines: list[CostLine] = attribute(Window("default", whole, (NODE,), (half,), ()))
    assert {line.kind: line.nano_usd for line in lines} == {"idle": 1_000, "unallocated": 2_000}


def test_known_tokens_cost_a_tenth_and_written_ones_twice() -> None:
    assert units(100, 0, 0) == 1_000
    assert units(100, 0, 100) == 100
    assert units(0, 100, 0) == 2_000
